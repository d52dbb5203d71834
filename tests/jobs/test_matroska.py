"""jobs/matroska.py: a file whose elements fit into each other is whole."""

from __future__ import annotations

import io
import random

import pytest
from support.odd_audio import speech
from support.tars import pyav_file

from jobs.matroska import is_whole_matroska

WEBM = pyav_file(speech(3.0, 48000), 48000, "webm", "libopus")
LIVE = pyav_file(speech(3.0, 48000), 48000, "webm", "libopus", {"live": "1"})
MKA = pyav_file(speech(3.0, 48000), 48000, "matroska", "ac3")


def whole(data: bytes) -> bool:
    return is_whole_matroska(io.BytesIO(data))


@pytest.mark.parametrize("data", [WEBM, LIVE, MKA])
def test_whole_files(data: bytes) -> None:
    """Those that encoders write, also live, when no size is known."""
    assert whole(data)


@pytest.mark.parametrize("data", [WEBM, MKA])
def test_cut_files(data: bytes) -> None:
    """Wherever they are cut."""
    assert not any(whole(data[:length]) for length in range(50, len(data), 97))


@pytest.mark.parametrize("data", [WEBM, LIVE, MKA])
def test_holes(data: bytes) -> None:
    """Where bytes are missing, or others stand."""
    middle = len(data) // 2
    assert not whole(data[:middle] + data[middle + 200 :])
    assert not whole(data[:middle] + bytes(2000) + data[middle + 2000 :])


def test_fuzz() -> None:
    """It always ends."""
    chance = random.Random(0)
    for _ in range(500):
        data = bytearray(chance.choice([WEBM, LIVE, MKA]))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 30)] = chance.randbytes(chance.randint(0, 30))
        whole(bytes(data))
