"""jobs/tar_links.py: a link has the data that it would have once the tar is unpacked, and never any from elsewhere."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tars import end_blocks, member

from jobs import tar_links
from jobs.tar_format import TarDamage, TarStream
from jobs.tar_links import LinkedData, Links

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HARD, SOFT = tarfile.LNKTYPE, tarfile.SYMTYPE
Entry = tuple[str, bytes, str]
"""Name; type; the data of a file, or a link's target."""
COMPRESSIONS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, zstd.compress]


def packed(entries: list[Entry], form: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, kind, what in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            data = b""
            if kind in (HARD, SOFT):
                info.linkname = what
            elif kind == tarfile.REGTYPE:
                data = what.encode()
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def file(name: str, data: str) -> Entry:
    return name, tarfile.REGTYPE, data


def links_of(path: Path, opened: list[int] | None = None) -> Links:
    def open_tar(read_bytes: int) -> TarStream:
        if opened is not None:
            opened.append(read_bytes)
        return TarStream(path, read_bytes=read_bytes, seek_over=read_bytes)

    return Links(open_tar, lambda _: True, lambda _: False)


def found(path: Path, read_bytes: int = 1 << 30) -> dict[str, str]:
    """Name -> data of each link, or why there is none."""
    ends = {}
    with closing(TarStream(path)) as stream, closing(links_of(path)) as links:
        for one in stream:
            if one.kind == "link":
                data = links.open(one)
                if isinstance(data, LinkedData):
                    pieces = []
                    while piece := data.read(read_bytes):
                        pieces.append(piece)
                    assert sum(map(len, pieces)) == data.size
                    data = b"".join(pieces).decode()
                ends[one.name.decode()] = data
    return ends


@pytest.mark.parametrize("compress", COMPRESSIONS, ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_links_have_the_data_of_their_targets(compress: Callable[[bytes], bytes], form: int, tmp_path: Path) -> None:
    """Hard and symbolic, through folders, through other links, to what comes before and after, with names of any length, and
    however both are written.
    """
    long = "deep/" * 40 + "n" * 120 + ".wav"
    entries = [
        ("d/early.wav", SOFT, "../e/late.wav"),
        file("./a.wav", "first"),
        ("b.wav", HARD, "a.wav"),
        ("c.wav", HARD, "./b.wav"),
        ("d/e.wav", SOFT, "../a.wav"),
        ("d/f.wav", SOFT, "e.wav"),
        ("d/g.wav", HARD, "d/f.wav"),
        ("h.wav", SOFT, "d/..//./d/g.wav"),
        file(long, "long"),
        ("i.wav", HARD, long),
        ("j.wav", SOFT, long),
        file("e/late.wav", "late" * 500),
        file("/rooted.wav", "rooted"),
        ("k.wav", HARD, "/rooted.wav"),
        ("l.wav", SOFT, "/rooted.wav"),
        file("blob", "any name"),
        ("m.wav", SOFT, "blob"),
    ]
    path = tmp_path / "x.tar"
    path.write_bytes(compress(packed(entries, form)))
    expected = {
        **dict.fromkeys(("b.wav", "c.wav", "d/e.wav", "d/f.wav", "d/g.wav", "h.wav"), "first"),
        "d/early.wav": "late" * 500,
        "i.wav": "long",
        "j.wav": "long",
        "k.wav": "rooted",
        "l.wav": "rooted",
        "m.wav": "any name",
    }
    assert found(path) == expected
    assert found(path, 7) == expected


@pytest.mark.parametrize("compress", COMPRESSIONS, ids=["plain", "gzip", "zstd"])
def test_links_to_nothing_say_so(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Missing, outside, no file, or a circle: each in its words, with what the link says; no file of the machine is read."""
    (tmp_path / "outside.wav").write_bytes(b"secret")
    entries = [
        file("a.wav", "a"),
        ("folder", tarfile.DIRTYPE, ""),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("missing.wav", HARD, "no.wav"),
        ("missing2.wav", SOFT, "no.wav"),
        ("later.wav", HARD, "z.wav"),
        ("up.wav", SOFT, "../outside.wav"),
        ("up2.wav", SOFT, "folder/../../outside.wav"),
        ("root.wav", SOFT, str(tmp_path / "outside.wav")),
        ("up3.wav", HARD, "../outside.wav"),
        ("to_folder.wav", SOFT, "folder"),
        ("to_pipe.wav", HARD, "pipe"),
        ("itself.wav", SOFT, "itself.wav"),
        ("one.wav", SOFT, "two.wav"),
        ("two.wav", SOFT, "one.wav"),
        ("chain.wav", SOFT, "missing2.wav"),
        ("empty.wav", SOFT, ""),
        file("z.wav", "z"),
    ]
    path = tmp_path / "x.tar"
    path.write_bytes(compress(packed(entries)))
    ends = found(path)
    assert ends.keys() == {name for name, kind, _ in entries if kind in (HARD, SOFT)}
    nothing = "there is no such member in the tar"
    outside = "that is outside the tar, where no link is followed"
    words = {
        "missing.wav": "a hard link to no.wav: there is no such member before it in the tar",
        "missing2.wav": f"a symbolic link to no.wav: {nothing}",
        "later.wav": "a hard link to z.wav: there is no such member before it in the tar",
        "up.wav": f"a symbolic link to ../outside.wav: {outside}",
        "root.wav": f"a symbolic link to {tmp_path}/outside.wav: {nothing}",
        "up3.wav": f"a hard link to ../outside.wav: {outside}",
        "to_folder.wav": "a symbolic link to folder: that is no file",
        "to_pipe.wav": "a hard link to pipe: that is no file",
        "itself.wav": "a symbolic link to itself.wav: links lead round in a circle",
        "one.wav": "a symbolic link to two.wav: links lead round in a circle",
        "chain.wav": f"a symbolic link to missing2.wav: {nothing}",
    }
    assert {name: ends[name] for name in words} == words


def test_names_that_come_again(tmp_path: Path) -> None:
    """A hard link has the last file of its name before it, a symbolic one the last of all, as in a tar that is unpacked."""
    entries = [
        file("a.wav", "first"),
        ("h1.wav", HARD, "a.wav"),
        ("s1.wav", SOFT, "a.wav"),
        file("a.wav", "second"),
        ("h2.wav", HARD, "a.wav"),
        file("a.wav", "third"),
    ]
    path = tmp_path / "x.tar"
    path.write_bytes(packed(entries))
    ends = found(path)
    assert ends == {"h1.wav": "first", "s1.wav": "third", "h2.wav": "second"}
    subprocess.run(["tar", "-C", str(tmp_path), "-xf", str(path)], check=True)
    assert {name: (tmp_path / name).read_text() for name in ends} == ends


def test_nothing_is_read_before_a_link_is_asked_for(tmp_path: Path) -> None:
    """A tar whose links nobody wants is opened no second time; one whose links are wanted, once more; compressed, twice."""
    path = tmp_path / "x.tar"
    entries = [file("a.wav", "a"), ("b.wav", HARD, "a.wav"), ("c.wav", SOFT, "a.wav"), ("d.wav", SOFT, "no.wav")]
    for compress, times in ((bytes, 1), (gzip.compress, 2)):
        path.write_bytes(compress(packed(entries)))
        opened: list[int] = []
        with closing(TarStream(path)) as stream, closing(links_of(path, opened)) as links:
            members = [one for one in stream if one.kind == "link"]
            assert opened == []
            for one in (*members, *members):
                links.open(one)
            assert len(opened) == times


def test_the_headers_of_a_plain_tar_are_read_and_not_its_data(tmp_path: Path) -> None:
    """Looking for targets costs a seek and a few kilobytes per member, however large the members are."""
    path = tmp_path / "x.tar"
    entries = [file(f"{n}.wav", "x" * 200_000) for n in range(20)]
    path.write_bytes(packed([("first.wav", SOFT, "19.wav"), *entries]))
    pieces: list[None] = []
    streams = []

    def open_tar(read_bytes: int) -> TarStream:
        streams.append(TarStream(path, read_bytes=read_bytes, seek_over=read_bytes, on_read=lambda: pieces.append(None)))
        return streams[-1]

    with closing(TarStream(path)) as stream, closing(Links(open_tar, lambda _: True, lambda _: False)) as links:
        data = links.open(next(iter(stream)))
        assert isinstance(data, LinkedData)
        assert len(pieces) < 60  # of 4096 bytes: a tenth of the file
        assert data.read(10**6) == b"x" * 200_000


def test_data_of_a_compressed_tar_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What links lead to is kept up to a limit, in the tar's order; beyond it the link says what to do. A file that many
    links lead to counts once.
    """
    monkeypatch.setattr(tar_links, "LARGEST_COPY", 1000)
    entries = [
        file("a.wav", "a" * 600),
        file("b.wav", "b" * 600),
        file("c.wav", "c" * 400),
        file("unlinked.wav", "d" * 5000),
    ]
    entries += [(f"{target}{n}.wav", HARD, f"{target}.wav") for target in "cba" for n in range(5)]
    path = tmp_path / "x.tar"
    path.write_bytes(packed(entries))
    assert {len(end) for end in found(path).values()} == {600, 400}
    path.write_bytes(gzip.compress(packed(entries)))
    ends = found(path)
    assert all(ends[f"{target}{n}.wav"] == target * size for target, size in (("a", 600), ("c", 400)) for n in range(5))
    assert "1,000 bytes of data together" in ends["b0.wav"]
    assert "pack it again as a plain tar" in ends["b0.wav"]


def test_links_of_a_damaged_tar(tmp_path: Path) -> None:
    """What a link leads to may stand behind the damage: then nobody can say, and the damage is what is said. A hard link to
    what is there needs nothing of what follows.
    """
    entries = [file("a.wav", "a"), ("hard.wav", HARD, "a.wav"), ("soft.wav", SOFT, "a.wav"), ("no.wav", HARD, "b.wav")]
    for compress in COMPRESSIONS:
        path = tmp_path / "x.tar"
        path.write_bytes(compress(packed(entries)[: 512 * 5] + b"broken" * 512))
        with closing(TarStream(path)) as stream, closing(links_of(path)) as links:
            members = iter(stream)
            next(members)
            data = links.open(next(members))
            assert isinstance(data, LinkedData)
            assert data.read(10) == b"a"
            for _ in range(2):
                with pytest.raises(TarDamage) as caught:
                    links.open(next(members))
                assert caught.value.verdict == "bad_header"


def test_sparse_targets(tmp_path: Path) -> None:
    """A link to a sparse file has the file with its holes; to one that cannot be given back, its fault."""
    with (tmp_path / "a.wav").open("wb") as holes:
        holes.truncate(9000)
        holes.seek(5000)
        holes.write(b"data" * 300)
    os.link(tmp_path / "a.wav", tmp_path / "b.wav")
    path = tmp_path / "x.tar"
    subprocess.run(["tar", "--sparse", "-C", str(tmp_path), "-cf", str(path), "a.wav", "b.wav"], check=True)
    assert found(path)["b.wav"].encode() == (tmp_path / "a.wav").read_bytes()
    plain = path.read_bytes()
    path.write_bytes(zstd.compress(plain))
    assert found(path)["b.wav"].encode() == (tmp_path / "a.wav").read_bytes()
    lines = b"27 GNU.sparse.size=9999999\n"
    path.write_bytes(member(b"x", lines, b"x") + member(b"a.wav") + packed([("b.wav", HARD, "a.wav")]))
    assert "a sparse file, and it has no valid map" in found(path)["b.wav"]


def test_a_tar_that_changes_between_two_looks(tmp_path: Path) -> None:
    """A target that is no longer where it was is named as that: nobody is given other data."""
    path = tmp_path / "x.tar"
    data = packed([file("a.wav", "a"), file("z.wav", "z" * 20_000), ("b.wav", HARD, "a.wav"), ("c.wav", HARD, "z.wav")])
    path.write_bytes(data)
    with closing(TarStream(path)) as stream, closing(links_of(path)) as links:
        link, other = [one for one in stream if one.kind == "link"]
        assert isinstance(links.open(other), LinkedData)
        with path.open("r+b") as changing:
            changing.write(member(b"a.wav", kind=b"5"))
        with pytest.raises(TarDamage, match="has changed since"):
            links.open(link)


@pytest.mark.slow
def test_memory_for_a_tar_of_many_members(tmp_path: Path) -> None:
    """The table takes tens of bytes per member, whatever the names."""
    path = tmp_path / "x.tar"
    many = 20_000
    one = member(b"a/rather/long/name/of/some/clip/in/a/folder.wav")
    link = packed([("first.wav", SOFT, "z.wav")])[:512]
    with path.open("wb") as out:
        out.write(link)
        for _ in range(many):
            out.write(one)
        out.write(end_blocks())
    with closing(TarStream(path)) as stream, closing(links_of(path)) as links:
        first = next(iter(stream))
        tracemalloc.start()
        assert isinstance(links.open(first), str)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 40 * many
    assert peak < 120 * many


NAMES = ["a", "b", "d/a", "d/b", "d/e/c", "./a", "d//a"]
TARGETS = [*NAMES, "../a", "e/c", "../../a", "/a", "", ".", "..", "no", "d", "../d/b"]


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from([tarfile.REGTYPE, HARD, SOFT]), st.sampled_from(TARGETS)),
        min_size=1,
        max_size=7,
    ),
    st.sampled_from(COMPRESSIONS),
)
def test_fuzz(members: list[tuple[str, bytes, str]], compress: Callable[[bytes], bytes]) -> None:
    """Whatever links a tar has: where GNU tar unpacks it without a complaint, the last link of each name has the data that
    is found there; if it leads to no file of the tar, it has none.
    """
    entries = [(name, kind, f"{n}" if kind == tarfile.REGTYPE else target) for n, (name, kind, target) in enumerate(members)]
    with tempfile.TemporaryDirectory() as folder:
        path, unpacked = Path(folder) / "x.tar", Path(folder) / "in" / "x"
        unpacked.mkdir(parents=True)
        path.write_bytes(packed(entries))
        done = subprocess.run(["tar", "-C", str(unpacked), "-xPf", str(path)], check=False, capture_output=True)
        path.write_bytes(compress(path.read_bytes()))
        ends = found(path)
        if done.returncode:
            return
        last = {os.path.normpath(name): (name, kind) for name, kind, _ in entries}
        for place, (name, kind) in last.items():
            if kind in (HARD, SOFT):
                there = unpacked / place
                inside = there.is_file() and Path(os.path.realpath(there)).is_relative_to(os.path.realpath(unpacked))
                assert (ends[name] == there.read_text()) if inside else ": " in ends[name]
