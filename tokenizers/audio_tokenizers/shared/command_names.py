"""What the user types for one of our commands, in messages that advise it.

`python -m tools.merge`; but `tar2tokens merge` in a process of the program `tar2tokens`, which says so with `program_names`.
Text that is kept for others, such as job scripts, does not ask here: it is the same however its writer was started.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["adopt_names", "called", "names_of_process", "program_names"]

_names: dict[str, str] = {}


def called(module: str) -> str:
    """The command of `module` as the user of this process calls it."""
    return _names.get(module, f"python -m {module}")


def names_of_process() -> dict[str, str]:
    """For `adopt_names` in a process that this one starts."""
    return dict(_names)


def adopt_names(names: Mapping[str, str]) -> None:
    """Call commands as the process does that has these names."""
    _names.clear()
    _names.update(names)


@contextmanager
def program_names(program: str, commands: Mapping[str, str]) -> Iterator[None]:
    """Within, this process is a `program` with these commands: module -> name."""
    before = names_of_process()
    adopt_names({module: f"{program} {name}" for module, name in commands.items()})
    try:
        yield
    finally:
        adopt_names(before)
