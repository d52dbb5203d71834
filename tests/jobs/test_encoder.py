"""jobs/encoder.py: both kinds of backend behind one call, and whose fault an exception is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support.envelope import Envelope

from audio_tokenizers.base import Audio, Utterance, Values, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError
from audio_tokenizers.mulaw import FACTORY
from jobs.encoder import Encoder

WAVE = np.linspace(-1, 1, 40, dtype=np.float32)


def test_a_frame_backend_gets_waveforms() -> None:
    """Codes of each waveform."""
    (codes,) = Encoder(FACTORY.load({}, "cpu")).encode([WAVE])
    assert isinstance(codes, np.ndarray)
    assert codes.shape == (1, 40)


def test_a_clip_backend_gets_whole_clips() -> None:
    """Its own resampling first, then an utterance with its text."""
    backend = Envelope()
    encoder = Encoder(backend)
    wave = encoder.resample(WAVE, 16000)
    assert len(wave) == 20
    (values,) = encoder.encode([Utterance(wave, "words")])
    assert isinstance(values, dict)
    assert list(values) == ["tokens", "levels", "envelope", "sum"]
    assert backend.batches == [["words"]]


class Failing(Envelope):
    """Raises on demand."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        raise self._error

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        raise self._error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("odd shape"), ClipError),
        (RuntimeError("CUDA error: an illegal memory access"), InfrastructureError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), InfrastructureError),
        (MemoryError(), MemoryError),
        (OSError("gone"), OSError),
        (ClipError("too_short", "3 samples"), ClipError),
    ],
)
def test_whose_fault_it_is(error: Exception, kind: type[Exception]) -> None:
    """What the device or the disk does ends the attempt; anything else is the clip's, in resampling as in encoding."""
    encoder = Encoder(Failing(error))
    calls: list[Any] = [lambda: encoder.resample(WAVE, 8000), lambda: encoder.encode([Utterance(WAVE)])]
    for call in calls:
        with pytest.raises(kind) as caught:
            call()
        if kind is ClipError and not isinstance(error, ClipError):
            assert str(caught.value) == "ValueError: odd shape"


def test_a_backend_that_loses_results_is_a_bug() -> None:
    """One result per clip, or nothing is written."""

    class Losing(Envelope):
        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            return []

    with pytest.raises(InfrastructureError, match="0 results for 1"):
        Encoder(Losing()).encode([Utterance(WAVE)])
