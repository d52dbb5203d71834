"""jobs/sample_window.py: the samples that are given back are those that were put in, in memory or in a file."""

from __future__ import annotations

import random

import numpy as np
import pytest
from support.tars import noise

from jobs import sample_window
from jobs.sample_window import SampleWindow


def test_it_moves_back_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is for as long as there is too much."""
    monkeypatch.setattr(sample_window, "KEPT_IN_MEMORY", 1000)
    window = SampleWindow()
    wave = noise(1000).reshape(-1, 1)
    for at in range(0, 1000, 100):
        window.append(wave[at : at + 100])
    assert window._file is not None
    assert np.array_equal(window.read(5, 1000), wave[5:])
    window.drop_before(950)
    assert window._file is None
    window.append(wave[:10])
    assert np.array_equal(window.read(955, 1000), wave[955:])
    assert np.array_equal(window.read(1000, 1010), wave[:10])


def test_any_reads_of_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seeded search: whatever was appended and dropped, each read gives samples of the window from its first on."""
    for seed in range(50):
        chance = random.Random(seed)
        monkeypatch.setattr(sample_window, "KEPT_IN_MEMORY", chance.choice([1, 1000, 1 << 20]))
        wave = noise(3000, 2)
        window = SampleWindow()
        while window.end < len(wave):
            window.append(wave[window.end : window.end + chance.randrange(1, 400)])
            window.drop_before(window.start + chance.randrange(300))
            if window.start == window.end:
                continue
            first = chance.randrange(window.start, window.end)
            piece = window.read(first, chance.randrange(first + 1, window.end + 1))
            assert len(piece)
            assert np.array_equal(piece, wave[first : first + len(piece)])
        window.close()
