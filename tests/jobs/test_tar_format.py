"""jobs/tar_format.py: agrees with tarfile on every good archive, and names every kind of damage that tarfile overlooks."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import random
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tars import BLOCK, end_blocks, member, tar_bytes

from jobs import tar_format
from jobs.tar_format import Member, TarDamage, TarStream, Verdict, looks_joined
from jobs.tar_source import READ_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

THREE = [("a.wav", b"A" * 700), ("b.txt", b"text"), ("c.wav", b"C" * 512)]
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
DAMAGE = {"empty_file", "not_a_tar", "cut", "bad_header", "data_after_end", "bad_compression", "no_end_marker", "zero_tail"}


def read_all(path: Path, *, allow_joined: bool = False) -> tuple[list[tuple[Member, bytes]], TarDamage | None]:
    """Members that were read whole, and how it ended."""
    found: list[tuple[Member, bytes]] = []
    try:
        stream = TarStream(path, allow_joined=allow_joined)
    except TarDamage as damage:
        return [], damage
    try:
        for entry in stream:
            pieces = []
            while piece := stream.read(300):
                pieces.append(piece)
            found.append((entry, b"".join(pieces)))
    except TarDamage as damage:
        return found, damage
    finally:
        stream.close()
    return found, None


@pytest.mark.parametrize(
    ("compress", "owner", "trouble"),
    [
        (gzip.compress, gzip.GzipFile, zlib.error("Error -4 while decompressing data")),
        (
            zstd.compress,
            zstd.ZstdFile,
            zstd.ZstdError("Unable to decompress Zstandard data: Allocation error : not enough memory"),
        ),
    ],
)
def test_a_machine_without_memory_damages_no_tar(
    compress: Callable[[bytes], bytes], owner: type, trouble: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do the libraries say that they got none; a zstd tar may ask for 2 GB, which another machine has."""

    def fail(*_arguments: object) -> bytes:
        raise trouble

    monkeypatch.setattr(owner, "read", fail)
    with pytest.raises(MemoryError, match="not enough for the"):
        read_bytes(compress(tar_bytes(THREE)), tmp_path)


def read_bytes(data: bytes, tmp_path: Path) -> tuple[list[tuple[Member, bytes]], TarDamage | None]:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    return read_all(path)


def expect(data: bytes, tmp_path: Path, verdict: Verdict, offset: int | None = None, members: int | None = None) -> str:
    found, damage = read_bytes(data, tmp_path)
    assert damage is not None
    assert damage.verdict == verdict, damage
    assert offset is None or damage.offset == offset, damage
    assert members is None or len(found) == members
    return str(damage)


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **settings: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for key, value in settings.items():
        setattr(info, key, value)
    return info


def all_kinds() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        (entry("plain.wav"), b"x" * 1000),
        (entry("empty.wav"), b""),
        (entry("exactly/one/block.flac"), b"y" * 512),
        (entry("folder", tarfile.DIRTYPE), b""),
        (entry("soft.wav", tarfile.SYMTYPE, "plain.wav"), b""),
        (entry("hard.wav", tarfile.LNKTYPE, "plain.wav"), b""),
        (entry("pipe", tarfile.FIFOTYPE), b""),
        (entry("tty", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=1), b""),
        (entry("contiguous.wav", tarfile.CONTTYPE), b"z" * 10),
        (entry("p" * 90 + "/" + "n" * 60 + ".wav"), b"prefix"),
        (entry("last.txt"), b"the end"),
    ]


def long_kinds() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        (entry("deep/" * 60 + "name.wav"), b"long"),
        (entry("语音/ñandú é.wav"), b"unicode"),
        (entry("语" * 90 + ".wav"), b"long unicode"),
        (entry("n" * 100), b"exactly 100 bytes of name"),
        (entry("to", tarfile.SYMTYPE, "target/" * 40), b""),
        (entry("big_ids.wav", uid=1 << 40, mtime=1 << 40), b"base 256"),
        (entry("negative_time.wav", mtime=-5), b"before 1970"),
    ]


def pax_kinds() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        (entry("short", pax_headers={"path": "given/by/pax.wav", "comment": "a=b\nc"}), b"pax path"),
        (entry("sized.wav", pax_headers={"size": "8"}), b"pax size"),
        (entry("fraction.wav", mtime=1.5), b"pax mtime"),
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_same_members_and_data_as_tarfile(form: str, tmp_path: Path) -> None:
    """Whatever Python writes in three formats, this reader finds the members, names, kinds, sizes and data tarfile does."""
    contents = all_kinds() + (long_kinds() if form != "ustar" else []) + (pax_kinds() if form == "pax" else [])
    headers = {"comment": "global"} if form == "pax" else {}
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=FORMATS[form], pax_headers=headers) as tar:
        for info, data in contents:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found, damage = read_all(path)
    assert damage is None
    with tarfile.open(path) as tar:
        expected = tar.getmembers()
        assert [m.name.rstrip(b"/") for m, _ in found] == [e.name.encode() for e in expected]
        for (m, data), e in zip(found, expected, strict=True):
            file = tar.extractfile(e) if e.isreg() else None
            assert data == (file.read() if file else b"")
            assert m.kind == (
                "file" if e.isreg() else "directory" if e.isdir() else "link" if e.islnk() or e.issym() else "other"
            )
            assert m.offset == e.offset or m is found[0][0]  # where tarfile counts a global header too


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_same_members_as_gnu_tar(form: str, tmp_path: Path) -> None:
    """Archives of GNU tar in its five formats read as tarfile reads them, deep folders and links included."""
    source = tmp_path / "in" / "folder"
    source.mkdir(parents=True)
    (source / "a.wav").write_bytes(b"a" * 3000)
    (source / "empty.txt").touch()
    (source / "b.wav").hardlink_to(source / "a.wav")
    (source / "c.wav").symlink_to("a.wav")
    if form in ("oldgnu", "gnu", "posix"):
        (source / ("x" * 200 + ".wav")).write_bytes(b"long")
    path = tmp_path / "x.tar"
    subprocess.run(["tar", f"--format={form}", "-C", str(tmp_path / "in"), "-cf", str(path), "folder"], check=True)
    found, damage = read_all(path)
    assert damage is None
    with tarfile.open(path) as tar:
        assert [m.name.rstrip(b"/").decode() for m, _ in found] == tar.getnames()
        assert sum(m.size for m, _ in found) == sum(e.size for e in tar.getmembers() if e.isreg())
    assert [m.kind for m, _ in found].count("directory") == 1


def test_base_256_sizes(tmp_path: Path) -> None:
    """A size in GNU's base 256 is read; one that no file can have, or a negative one, is damage."""
    good = member(b"a.wav", b"12345", size=b"\x80" + (5).to_bytes(11, "big"))
    found, damage = read_bytes(good + end_blocks(), tmp_path)
    assert damage is None
    assert found[0][1] == b"12345"
    for size in (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\xc0" + bytes(11)):
        expect(member(b"ok.wav") + member(b"a.wav", b"1", size=size) + end_blocks(), tmp_path, "bad_header", 512, 1)
    expect(member(b"a.wav", b"1", size=b"\x80" + (1 << 61).to_bytes(11, "big")) + end_blocks(), tmp_path, "cut", 2048)


@pytest.mark.parametrize(
    "size", [b"-0000000001\0", b"+0000000001\0", b"0o000000001\0", b"00_00_00_01\0", b"99999999999\0", b"x" * 12]
)
def test_sizes_that_only_python_takes_for_octal(size: bytes, tmp_path: Path) -> None:
    """A size that is not octal digits is damage even where Python's int() would take it."""
    expect(member(b"ok.wav") + member(b"a.wav", b"1", size=size) + end_blocks(), tmp_path, "bad_header", 512, 1)


def test_old_checksum_of_signed_bytes(tmp_path: Path) -> None:
    """Headers whose checksum an old writer summed over signed chars are good."""
    header = bytearray(member("é.wav".encode("latin-1")))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (sum(header) - 256)
    found, damage = read_bytes(bytes(header) + end_blocks(), tmp_path)
    assert damage is None
    assert found[0][0].name == b"\xe9.wav"


def pax_record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    length = size + len(str(size + len(str(size))))
    return b"%d %s=%s\n" % (length, key, value)


def test_pax_attributes(tmp_path: Path) -> None:
    """A local path or size wins over a global one, an empty value takes it back, and both end with their member."""
    data = (
        member(b"g", pax_record(b"path", b"global"), b"g")
        + member(b"x", pax_record(b"path", b"local") + pax_record(b"size", b"3"), b"x")
        + member(b"one", b"abc", size=b"%011o\0" % 0)
        + member(b"two")
        + member(b"x", pax_record(b"path", b"") + pax_record(b"size", b""), b"x")
        + member(b"three", b"abcd")
        + end_blocks()
    )
    found, damage = read_bytes(data, tmp_path)
    assert damage is None
    assert [(m.name, body) for m, body in found] == [(b"local", b"abc"), (b"global", b""), (b"three", b"abcd")]


def test_global_header_alone(tmp_path: Path) -> None:
    """What `git archive` makes of an empty tree, a global header and no member, is a complete tar."""
    assert read_bytes(member(b"g", pax_record(b"comment", b"0" * 40), b"g") + end_blocks(), tmp_path) == ([], None)


@pytest.mark.parametrize(
    "records",
    [
        b"nonsense",
        b"0 a=b\n",
        b"4 a\n",
        b"9 path=a\n\n"[:8],
        b"999 path=x\n",
        b"-5 a=b\n",
        b" 8 a=b\n",
        b"13 path=abcde",
        pax_record(b"size", b"-1"),
        pax_record(b"size", b"1_0"),
        pax_record(b"size", b"9" * 30),
    ],
)
def test_bad_pax_records(records: bytes, tmp_path: Path) -> None:
    """Pax records that do not parse to the byte are damage, not guesses."""
    data = member(b"ok.wav") + member(b"x", records, b"x") + member(b"a.wav", b"data") + end_blocks()
    found, damage = read_bytes(data, tmp_path)
    assert len(found) == 1
    assert damage is not None
    assert damage.verdict == "bad_header"


def test_absurd_sizes_need_no_memory_and_no_seek(tmp_path: Path) -> None:
    """A pax size beyond any file system is a cut at the file's end; an extended header of gigabytes is damage."""
    data = member(b"x", pax_record(b"size", b"9" * 20), b"x") + member(b"a.wav", b"1") + end_blocks()
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    stream = TarStream(path)
    with pytest.raises(TarDamage, match="inside a member's data") as caught:
        list(stream)
    stream.close()
    assert (caught.value.verdict, caught.value.offset) == ("cut", len(data))
    expect(member(b"ok") + member(b"L", b"x", b"L", size=b"77777777777\0"), tmp_path, "bad_header", 512)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_cut_at_every_byte(form: str, tmp_path: Path) -> None:
    """Cut at any byte, a tar never ends normally, gives out only whole members, and the verdict says where it ends."""
    contents = [*THREE, ("long/" * 30 + "d.wav", b"D" * 10)] if form != "ustar" else THREE
    data = tar_bytes(contents, FORMATS[form])
    body = len(data) - len(end_blocks())
    boundaries = {0, body}
    found, damage = read_bytes(data, tmp_path)
    assert damage is None
    boundaries.update(m.offset for m, _ in found)
    for length in range(len(data)):
        found, damage = read_bytes(data[:length], tmp_path)
        assert damage is not None, length
        assert [(m.name.decode(), body) for m, body in found] == contents[: len(found)]
        if length == 0:
            assert damage.verdict == "empty_file"
        elif length < BLOCK:
            assert damage.verdict == "not_a_tar"
        elif length in boundaries or length >= body:
            assert (damage.verdict, damage.offset) == ("no_end_marker", length)
        else:
            assert (damage.verdict, damage.offset) == ("cut", length), length


def test_damage_that_tarfile_overlooks(tmp_path: Path) -> None:
    """Zeroed, flipped and overwritten headers, and anything after the end, are named with their byte."""
    data = tar_bytes(THREE)
    second, third = 1536, 2560
    assert data[second : second + 5] == b"b.txt"
    assert data[third : third + 5] == b"c.wav"
    expect(data[:second] + bytes(BLOCK) + data[second + BLOCK :], tmp_path, "data_after_end", second + BLOCK, 1)
    expect(data[:third] + bytes(2 * BLOCK) + data[third:], tmp_path, "data_after_end", third + 2 * BLOCK, 2)
    flipped = bytearray(data)
    flipped[second + 150] ^= 1
    assert "checksum" in expect(bytes(flipped), tmp_path, "bad_header", second, 1)
    flipped = bytearray(data)
    flipped[0] ^= 1
    expect(bytes(flipped), tmp_path, "bad_header", 0, 0)
    expect(data[:second] + b"\xaa" * BLOCK + data[second + BLOCK :], tmp_path, "bad_header", second, 1)
    expect(data + b"garbage", tmp_path, "data_after_end", len(data), 3)
    expect(data + bytes(5000) + b"x", tmp_path, "data_after_end", len(data) + 5000, 3)
    expect(data + data, tmp_path, "data_after_end", len(data), 3)
    expect(data[: -2 * BLOCK], tmp_path, "no_end_marker", len(data) - 2 * BLOCK, 3)
    expect(data[:-BLOCK], tmp_path, "no_end_marker", len(data) - BLOCK, 3)
    assert read_bytes(data + bytes(100_000), tmp_path)[1] is None
    assert "never finished" in expect(data + bytes(3 << 20), tmp_path, "zero_tail", len(data) - 2 * BLOCK, 3)
    pending = member(b"x", pax_record(b"path", b"never"), b"x")
    expect(data[: -2 * BLOCK] + pending + end_blocks(), tmp_path, "cut", len(data) - 2 * BLOCK + len(pending))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"just some text\n" * 100, "just some"),
        (b"short", "5 bytes"),
        (b"PK\x03\x04" + bytes(600), "zip"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "7z"),
        (lzma.compress(bytes(10000)), "xz"),
        (b"BZh9" + bytes(600), "bzip2"),
        (b"Rar!" + bytes(600), "rar"),
        (bytes(range(1, 256)) * 10, "expected a tar header"),
        (bytes(100), "100 bytes of zero"),
        (bytes(1023), "1023 bytes of zero"),
        (gzip.compress(b""), "0 bytes"),
        (gzip.compress(b"a text\n" * 500), "a text"),
        (zstd.compress(b"{}"), "2 bytes"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",  # gzip data hold the time of day
)
def test_not_a_tar(data: bytes, word: str, tmp_path: Path) -> None:
    """What is no tar is called so, and the message shows what it is instead."""
    assert word in expect(data, tmp_path, "not_a_tar", 0, 0)


def test_empty_file_and_empty_tar(tmp_path: Path) -> None:
    """0 bytes are damage; a tar without members is complete."""
    assert "0 bytes" in expect(b"", tmp_path, "empty_file", 0)
    assert read_bytes(end_blocks(), tmp_path) == ([], None)
    assert read_bytes(bytes(10240), tmp_path) == ([], None)


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_compressed_tars(compress: object, tmp_path: Path) -> None:
    """Tars in gzip and zstd, of one or many parts, read as the plain one; cut anywhere they are damaged."""
    assert callable(compress)
    data = tar_bytes(THREE)
    whole = compress(data)
    plain, _ = read_bytes(data, tmp_path)
    parts = b"".join(compress(data[start : start + 700]) for start in range(0, len(data), 700))
    assert read_bytes(whole, tmp_path) == (plain, None)
    assert read_bytes(parts, tmp_path) == (plain, None)
    for length in range(1, len(whole)):
        found, damage = read_bytes(whole[:length], tmp_path)
        assert damage is not None
        assert damage.verdict in ("bad_compression", "not_a_tar"), (length, damage)
        assert found == plain[: len(found)]
    for length in range(1, len(parts), 7):
        found, damage = read_bytes(parts[:length], tmp_path)
        assert damage is not None or data[: -2 * BLOCK].count(b"C") == 0
        assert found == plain[: len(found)]
    expect(whole + b"garbage", tmp_path, "bad_compression")


def test_damaged_compression(tmp_path: Path) -> None:
    """A gzip CRC or length that is wrong, and a zstd checksum that is wrong, are found though every member was read."""
    data = tar_bytes(THREE)
    whole = bytearray(gzip.compress(data))
    whole[-8] ^= 1
    message = expect(bytes(whole), tmp_path, "bad_compression", members=3)
    assert "gzip" in message
    whole = bytearray(gzip.compress(data))
    whole[-1] ^= 1
    expect(bytes(whole), tmp_path, "bad_compression", members=3)
    options: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
    whole = bytearray(zstd.compress(data, options=options))
    whole[-1] ^= 1
    assert "zstd" in expect(bytes(whole), tmp_path, "bad_compression")


def test_zstd_with_skippable_frames_and_a_long_window(tmp_path: Path) -> None:
    """What pzstd writes (a skippable frame first) and `zstd --long=31` are read."""
    data = tar_bytes(THREE)
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert read_bytes(skippable + zstd.compress(data), tmp_path)[1] is None
    header = b"\x28\xb5\x2f\xfd\x00\xa0"  # no content size, a window of 2^30 bytes
    raw = header + (len(data) << 3 | 1).to_bytes(3, "little") + data
    found, damage = read_bytes(raw, tmp_path)
    assert damage is None
    assert len(found) == 3


@pytest.mark.parametrize("missing", [1, 511, 512, 513, 100_000])
def test_large_member_is_passed_over_only_if_it_is_there(missing: int, tmp_path: Path) -> None:
    """Passing over a large member seeks, and still notices that the file ends before the member does."""
    data = member(b"large.wav", b"L" * 3_000_000)[:-missing]
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    stream = TarStream(path)
    with pytest.raises(TarDamage) as caught:
        list(stream)
    stream.close()
    assert (caught.value.verdict, caught.value.offset) == ("cut", len(data))


def test_large_member_is_passed_over_by_a_seek(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members after a large one are found, at their right offsets, whether the large one was read, half read or skipped."""
    monkeypatch.setattr(tar_format, "READ_BYTES", 4096)
    path = tmp_path / "x.tar"
    path.write_bytes(member(b"large.wav", b"L" * 100_001) + member(b"small.wav", b"s") + end_blocks())
    for read in (0, 1, 50_000, 100_001):
        stream = TarStream(path)
        names = []
        for m in stream:
            names.append((m.name, m.offset))
            if m.size > 1:
                assert len(stream.read(read)) == read
            else:
                assert stream.read(10) == b"s"
                assert stream.read(10) == b""
        assert names == [(b"large.wav", 0), (b"small.wav", 512 + 100_352)]
        assert stream.bytes_consumed == path.stat().st_size
        stream.close()


def test_a_file_that_shrinks_under_the_reader_is_cut(tmp_path: Path) -> None:
    """A file that is truncated while it is read ends as a cut, not as a tar that lacks its end marker."""
    path = tmp_path / "x.tar"
    path.write_bytes(member(b"large.wav", b"L" * 9_000_000) + end_blocks())
    stream = TarStream(path)
    members = iter(stream)
    next(members)
    with path.open("r+b") as file:
        file.truncate(5_000_000)
    with pytest.raises(TarDamage) as caught:
        next(members)
    stream.close()
    assert caught.value.verdict == "cut"


def joined(*parts: bytes) -> bytes:
    """Tars as `cat` puts them end to end, each filled up to a whole record as tar programs do."""
    return b"".join(part + bytes(-len(part) % 10240) for part in parts)


def read_joined(data: bytes, tmp_path: Path) -> tuple[list[tuple[Member, bytes]], TarDamage | None]:
    path = tmp_path / "joined.tar"
    path.write_bytes(data)
    return read_all(path, allow_joined=True)


OTHER = [("d.wav", b"D" * 2000), ("n" * 120 + ".wav", b"E")]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress], ids=["plain", "gzip", "zstd"])
def test_joined_tars(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Tars put end to end, plain or as the members of one gzip or zstd file, are read one after the other where that is
    allowed, with their places; else the verdict says what follows.
    """
    first, second = tar_bytes(THREE), tar_bytes(OTHER, tarfile.GNU_FORMAT)
    for parts in ((first, second), (second, first, end_blocks(), first), (first[:-512], second), (first[:-1024], second)):
        data = b"".join(
            compress(part) for part in (joined(part) if part[-1024:] == end_blocks() else part for part in parts)
        )
        found, damage = read_joined(data, tmp_path)
        assert damage is None
        contents = [
            *(THREE if parts[0][:5] == b"a.wav" else OTHER),
            *(OTHER if parts[0][:5] == b"a.wav" else [*THREE, *THREE]),
        ]
        assert [(m.name.decode(), body) for m, body in found] == contents
        with (
            tarfile.open(tmp_path / "joined.tar", ignore_zeros=True)
            if compress is bytes
            else contextlib.nullcontext() as tar
        ):
            assert tar is None or [m.offset for m, _ in found] == [m.offset for m in tar.getmembers()]
    damage = read_bytes(compress(joined(first)) + compress(second), tmp_path)[1]
    assert damage is not None
    assert (damage.verdict, damage.offset) == ("data_after_end", 10240)
    assert looks_joined(damage.verdict, str(damage))


def test_what_is_no_joined_tar(tmp_path: Path) -> None:
    """Zeros inside a tar and other data after its end stay damage, and so does a tar that begins after more zeros than any
    writer leaves; the verdict does not take them for tars put end to end.
    """
    data = tar_bytes(THREE)
    for broken in (
        data[:1536] + bytes(BLOCK) + data[1536 + BLOCK :],  # a header; its member's data follows
        data + b"garbage" * 200,
        data + bytes(100) + data,  # not at a whole block
        joined(data) + data[:100],
        joined(data) + bytes([data[0] ^ 1]) + data[1:],
    ):
        _, damage = read_joined(broken, tmp_path)
        assert damage is not None
        assert damage.verdict == "data_after_end"
        assert not looks_joined(damage.verdict, str(damage))
    _, damage = read_joined(joined(data) + bytes(3 << 20) + data, tmp_path)
    assert damage is not None
    assert damage.verdict == "data_after_end"
    assert not looks_joined(damage.verdict, str(damage))
    assert read_joined(joined(data) + data[:-1024], tmp_path)[1].verdict == "no_end_marker"  # type: ignore[union-attr]
    assert read_joined(joined(data) + data[:700], tmp_path)[1].verdict == "cut"  # type: ignore[union-attr]


def test_global_headers_end_with_their_tar(tmp_path: Path) -> None:
    """What one tar says of all its members is not said of the next tar's."""
    first = member(b"g", pax_record(b"size", b"3"), b"g") + member(b"a.wav", b"abc", size=b"%011o\0" % 0) + end_blocks()
    found, damage = read_joined(joined(first) + tar_bytes([("b.wav", b"12345")]), tmp_path)
    assert damage is None
    assert [(m.name, body) for m, body in found] == [(b"a.wav", b"abc"), (b"b.wav", b"12345")]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=4),
    edit=st.tuples(st.integers(0, 60_000), st.integers(0, 3)) | st.none(),
)
def test_fuzz_joined(parts: list[tuple[int, int, int]], edit: tuple[int, int] | None) -> None:
    """However tars are put end to end: what is accepted, tarfile with ignore_zeros reads too, member by member; what tarfile
    reads whole of tars that nobody edited is accepted.
    """
    whole = [
        tar_bytes(THREE),
        tar_bytes(OTHER, tarfile.GNU_FORMAT),
        tar_bytes([("é" * 120, b"1"), *THREE], tarfile.PAX_FORMAT),
    ]
    data = bytearray()
    for which, missing, zeros in parts:
        part = whole[which]
        data += part[: len(part) - BLOCK * min(missing, 2)] + bytes(BLOCK * zeros)
    if edit is not None:
        at, blocks = edit
        at = at % len(data) // BLOCK * BLOCK
        data[at : at + blocks * BLOCK] = bytes(min(blocks * BLOCK, len(data) - at))
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        found, damage = read_all(Path(file.name), allow_joined=True)
        with contextlib.suppress(tarfile.ReadError), tarfile.open(file.name, ignore_zeros=True) as tar:
            expected = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]
            ours = [(m.name.decode(), body) for m, body in found]
            assert ours == expected if damage is None else ours == expected[: len(ours)]
    if edit is None and damage is not None:
        assert damage.verdict == "no_end_marker"


@pytest.mark.parametrize("kind", [b"A", b"Q", b"S"])
def test_types_that_nobody_knows_are_files(kind: bytes, tmp_path: Path) -> None:
    """As POSIX says and tar programs do; so is a sparse type of a header that GNU tar has not written."""
    found, damage = read_bytes(member(b"a.wav", b"data", kind) + end_blocks(), tmp_path)
    assert damage is None
    assert [(m.kind, body) for m, body in found] == [("file", b"data")]
    listed = subprocess.run(["tar", "-xOf", str(tmp_path / "x.tar")], check=False, capture_output=True).stdout
    assert listed == b"data"


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_targets_of_links(form: str, tmp_path: Path) -> None:
    """Where links lead, short or long, is told as it is stored, and whether they are hard."""
    path = tmp_path / "x.tar"
    long = "t" * 150 + "/" + "u" * 150 + ".wav"
    with tarfile.open(path, "w", format=FORMATS[form]) as tar:
        for name, kind, target in (("a", tarfile.LNKTYPE, "b"), ("c", tarfile.SYMTYPE, long), ("d", tarfile.LNKTYPE, long)):
            tar.addfile(entry(name, kind, target))
    found, damage = read_all(path)
    assert damage is None
    assert [(m.name, m.kind, m.size, m.target, m.hard) for m, _ in found] == [
        (b"a", "link", 0, b"b", True),
        (b"c", "link", 0, long.encode(), False),
        (b"d", "link", 0, long.encode(), True),
    ]


def test_peek(tmp_path: Path) -> None:
    """A look at a member's first bytes takes nothing from it, nor from the members after it."""
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(THREE))
    stream = TarStream(path)
    found = []
    for entry_ in stream:
        assert stream.peek(3) == stream.peek(10)[:3] == stream.peek(3)
        if entry_.name != b"b.txt":
            found.append((entry_.name.decode(), stream.read(2) + stream.read(10**6)))
    stream.close()
    assert found == [THREE[0], THREE[2]]


def test_seek(tmp_path: Path) -> None:
    """A plain tar can be read again from any member, whatever was read of it before."""
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes([("n" * 120 + ".wav", b"1"), *THREE], tarfile.GNU_FORMAT))
    stream = TarStream(path)
    members = list(stream)
    for wanted in (members[2], members[0], members[3]):
        stream.seek(wanted.offset)
        assert next(iter(stream)) == wanted
        stream.peek(1)
    stream.close()
    assert stream.is_plain


GOOD = [
    tar_bytes(THREE),
    tar_bytes([("n" * 120 + ".wav", b"1"), *THREE], tarfile.GNU_FORMAT),
    tar_bytes([("é" * 120, b"1"), *THREE], tarfile.PAX_FORMAT),
]
GOOD += [gzip.compress(data) for data in GOOD] + [zstd.compress(data) for data in GOOD]


@pytest.mark.slow
@settings(max_examples=400)
@given(
    which=st.integers(0, len(GOOD) - 1),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=12)), max_size=6),
    cut=st.integers(0, 10_000) | st.none(),
)
def test_fuzz(which: int, edits: list[tuple[int, bytes]], cut: int | None) -> None:
    """Whatever bytes are overwritten or cut off, the reader ends, and only with TarDamage, at a byte that the stream has."""
    data = bytearray(GOOD[which])
    for place, new in edits:
        place %= len(data)  # noqa: PLW2901
        data[place : place + len(new)] = new[: len(data) - place]
    if cut is not None:
        del data[cut % len(data) :]
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        found, damage = read_all(Path(file.name))
    assert len(found) <= 20
    if damage is not None:
        assert damage.verdict in DAMAGE
        assert 0 <= damage.offset <= max(len(data), 20_000)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress], ids=["plain", "gzip", "zstd"])
def test_each_piece_is_told(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Whoever watches a read of a large member sees it get on, megabyte by megabyte; the data is the same."""
    data = random.Random(7).randbytes(5 * READ_BYTES)
    path = tmp_path / "x.tar"
    path.write_bytes(compress(tar_bytes([("a.wav", data)])))
    told: list[None] = []
    stream = TarStream(path, on_read=lambda: told.append(None))
    next(iter(stream))
    assert stream.read(len(data)) == data
    stream.close()
    assert len(told) >= 5


def test_a_look_at_headers_reads_little(tmp_path: Path) -> None:
    """Of a plain tar, data that nobody wants is passed over, and any part can be read afterwards."""
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes([("a", b"a" * 50_000), ("b", b"hello"), ("c", b"c" * 50_000)]))
    pieces: list[int] = []
    stream = TarStream(path, read_bytes=512, seek_over=512, on_read=lambda: pieces.append(1))
    places = {}
    for found in stream:
        places[found.name] = found.offset
    assert len(pieces) < 20
    assert stream.is_plain
    for name, data in ((b"b", b"hello"), (b"a", b"a" * 50_000)):
        stream.seek(places[name])
        assert next(iter(stream)).name == name
        assert stream.read(len(data) + 1) == data
    stream.close()


def test_bytes_as_they_are(tmp_path: Path) -> None:
    """Headers, data and padding of an uncompressed or a compressed tar, to its end."""
    data = tar_bytes([("a", b"1"), ("b", b"22")])
    for name, packed in (("a.tar", data), ("a.tar.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(packed)
        stream = TarStream(tmp_path / name)
        assert stream.read_raw(700) + stream.read_raw(1 << 20) == data
        assert stream.read_raw(1) == b""
        stream.close()
