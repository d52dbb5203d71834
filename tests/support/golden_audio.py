"""Audio that is the same, bit for bit, on every machine: the int16 samples of the speech examples, silence, full scale.

What golden tokens are made from and compared on. Lossless files only, and no arithmetic before the division by 32768.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

__all__ = ["Pcm", "pcm", "silence", "square", "wave"]

Pcm = npt.NDArray[np.int16]
"""int16 [samples], mono; the rate is whatever the case declares it to be."""

SPEECH = Path(__file__).parents[2] / "examples" / "speech"
LOSSLESS = ("austen-0880.wav", "austen-0930.wav", "austen-0870.flac")
HALF_PERIOD = 37


@functools.cache
def _speech() -> Pcm:
    """The first channels of the lossless examples, one after the other: 518,870 samples."""
    channels = [soundfile.read(SPEECH / name, dtype="int16", always_2d=True)[0][:, 0] for name in LOSSLESS]
    return np.concatenate(channels)


def pcm(samples: int, start: int = 0) -> Pcm:
    """`samples` of speech from sample `start` on, round and round."""
    speech = _speech()
    return speech.take(np.arange(start, start + samples), mode="wrap")


def silence(samples: int) -> Pcm:
    """Zeros."""
    return np.zeros(samples, np.int16)


def square(samples: int) -> Pcm:
    """A square wave between the least and the greatest int16, 37 samples up and 37 down."""
    high = np.arange(samples) // HALF_PERIOD % 2 == 0
    return np.where(high, np.int16(32767), np.int16(-32768))


def wave(pcm: Pcm) -> npt.NDArray[np.float32]:
    """float32 [samples] as soundfile and torchaudio decode 16-bit files: divided by 32768."""
    return pcm.astype(np.float32) / np.float32(32768)
