from __future__ import annotations

import io
from typing import Any

import pytest

from benchmarks import compressed
from benchmarks.compressed import CLIPS, FORMATS, encoded_by_pyav, least
from jobs import audio, pyav_decoder


@pytest.mark.parametrize("name", FORMATS)
def test_files_are_of_the_kind_that_only_pyav_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the figures would be those of libsndfile."""
    rate, layout = FORMATS[name][2:]
    opened = []
    frames = pyav_decoder._pyav_frames

    def watched(*call: Any) -> Any:
        opened.append(call)
        return frames(*call)

    monkeypatch.setattr(pyav_decoder, "_pyav_frames", watched)
    data = encoded_by_pyav(*FORMATS[name], 1.0)
    blocks = list(audio.decode_channels(io.BytesIO(data)))
    assert len(opened) == 1
    assert {(block.shape[1], found) for block, found in blocks} == {(2 if layout == "stereo" else 1, rate)}
    assert sum(len(block) for block, _ in blocks) == pytest.approx(rate, abs=5000)


def test_rounds_are_taken_in_turns_and_the_least_counts() -> None:
    """So that what disturbs one round of one candidate is no figure."""
    clock = iter([0, 5, 5, 6, 6, 8, 8, 11]).__next__
    done = []
    assert least(2, clock, [lambda: done.append("a"), lambda: done.append("b")]) == [2, 1]
    assert done == ["a", "b", "a", "b"]


def test_threads_share_all_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many clips with two threads as with one."""
    heard: list[bytes] = []
    monkeypatch.setattr(compressed, "ours", heard.append)
    for threads in (1, 2):
        compressed.in_threads(b"clip", threads)
    assert heard == [b"clip"] * 2 * CLIPS
