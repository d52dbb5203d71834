"""The modules' imports, those inside functions too: no circles, no arrow up, and no command that needs another command."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest
from support.our_modules import ORDER, imported, is_command, modules

HEAVY = {"torch", "transformers", "torchaudio", "soundfile", "soxr", "av"}


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


@pytest.mark.slow
def test_commands_import_no_commands() -> None:
    """What two commands need is in a module of its own."""
    commands = {name for name in modules() if is_command(name)}
    assert {"hpc.submit", "hpc.resume", "hpc.cancel", "tools.show", "jobs.tokenize_tar"} <= commands
    found = {name: both for name in modules() if (both := set(imported(name)) & (commands - {name}))}
    assert found == {}


@pytest.mark.slow
def test_what_counts() -> None:
    """Imports inside functions and for types only do, and those of a module's names are imports of the module."""
    assert {"rich", "hpc.stalls", "jobs.plain_text"} <= set(imported("hpc.live_table"))
    assert "jobs.recording" in set(imported("jobs.clip_group"))
