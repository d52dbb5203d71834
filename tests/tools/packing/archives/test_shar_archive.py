"""tools/packing/archives/shar_archive.py: a Shar is read inside an archive as in a folder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.hostile_archives import LZMA2, Entry, sevenzip, tar_of, zip_of
from support.made_trees import lay_out, left_out_of, pairs_of

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.packing.archives import safety
from tools.packing.archives.shar import SharSource
from tools.packing.pairs import Source, SourceOptions
from tools.packing.sources import find_ready_tars, open_source

Pack = Callable[[Sequence[Entry]], bytes]
ARCHIVES: dict[str, Pack] = {
    "set.zip": zip_of,
    "set.tar": lambda entries: tar_of(entries, "w"),
    "set.tar.gz": tar_of,
    "set.7z": lambda entries: sevenzip(entries, method=LZMA2, packed_list=True),
}


def cuts(*names: str) -> bytes:
    whole = {"start": 0, "duration": 5, "text": "of {}"}
    lines = (
        json.dumps({"id": name, "start": 0, "duration": 5, "supervisions": [{**whole, "id": "s", "text": f"of {name}"}]})
        for name in names
    )
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def recordings(*names: str) -> bytes:
    return tar_of([Entry(f"{name}.flac", f"audio of {name}".encode()) for name in names], "w")


FILES = {
    "train/cuts.000000.jsonl.gz": cuts("a", "b", "gone"),
    "train/recording.000000.tar": recordings("a", "b", "no cut"),
    "train/features.000000.tar": recordings("x"),
    "train/cuts.000001.jsonl.gz": cuts("c", "a"),
    "train/recording.000001.tar.gz": gzip.compress(recordings("c", "a"), mtime=0),
    "dev/cuts.000000.jsonl.gz": cuts("d"),
    "dev/recording.000000.tar": recordings("d"),
    "README.md": b"about",
}


def archive(folder: Path, name: str, files: dict[str, bytes] | None = None) -> Path:
    path = folder / name
    path.write_bytes(ARCHIVES[name]([Entry(each, data) for each, data in sorted((files or FILES).items())]))
    return path


def opened(path: Path, scratch: Path) -> Source:
    assert find_ready_tars(str(path)) is None
    return open_source(str(path), SourceOptions(scratch=scratch))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_same_as_in_a_folder(name: str, tmp_path: Path, scratch: Path) -> None:
    """All clips and all that is left out, from whatever item on; nothing stays in the scratch folder."""
    expected, left_out = pairs_of(opened(lay_out(tmp_path / "set", FILES), scratch))
    assert sorted(expected) == ["dev/d", "train/a", "train/b", "train/c"]
    source = opened(archive(tmp_path, name), scratch)
    assert isinstance(source, SharSource)
    assert source.name == "set"
    found, left = pairs_of(source)
    assert found == expected
    assert left_out_of(left) == left_out_of(left_out)
    whole = [item() for item in source.items(0)]
    assert len(whole) == source.items_total == 4
    for start in range(5):
        assert [item() for item in source.items(start)] == whole[start:]
    assert opened(tmp_path / name, scratch).fingerprint == source.fingerprint
    del source
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", ARCHIVES)
def test_one_tar_at_a_time_is_on_the_disk(name: str, tmp_path: Path, scratch: Path) -> None:
    """However many there are."""
    source = opened(archive(tmp_path, name), scratch)
    for _ in source.items(0):
        assert len(list(scratch.iterdir())) == 1


def test_room_for_the_largest_tar(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is any is checked before it is unpacked."""
    monkeypatch.setattr(safety, "SPACE_TO_SPARE", 1 << 60)
    with pytest.raises(
        InfrastructureError, match=r"set\.zip holds tars, which are unpacked one at a time\. Free some space"
    ):
        opened(archive(tmp_path, "set.zip"), scratch)


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_tar_that_was_cut(name: str, tmp_path: Path, scratch: Path) -> None:
    """One error with the names of the archive and of the tar in it, and of no scratch file."""
    broken = {**FILES, "dev/recording.000000.tar": FILES["dev/recording.000000.tar"][:700]}
    with pytest.raises(UsageError, match=rf"{name}: dev/recording\.000000\.tar: broken: ") as refusal:
        opened(archive(tmp_path, name, broken), scratch)
    assert "scratch" not in str(refusal.value)


def test_names_that_lead_out(tmp_path: Path, scratch: Path) -> None:
    """Those of the archive and those within are refused likewise."""
    for files in ({**FILES, "../x": b""}, {**FILES, "dev/recording.000000.tar": recordings("../d")}):
        with pytest.raises(UsageError, match=r"set\.zip: .*refused: expected relative names"):
            opened(archive(tmp_path, "set.zip", files), scratch)


def test_audio_beside_it(tmp_path: Path, scratch: Path) -> None:
    """As in a folder, a Shar beside audio is not what is packed."""
    source = opened(archive(tmp_path, "set.zip", {**FILES, "a.wav": b"audio", "a.txt": b"text"}), scratch)
    assert not isinstance(source, SharSource)
    assert list(pairs_of(source)[0]) == ["a"]
