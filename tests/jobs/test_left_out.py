"""jobs/left_out.py: what may be data and became no clip is told by its suffix, and nothing else is."""

from __future__ import annotations

from collections import Counter

import pytest

from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.left_out import KNOWN, MOST_SUFFIXES, data_suffix, describe_left_out, leave_out, sum_left_out
from jobs.sidecars import SIDECAR_EXTENSIONS

FLAC = b"fLaC" + bytes(40)


@pytest.mark.parametrize(
    ("base", "head", "suffix"),
    [
        ("a.xyz", b"data", "xyz"),
        ("a.SPX", b"OggS", "spx"),
        ("a.b.Raw", b"data", "raw"),
        ("a.avi", b"RIFF", "avi"),
        ("a.zip", b"PK\3\4", "zip"),
        ("a.jpg", b"\xff\xd8", None),
        ("a.TextGrid", b"File", None),
        ("a.npy", b"\x93NUMPY", None),
        ("README", b"read me", None),
        ("Makefile", b"all:", None),
        (".gitignore", b"*.o", None),
        ("a.xyz", b"", None),
        ("a.1", b"data", None),
        ("a. b", b"data", None),
        ("a." + "x" * 40, b"data", None),
        ("a", FLAC, "(none)"),
        ("a.1", FLAC, "(none)"),
        (".hidden", FLAC, "(none)"),
        ("a.jpg", FLAC, "jpg"),
        ("a.", FLAC, "(none)"),
    ],
)
def test_which_are_missed(base: str, head: bytes, suffix: str | None) -> None:
    """Whatever begins as audio; else what has a suffix that is not known to be something else, and data."""
    assert data_suffix(base, head) == suffix


def test_known_suffixes_are_no_audio() -> None:
    """Nothing that is a clip or a sidecar, or may be a recording, is passed over in silence."""
    audio = {
        *AUDIO_EXTENSIONS,
        "avi",
        "wmv",
        "flv",
        "mpg",
        "ra",
        "rm",
        "dsf",
        "dff",
        "shn",
        "pcm",
        "raw",
        "sln",
        "vox",
        "alaw",
    }
    assert not KNOWN & {*audio, *SIDECAR_EXTENSIONS, "zip", "tar", "gz", "bin", "dat"}


def test_number_of_suffixes_is_bounded() -> None:
    """However many suffixes a tar has, its manifest has some, and all are counted."""
    found: Counter[str] = Counter()
    for number in range(1000):
        leave_out(found, f"x{number % 500}")
    assert len(found) == MOST_SUFFIXES + 1
    assert found.total() == 1000
    assert found["x0"] == 2


def test_words() -> None:
    """The commonest come first; what is many is cut, and what is one is one."""
    assert describe_left_out({}) == ""
    assert describe_left_out({"spx": 1, "wv": 1, "(none)": 3}) == (
        "5 members were no clips: no suffix 3, .spx 1, .wv 1: --extensions takes them, or --sniff what begins as audio does"
    )
    assert describe_left_out({"spx": 1}).startswith("1 member was no clip: .spx 1: ")
    many = describe_left_out({f"x{n:02}": n for n in range(1, 21)} | {"(others)": 5000})
    assert ".x20 20, .x19 19" in many
    assert ", and 13 more suffixes: " in many
    assert describe_left_out({"a": 1, "(others)": 7}).startswith("8 members were no clips: .a 1, others 7: ")


def test_sums() -> None:
    """Tars add up."""
    assert sum_left_out([{"a": 1}, {}, {"b": 2, "a": 3}]) == {"a": 4, "b": 2}
