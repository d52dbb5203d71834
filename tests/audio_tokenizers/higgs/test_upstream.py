"""higgs/upstream.py: boson-multimodal's own code behind our protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.golden_audio import pcm, wave
from support.tiny_higgs import build_hubert_cache, build_original_layout, build_transformers_layout

from audio_tokenizers.base import Batching, Options, Scalar
from audio_tokenizers.errors import UsageError
from audio_tokenizers.higgs import upstream
from audio_tokenizers.higgs.backend import FACTORY
from audio_tokenizers.registry import complete_options


def options(directory: Path, **changes: object) -> Options:
    return complete_options(FACTORY, {"model_path": str(directory), "engine": "upstream", **changes})  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boson itself cannot load it: its widths are fixed."""
    return build_original_layout(tmp_path_factory.mktemp("narrow"))


ENCODES = """
import sys
import numpy as np
from audio_tokenizers.higgs.backend import FACTORY
from audio_tokenizers.registry import complete_options
model, waves, codes = sys.argv[1:]
given = complete_options(FACTORY, {"model_path": model, "engine": "upstream"})
backend = FACTORY.load(given, "cpu")
assert type(backend).__name__ == "HiggsUpstream"
with np.load(waves) as waves:
    np.savez(codes, **{name: backend.encode([waves[name]])[0] for name in waves.files})
"""


def test_its_tokens_are_those_of_our_own_engine(tmp_path: Path) -> None:
    """On one checkpoint of the widths that boson's constructor fixes, in each length class."""
    model = build_original_layout(tmp_path / "full", full_width=True)
    waves: dict[str, Any] = {str(samples): wave(pcm(samples, samples)) for samples in (632, 1500, 9600, 10_000)}
    np.savez(tmp_path / "waves.npz", **waves)
    # boson's constructor asks the hub for HuBERT, whose client reads its settings when it is imported.
    settings = {"HF_HOME": str(build_hubert_cache(tmp_path / "hf")), "HF_HUB_OFFLINE": "1"}
    settings["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    words = [sys.executable, "-c", ENCODES, str(model), str(tmp_path / "waves.npz"), str(tmp_path / "codes.npz")]
    done = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ours = FACTORY.load(options(model, engine="own"), "cpu")
    with np.load(tmp_path / "codes.npz") as theirs:
        for name, samples in waves.items():
            np.testing.assert_array_equal(theirs[name], ours.encode([samples])[0])
            assert theirs[name].dtype == np.int16


def test_the_recipe_is_another(narrow: Path) -> None:
    """It names the engine and boson's version. Our own engine's has no new key: runs that have begun continue."""
    own = FACTORY.describe(options(narrow, engine="own"), "cpu").recipe
    info = FACTORY.describe(options(narrow), "cpu")
    assert "engine" not in own
    assert set(info.recipe) - set(own) == {"engine", "boson-multimodal"}
    assert info.recipe["engine"] == "upstream"
    assert (info.batching, info.max_batch) == (Batching.SINGLE, 1)
    gpu = FACTORY.describe(options(narrow), "cuda")
    assert (gpu.batching, "lanes" in gpu.recipe) == (Batching.SINGLE, False)
    before = {key: value for key, value in options(narrow, engine="own").items() if key != "engine"}
    assert FACTORY.describe(before, "cpu").recipe == own


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "boson"}, "engine: expected own or upstream, found 'boson'"),
        ({"lanes": 4}, "expected no lanes and no bf16"),
        ({"precision": "bf16"}, "expected no lanes and no bf16"),
    ],
)
def test_what_does_not_go_with_it(narrow: Path, changes: dict[str, Scalar], words: str) -> None:
    """A slip is found before a job is submitted."""
    with pytest.raises(UsageError, match=words):
        FACTORY.describe(options(narrow, **changes), "cpu")


def test_what_is_missing(narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package and how to install it beside the rest; the layout that boson reads; and the second model that it loads."""
    with pytest.raises(UsageError, match=r"the original layout .*, and this is that of transformers"):
        FACTORY.describe(options(build_transformers_layout(tmp_path / "other")), "cpu")
    monkeypatch.setitem(sys.modules, "boson_multimodal.audio_processing.higgs_audio_tokenizer", None)
    with pytest.raises(UsageError, match=r"cannot import boson-multimodal .*--no-deps -r requirements/boson\.txt"):
        FACTORY.load(options(narrow), "cpu")
    monkeypatch.setattr(upstream, "is_installed", lambda _: False)
    with pytest.raises(UsageError, match=r"needs boson-multimodal: pip install -e '\.\[higgs-upstream\]'"):
        FACTORY.describe(options(narrow), "cpu")


def test_hubert_is_not_in_the_cache(narrow: Path, tmp_path: Path) -> None:
    """Boson loads it although the checkpoint has its weights: the message says what to download."""
    code = (
        "import sys\nfrom audio_tokenizers.higgs.backend import FACTORY\n"
        "from audio_tokenizers.registry import complete_options\n"
        "FACTORY.load(complete_options(FACTORY, {'model_path': sys.argv[1], 'engine': 'upstream'}), 'cpu')"
    )
    settings = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(narrow)], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert "UsageError: engine=upstream of higgs: boson-multimodal loads bosonai/hubert_base too" in done.stderr
