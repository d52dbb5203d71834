"""tools/packing/archives/volumes.py: archives in several files."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest
from support.hostile_archives import LZMA2, pairs, sevenzip
from support.made_trees import pairs_of

from audio_tokenizers.errors import UsageError
from tools.packing.archives import formats
from tools.packing.archives.volumes import find_volumes, first_volumes, is_volume, open_volumes
from tools.packing.pairs import SourceOptions
from tools.packing.sources import open_source

COUNT = 12


def split(folder: Path, name: str = "x.7z", size: int = 3000) -> list[Path]:
    """A solid 7z in volumes of `size` bytes, as `7z a -v3000b` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    data = sevenzip(pairs(COUNT), method=LZMA2, blocks=2, packed_list=True)
    volumes = []
    for number, at in enumerate(range(0, len(data), size), 1):
        volumes.append(folder / f"{name}.{number:03}")
        volumes[-1].write_bytes(data[at : at + size])
    assert len(volumes) > 3
    return volumes


@pytest.mark.parametrize("with_program", [True, False])
@pytest.mark.parametrize("name", ["x.7z", "ü * 語.7z"])
@pytest.mark.parametrize("given", ["folder", "first"])
def test_volumes_are_one_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: str, *, with_program: bool
) -> None:
    """Given the first or the folder, with a 7z program or with py7zr, all pairs are there; nothing is left of it."""
    if not with_program:
        monkeypatch.setattr(formats, "require_unpacker", lambda _: None)
    volumes = split(tmp_path / "set", name)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = open_source(str(volumes[0] if given == "first" else volumes[0].parent), SourceOptions(scratch=scratch))
    found, left_out = pairs_of(source)
    assert [(pair.id, pair.audio, pair.text) for pair in found.values()] == [
        (entry.name[:-4], entry.data, f"第{number}句") for number, entry in enumerate(pairs(COUNT)[::2])
    ]
    assert (source.name, left_out) == (name[:-3], [])
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("gone", "words"), [(0, "001 is missing beside"), (1, "002 is missing beside"), (-1, "is missing, or")]
)
def test_a_missing_volume_is_named(tmp_path: Path, gone: int, words: str) -> None:
    """The first, one between and the last, before anything is unpacked."""
    volumes = split(tmp_path / "set")
    volumes[gone].unlink()
    with pytest.raises(UsageError, match=words) as refusal:
        open_source(str(tmp_path / "set"), SourceOptions(scratch=tmp_path))
    assert volumes[gone].name in str(refusal.value)


def test_another_volume_than_the_first(tmp_path: Path) -> None:
    """The message says which one is meant."""
    volumes = split(tmp_path)
    with pytest.raises(UsageError, match=r"expected the first volume, x\.7z\.001"):
        find_volumes(volumes[2])


def test_volumes_of_two_archives_in_a_folder(tmp_path: Path) -> None:
    """Which is meant is for people to say."""
    split(tmp_path / "set")
    split(tmp_path / "set", "y.7z")
    with pytest.raises(UsageError, match=r"expected the volumes of one archive, found x\.7z\.001, y\.7z\.001"):
        open_source(str(tmp_path / "set"), SourceOptions(scratch=tmp_path))


def test_damage_in_a_volume(tmp_path: Path) -> None:
    """It is told as that of any archive."""
    volumes = split(tmp_path / "set")
    data = bytearray(volumes[1].read_bytes())
    data[100] ^= 0xFF
    volumes[1].write_bytes(data)
    source = open_source(str(volumes[0]), SourceOptions(scratch=tmp_path))
    with pytest.raises(UsageError, match=r"x\.7z\.001: broken"):
        pairs_of(source)


def test_names() -> None:
    """A number of three digits or more after .7z, in any case; the first that is there of each archive."""
    assert [name for name in ("x.7z.001", "X.7Z.0012", "x.7z", "x.7z.1", "x.zip.001", ".7z.001") if is_volume(name)] == [
        "x.7z.001",
        "X.7Z.0012",
    ]
    assert first_volumes(["b.7z.003", "b.7z.002", "a.7z.1000", "a.7z.999", "c"]) == ["a.7z.999", "b.7z.002"]


def test_files_joined_read_as_one(tmp_path: Path) -> None:
    """Whatever is read where, across any borders."""
    chance = random.Random(1)
    parts = [chance.randbytes(size) for size in (5, 0, 1, 700, 3)]
    for number, part in enumerate(parts):
        (tmp_path / str(number)).write_bytes(part)
    whole = io.BytesIO(b"".join(parts))
    with open_volumes([tmp_path / str(number) for number in range(len(parts))]) as file:
        for _ in range(300):
            move = (chance.randrange(-3, 720), chance.choice((os.SEEK_SET, os.SEEK_END)))
            at = max(0, move[0]) if move[1] == os.SEEK_SET else -abs(move[0]) % 709
            size = chance.randrange(800)
            assert file.seek(at) == whole.seek(at)
            assert file.read(size) == whole.read(size)
        assert file.seek(0, os.SEEK_END) == len(whole.getvalue())
