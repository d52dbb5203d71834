"""tools/listening/decoded_audio.py: the measure, and which clips are picked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tools.listening.decoded_audio import pick_clips, si_sdr

NOISE = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
OTHER = np.random.default_rng(1).standard_normal(4000).astype(np.float32)


class TestSiSdr:
    def test_definition(self) -> None:
        """Equation 3 of the paper, where scale is free and only what is orthogonal to the original counts."""
        s = NOISE - NOISE.mean()
        orthogonal = OTHER - OTHER.mean()
        orthogonal -= (orthogonal @ s) / (s @ s) * s
        decoded = 0.3 * s + 0.1 * orthogonal
        expected = 20 * math.log10(3) + 10 * math.log10((s @ s) / (orthogonal @ orthogonal))
        assert si_sdr(s, decoded, max_lag=0) == pytest.approx(expected, abs=1e-3)
        assert si_sdr(s, 5 * decoded, max_lag=0) == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize("lag", [-40, -1, 0, 1, 33, 40])
    def test_a_shift_within_the_lag_costs_nothing(self, lag: int) -> None:
        """A codec may shift a clip by part of a frame, either way."""
        decoded = np.pad(NOISE, (lag, 0)) if lag >= 0 else NOISE[-lag:]
        found = si_sdr(NOISE, decoded, max_lag=40)
        assert found is not None
        assert found > 100

    def test_a_shift_beyond_the_lag_counts(self) -> None:
        """Only a small shift is forgiven."""
        found = si_sdr(NOISE, np.pad(NOISE, (50, 0)), max_lag=40)
        assert found is not None
        assert found < -5

    def test_edges(self) -> None:
        """Silence has no ratio, an exact copy an infinite one, silence for speech none at all, and lengths may differ."""
        assert si_sdr(np.zeros(100, np.float32), NOISE[:100], max_lag=5) is None
        assert si_sdr(NOISE, np.zeros_like(NOISE), max_lag=5) == -math.inf
        assert si_sdr(NOISE, NOISE, max_lag=5) == math.inf
        assert si_sdr(NOISE, NOISE[:3000], max_lag=5) == math.inf
        assert si_sdr(NOISE[:1], NOISE[:1], max_lag=0) is None
        assert si_sdr(NOISE[:0], NOISE[:0], max_lag=0) is None


class TestPickClips:
    def test_each_clip_comes_once(self) -> None:
        """A run with few clips is heard in full, whatever the seed; files without clips are no trouble."""
        counts = [3, 0, 2, 0]
        picked = list(pick_clips(counts, seed=4))
        assert sorted(picked) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]
        assert list(pick_clips([], seed=0)) == []
        assert list(pick_clips([0, 0], seed=0)) == []

    def test_a_seed_is_an_order(self) -> None:
        """The same seed picks the same clips, another one others; millions of clips need no list of all."""
        first = [next(pick_clips([10**9, 10**9], seed)) for seed in (0, 0, 1)]
        assert first[0] == first[1] != first[2]
