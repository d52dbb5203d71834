"""tools/packing/archives/shar.py: lhotse's Shar."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.hostile_archives import Entry, tar_of
from support.made_trees import left_out_of, pairs_of
from support.sentences import SENTENCES

from audio_tokenizers.errors import UsageError
from tools.packing.archives import shar as module
from tools.packing.archives.shar import SharSource, shar_shards
from tools.packing.pairs import Pair, Source, SourceOptions, is_outside
from tools.packing.sources import find_ready_tars, open_source


def cut(name: str, *supervisions: dict[str, Any], duration: float = 5.0) -> dict[str, Any]:
    """As lhotse's SharWriter writes it."""
    placeholder = {"id": f"rec-{name}", "sources": [{"type": "shar", "channels": [0], "source": ""}], "sampling_rate": 16000}
    more = {"start": 0, "duration": duration, "channel": 0, "type": "MonoCut", "recording": placeholder}
    return {"id": name, **more, "supervisions": list(supervisions)}


def said(name: str, text: str, start: float = 0.0, duration: float = 5.0) -> dict[str, Any]:
    return {
        "id": name,
        "recording_id": "r",
        "start": start,
        "duration": duration,
        "channel": 0,
        "text": text,
        "language": "en",
    }


def shard(folder: Path, number: int, cuts: list[dict[str, Any]], *audio: str, encoding: str = "utf-8") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(one, ensure_ascii=encoding == "utf-8") + "\n" for one in cuts)
    (folder / f"cuts.{number:06}.jsonl.gz").write_bytes(gzip.compress(lines.encode(encoding), mtime=0))
    entries: list[Entry] = []
    for name in audio:
        entries += [Entry(f"{name}.flac", f"audio of {name}".encode()), Entry(f"{name}.json", b'{"sampling_rate": 16000}')]
    entries += [Entry("nothing.nodata", b""), Entry("nothing.nometa", b"")]
    (folder / f"recording.{number:06}.tar").write_bytes(tar_of(entries, "w"))


def opened(folder: Path, scratch: Path, *exclude: str) -> Source:
    assert find_ready_tars(str(folder)) is None
    return open_source(str(folder), SourceOptions(exclude=exclude, scratch=scratch))


@pytest.fixture
def shar(tmp_path: Path) -> Path:
    """Three shards below two folders."""
    folder = tmp_path / "shar"
    shard(folder / "dev", 0, [cut("a.1-0", said("s", "one")), cut("no audio", said("s", "x"))], "a.1-0", "no cut")
    two = [said("y", "second", 2.0, 1.5), said("x", "first", 0.5, 1.0)]
    shard(folder / "train", 0, [cut("b", *two), cut("silent"), cut("silent")], "b", "silent", "b")
    shard(folder / "train", 1, [cut("b", said("s", "again")), cut("c", said("s", "three"))], "c", "b")
    (folder / "train" / "features.000000.tar").write_bytes(tar_of([Entry("b.npy", b"x")], "w"))
    return folder


def test_cuts_in_another_encoding(tmp_path: Path) -> None:
    """Told from the cuts of all shards together."""
    for number, text in enumerate(SENTENCES["ja"]):
        shard(tmp_path / "shar", number, [cut(f"c{number}", said("s", text))], f"c{number}", encoding="euc_jp")
    pairs, left_out = pairs_of(opened(tmp_path / "shar", tmp_path))
    assert ([pair.text for pair in pairs.values()], left_out) == (list(SENTENCES["ja"]), [])


def test_cuts_have_their_audio(tmp_path: Path, shar: Path) -> None:
    """Each by its id, with the text of a supervision of the whole, or segments; what has no other half is listed."""
    pairs, left_out = pairs_of(opened(shar, tmp_path))
    assert {name: (pair.audio, pair.audio_name, pair.text, pair.language) for name, pair in pairs.items()} == {
        "dev/a.1-0": (b"audio of a.1-0", "dev/a.1-0.flac", "one", "en"),
        "train/b": (b"audio of b", "train/b.flac", None, "en"),
        "train/c": (b"audio of c", "train/c.flac", "three", "en"),
    }
    parts = (pairs["train/b"].metadata or {})["segments"]
    assert [(part["id"], part["start"], part["end"], part["text"]) for part in parts] == [
        ("x", 0.5, 1.5, "first"),
        ("y", 2.0, 3.5, "second"),
    ]
    assert left_out_of(left_out) == [
        ("audio_without_text", "dev/no cut"),
        ("duplicate", "silent"),
        ("duplicate", "train/b"),
        ("duplicate", "train/b"),
        ("empty_text", "train/silent"),
        ("excluded", "train/features.000000.tar"),
        ("text_without_audio", "dev/no audio"),
    ]


def test_going_on_in_the_middle(tmp_path: Path, shar: Path) -> None:
    """From every item on come the items that an undisturbed reading has there."""
    source = opened(shar, tmp_path)
    whole = [item() for item in source.items(0)]
    assert len(whole) == source.items_total == 3
    assert source.bytes_total == sum(pair.size for pair in whole if isinstance(pair, Pair))
    for start in range(4):
        assert [item() for item in source.items(start)] == whole[start:]


def test_fingerprint(tmp_path: Path, shar: Path) -> None:
    """Another text or another byte of audio is another data set; the same elsewhere is not."""
    first = opened(shar, tmp_path).fingerprint
    moved = shar.rename(tmp_path / "moved")
    assert opened(moved, tmp_path).fingerprint == first
    shard(moved / "train", 1, [cut("c", said("s", "four"))], "c")
    second = opened(moved, tmp_path).fingerprint
    shard(moved / "train", 1, [cut("c", said("s", "four"))], "C")
    assert len({first, second, opened(moved, tmp_path).fingerprint}) == 3


def test_exclude(tmp_path: Path, shar: Path) -> None:
    """A glob takes folders of it, as everywhere."""
    pairs, left_out = pairs_of(opened(shar, tmp_path, "train"))
    assert list(pairs) == ["dev/a.1-0"]
    assert ("excluded", "train/c") in left_out_of(left_out)


def test_a_share_of_the_clips(tmp_path: Path, shar: Path) -> None:
    """By the cut's id below the folder."""
    options = SourceOptions(subset_ratio=0.5, scratch=tmp_path)
    pairs, left_out = pairs_of(open_source(str(shar), options))
    everything = list(pairs_of(opened(shar, tmp_path))[0])
    assert list(pairs) == [clip for clip in everything if not is_outside(clip, options)]
    outside = [name for reason, name in left_out_of(left_out) if reason == "outside_subset"]
    assert len(pairs) < len(everything) <= len(pairs) + len(outside)


def test_what_is_no_shar() -> None:
    """Cuts without recordings of the same number, and WebDataset tars, are other things."""
    assert shar_shards(["cuts.000000.jsonl.gz", "recording.000001.tar", "features.000000.tar"]) == []
    assert shar_shards(["recording.000000.tar", "000000.tar"]) == []
    names = [f"x/{field}.{number}" for number in (10, 9) for field in ("cuts",)]
    found = shar_shards([*(f"{name}.jsonl" for name in names), "x/recording.9.tar", "x/recording.10.tar.gz"])
    assert [one.recordings for one in found] == ["x/recording.9.tar", "x/recording.10.tar.gz"]


def test_a_tar_that_was_cut(tmp_path: Path, shar: Path) -> None:
    """One error with its path."""
    path = shar / "train" / "recording.000001.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UsageError, match=r"recording\.000001\.tar: broken"):
        opened(shar, tmp_path)


def test_any_cuts_give_pairs_or_one_message(tmp_path: Path) -> None:
    """Values of any type in any place never give a traceback."""
    chance = random.Random(3)
    values: list[Any] = [None, 0, -1, 1e999, "r", [], {}, [{}], True, 10**400, "\ud800"]

    def damaged(record: dict[str, Any]) -> dict[str, Any]:
        return {key: chance.choice(values) if chance.random() < 0.3 else value for key, value in record.items()}

    for number in range(80):
        folder = tmp_path / f"shar{number}"
        shard(folder, 0, [damaged(cut("a", damaged(said("s", "one")))), cut("b", said("s", "two"))], "a", "b")
        source = opened(folder, tmp_path)
        assert isinstance(source, SharSource)
        assert pairs_of(source)[0]["b"].text == "two"


def test_large_clips_that_are_never_read_leave_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is stopped drops items that it has not read; those that are read are open files without a name."""
    monkeypatch.setattr(module, "AUDIO_IN_MEMORY", 4)
    folder, scratch = tmp_path / "shar", tmp_path / "scratch"
    scratch.mkdir()
    shard(folder, 0, [cut(name, said(name, "text")) for name in "ab"], "a", "b")
    source = open_source(str(folder), SourceOptions(scratch=scratch))
    before = len(list(Path("/proc/self/fd").iterdir()))
    first, second = source.items(0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    del second
    pair = first()
    assert isinstance(pair, Pair)
    assert not isinstance(pair.audio, bytes)
    with pair.audio as file:
        assert file.read() == b"audio of a"
        assert len(list(scratch.iterdir())) == 1  # the other
