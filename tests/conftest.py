"""Rules and fixtures for all tests."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

BUSY_PER_WAITING = 8
"""Files that compute, for each one that waits: about as many as two workers do meanwhile."""

# A shell's job in the background ignores Ctrl-C, and so would the commands that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair; the test's time limit ends what does not end.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")

# Several workers with several threads each would wait for one another more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--require-gpu`: fail rather than skip where there is no CUDA device."""
    parser.addoption("--require-gpu", action="store_true", help="tests marked gpu must run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `gpu` need a CUDA device; `make test-gpu` runs them, and fails without one."""
    items.sort(key=_turns(items))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or config.getoption("--require-gpu"):
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device: make test-gpu"))


def _turns(items: list[pytest.Item]) -> Callable[[pytest.Item], int]:
    """Long files first, or who begins with one last works on alone; those of Slurm, which mostly wait, one at a time."""
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [path for path in files if path.parent.name == "slurm"]
    busy = [path for path in files if "audio_tokenizers" in path.parts or path.name == "test_end_to_end.py"]
    turns = {path: BUSY_PER_WAITING * turn for turn, path in enumerate(waiting)}
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
