"""Imports the modules that a backend's calls need while it loads, before any other thread runs.

Python locks each module during its import. `import a` locks a, then what a imports, such as a.b; `import a.b` locks a.b,
then a. If two threads do this at the same time, one gets `_DeadlockError` or a half-initialised module, and the clip in
hand would be blamed. Calls run in several threads: decoders beside the device thread, and some backends start their own.
"""

from __future__ import annotations

import importlib

__all__ = ["import_early"]


def import_early(*modules: str) -> None:
    """Import modules by their full names. Raises ImportError."""
    for module in modules:
        importlib.import_module(module)
