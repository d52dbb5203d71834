"""Pure: the distance between a decoded clip and its original, and a random order of clips."""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np

from audio_tokenizers.base import Waveform

__all__ = ["pick_clips", "si_sdr"]


def pick_clips(counts: Sequence[int], seed: int) -> Iterator[tuple[int, int]]:
    """All (file, clip) pairs in a random order that depends on `counts`, the clips per file, and `seed` alone."""
    ends = list(itertools.accumulate(counts))
    total = ends[-1] if ends else 0
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    seen: set[int] = set()
    while len(seen) < total:
        clip = rng.randrange(total)
        if clip not in seen:
            seen.add(clip)
            file = bisect_right(ends, clip)
            yield file, clip - (ends[file] - counts[file])


def si_sdr(original: Waveform, decoded: Waveform, max_lag: int) -> float | None:
    """Scale-invariant signal-to-distortion ratio in dB: 10 log10(|a s|^2 / |a s - d|^2) with a = d.s / |s|^2.

    Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019, equation 3; s is the original, d the
    decoded clip, both without their means. They are compared where they overlap, at the lag of at most `max_lag` samples
    at which they correlate best: a codec may shift a clip by part of a frame. None where the original is silent.
    """
    lag = _best_lag(original, decoded, max_lag)
    s, d = original[max(0, -lag) :], decoded[max(0, lag) :]
    samples = min(len(s), len(d))
    s, d = s[:samples].astype(np.float64), d[:samples].astype(np.float64)
    if not samples:
        return None
    s, d = s - s.mean(), d - d.mean()
    energy = float(s @ s)
    if energy == 0:
        return None
    target = float(d @ s) / energy * s
    distortion, kept = float(np.sum((target - d) ** 2)), float(target @ target)
    if distortion == 0 or kept == 0:
        return math.inf if kept else -math.inf
    return 10 * math.log10(kept / distortion)


def _best_lag(original: Waveform, decoded: Waveform, max_lag: int) -> int:
    """By how many samples `decoded` comes later, within `max_lag`; 0 where nothing is better."""
    size = 1 << (len(original) + len(decoded) + max_lag).bit_length()
    spectrum = np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(original, size))
    circular = np.fft.irfft(spectrum, size)
    lags = sorted(range(-max_lag, max_lag + 1), key=abs)
    return max(lags, key=lambda lag: circular[lag])
