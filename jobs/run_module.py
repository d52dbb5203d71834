"""Run one of our modules where nothing shadows it: `python .../jobs/run_module.py MODULE ARGUMENTS`.

`python -m MODULE` puts the current folder first on sys.path, and PYTHONPATH comes before installed packages: a folder
`tools` or a file `jobs.py` in either would be imported in place of ours. `python -P` leaves out the current folder only, and
exists since Python 3.11. This file starts every process that we start, and `tar2tokens` loads it by its path.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the folder of this file, whose modules have names that others may have, too

import runpy
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

__all__ = ["module_command", "own_packages_first"]

ROOT = Path(__file__).absolute().parent.parent
FOLDERS = [str(ROOT), str(ROOT / "tokenizers")]
"""Where our packages are: all in the first once installed, some in the second in a checkout."""
PACKAGES = ("audio_tokenizers", "hpc", "jobs", "tar2tokens", "tools")


def module_command(module: str, *arguments: object) -> list[str]:
    """The command line that runs one of our modules with this interpreter, its output unbuffered."""
    return [sys.executable, "-u", str(Path(__file__).absolute()), module, *map(str, arguments)]


class _OwnPackages:
    """A finder that knows our packages, and where they are."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As importlib.abc.MetaPathFinder has it."""
        del path
        return PathFinder.find_spec(fullname, FOLDERS, target) if fullname in PACKAGES else None


def own_packages_first() -> None:
    """Have this process import our packages from here, wherever else there are some of the same names.

    Raises ImportError if it has imported another package of such a name.
    """
    if any(type(finder).__qualname__ == _OwnPackages.__qualname__ for finder in sys.meta_path):
        return  # by name: loaded by its path, this module is another one
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
