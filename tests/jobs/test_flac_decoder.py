"""jobs/flac_decoder.py: of a damaged FLAC all whole frames, and to the sample how much is missing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from support.odd_audio import ID3V1, damaged, speech
from support.tars import Samples, audio_file

from audio_tokenizers.errors import ClipError
from jobs import flac_decoder
from jobs.flac_decoder import decode_flac
from jobs.flac_frames import StreamInfo, read_stream_info
from jobs.losses import Losses
from jobs.refusals import WatchedFile

WAVE = np.stack([speech(3.0), speech(3.0, tone=330.0)], axis=1)
DATA = audio_file(WAVE, 16000, "FLAC")
TRUE = soundfile.read(io.BytesIO(DATA), dtype="float32")[0]


def found(data: bytes, skip: int = 0, samples: int | None = None) -> tuple[Samples, float]:
    """Samples, and how many are missing."""
    info = read_stream_info(data[:64])
    assert info is not None
    if samples is not None:
        info = StreamInfo(info.block, info.rate, samples)
    losses = Losses()
    blocks = list(decode_flac(WatchedFile(io.BytesIO(data)), info, skip, "refused.", losses))
    assert {rate for _, rate in blocks} == {16000}
    return np.concatenate([block for block, _ in blocks]), round(losses.seconds * 16000)


@pytest.mark.parametrize("skip", [0, 1, 4096, 5000, 30_000, 47_999])
@pytest.mark.parametrize("gathered", [1, 1 << 15])
def test_it_goes_on_where_another_stopped(skip: int, gathered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libsndfile's samples, bit for bit, from any place on."""
    monkeypatch.setattr(flac_decoder, "GATHERED_FRAMES", gathered)
    wave, missing = found(DATA, skip)
    np.testing.assert_array_equal(wave, TRUE[skip:])
    assert missing == 0


@pytest.mark.parametrize("samples", [0, 47_000, 48_000, 60_000])
def test_the_last_frame_says_where_the_end_is(samples: int) -> None:
    """It is shorter than the others: whatever the header states, nothing follows; tags are no frames."""
    for after in (b"", ID3V1):
        wave, missing = found(DATA + after, 0, samples)
        np.testing.assert_array_equal(wave, TRUE)
        assert missing == 0


@pytest.mark.parametrize("samples", [0, 48_000])
def test_frames_that_are_damaged(samples: int) -> None:
    """Their numbers tell how many are missing, also where the header does not; before what was given before, none are."""
    odd = damaged(DATA, len(DATA) // 2)
    wave, missing = found(odd, 0, samples)
    assert (len(wave), missing) == (48_000 - 4096, 4096)
    assert found(odd, 40_000, samples)[0].shape == (8000, 2)


def test_an_end_that_is_cut() -> None:
    """A last frame of full length is no end: what is stated beyond it is missing."""
    wave, missing = found(DATA[: len(DATA) // 2])
    assert len(wave) % 4096 == 0
    assert len(wave) + missing == 48_000


def test_nothing_left() -> None:
    """An error in the words of both decoders."""
    with pytest.raises(ClipError, match=r"soundfile: refused\. PyAV: "):
        found(DATA[:100] + bytes(2000))


@pytest.mark.parametrize("samples", [0, 48_000])
def test_what_comes_behind_missing_frames_is_shifted(samples: int) -> None:
    """It is said with the first block behind them, and all blocks before are in their place; of the last frame it is not."""
    for at, behind in ((len(DATA) // 2, True), (len(DATA) - 200, False)):
        losses, before = Losses(), 0
        for block, _ in decode_flac(
            WatchedFile(io.BytesIO(damaged(DATA, at))), StreamInfo(4096, 16000, samples), 0, "", losses
        ):
            if not losses.shifted:
                np.testing.assert_array_equal(block, TRUE[before : before + len(block)])
                before += len(block)
        assert (losses.shifted, losses.seconds > 0) == (behind, True)
        assert before % 4096 == 0
