"""jobs/token_statistics.py: what a manifest says of tokens is read back, and nonsense is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from audio_tokenizers.base import Field
from jobs.manifest import Manifest
from jobs.sequence_counter import SequenceCounter
from jobs.tar_paths import read_manifest
from jobs.token_statistics import (
    NAME_CHARACTERS,
    CommittedManifest,
    SequenceStatistics,
    TokenStatistics,
    entropy_bits,
    read_statistics,
)

FIELD = Field(name="tokens", form="codes", width=2, codebook_size=8, samples_per_item=2)


def statistics(name: str = "a.wav") -> SequenceStatistics:
    """Of two clips."""
    counter = SequenceCounter(FIELD, 100)
    counter.add(np.array([[0, 1, 2, 3], [5, 5, 5, 5]]), 0, name)
    counter.add(np.array([[7, 7], [5, 6]]), 1, "b.wav")
    return SequenceStatistics.of(counter, 100)


def test_figures_are_those_of_the_tokens() -> None:
    """Entropy in bits per token, used ids, repeats, and the longest stretch with its clip."""
    found = statistics()
    assert (found.clips, found.items, found.lowest, found.size, found.items_per_second) == (2, 6, 0, 8, 50.0)
    first, second = found.codebooks
    assert (first.used, first.entropy, first.repeated) == (5, 2.2516, 1)
    assert (second.used, second.entropy, second.repeated) == (2, 0.65, 3)
    assert second.longest is not None
    assert (second.longest.items, second.longest.token, second.longest.clip, second.longest.name) == (4, 5, 0, "a.wav")
    assert found.histograms().tolist() == [[1, 1, 1, 1, 0, 0, 0, 2], [0, 0, 0, 0, 0, 5, 1, 0]]


def test_names_of_any_length_leave_a_manifest_small() -> None:
    """A tar may name its members as it likes."""
    longest = statistics("x" * 100_000).codebooks[1].longest
    assert longest is not None
    assert longest.name == "x" * NAME_CHARACTERS


def test_entropy() -> None:
    """Uniform, certain, and without tokens."""
    assert entropy_bits(np.full(1024, 3)) == 10.0
    assert entropy_bits(np.array([0, 9, 0])) == 0.0
    assert entropy_bits(np.zeros(4, np.int64)) == 0.0


def write(path: Path, tokens: TokenStatistics | None) -> bytes:
    """A manifest as it is committed."""
    manifest = CommittedManifest(tar_file="t", input_bytes=1, input_mtime_ns=2, fingerprint="f", tokens=tokens)
    data = msgspec.json.encode(manifest)
    path.write_bytes(data)
    return data


def test_a_manifest_has_them_and_other_readers_do_not_see_them(tmp_path: Path) -> None:
    """`Manifest` is what scans keep in memory, for 100,000 tars."""
    whole = TokenStatistics(clips=2, sequences={"tokens": statistics()})
    write(tmp_path / "a.json", whole)
    assert read_statistics(tmp_path / "a.json") == whole
    plain = read_manifest(tmp_path / "a.json")
    assert type(plain) is Manifest


def test_a_manifest_of_before_has_none(tmp_path: Path) -> None:
    """Nor has one that is not there."""
    assert read_statistics(tmp_path / "none.json") is None
    plain = Manifest(tar_file="t", input_bytes=1, input_mtime_ns=2, fingerprint="f")
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(plain))
    assert read_statistics(tmp_path / "a.json") is None


def test_damage_is_an_error(tmp_path: Path) -> None:
    """Of the JSON, of a figure, or of a histogram that is not that of as many tokens."""
    good = statistics()
    path = tmp_path / "a.json"
    data = write(path, TokenStatistics(sequences={"tokens": good}))
    for bad in (data[:-9], data.replace(b'"items":6', b'"items":-6'), data.replace(b'"size":8', b'"size":99999999')):
        assert bad != data
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"a\.json: the statistics of its tokens are damaged"):
            read_statistics(path)
    rounded = msgspec.structs.replace(good, counts=msgspec.structs.replace(good.counts, rounded_to=4))
    assert rounded.histograms().sum() == 12  # counts below 32 are not rounded
    for wrong in (
        msgspec.structs.replace(good, items=7),
        msgspec.structs.replace(good, codebooks=good.codebooks[:1]),
        msgspec.structs.replace(rounded, codebooks=good.codebooks[:1]),
        msgspec.structs.replace(rounded, items=2),
        msgspec.structs.replace(good, counts=msgspec.structs.replace(good.counts, rounded_to=0, used=(1, 6))),
    ):
        with pytest.raises(ValueError, match="expected"):
            wrong.histograms()
