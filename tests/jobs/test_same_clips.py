"""jobs/same_clips.py: tars are the same by path or by name and size, clips by their tar, name and place."""

from __future__ import annotations

import pytest

from audio_tokenizers.errors import UsageError
from jobs.same_clips import KeyedLines, RunTar, in_all, same_tars


def names(*runs: list[RunTar]) -> list[tuple[str | None, ...]]:
    """The names of each tar in all runs."""
    called = [f"run {number}" for number in range(len(runs))]
    return [tuple(tar.name if tar is not None else None for tar in row) for row in same_tars(runs, called)]


def test_members_of_one_name_have_a_place() -> None:
    """Each is a clip of its own; a base name in another folder is another name."""
    keyed = KeyedLines()
    assert [keyed.key(name) for name in ("a/1.wav", "b/1.wav", "a/1.wav")] == [
        ("a/1.wav", 0),
        ("b/1.wav", 0),
        ("a/1.wav", 1),
    ]


def test_what_all_have_in_the_order_of_the_first() -> None:
    """Whatever the order of the others."""
    assert in_all([{"c": 1, "a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}, {"b": 1, "c": 1}]) == ["c", "b"]
    assert in_all([{"a": 1}]) == ["a"]


def test_tars_that_some_runs_lack() -> None:
    """Each tar comes once: those of the first run in its order, then those that only later runs have."""
    one, two, three = (RunTar(name, f"/data/{name}.tar", 5) for name in "123")
    assert names([two, one], [one, three], [three, one]) == [("2", None, None), ("1", "1", "1"), (None, "3", "3")]


def test_a_tar_that_has_moved() -> None:
    """One name and one size: it is the same tar. One of another size is refused, with both runs."""
    assert names([RunTar("1", "/old/1.tar", 5)], [RunTar("1", "/new/1.tar", 5)]) == [("1", "1")]
    with pytest.raises(
        UsageError, match=r"1: run 0 is of a tar of 5 bytes, run 1 of one of 1,100: expected runs over the same tars"
    ):
        names([RunTar("1", "/old/1.tar", 5)], [RunTar("1", "/new/1.tar", 1100)])


def test_a_path_says_more_than_a_name() -> None:
    """With --keep-dirs a tar's files may be called otherwise in each run: what lies at one path is one tar, and a tar that
    both runs have by path is never matched by name.
    """
    ours = [RunTar("x/1", "/data/x/1.tar", 5), RunTar("1", "/data/y/1.tar", 6)]
    others = [RunTar("1", "/data/x/1.tar", 5), RunTar("y/1", "/data/y/1.tar", 6)]
    assert names(ours, others) == [("x/1", "1"), ("1", "y/1")]
    assert names([RunTar("1", "/data/x/1.tar", 5), RunTar("2", "/data/2.tar", 6)], [RunTar("1", "/data/2.tar", 6)]) == [
        ("1", None),
        ("2", "1"),
    ]
