"""shared/extras.py: a package that is missing is one message with what to install, whichever it is."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from support.runs import ROOT, call, write_list
from support.small_run import small_tar
from support.tiny_s3 import build_s3_onnx
from support.tiny_step_audio import build_step_audio

from audio_tokenizers import registry
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import EXTRAS, IMPORTED_BY_NAME, MODULES, backend_packages
from hpc.submit import submit
from jobs.tokenize_tar import tokenize_tar

NEEDED = [(backend, module) for backend, modules in EXTRAS.items() for module in modules]
BLOCKER = """
import runpy, sys
blocked = sys.argv.pop(1)
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
runpy.run_module("jobs.tokenize_tar", run_name="__main__")
"""


def extras() -> dict[str, set[str]]:
    """Extra -> modules of what setup.cfg installs for it."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    section = config["options.extras_require"]
    found = {}
    for name in section:
        packages = [line.partition(">")[0].strip() for line in section[name].splitlines() if line.strip()]
        found[name] = {MODULES.get(package, package.replace("-", "_")) for package in packages}
    return found


def extra_of(backend: str) -> str:
    """The extra's name as every pip takes it."""
    return backend.replace("_", "-").replace("+", ",")


def test_each_extra_brings_what_its_backend_needs() -> None:
    """No message advises an extra that would not help."""
    assert set(EXTRAS) == set(registry.BUILT_IN) - {"mulaw"}
    for backend, modules in EXTRAS.items():
        assert {*modules, *IMPORTED_BY_NAME.get(backend, ())} <= extras()[backend]


@pytest.mark.parametrize("command", [tokenize_tar, submit])
@pytest.mark.parametrize(("backend", "module"), NEEDED)
def test_a_backend_without_one_of_its_packages(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: Callable[..., int],
    backend: str,
    module: str,
) -> None:
    """Without --model-path too, where a hub would be asked: exit code 2, one line, and nothing begun."""
    tar = small_tar(here / "1.tar")
    monkeypatch.setitem(sys.modules, module, None)
    listed = "--list", write_list(here / "l.txt", [tar]), "--cluster", "local"
    source = ("--input-tar", tar) if command is tokenize_tar else listed
    assert call(command, *source, "--backend", backend) == 2
    words = f"pip install -e '.[{extra_of(backend)}]' in the folder of tar2tokens"
    assert capsys.readouterr().err == f"error: the backend {backend!r} needs {module}: {words}\n"
    assert not (here / "tokens").exists()


def test_a_preset_is_called_by_its_name(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asked for mimi reads of mimi; the extra is that of the backend behind it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    assert call(tokenize_tar, "--input-tar", small_tar(here / "1.tar"), "--backend", "mimi") == 2
    assert "the backend 'mimi' needs torch: pip install -e '.[hf]'" in capsys.readouterr().err


def test_a_combination_needs_what_its_parts_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one message with all of their extras; the preset's extra brings all of it."""
    backend = "cosyvoice_text+whisper_features+cosyvoice_s3"
    for module in ("torch", "tiktoken", "whisper"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as caught, backend_packages(backend, "taste"):
        pytest.fail("it goes on")
    assert str(caught.value).startswith("the backend 'taste' needs torch, tiktoken, whisper: pip install -e '.[")
    assert f"'.[{extra_of(backend)}]'" in str(caught.value)
    assert extras()["taste"] == set().union(*(extras()[part] for part in backend.split("+")))


@pytest.mark.parametrize(
    ("backend", "module", "settings"),
    [
        ("step_audio", "onnxruntime", ()),
        ("step_audio", "librosa", ("--set", "trim=true")),
        ("cosyvoice_s3", "onnxruntime", ("--set", "engine=onnx")),
        ("cosyvoice_s3", "s3tokenizer", ("--set", "engine=torch")),
        ("cosyvoice_s3", "onnx", ("--set", "engine=torch")),
    ],
)
def test_a_package_that_some_options_need(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    backend: str,
    module: str,
    settings: tuple[str, ...],
) -> None:
    """It is missed before the model is loaded, and only with those options."""
    model = here / "model"
    if backend == "step_audio":
        build_step_audio(model)
    else:
        model.mkdir()
        build_s3_onnx(model / "speech_tokenizer_v1.onnx")
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ("--input-tar", small_tar(here / "1.tar"), "--backend", backend, "--model-path", model, "--device", "cpu")
    assert call(tokenize_tar, *arguments, *settings) == 2
    assert f"needs {module}: pip install -e '.[{extra_of(backend)}]'" in capsys.readouterr().err


@pytest.mark.parametrize(("backend", "module"), [("higgs", "transformers"), ("whisper_features", "torchaudio")])
def test_an_import_that_fails_in_earnest(here: Path, backend: str, module: str) -> None:
    """In a process where an import of the package raises, though its name is installed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tokenizers")])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", BLOCKER, module, "--input-tar", str(small_tar(here / "1.tar")), "--backend", backend]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    words = f"pip install -e '.[{extra_of(backend)}]' in the folder of tar2tokens"
    assert (done.returncode, done.stderr) == (2, f"error: the backend {backend!r} needs {module}: {words}\n")


def test_a_package_that_is_too_old() -> None:
    """A name that a release does not have yet is told with the import's own words."""
    words = r"cannot be loaded: cannot import name 'x'.* too old, or broken: pip install -e"
    with pytest.raises(UsageError, match=words), backend_packages("hf"):
        raise ImportError("cannot import name 'x' from 'transformers'")


def test_a_package_that_a_package_misses() -> None:
    """What is missing below a package is named as well."""
    with pytest.raises(UsageError, match=r"'hf' needs tokenizers: pip install -e '\.\[hf\]'"), backend_packages("hf"):
        raise ModuleNotFoundError("No module named 'tokenizers.models'", name="tokenizers.models")


def test_a_bug_of_ours_is_no_missing_package() -> None:
    """An import within this repository that fails keeps its traceback."""
    with pytest.raises(ModuleNotFoundError), backend_packages("hf"):
        raise ModuleNotFoundError("No module named 'audio_tokenizers.x'", name="audio_tokenizers.x")


def test_another_packages_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be imported is named with its entry point; so is one whose model cannot be loaded."""
    point = EntryPoint("broken", "no_such_package.codec:FACTORY", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    registry._entry_points.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"'broken' \(no_such_package.codec:FACTORY\) cannot be imported: No module"):
            registry.get_factory("broken")
    finally:
        registry._entry_points.cache_clear()
    with (
        pytest.raises(UsageError, match=r"'broken' cannot be loaded: No module named 'x': install"),
        backend_packages("broken"),
    ):
        raise ModuleNotFoundError("No module named 'x'", name="x")
