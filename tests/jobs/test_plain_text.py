"""jobs/plain_text.py: a terminal obeys nothing that others have written, and none of their lines passes for ours."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest
from support.hostile_names import NAMES, faults

from jobs.plain_text import PlainFormatter, plain, plain_json, plain_lines, plain_stream, warn, without_colours


def test_signs_that_do_not_show_become_escapes() -> None:
    """Controls, ends of lines, marks of direction, lone halves of pairs: each shows as what Python writes for it."""
    assert plain("a\x1b[31mb\nc\t\x07\x9b") == "a\\x1b[31mb\\nc\\t\\x07\\x9b"
    assert plain("x\u202egnp\u2066\u200f\u2028\ufeff\udce9\U000e0041") == (
        "x\\u202egnp\\u2066\\u200f\\u2028\\ufeff\\udce9\\U000e0041"
    )
    assert [faults(plain(name)) for name in NAMES] == [[]] * len(NAMES)
    assert plain(Path("a\nb")) == "a\\nb"


HONEST = ("", "a b", "é 語\u3000文", "\u0645\u06cc\u200c\u062e\u0648", "👩\u200d🚀", "שלום", "a\u00a0b", "back\\slash")


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_stays(text: str) -> None:
    """Every language, its wide spaces and its joiners too, stays as it is."""
    assert plain(text) == plain_lines(text) == plain_json(text) == text


def test_lines_of_a_message() -> None:
    """A message keeps its lines; those after the first are indented, so that nothing in them begins a line."""
    assert plain_lines("differs:\n- a\x1b\n  + b\n\nend\r") == "differs:\n  - a\\x1b\n  + b\n\n  end\\r"
    assert [faults(plain_lines(name)) for name in NAMES] == [[]] * len(NAMES)


def test_json_says_the_same() -> None:
    """JSON for a terminal has its own escapes, so that whoever reads it gets the true name."""
    names = [*NAMES, "\U000e0041", "é"]
    shown = plain_json(json.dumps(names, ensure_ascii=False, indent=2))
    assert faults(shown) == []
    assert json.loads(shown) == names
    assert "é" in shown


def test_colours_of_other_programs() -> None:
    """Sequences that only colour go, all others stay to be shown."""
    assert without_colours("\x1b[1;31merror\x1b[0m \x1b[2J") == "error \x1b[2J"


def test_log_lines() -> None:
    """A name that is an argument stays in its line; a message of several lines and a traceback are indented."""
    log, stream = logging.getLogger("of test_plain_text"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    for name in NAMES:
        log.info("%s: %s of %d", Path(name), name, 3)
        log.error("%s", ValueError(name))
        log.warning("no arguments: %%s {} " + name.replace("%", ""))
        try:
            raise ValueError(name)
        except ValueError:
            log.exception("bad")
    said = stream.getvalue()
    assert faults(said) == []
    assert all(line.startswith(("INFO ", "ERROR ", "WARNING ", " ")) for line in said.splitlines() if line)
    assert said.startswith("INFO red\\x1b[31m\\x1b]0;owned\\x07: red\\x1b[31m")


def test_streams(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed within the block is rendered, and the stream is as before after it, also after an exception."""
    before = sys.stdout

    def fail() -> None:
        with plain_stream("stdout"), plain_stream("stderr"):
            print("a\x1b", "b\u202e\n  c", end="\n\n")
            sys.stdout.writelines(["x\x07", "y"])
            print("\x9b", file=sys.stderr)
            assert sys.stdout.encoding == before.encoding
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sys.stdout is before
    warn("z\x1b\nmore")
    assert capsys.readouterr() == ("a\\x1b b\\u202e\n  c\n\nx\\x07y", "\\x9b\nz\\x1b\n  more\n")
