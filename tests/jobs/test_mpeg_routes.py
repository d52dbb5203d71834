"""jobs/mpeg_routes.py: what is missing of MP3 and raw AAC, and where. More kinds of damage: test_audio_routes.py."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from support.heard_audio import before_shift, heard, place
from support.near import approx
from support.odd_audio import ID3V1, ID3V2, adts, adts_places, damaged, high_efficiency, in_blocks, mp3, plain_mp3

from jobs.audio import decode_channels
from jobs.losses import Losses

MP3, PLAIN = mp3(), plain_mp3()
ADTS, AAC_PLACES = adts(), adts_places(adts())
FRAME, AAC_FRAME = 576 / 16000, 1024 / 16000
JUNK = bytes([0x9A, 0x01])


@pytest.mark.parametrize("missing", [0.5, 1.0])
def test_mp3_frames_that_are_missing_without_a_trace(missing: float) -> None:
    """Its first frame states more than there are, and the last one is whole: they may be missing anywhere. Where the last
    one is cut, the end is.
    """
    first, after, cut = place(MP3, 20), place(MP3, 20 + int(missing / FRAME)), place(MP3, 60)
    wave, _, is_shifted = before_shift(MP3[:first] + MP3[after:])
    assert (len(wave), is_shifted) == (0, True)
    assert not before_shift(MP3[: cut + 50])[2]
    for joined in (MP3[:first] + MP3[after:] + MP3, MP3[:cut] + ID3V1 + MP3):
        wave, _, is_shifted = before_shift(joined)
        assert (len(wave), is_shifted) == (0, True)
    wave, rate, is_shifted = before_shift(MP3 + ID3V1 + MP3[:first] + MP3[after:])
    assert is_shifted
    assert 2.8 < len(wave) / rate < 3.1


def test_what_stands_before_the_first_frame_of_an_mp3() -> None:
    """It may have been frames, as many as fit in, unless the first one states that all are there."""
    size = place(PLAIN, 10)
    bad = ID3V2 + bytes([0x9A, 0x01]) * (size // 2) + PLAIN[size // 2 * 2 :]
    assert before_shift(bad)[2]
    assert heard(bad)[2].shift == pytest.approx(10 * FRAME, abs=0.04)
    for data, most in ((PLAIN[50:], FRAME), (ID3V2 + b"\x9a\x01" * 99 + MP3, 0.0), (ID3V2 + PLAIN, 0.0)):
        assert heard(data)[2].shift <= most


@pytest.mark.parametrize("before", [b"", ID3V2])
@pytest.mark.parametrize("data", [ADTS, adts(2.0, 44100, "stereo"), in_blocks(ADTS, 2), high_efficiency(ADTS)])
def test_undamaged_aac_is_ffmpegs(data: bytes, before: bytes) -> None:
    """To the bit, all of it."""
    import av

    with av.open(io.BytesIO(data), "r") as container:
        expected = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1).T
    found = np.concatenate([block for block, _ in decode_channels(io.BytesIO(before + data))])
    np.testing.assert_array_equal(found, expected)


def test_aac_behind_damage_is_ffmpegs_at_its_place() -> None:
    """Each frame but those that are damaged, and the next, which FFmpeg fades in: bit for bit. Where the header still has
    its length, or is not what is damaged, it is said where one is missing.
    """
    whole, begin = heard(ADTS)[0], AAC_PLACES[20]
    for odd, placed in (
        (damaged(ADTS, begin + 20), True),
        (damaged(ADTS, begin, 2), True),
        (ADTS[: begin + 1] + JUNK + ADTS[begin + 3 :], True),
        (damaged(ADTS, begin), False),
        (damaged(ADTS, begin + 4, 1), False),
    ):
        wave, _, losses = heard(odd)
        np.testing.assert_array_equal(wave[: 20 * 1024], whole[: 20 * 1024])
        np.testing.assert_array_equal(wave[-(len(whole) - 22 * 1024) :], whole[22 * 1024 :])
        assert len(wave) == len(whole) - 1024
        assert losses.are_placed == placed
        if placed:
            assert losses.gaps == [(approx(20 * AAC_FRAME), approx(AAC_FRAME))]
        assert losses.seconds == pytest.approx(AAC_FRAME, rel=0.05)


@pytest.mark.slow
def test_bytes_taken_out_of_aac_leave_a_word() -> None:
    """That they are missing, and that nobody knows how many were; unless the cuts are where frames end."""
    chance = random.Random(0)
    torn = 0
    for _ in range(40):
        begin = chance.randrange(2000, len(ADTS) - 8000)
        losses = heard(ADTS[:begin] + ADTS[begin + chance.randrange(600, 5000) :])[2]
        assert losses.seconds > 0.0
        assert losses.shifted
        assert not losses.are_placed
        torn += losses.torn
    assert torn >= 36  # few of them are as long as frames
    losses = heard(ADTS[: AAC_PLACES[20]] + ADTS[AAC_PLACES[25] :])[2]
    assert losses == Losses()
