"""jobs/version.py: one source, setup.cfg."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from jobs.version import version


def test_version_of_a_checkout_that_nobody_has_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read where setuptools reads it."""
    installed = version()
    assert re.fullmatch(r"\d+\.\d+\.\d+", installed)

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert version() == installed
