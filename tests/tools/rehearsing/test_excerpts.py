"""tools/rehearsing/excerpts.py: the first clips of random tars, byte for byte."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from support.small_run import mulaw_spec, wav, write_tar
from support.tars import link_member, member

from jobs.tar_format import TarStream
from tools.rehearsing.excerpts import Excerpts, cut_excerpts


def with_texts(path: Path, clips: int) -> Path:
    """Clips of different lengths, each before its text; a folder first."""
    members: dict[str, bytes] = {}
    for number in range(clips):
        members[f"d/{number:02}.wav"] = wav(50 + number, seed=number)
        members[f"d/{number:02}.txt"] = f"clip {number}".encode()
    return write_tar(path, members)


def members_of(found: Excerpts, source: Path) -> list[tuple[str, bytes]]:
    """Names and data of the members of a source's parts, in order, as Python's tarfile reads them."""
    read = []
    for part in (part for part in found.parts if part.source == str(source)):
        with tarfile.open(part.path) as tar:
            read += [(one.name, file.read()) for one in tar if (file := tar.extractfile(one)) is not None]
    return read


def original(source: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(source) as tar:
        return [(one.name, file.read()) for one in tar if (file := tar.extractfile(one)) is not None]


def test_two_tars_share_the_clips(tmp_path: Path) -> None:
    """Half of the clips from the beginning of each, with their sidecars, in small tars that end properly."""
    tars = [with_texts(tmp_path / f"{name}.tar", 20) for name in "abc"]
    found = cut_excerpts([str(tar) for tar in tars], 10, 5, mulaw_spec(), tmp_path / "cut", 0)
    assert (found.clips, found.tars, found.faults) == (10, 2, {})
    assert [part.clips for part in found.parts] == [2, 2, 1, 2, 2, 1]
    for source in {part.source for part in found.parts}:
        assert members_of(found, Path(source)) == original(Path(source))[:10]
        assert sum(part.bytes for part in found.parts if part.source == source) < Path(source).stat().st_size
    for part in found.parts:
        assert part.path.stem == Path(part.source).stem
        stream = TarStream(part.path)
        assert len(list(stream)) == 2 * part.clips
        stream.close()
    again = cut_excerpts([str(tar) for tar in tars], 10, 5, mulaw_spec(), tmp_path / "again", 0)
    assert [part.source for part in again.parts] == [part.source for part in found.parts]


def test_whole_tars(tmp_path: Path) -> None:
    """Fewer clips than asked for: all there are, and the parts stand for all bytes."""
    tars = [with_texts(tmp_path / f"{name}.tar", 3) for name in "ab"]
    found = cut_excerpts([str(tar) for tar in tars], 100, 10, mulaw_spec(), tmp_path / "cut", 0)
    assert found.clips == 6
    assert sum(part.bytes for part in found.parts) == sum(tar.stat().st_size for tar in tars)
    assert all(members_of(found, tar) == original(tar) for tar in tars)


def test_nothing_behind_the_clips_is_read(tmp_path: Path) -> None:
    """What is broken there does not matter, and costs no time."""
    tar = with_texts(tmp_path / "a.tar", 6)
    data = tar.read_bytes()
    tar.write_bytes(data[: len(data) // 2] + b"?" * 2000)
    found = cut_excerpts([str(tar)], 2, 1, mulaw_spec(), tmp_path / "cut", 0)
    assert (found.clips, found.faults) == (2, {})


def test_a_damaged_tar(tmp_path: Path) -> None:
    """It is named, its clips before the damage are taken, and another tar gives the rest."""
    broken, good = with_texts(tmp_path / "a.tar", 6), with_texts(tmp_path / "b.tar", 6)
    broken.write_bytes(broken.read_bytes()[:3000])
    gone = tmp_path / "c.tar"
    found = cut_excerpts([str(broken), str(good), str(gone)], 8, 1, mulaw_spec(), tmp_path / "cut", 0)
    assert {part.source: part.clips for part in found.parts} == {str(broken): 1, str(good): 4}
    assert "the file ends at byte 3,000" in found.faults[str(broken)]
    assert found.faults[str(gone)] == "No such file or directory"


def test_a_compressed_tar(tmp_path: Path) -> None:
    """Its parts are plain, and stand for the bytes that it takes where it is stored."""
    plain = with_texts(tmp_path / "a.tar", 8)
    packed = tmp_path / "p.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    found = cut_excerpts([str(packed)], 100, 2, mulaw_spec(), tmp_path / "cut", 0)
    assert members_of(found, packed) == original(plain)
    assert {part.path.name for part in found.parts} == {"p.tar"}
    assert sum(part.bytes for part in found.parts) == pytest.approx(packed.stat().st_size, abs=2)


def test_links_stay_with_their_targets(tmp_path: Path) -> None:
    """A tar with clips that are links becomes one part."""
    tar = tmp_path / "a.tar"
    tar.write_bytes(
        member(b"0.wav", wav(50))
        + member(b"1.wav", wav(60))
        + link_member(b"2.wav", b"0.wav")
        + member(b"3.wav", wav(9))
        + bytes(1024)
    )
    found = cut_excerpts([str(tar)], 3, 3, mulaw_spec(), tmp_path / "cut", 0)
    assert [part.clips for part in found.parts] == [3]


def test_a_subset(tmp_path: Path) -> None:
    """Clips outside of the run's share do not count, and the share is the same in the parts."""
    tar = with_texts(tmp_path / "a.tar", 40)
    spec = mulaw_spec(subset_ratio=0.5)
    found = cut_excerpts([str(tar)], 6, 2, spec, tmp_path / "cut", 0)
    assert found.clips == 6
    assert 12 < len(members_of(found, tar)) < 60


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_headers_that_belong_together(form: int, tmp_path: Path) -> None:
    """Long names, whose headers are members of their own, stay with their clips; a header for all is in each part."""
    tar = tmp_path / "a.tar"
    headers = {"comment": "of all"} if form == tarfile.PAX_FORMAT else None
    with tarfile.open(tar, "w", format=form, pax_headers=headers) as made:
        for number in range(6):
            info = tarfile.TarInfo(f"{'d' * 150}/{number}.wav")
            data = wav(50 + number)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    found = cut_excerpts([str(tar)], 4, 2, mulaw_spec(), tmp_path / "cut", 0)
    assert members_of(found, tar) == original(tar)[:4]
    assert [part.clips for part in found.parts] == [2, 2]
    for part in found.parts:
        with tarfile.open(part.path) as read:
            assert read.pax_headers == (headers or {})


def test_no_clips(tmp_path: Path) -> None:
    """Tars without audio give no parts, which is no fault of theirs."""
    tar = write_tar(tmp_path / "a.tar", {"a.txt": b"text"})
    found = cut_excerpts([str(tar)], 3, 2, mulaw_spec(), tmp_path / "cut", 0)
    assert (found.parts, found.faults) == ([], {})
