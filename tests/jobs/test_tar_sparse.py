"""jobs/tar_sparse.py: sparse members come back as the files that they were, or say why not."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
import tempfile
import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tars import BLOCK, end_blocks, member

from jobs import tar_sparse
from jobs.tar_format import Member, TarDamage, TarStream

FORMS = [["--format=gnu"], *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]
GNU = b"ustar  \0"
MEBIBYTE = 1 << 20


def read(path: Path, piece: int = 1 << 30) -> list[tuple[Member, bytes]]:
    found = []
    with closing(TarStream(path)) as stream:
        for one in stream:
            pieces = []
            while data := stream.read(piece):
                pieces.append(data)
            found.append((one, b"".join(pieces)))
    return found


def octal(value: int) -> bytes:
    return b"%011o\0" % value


def gnu(
    name: bytes, pieces: Sequence[tuple[int, int]], size: int, data: bytes, *, more: int = 0, stored: int | None = None
) -> bytes:
    """An old GNU sparse member, whose map may be any; `more`: what stands for blocks of it that follow."""
    entries = [octal(begin) + octal(length) for begin, length in pieces]
    header = bytearray(member(name, b"", b"S", size=octal(len(data) if stored is None else stored))[:BLOCK])
    header[257:265] = GNU
    header[386:482] = b"".join(entries[:4]).ljust(96, b"\0")
    rest = entries[4:]
    header[482] = more or bool(rest)
    header[483:495] = octal(size)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    blocks = b""
    while rest:
        blocks += b"".join(rest[:21]).ljust(504, b"\0") + bytes([len(rest) > 21]) + bytes(7)
        rest = rest[21:]
    return bytes(header) + blocks + data + bytes(-len(data) % BLOCK)


def pax(name: bytes, records: Sequence[tuple[str, str]], data: bytes) -> bytes:
    """A member with pax records, repeated keys included."""
    lines = b""
    for key, value in records:
        text = f" {key}={value}\n".encode()
        length = len(text) + 1
        while length != len(text) + len(str(length)):
            length += 1
        lines += str(length).encode() + text
    return member(b"x", lines, b"x") + member(name, data)


def write(path: Path, *members: bytes) -> Path:
    path.write_bytes(b"".join(members) + end_blocks())
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["many pieces", "a hole first", "a hole last", "nothing but a hole", "empty", "no hole"])
def test_what_gnu_tar_writes(form: list[str], shape: str, tmp_path: Path) -> None:
    """In all four forms, with holes anywhere: the bytes are the file's, however they are read, under its real name."""
    with (tmp_path / "holes.wav").open("wb") as file:
        for piece in {"many pieces": range(60), "a hole first": [2], "a hole last": [0]}.get(shape, []):
            file.seek(piece << 16)
            file.write(b"data" * 300)
        if shape in ("many pieces", "a hole last", "nothing but a hole"):
            file.truncate(5 << 20)
        if shape == "no hole":
            file.write(b"x" * 70_000)
    (tmp_path / "next.wav").write_bytes(b"next")
    path = tmp_path / "x.tar"
    subprocess.run(["tar", *form, "--sparse", "-C", str(tmp_path), "-cf", str(path), "holes.wav", "next.wav"], check=True)
    whole = (tmp_path / "holes.wav").read_bytes()
    for piece in (1 << 30, 1000):
        found = read(path, piece)
        assert [(one.name, one.kind, one.size) for one, _ in found] == [
            (b"holes.wav", "file", len(whole)),
            (b"next.wav", "file", 4),
        ]
        assert found[0][1] == whole
        assert found[1][1] == b"next"


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_read_is_passed_over(form: list[str], tmp_path: Path) -> None:
    """A sparse member that nobody reads, or only the beginning of, hides nothing of what follows."""
    with (tmp_path / "a.wav").open("wb") as file:
        file.seek(5000)
        file.write(b"data" * 300)
    (tmp_path / "b.wav").write_bytes(b"next")
    path = tmp_path / "x.tar"
    subprocess.run(["tar", *form, "--sparse", "-C", str(tmp_path), "-cf", str(path), "a.wav", "b.wav"], check=True)
    for taken in (0, 1, 4999, 5001):
        with closing(TarStream(path)) as stream:
            members = iter(stream)
            next(members)
            assert stream.read(taken) == (tmp_path / "a.wav").read_bytes()[:taken]
            assert next(members).name == b"b.wav"
            assert stream.read(10) == b"next"
            assert next(members, None) is None


def test_the_map_ends_at_its_first_empty_piece(tmp_path: Path) -> None:
    """As GNU tar reads it, whatever the header says of further blocks: what follows is data, and the next one is found."""
    data = random.Random(1).randbytes(1024)
    path = write(tmp_path / "x.tar", gnu(b"a.wav", [(512, 1024)], 2048, data, more=255), member(b"b.wav", b"next"))
    found = read(path)
    assert [(one.name, one.kind) for one, _ in found] == [(b"a.wav", "file"), (b"b.wav", "file")]
    assert found[0][1] == bytes(512) + data + bytes(512)
    subprocess.run(["tar", "-C", str(tmp_path), "-xf", str(path)], check=True)
    assert (tmp_path / "b.wav").read_bytes() == b"next"


def test_a_map_under_another_magic_is_none(tmp_path: Path) -> None:
    """Type S in a header that is not GNU's is a plain file, to GNU tar and to bsdtar: no data is taken for a map."""
    data = random.Random(2).randbytes(2000)
    header = bytearray(member(b"a.flac", data, b"S")[:BLOCK])
    header[482] = 255
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = write(tmp_path / "x.tar", bytes(header) + data + bytes(48), member(b"b.wav", b"next"))
    assert [(one.name, one.kind, body) for one, body in read(path)] == [
        (b"a.flac", "file", data),
        (b"b.wav", "file", b"next"),
    ]
    subprocess.run(["tar", "-C", str(tmp_path), "-xf", str(path)], check=True)
    assert (tmp_path / "a.flac").read_bytes() == data


TERABYTES = 1 << 42


@pytest.mark.parametrize(
    ("member_bytes", "words"),
    [
        (gnu(b"a", [], 2000, b"x" * 2000, more=255), "is empty"),
        (gnu(b"a", [(512, 512), (0, 512)], 1024, b"x" * 1024), "out of order"),
        (gnu(b"a", [(0, 100), (512, 512)], 1024, b"x" * 612), "whole blocks"),
        (gnu(b"a", [(0, 512)], 1024, b"x" * 1024), "has 512 bytes of data, and 1,024 follow"),
        (gnu(b"a", [(0, 2048)], 4096, b"x" * 1024), "has 2,048 bytes of data, and 1,024 follow"),
        (gnu(b"a", [(8192, 512)], 1024, b"x" * 512), "goes beyond its size"),
        (gnu(b"a", [(0, 512)], (1 << 33) - 1, b"x" * 512), "8,589,934,079 bytes of holes"),
        (pax(b"a", [("GNU.sparse.size", str(TERABYTES)), ("GNU.sparse.map", f"0,0,{TERABYTES},0")], b""), "bytes of holes"),
        (pax(b"a", [("GNU.sparse.size", "100"), ("GNU.sparse.map", "0,100,7")], b"x" * 100), "no valid map"),
        (pax(b"a", [("GNU.sparse.size", "100"), ("GNU.sparse.map", "0,-1")], b"x" * 100), "no valid map"),
        (pax(b"a", [("GNU.sparse.size", "100")], b"x" * 100), "no valid map"),
        (pax(b"a", [("GNU.sparse.map", "0,100")], b"x" * 100), "no valid map"),
        (pax(b"a", [("GNU.sparse.major", "2"), ("GNU.sparse.realsize", "100")], b"x" * 100), "a version"),
        (pax(b"a", [("GNU.sparse.size", "9" * 20), ("GNU.sparse.map", f"0,{'9' * 20}")], b""), "no file can have"),
        *(
            (pax(b"a", [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")], data), words)
            for data, words in (
                (b"", "no valid map"),
                (b"1\n0\n", "no valid map"),
                (b"x\n", "no valid map"),
                (b"1" * 600, "no valid map"),
                (b"9" * 18 + b"\n" + b"0\n" * 500, "more than 1,048,576 pieces"),
            )
        ),
    ],
)
def test_maps_that_are_not_believed(member_bytes: bytes, words: str, tmp_path: Path) -> None:
    """A map that does not fit its member, that programs read differently, or that promises more zeros than any audio has,
    costs the member alone, in words; the next one is found.
    """
    found = read(write(tmp_path / "x.tar", member_bytes, member(b"b.wav", b"next")))
    assert [one.kind for one, _ in found] == ["sparse", "file"]
    assert words in found[0][0].fault
    assert found[1][1] == b"next"


def test_number_of_pieces_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map takes so much memory and no more."""
    monkeypatch.setattr(tar_sparse, "MOST_PIECES", 10)
    pieces = [(1024 * n, 512) for n in range(11)]
    data = b"x" * 512 * 11
    text = ",".join(f"{begin},{length}" for begin, length in pieces)
    path = write(
        tmp_path / "x.tar",
        gnu(b"a", pieces, 20_000, data),
        pax(b"b", [("GNU.sparse.size", "20000"), ("GNU.sparse.map", text)], data),
        gnu(b"c", pieces[:10], 20_000, data[:5120]),
    )
    assert [(one.name, one.kind) for one, _ in read(path)] == [(b"a", "sparse"), (b"b", "sparse"), (b"c", "file")]


@pytest.mark.parametrize("field", [b"-0000000001\0", b"99999999999\0", b"\xff" * 12])
def test_a_map_that_is_damaged(field: bytes, tmp_path: Path) -> None:
    """Where nobody can say where the map ends, nobody can say where the next member begins: that is damage."""
    header = bytearray(gnu(b"a", [(0, 512)], 1024, b"x" * 512))
    header[386:398] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:BLOCK])
    with pytest.raises(TarDamage, match="map of a sparse member") as caught:
        read(write(tmp_path / "x.tar", member(b"ok.wav", b"1"), bytes(header)))
    assert (caught.value.verdict, caught.value.offset) == ("bad_header", 1024)


def test_form_of_star(tmp_path: Path) -> None:
    """The program star keeps its map elsewhere: such a member is refused, not read as if it had none."""
    header = member(b"a", b"x" * 512, b"S", more=bytes(163) + b"tar\0")
    with pytest.raises(TarDamage, match="star"):
        read(write(tmp_path / "x.tar", header))


def test_cut_in_a_map_and_in_the_data(tmp_path: Path) -> None:
    """A file that ends inside a map, or inside the pieces, is cut there."""
    whole = gnu(b"a", [(1024 * n, 512) for n in range(30)], 40_000, b"x" * 512 * 30)
    for length in (600, 1500, 2000, len(whole) - 1):
        (tmp_path / "x.tar").write_bytes(whole[:length])
        with pytest.raises(TarDamage) as caught:
            read(tmp_path / "x.tar")
        assert (caught.value.verdict, caught.value.offset) == ("cut", length)


def test_holes_need_no_memory(tmp_path: Path) -> None:
    """A hole of a gigabyte, as large as any that is filled, is made as it is read."""
    path = write(tmp_path / "x.tar", gnu(b"a", [(0, 512)], tar_sparse.LARGEST_HOLES + 512, b"x" * 512))
    tracemalloc.start()
    with closing(TarStream(path)) as stream:
        (one,) = [one for one in stream if one.size == tar_sparse.LARGEST_HOLES + 512]
        stream.seek(0)
        next(iter(stream))
        for _ in range(20):
            assert len(stream.read(MEBIBYTE)) == MEBIBYTE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert one.kind == "file"
    assert peak < 8 * MEBIBYTE


pieces_ = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=30)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(pieces_, st.integers(0, 3), st.sampled_from(["gnu", "0.0", "0.1", "1.0"]), st.integers(0, 600))
def test_fuzz(layout: list[tuple[int, int]], spare: int, form: str, last: int) -> None:
    """Whatever map of whole blocks a writer makes, in each form: the bytes are those of the file, as tarfile restores it."""
    pieces, at, blocks = [], 0, 0
    for hole, length in layout:
        at += hole * BLOCK
        pieces.append((at, length * BLOCK))
        at += length * BLOCK
        blocks += length
    pieces.append((at, last))
    size = at + last + spare * BLOCK
    if spare:
        pieces.append((size, 0))
    data = random.Random(blocks).randbytes(blocks * BLOCK + last)
    text = ",".join(f"{begin},{length}" for begin, length in pieces)
    major = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", str(size))]
    lines = f"{len(pieces)}\n{text}\n".replace(",", "\n").encode()
    pairs = [(key, str(n)) for p in pieces for key, n in zip(("GNU.sparse.offset", "GNU.sparse.numbytes"), p, strict=True)]
    made = {
        "gnu": lambda: gnu(b"a", pieces, size, data),
        "0.0": lambda: pax(b"a", [("GNU.sparse.size", str(size)), ("GNU.sparse.numblocks", str(len(pieces))), *pairs], data),
        "0.1": lambda: pax(b"a", [("GNU.sparse.size", str(size)), ("GNU.sparse.map", text)], data),
        "1.0": lambda: pax(b"a", major, lines + bytes(-len(lines) % BLOCK) + data),
    }[form]()
    with tempfile.NamedTemporaryFile() as file:
        found = read(write(Path(file.name), made, member(b"b.wav", b"next")))
        with tarfile.open(file.name) as tar:
            expected = tar.extractfile(tar.getmembers()[0])
            assert expected is not None
            restored = expected.read()
    whole = io.BytesIO(bytes(size))
    taken = 0
    for begin, length in pieces:
        whole.seek(begin)
        whole.write(data[taken : taken + length])
        taken += length
    assert found[1][1] == b"next"
    assert found[0][0].kind == "file"
    assert found[0][1] == whole.getvalue() == restored


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=13)), min_size=1, max_size=4), st.booleans())
def test_fuzz_damage(edits: list[tuple[int, bytes]], fix: bool) -> None:
    """Whatever is overwritten, even under a right checksum, reading ends with members or with TarDamage, and gives no more
    than a member's size.
    """
    data = bytearray(gnu(b"a", [(1024 * n, 512) for n in range(26)], 40_000, b"x" * 512 * 26) + end_blocks())
    for place, new in edits:
        data[place : place + len(new)] = new
    if fix:
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:BLOCK])
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        try:
            with closing(TarStream(Path(file.name))) as stream:
                for one in stream:
                    body = stream.read(MEBIBYTE)
                    assert len(body) == min(one.size, MEBIBYTE)
        except TarDamage:
            pass
