"""tools/packing/shards.py: shards are strict tars of bounded size, and their bytes follow from the pairs alone."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from support.fake_source import AUDIO, FakeSource

from audio_tokenizers.errors import InfrastructureError
from jobs.tar_reader import TarReader
from tools.packing.loading import Stream, load_ahead
from tools.packing.shards import Limits, Shard, write_shard

ROOMY = Limits(10**9)


def shards(folder: Path, source: FakeSource, limits: Limits) -> list[Shard]:
    """All shards of a source."""
    stream = Stream(load_ahead(source.items(0), 2), 0)
    found: list[Shard] = []
    while stream.peek() is not None:
        found.append(write_shard(stream, folder / f"{len(found)}.tar", limits, lambda size, seconds: None))
    return found


@pytest.mark.parametrize("as_files", [False, True])
def test_clips_come_back(tmp_path: Path, as_files: bool) -> None:
    """The strict reader finds each clip with its audio untouched, its text, and where both were."""
    shards(tmp_path, FakeSource(3, as_files=as_files), ROOMY)
    with TarReader(tmp_path / "0.tar") as reader:
        for number, clip in enumerate(reader):
            assert clip.name == f"spk/{number:03}.wav"
            assert clip.audio is not None
            assert clip.audio.read() == AUDIO
            assert clip.annotations.text == f"clip {number}, é 語"
            assert clip.annotations.metadata == {
                "id": f"spk/{number:03}",
                "source": {"audio": f"spk/{number:03}.WAV", "text": f"spk/{number:03}.lab", "sample_rate": 8000},
            }
        assert (number, reader.orphan_sidecars, reader.ignored) == (2, 0, {})


def test_no_shard_is_larger_than_asked(tmp_path: Path) -> None:
    """A shard ends before the pair that would make it too large, and what it says of itself is so."""
    found = shards(tmp_path, FakeSource(10), Limits(10_000))
    assert len(found) > 2
    for number, shard in enumerate(found):
        path = tmp_path / f"{number}.tar"
        assert path.stat().st_size == shard.bytes <= 10_000
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) == 2 * shard.pairs
    assert [shard.first for shard in found[1:]] == [shard.end for shard in found[:-1]]
    assert (found[0].first, found[-1].end, sum(shard.pairs for shard in found)) == (0, 10, 10)


def test_number_of_clips(tmp_path: Path) -> None:
    """`--max-clips` ends a shard, too."""
    assert [shard.pairs for shard in shards(tmp_path, FakeSource(7), Limits(10**9, 3))] == [3, 3, 1]


def test_a_pair_larger_than_a_shard(tmp_path: Path) -> None:
    """It is not lost: it gets a shard of its own."""
    assert [shard.pairs for shard in shards(tmp_path, FakeSource(3), Limits(1000))] == [1, 1, 1]


def test_what_is_left_out_is_kept_with_its_shard(tmp_path: Path) -> None:
    """Each item that is left out is told once, by the shard in whose range it is; a range of nothing else makes no tar."""
    found = shards(tmp_path, FakeSource(6, without_text=(0, 2, 5)), Limits(10**9, 2))
    assert [[item.name for item in shard.left_out] for shard in found] == [["000.lab", "002.lab"], ["005.lab"]]
    found = shards(tmp_path / "none", FakeSource(2, without_text=(0, 1)), ROOMY)
    assert [(shard.tar, shard.pairs, shard.end) for shard in found] == [("", 0, 2)]
    assert not (tmp_path / "none").exists()


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """A tar never gets a member whose data is not as long as its header says."""
    source = FakeSource(1, as_files=True)
    pair = source.read(0)
    object.__setattr__(pair, "size", len(AUDIO) + 600)
    stream = Stream(load_ahead([lambda: pair], 1), 0)
    with pytest.raises(InfrastructureError, match="has changed while it was read"):
        write_shard(stream, tmp_path / "0.tar", ROOMY, lambda size, seconds: None)
    assert list(tmp_path.iterdir()) == []


def test_clips_that_tell_of_faults_are_counted(tmp_path: Path) -> None:
    """What of their texts could not be read or kept stands in their JSON; how many there are, the command says."""
    source = FakeSource(4, faulty=(1, 2))
    (shard,) = shards(tmp_path, source, ROOMY)
    assert (shard.pairs, shard.faulty) == (4, 2)
