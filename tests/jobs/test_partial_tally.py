"""jobs/partial_tally.py: a partial's clips and its audio, as the manifest will have them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lossy import damaged_tar, use_lossy_decode
from support.small_run import small_tar, stopping_after, tokenize

from jobs.damage import Damage
from jobs.partial_tally import PartialTally, tally_partial
from jobs.records import ErrorRecord, TokenRecord, decode_record, encode_record
from jobs.tar_paths import TarPaths


def line(samples: int = 4000, rate: int = 8000, name: str = "a.wav", **more: Any) -> bytes:
    """A line with tokens."""
    values = {"tokens": msgspec.Raw(b"[[1]]"), "token_shape": msgspec.Raw(b"[1,1]")}
    record = TokenRecord(tar_file="/d/1.tar", audio_file=name, num_samples=samples, sample_rate=rate, values=values, **more)
    return encode_record(record) + b"\n"


ERROR = encode_record(ErrorRecord(tar_file="/d/1.tar", audio_file="b.wav", error="no", error_kind="empty")) + b"\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", PartialTally(0, 0.0)),
        (line() + ERROR + line(1, 3), PartialTally(3, 0.833)),
        (line() + line()[:-1], PartialTally(1, 0.5)),
        (line(name='odd "name"\\ \n é.wav'), PartialTally(1, 0.5)),
        (
            line(metadata={"tar_file": "x", "num_samples": 9, "sample_rate": 1}, text='"num_samples":9,'),
            PartialTally(1, 0.5),
        ),
        (
            line(damage=Damage(0.72, 'a "frame"')) + ERROR + line(damage=Damage(0.0, "x")) + line(damage=Damage(1e20, "y")),
            PartialTally(4, 1.5, 3, 1e20),
        ),
        (line(metadata={"damage": {"seconds": 9.0, "what": "x"}}), PartialTally(1, 0.5)),
        (b"\xff\n{}\n", PartialTally(2, 0.0)),
    ],
    ids=["empty", "errors have no audio", "torn", "names", "metadata", "damage", "no damage", "no lines of ours"],
)
def test_lines_and_seconds(tmp_path: Path, data: bytes, expected: PartialTally) -> None:
    """Whole lines count; those with tokens count with the audio that their heads tell."""
    (tmp_path / "p").write_bytes(data)
    assert tally_partial(tmp_path / "p") == expected


@pytest.mark.parametrize("number", [b"1..2", b"1e", b"e5", b"-", b"1" * 5000, b"1e999", b"0x1"])
def test_numbers_that_are_none(tmp_path: Path, number: bytes) -> None:
    """A partial may hold anything after a power loss: it is counted as far as it makes sense, and never an exception."""
    for key in (b'"num_samples":4000', b'"sample_rate":8000', b'"seconds":0.5'):
        whole = line(damage=Damage(0.5, "x"))
        data = whole.replace(key, key.partition(b":")[0] + b":" + number)
        assert data != whole
        (tmp_path / "p").write_bytes(data + line())
        found = tally_partial(tmp_path / "p")
        assert found.clips == 2
        assert found.audio_seconds >= 0.5


@settings(max_examples=200)
@given(st.data())
def test_damaged_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever became of a line with damage, counting it is no exception, nor is reading it but for those of msgspec."""
    whole = line(damage=Damage(0.72, 'a "frame"'), text="t")
    at, length = data.draw(st.integers(0, len(whole) - 2)), data.draw(st.integers(0, 4))
    changed = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + length :]
    path = tmp_path_factory.getbasetemp() / "damaged.partial"
    path.write_bytes(changed)
    assert tally_partial(path).damaged_clips <= 1
    with suppress(msgspec.DecodeError):
        decode_record(changed.rstrip(b"\n"))


def test_it_is_what_the_manifest_says(tmp_path: Path) -> None:
    """Of the same lines, so that a commit changes no sum."""
    tar = small_tar(tmp_path / "1.tar", samples=4001)
    tokenize(tar, tmp_path / "half", **stopping_after(2))
    assert tally_partial(TarPaths(tmp_path / "half", "1").partial) == PartialTally(2, round((4001 + 4002) / 8000, 3))
    manifest = tokenize(tar, tmp_path / "whole").manifest
    whole = tally_partial(TarPaths(tmp_path / "whole", "1").committed)
    assert whole == PartialTally(manifest.clips, manifest.audio_seconds)


def test_damage_is_what_the_manifest_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same lines."""
    use_lossy_decode(monkeypatch)
    tar = damaged_tar(tmp_path / "1.tar")
    tokenize(tar, tmp_path / "half", **stopping_after(3))
    assert tally_partial(TarPaths(tmp_path / "half", "1").partial) == PartialTally(3, 3.0, 2, 0.05)
    manifest = tokenize(tar, tmp_path / "whole").manifest
    assert (manifest.damaged_clips, manifest.damaged_seconds) == (3, 0.07)
    whole = tally_partial(TarPaths(tmp_path / "whole", "1").committed)
    assert whole == PartialTally(manifest.clips, manifest.audio_seconds, 3, 0.07)
