"""Run one of our modules protected from shadowing: `python .../jobs/run_module.py MODULE ARGUMENTS`.

`python -m MODULE` puts the current folder first on sys.path, and PYTHONPATH precedes installed packages: a folder `tools` or
a file `jobs.py` in either would be imported instead of ours. `python -P` omits only the current folder, and needs Python
3.11. All our subprocesses are started through this file, and `tar2tokens` loads it by path.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # this file's folder: its modules have common names

import runpy
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

__all__ = ["module_command", "own_packages_first"]

ROOT = Path(__file__).absolute().parent.parent
FOLDERS = [str(ROOT), str(ROOT / "tokenizers")]
"""Folders of our packages: all are in the first once installed; in a checkout some are in the second."""
PACKAGES = ("audio_tokenizers", "hpc", "jobs", "tar2tokens", "tools")


def module_command(module: str, *arguments: object) -> list[str]:
    """The command line that runs one of our modules with this interpreter, its output unbuffered."""
    return [sys.executable, "-u", str(Path(__file__).absolute()), module, *map(str, arguments)]


class _OwnPackages:
    """A finder for our packages."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        del path
        return PathFinder.find_spec(fullname, FOLDERS, target) if fullname in PACKAGES else None


def own_packages_first() -> None:
    """Make this process import our packages from here, even if others have the same names.

    Raises ImportError if another package with such a name is already imported.
    """
    if any(type(finder).__qualname__ == _OwnPackages.__qualname__ for finder in sys.meta_path):
        return  # compare by name: a module loaded by path is a different object
    for name in PACKAGES:
        found = sys.modules.get(name)
        if found is not None and not _is_ours(found):
            where = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", [])), "?")
            raise ImportError(
                f"this process has imported {name} from {where}, and tar2tokens has a package of the same name: rename that "
                "one, or use tar2tokens in a process of its own"
            )
    sys.meta_path.insert(0, _OwnPackages())


def _is_ours(module: ModuleType) -> bool:
    places = [Path(path).resolve() for path in getattr(module, "__path__", [])]
    return any(Path(folder, module.__name__).resolve() in places for folder in FOLDERS)


if __name__ == "__main__":
    own_packages_first()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
