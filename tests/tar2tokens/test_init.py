"""tar2tokens/__init__.py: what people import."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.runs import ROOT

import jobs.loaded_backend
import tar2tokens
import tools.joined_runs
import tools.reader
import tools.torch_dataset
from jobs.version import version


def test_names() -> None:
    """They are those of the modules behind them, and all that `from tar2tokens import *` gives."""
    assert tar2tokens.read_run is tools.reader.read_run
    assert tar2tokens.TokenizedClip is tools.reader.TokenizedClip
    assert tar2tokens.join_runs is tools.joined_runs.join_runs
    assert tar2tokens.JoinedRuns is tools.joined_runs.JoinedRuns
    assert tar2tokens.TokenDataset is tools.torch_dataset.TokenDataset
    assert tar2tokens.load_backend is jobs.loaded_backend.load_backend
    assert tar2tokens.LoadedBackend is jobs.loaded_backend.LoadedBackend
    assert tar2tokens.StepAudioTokenizer.__module__ == "audio_tokenizers.step_audio.tokenizer"
    assert tar2tokens.__version__ == version()
    assert set(tar2tokens.__all__) <= set(dir(tar2tokens))
    assert all(hasattr(tar2tokens, name) for name in tar2tokens.__all__)


def test_names_that_do_not_exist() -> None:
    """They are an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="module 'tar2tokens' has no attribute 'read_runs'"):
        tar2tokens.read_runs  # noqa: B018


def test_imports_wait() -> None:
    """To import tar2tokens, or ask for its version, imports no numpy; only TokenDataset and most backends need torch."""
    code = (
        "import sys, tar2tokens; tar2tokens.__version__\n"
        "assert not {'numpy', 'torch', 'typer'} & set(sys.modules)\n"
        "tar2tokens.read_run, tar2tokens.load_backend('mulaw').encode([0.0], 8000)\nassert 'torch' not in sys.modules\n"
        "tar2tokens.TokenDataset\nassert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


NO_TORCH = """
import sys, tar2tokens
class NoTorch:
    def find_spec(name, *rest):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name=name)
sys.meta_path.insert(0, NoTorch)
tar2tokens.read_run
tar2tokens.TokenDataset
"""


def test_no_torch() -> None:
    """Who wants TokenDataset where there is no torch is told what to install; all else works without."""
    done = subprocess.run([sys.executable, "-c", NO_TORCH], cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: tar2tokens.TokenDataset needs torch, which is not installed: pip install torch"
