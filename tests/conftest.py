"""Rules and fixtures for all tests."""

from __future__ import annotations

import functools
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

BUSY_PER_WAITING = 16
"""Files that compute, for each one that waits: about as many as two workers do meanwhile."""

LONG_WAITS = ("test_faults.py", "test_limits.py")
"""Two files of tests/slurm that take minutes: both are begun at once."""

LONG_FILES = (
    *("test_gpu.py", "test_tar_work.py", "test_rounds.py", "test_ledger.py", "test_controller.py", "test_worker.py"),
    *("test_task.py", "test_submit.py", "test_policy_machine.py", "test_parity.py", "test_decode_check.py", "test_sweep.py"),
    *("test_train_taste.py", "test_predict_taste.py", "test_loaded_backend.py", "test_clip_journal.py", "test_features.py"),
)
"""Outside of tests/audio_tokenizers and of this folder."""

TESTS = Path(__file__).parent

NOT_QUICK = {"slow", "models", "slurm", "gpu"}

IMPORTS_TORCH = re.compile(
    r"^(import|from) (torch|transformers|onnx|webdataset|support\.lanes|tools\.torch_dataset"
    r"|jobs\.taste\.(aggregator|batches|begin|checkpoint|language_model|metrics|model|prediction|ranks|stack|trainer)\b)",
    re.MULTILINE,
)

USES_MODELS = re.compile(r"^\s*(import|from) (torch|transformers|onnx|support\.(tiny_|lanes))", re.MULTILINE)

# A shell's job in the background ignores Ctrl-C, and so would the commands that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair; the test's time limit ends what does not end.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("any machine"), max_examples=20)

# Where Python is told to write no bytecode, each command that a test starts compiles the project anew, and pytest its tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def flush_nothing(fd: FileDescriptorLike) -> None:
    """os.fsync without the disk: tests that crash at every file operation would wait for it for minutes.

    No test can see in its own process what has reached the disk: `support/crashing.py` simulates power loss, and
    `jobs/test_fileops.py` checks that FileOps flushes. Commands that tests start as processes do flush.
    """
    os.fstat(fd if isinstance(fd, int) else fd.fileno())  # a closed descriptor is still an error


os.fsync = flush_nothing

# The reports of the runs that tests make would take seconds of CPU each; tests/hpc/test_fresh_report.py switches them on.
os.environ["TAR2TOKENS_REPORT"] = "off"

# Several workers with several threads each would wait for one another more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--require-gpu`: fail rather than skip where there is no CUDA device. `--quick`: only what takes no time."""
    parser.addoption("--require-gpu", action="store_true", help="tests marked gpu must run")
    parser.addoption("--quick", action="store_true", help="leave out tests marked slow, models or slurm")


def pytest_configure(config: pytest.Config) -> None:
    """`--quick` tries fewer examples where a test does not say how many it needs."""
    if config.getoption("--quick"):
        hypothesis.settings.load_profile("quick")


@functools.cache
def room(path: Path) -> str | None:
    """The mark of all tests of a file or folder, by where it is and what it imports.

    `slurm`: those of tests/slurm. `models`: a file of tests/audio_tokenizers that imports torch or builds tiny models,
    wherever it does so, and another file that imports torch as soon as it is imported.
    """
    inside = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    if inside[:1] == ("slurm",):
        return "slurm"
    if inside and path.name.startswith("test_") and path.suffix == ".py":
        imports = USES_MODELS if inside[0] == "audio_tokenizers" else IMPORTS_TORCH
        return "models" if imports.search(path.read_text(encoding="utf-8")) else None
    return None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`--quick` does not even import what it leaves out: importing torch and transformers takes seconds."""
    return True if config.getoption("--quick") and room(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `gpu` need a CUDA device (`make test-gpu`, which fails without one). `room` gives marks."""
    items.sort(key=_turns(items))
    for item in items:
        if mark := room(item.path):
            item.add_marker(mark)
    if config.getoption("--quick"):
        named = any(room(item.path) for item in items)  # by their paths: folders are left out before they are read
        quick = [item for item in items if NOT_QUICK.isdisjoint(mark.name for mark in item.iter_markers())]
        config.hook.pytest_deselected(items=list(set(items) - set(quick)))
        items[:] = quick
        if "torch" in sys.modules and not named:
            raise pytest.UsageError("a test file that --quick reads imports torch: name the import in IMPORTS_TORCH")
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or config.getoption("--require-gpu"):
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device: make test-gpu"))


def _turns(items: list[pytest.Item]) -> Callable[[pytest.Item], int]:
    """Long files first, or who begins with one last works on alone; those of Slurm, which mostly wait, between them."""
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [path for path in files if path.parent.name == "slurm"]
    waiting.sort(key=lambda path: path.name not in LONG_WAITS)
    busy = [path for path in files if "audio_tokenizers" in path.parts or path.parent == TESTS or path.name in LONG_FILES]
    turns = {path: BUSY_PER_WAITING * max(0, turn + 1 - len(LONG_WAITS)) for turn, path in enumerate(waiting)}
    turns |= {path: turn + 1 for turn, path in enumerate(busy)}
    last = len(items)  # not in the lambda: a list is empty while it is sorted
    return lambda item: turns.get(item.path, last)


@pytest.fixture(autouse=True)
def untouched_log() -> Iterator[None]:
    """Commands in a test's process set our log's level, and keep it from going on to the root; later tests, and pytest,
    expect it there.
    """
    log = logging.getLogger("tar2tokens")
    level = log.level
    yield
    log.propagate = True
    log.setLevel(level)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path
