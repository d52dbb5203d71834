"""Which version this is: what setup.cfg says, also in a checkout that is not installed."""

from __future__ import annotations

import configparser
import importlib.metadata
from pathlib import Path

__all__ = ["version"]


def version() -> str:
    """Such as `0.1.0`."""
    try:
        return importlib.metadata.version("tar2tokens")
    except importlib.metadata.PackageNotFoundError:
        config = configparser.ConfigParser(interpolation=None)
        config.read(Path(__file__).resolve().parent.parent / "setup.cfg", encoding="utf-8")
        return config.get("metadata", "version", fallback="0+unknown")
