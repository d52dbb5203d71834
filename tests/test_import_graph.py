"""The modules' imports, those inside functions too: no circles, no arrow up, and no command that needs another command."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest
from support.runs import ROOT

ORDER = ("audio_tokenizers", "jobs", "hpc", "tools", "tar2tokens")
"""Each may import those before it."""
FOLDERS = {"audio_tokenizers": ROOT / "tokenizers" / "audio_tokenizers", **{name: ROOT / name for name in ORDER[1:]}}
HEAVY = {"torch", "transformers", "torchaudio", "soundfile", "soxr", "av"}


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


@pytest.mark.slow
def test_no_circles() -> None:
    """Every module can be understood, and imported, from those below it alone; imports for types only count, too."""
    graph = {name: set(imported(name)) - {name} for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise AssertionError(f"modules that import each other: {circle}") from None


@pytest.mark.slow
def test_arrows_go_one_way() -> None:
    """Only tar2tokens -> tools -> hpc -> jobs -> audio_tokenizers."""
    for name in modules():
        place = ORDER.index(name.partition(".")[0])
        above = {other for other in imported(name) if other.partition(".")[0] in ORDER[place + 1 :]}
        assert not above, f"{name} imports {above}"


@pytest.mark.slow
def test_planning_needs_no_torch() -> None:
    """Hpc imports neither torch nor a decoder, and tools only where a function of theirs is about tensors or audio."""
    for name in modules():
        package = name.partition(".")[0]
        allowed = {"tools": {"soundfile", "torch"}, "hpc": set(), "tar2tokens": set()}.get(package, HEAVY)
        assert not set(imported(name)) & (HEAVY - allowed), name


def is_command(name: str) -> bool:
    """Whether people run it; what only jobs run, such as hpc.task, is none."""
    mains = [node for node in modules()[name].body if isinstance(node, ast.If) and "__main__" in ast.dump(node.test)]
    return any("run_command" in ast.dump(node) for node in mains)


@pytest.mark.slow
def test_commands_import_no_commands() -> None:
    """What two commands need is in a module of its own."""
    commands = {name for name in modules() if is_command(name)}
    assert {"hpc.submit", "hpc.resume", "hpc.cancel", "tools.show", "jobs.tokenize_tar"} <= commands
    found = {name: both for name in modules() if (both := set(imported(name)) & (commands - {name}))}
    assert found == {}


def test_what_counts() -> None:
    """Imports inside functions and for types only do, and those of a module's names are imports of the module."""
    assert {"rich", "hpc.stalls", "jobs.plain_text"} <= set(imported("hpc.monitor"))
    assert "jobs.recording" in set(imported("jobs.clip_group"))
