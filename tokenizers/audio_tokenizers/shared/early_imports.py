"""Modules that a backend's calls need, imported while it loads: before there are threads.

Python locks each module while it is imported. `import a` takes a, then what a imports, such as a.b; `import a.b` takes a.b,
then a. Where two threads do that at the same time, one of them gets `_DeadlockError`, or a module that is half made, and it
would look like the fault of the clip in hand. Calls run in several threads: those of decoders beside the device's, and
some backends have more of their own.
"""

from __future__ import annotations

import importlib

__all__ = ["import_early"]


def import_early(*modules: str) -> None:
    """Import modules by their full names. Raises ImportError."""
    for module in modules:
        importlib.import_module(module)
