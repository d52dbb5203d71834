"""shared/command_names.py: messages advise a command by the name that the user has for it."""

from __future__ import annotations

from contextlib import suppress

from audio_tokenizers.shared.command_names import adopt_names, called, names_of_process, program_names


def test_a_process_of_python() -> None:
    """A command is called by its module."""
    assert called("tools.merge") == "python -m tools.merge"


def test_a_program_has_names_of_its_own() -> None:
    """Until it ends, by an exception too; what it has no name for is called by its module."""
    with suppress(SystemExit), program_names("tar2tokens", {"tools.merge": "merge"}):
        assert called("tools.merge") == "tar2tokens merge"
        assert called("tools.other") == "python -m tools.other"
        raise SystemExit
    assert called("tools.merge") == "python -m tools.merge"


def test_processes_that_a_program_starts() -> None:
    """They get its names."""
    with program_names("python -m tar2tokens", {"tools.merge": "merge"}):
        names = names_of_process()
    before = names_of_process()
    adopt_names(names)
    try:
        assert called("tools.merge") == "python -m tar2tokens merge"
    finally:
        adopt_names(before)
