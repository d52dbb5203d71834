"""jobs/flac_frames.py: headers of FLAC frames, and where files end."""

from __future__ import annotations

import io
import random
from itertools import pairwise

import numpy as np
import pytest
from support.odd_audio import ID3V1, speech
from support.tars import audio_file, pyav_file

from jobs import flac_frames
from jobs.flac_frames import StreamInfo, ends_as_stated, flac_files, frame_range, read_stream_info

CLEAN = audio_file(speech(3.0), 16000, "FLAC")


def info(data: bytes) -> StreamInfo:
    found = read_stream_info(data[:64])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("rate", "seconds", "channels"), [(16000, 3.0, 1), (44100, 40.0, 2), (48000, 1.0, 1), (11111, 2.0, 1)]
)
def test_headers(rate: int, seconds: float, channels: int) -> None:
    """Frames follow each other from the first sample to the last that is stated, also where numbers have several bytes."""
    wave = speech(seconds, rate)
    data = audio_file(np.stack([wave] * channels, axis=1), rate, "FLAC")
    stated = info(data)
    assert (stated.rate, stated.samples) == (rate, len(wave))
    position, at = 0, 0
    while position < len(wave):
        at = min(place for place in (data.find(b"\xff\xf8", at), data.find(b"\xff\xf9", at)) if place >= 0)
        found = frame_range(data[at : at + 16], stated)
        if found is not None and found[0] == position:
            position += found[1]
        at += 1
    assert position == len(wave)


def test_what_is_no_header() -> None:
    """A byte that is changed, or missing, is seen."""
    stated = info(CLEAN)
    at = CLEAN.index(b"\xff\xf8")
    head = CLEAN[at : at + 16]
    assert frame_range(head, stated) == (0, 4096)
    for place in range(5):
        assert frame_range(head[:place] + bytes([head[place] ^ 0x10]) + head[place + 1 :], stated) is None
    for length in range(6):
        assert frame_range(head[:length], stated) is None
    assert read_stream_info(CLEAN[:41]) is None
    assert read_stream_info(b"x" + CLEAN[:63]) is None


@pytest.mark.parametrize("after", [b"", ID3V1, bytes(5000)])
def test_ends_as_stated(after: bytes) -> None:
    """The last frame's header tells, whatever follows it; a header that states less or more does not agree."""
    data = CLEAN + after
    stated = info(data)
    assert ends_as_stated(io.BytesIO(data), 0, len(data), stated)
    for samples in (0, 40_960, 47_999, 48_001):
        other = StreamInfo(stated.block, stated.rate, samples)
        assert not ends_as_stated(io.BytesIO(data), 0, len(data), other)
    assert not ends_as_stated(io.BytesIO(data), 0, 20_000, stated)


@pytest.mark.parametrize("read_bytes", [1 << 20, 1000, 7])
def test_files_end_to_end(read_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each begins with its header, wherever reading stops; the word alone begins none."""
    monkeypatch.setattr(flac_frames, "READ_BYTES", read_bytes)
    parts = [CLEAN[:3000], pyav_file(speech(0.2), 16000, "flac", "flac"), CLEAN[:500] + b"fLaC and more", CLEAN[:100]]
    edges = [sum(map(len, parts[:count])) + 3 for count in range(len(parts) + 1)]
    assert flac_files(io.BytesIO(b"tag" + b"".join(parts)), 3) == list(pairwise(edges))


@pytest.mark.parametrize("before", range(4))
def test_files_begin_at_odd_and_even_places(before: int) -> None:
    """However many bytes stand in front, and before the second file."""
    first = CLEAN + b"L" * before
    found = flac_files(io.BytesIO(b"f" * before + first + CLEAN), before)
    assert found == [(before, before + len(first)), (before + len(first), before + len(first) + len(CLEAN))]


def test_fuzz() -> None:
    """No bytes raise."""
    chance = random.Random(0)
    stated = info(CLEAN)
    for _ in range(3000):
        data = b"\xff" + bytes([chance.choice([0xF8, 0xF9])]) + chance.randbytes(chance.randint(0, 20))
        found = frame_range(data, stated)
        assert found is None or found[1] > 0
        read_stream_info(b"fLaC\0\0\0\x22" + data.ljust(60, b"\0"))
