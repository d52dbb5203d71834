"""jobs/tar_headers.py: what a header says, to the byte, or ValueError."""

from __future__ import annotations

import contextlib
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tars import BLOCK, member

from jobs.tar_headers import Extended, checksum_fits, decimal, header_name, header_target, kind_of, number, parse_pax


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"00000000017\0", 15),
        (b"        17 \0", 15),
        (bytes(12), 0),
        (b"\x80" + (1 << 40).to_bytes(11, "big"), 1 << 40),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    """Octal with zeros or blanks, nothing for nought, and GNU's base 256."""
    assert number(field) == value


@pytest.mark.parametrize("field", [b"8\0", b"-1\0", b"0x1\0", b"\xff" * 12, b"\xc0" + bytes(11)])
def test_what_is_no_number(field: bytes) -> None:
    """What is neither is refused, negative and absurd numbers too."""
    with pytest.raises(ValueError, match=r"octal|absurd|base 8"):
        number(field)


def test_checksums() -> None:
    """A header's checksum fits, as tarfile makes it too; any other block's does not."""
    assert checksum_fits(tarfile.TarInfo("é" * 30).tobuf(tarfile.GNU_FORMAT))
    header = bytearray(member(b"a.wav"))
    assert checksum_fits(bytes(header))
    header[0] ^= 1
    assert not checksum_fits(bytes(header))
    assert not checksum_fits(b"x" * BLOCK)


def test_names_and_targets() -> None:
    """A POSIX header's prefix comes before its name; a link's target is as it stands."""
    header = bytearray(member(b"a.wav", more=b"some/folder"))
    assert header_name(bytes(header)) == b"some/folder/a.wav"
    header[157:163] = b"target"
    assert header_target(bytes(header)) == b"target"


@pytest.mark.parametrize(
    ("type_flag", "name", "kind"),
    [
        (b"0", b"a", "file"),
        (b"\0", b"a/", "directory"),
        (b"5", b"a", "directory"),
        (b"1", b"a/", "link"),
        (b"2", b"a", "link"),
        (b"3", b"a", "other"),
        (b"6", b"a/", "other"),
        (b"D", b"a/", "other"),
        (b"M", b"a", "other"),
        (b"7", b"a", "file"),
        (b"Z", b"a", "file"),
    ],
)
def test_kinds(type_flag: bytes, name: bytes, kind: str) -> None:
    """What holds data of its own is a file, be its type unknown."""
    assert kind_of(type_flag, name) == kind


def test_extended_headers() -> None:
    """A GNU long name and link name, and pax records, add up."""
    said = Extended()
    said.take(b"L", b"name\0")
    said.take(b"K", b"target\0")
    said.take(b"x", b"8 a=bcd\n")
    said.take(b"x", b"7 a=bc\n5 c=\n")
    assert (said.name, said.target, said.pax) == (b"name", b"target", {b"a": b"bc", b"c": b""})


def test_pairs_of_a_sparse_map() -> None:
    """The only keys that may be repeated become the list that the next version of the format has instead."""
    records = b"".join(
        b"%d %s\n" % (len(text) + 4, text)
        for text in (b"GNU.sparse.offset=0", b"GNU.sparse.numbytes=1", b"GNU.sparse.offset=7", b"GNU.sparse.numbytes=2")
    )
    assert parse_pax(records)[b"GNU.sparse.map"] == b"0,1,7,2"


@given(st.binary(max_size=60))
def test_fuzz(data: bytes) -> None:
    """Whatever the bytes, parsing ends with values or with ValueError."""
    for parse in (parse_pax, decimal, number):
        with contextlib.suppress(ValueError):
            parse(data or b"0")
