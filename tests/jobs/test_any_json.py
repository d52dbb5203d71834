"""jobs/any_json.py: whatever happened to a file of JSON is one kind of error."""

from __future__ import annotations

import msgspec
import pytest

from jobs.any_json import decode_json


class Said(msgspec.Struct):
    """Of a state file."""

    name: str = ""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 64,
        b"\xff\xfe{\0}\0",
        b'{"name": "\xff"}',
        b'{"name": "a", "more": ' + b"[" * 100_000,
        b'{"name": 1}',
        b"[]",
    ],
    ids=["empty", "zeros", "utf-16", "no utf-8", "deep", "other type", "other shape"],
)
def test_whatever_is_wrong_is_one_kind_of_error(data: bytes) -> None:
    """A file that a disk, an editor or an attacker has changed never ends a command in a traceback."""
    with pytest.raises(msgspec.DecodeError):
        decode_json(data, Said)


def test_what_is_right_is_read() -> None:
    """The values come out."""
    assert decode_json(b'{"name": "a", "later": 1}', Said) == Said("a")
