"""Rules and fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Several workers with several threads each would wait for one another more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONG = ("tests/slurm/", "tests/test_end_to_end.py", "tests/audio_tokenizers/")
"""Begun first: a worker that begins with them last works on alone. Those of Slurm mostly wait."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--require-gpu`: fail rather than skip where there is no CUDA device."""
    parser.addoption("--require-gpu", action="store_true", help="tests marked gpu must run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `gpu` need a CUDA device; `make test-gpu` runs them, and fails without one. Long files come first."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or config.getoption("--require-gpu"):
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device: make test-gpu"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path
