"""jobs/old_options.py: an option of an earlier tool is answered with what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.runs import call

from hpc.submit import submit
from jobs.old_options import OLD_OPTIONS, answer_old_option
from jobs.tokenize_tar import tokenize_tar
from tools.fetch_model import fetch_model
from tools.pack import pack

COMMANDS: dict[str, Callable[..., int]] = {
    "submit": submit,
    "tokenize_tar": tokenize_tar,
    "pack": pack,
    "fetch_model": fetch_model,
}
CASES = [(command, flag) for command, answers in OLD_OPTIONS.items() for flag in answers]


@pytest.mark.parametrize(("command", "flag"), CASES, ids=[" ".join(case) for case in CASES])
def test_one_line_and_exit_code_2(command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever else is said; none is an option that the command has by now."""
    assert call(COMMANDS[command], "--verbose", flag, "1") == 2
    answer = OLD_OPTIONS[command][flag].replace("{tools.", "python -m tools.").replace("}", "")
    assert capsys.readouterr() == ("", f"error: {flag}: {answer}\n")


@pytest.mark.parametrize("word", ["--sample_rate", "--sample-rate=24000", "--sample_rate=24000"])
def test_however_it_is_spelled(word: str) -> None:
    """The old tools had both kinds of strokes, and either kind of argument."""
    answer = answer_old_option("submit", ["--list", "x", word], {"--list"})
    assert answer is not None
    assert answer.startswith(f"{word.partition('=')[0]}: a codec has one rate; clips are resampled to it; leave the option")


def test_what_is_no_old_option() -> None:
    """Options that a command has are its own, and what follows `--` is no option."""
    assert answer_old_option("submit", ["--list", "x", "--trim"], {"--list", "--trim"}) is None
    assert answer_old_option("submit", ["--list", "--", "--trim"], {"--list"}) is None
    assert answer_old_option("merge", ["--trim"], ()) is None
