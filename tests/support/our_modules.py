"""The modules of this project, and what each imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from support.runs import ROOT

__all__ = ["ORDER", "imported", "is_command", "modules"]

ORDER = ("audio_tokenizers", "jobs", "hpc", "tools", "tar2tokens")
"""Each may import those before it."""
FOLDERS = {"audio_tokenizers": ROOT / "tokenizers" / "audio_tokenizers", **{name: ROOT / name for name in ORDER[1:]}}


@cache
def modules() -> dict[str, ast.Module]:
    """Name -> code of every module of ours."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            words = [package, *path.relative_to(folder).with_suffix("").parts]
            name = ".".join(words[:-1] if words[-1] == "__init__" else words)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(module: str) -> Iterator[str]:
    """What a module imports, wherever in it, for types only too: modules of ours by their whole names, others by their
    package's.
    """
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            assert node.module is not None
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules() else node.module for name in below]
        else:
            continue
        yield from (name if name in modules() else name.partition(".")[0] for name in names)


def is_command(name: str) -> bool:
    """Whether people run it; what only jobs run, such as hpc.task, is none."""
    mains = [node for node in modules()[name].body if isinstance(node, ast.If) and "__main__" in ast.dump(node.test)]
    return any("run_command" in ast.dump(node) for node in mains)
