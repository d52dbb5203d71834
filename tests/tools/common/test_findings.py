"""tools/common/findings.py: findings in words, and the exit code."""

from __future__ import annotations

from tools.common.findings import exit_code, fault, fine, in_words, summary, warning


def test_only_faults_fail() -> None:
    """Warnings are told and exit with 0; one fault exits with 1."""
    well, late, wrong = fine("a", "x"), warning("b", "y", "z"), fault("c", "y", "z")
    assert [exit_code([well]), exit_code([well, late]), exit_code([well, wrong, late])] == [0, 0, 1]
    assert summary([well]) == "1 check: all is well"
    assert summary([well, wrong, late]) == "3 checks: 1 fault, 1 warning"


def test_words_fit_the_terminal() -> None:
    """Verdict, check and what was found stand in columns; advice comes on lines of its own."""
    lines = in_words(fault("hard link", "word " * 20, "do " * 20), 60).splitlines()
    assert lines[0].startswith("fault    hard link          word")
    assert all(len(line) <= 60 for line in lines)
    assert sum("->" in line for line in lines) == 1
    assert "".join(lines).count("word") == 20
    assert "".join(lines).count("do") == 20


def test_commands_can_be_pasted() -> None:
    """No option is cut at its hyphen, however narrow the terminal: `chmod go-` and `w` would be another command."""
    words = in_words(fault("trust", "x", "chmod go-w /a-long/path-of/a-run/that-goes-on-and-on-and-on && look --at-it"), 60)
    assert {"go-w", "/a-long/path-of/a-run/that-goes-on-and-on-and-on", "--at-it"} <= set(words.split())
