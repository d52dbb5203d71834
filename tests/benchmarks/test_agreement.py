from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.mulaw_lanes import LanesMuLaw

from audio_tokenizers.base import Codes, LaneShape, Waveform
from benchmarks import agreement
from benchmarks.agreement import Agreement, Company, batches, clips_of, company, compare, encode, items_of
from jobs.spec import TokenizeSpec, make_spec


def test_shares_are_counted_by_codebook() -> None:
    """A frame that one side lacks is a token that differs."""
    theirs = [{"tokens": np.array([[1, 2, 3], [4, 5, 6]])}, {"tokens": np.array([[1, 1], [7, 7]])}]
    ours = [{"tokens": np.array([[1, 2, 9], [4, 5, 6]])}, {"tokens": np.array([[1], [7]])}]
    assert compare("codec", "fp32", ours, theirs) == [
        Agreement("codec", "fp32", "tokens 0", tokens=5, equal=3, distinct=3),
        Agreement("codec", "fp32", "tokens 1", tokens=5, equal=4, distinct=4),
    ]
    assert compare("codec", "fp32", ours, theirs)[0].share == 0.6


def test_lists_and_features_are_one_codebook_each() -> None:
    """Floats are compared value by value, as they are stored."""
    theirs = [{"words": np.array([1, 2, 3]), "mid": np.array([[1, 2], [3, 4]], np.float16)}]
    ours = [{"words": np.array([1, 2, 3]), "mid": np.array([[1, 2], [3, 5]], np.float16)}]
    found = {row.codebook: (row.equal, row.tokens) for row in compare("model", "fp32", ours, theirs)}
    assert found == {"words": (3, 3), "mid": (3, 4)}


@pytest.fixture
def spec() -> TokenizeSpec:
    return make_spec("mulaw", device="cpu")


@pytest.fixture
def device_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that LanesMuLaw looks for."""
    monkeypatch.setattr(threading.current_thread(), "name", "device")


def test_calls_are_those_of_a_worker(spec: TokenizeSpec, device_thread: None) -> None:
    """In lanes: one bucket to a call, and each clip in exactly one."""
    backend = LanesMuLaw(lanes=4)
    items: list[Any] = list(items_of(backend, clips_of(spec.sample_rate, 11, (0.5, 3.0))))
    found = batches(spec, backend, items)
    assert sorted(id(item) for batch in found for item in batch.items) == sorted(map(id, items))
    for batch in found:
        assert batch.shape is not None
        assert len(batch.items) <= batch.shape.lanes
        batched: list[Any] = list(batch.items)
        assert all(len(item) <= batch.shape.samples for item in batched)
    assert [len(values["tokens"][0]) for values in encode(spec, backend, items)] == [len(item) for item in items]


class Leaky(LanesMuLaw):
    """The first clip of a call changes the last one."""

    def encode_lanes(self, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], list[Codes]]:
        codes = super().encode_lanes(waves, shape)()
        if len(codes) > 1:
            codes[-1] = codes[-1] ^ codes[0][:, :1]
        return lambda: codes


def test_company_that_changes_bits_is_told(spec: TokenizeSpec, device_thread: None) -> None:
    """A neighbour's share in a token is what the check exists for."""
    waves = clips_of(spec.sample_rate, 8, (1.0, 1.02))
    assert company(spec, LanesMuLaw(lanes=4), waves) == (4, 4)
    same, clips = company(spec, Leaky(lanes=4), waves)
    assert clips == 4
    assert same < 4


@pytest.mark.slow
def test_the_command_prints_each_codebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And writes the same rows for other programs."""
    command = ["agreement", "--backend", "dac", "--device", "cpu", "--tiny", "--clips", "4", "--lanes", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--json", str(tmp_path / "rows.json")])
    assert agreement.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads((tmp_path / "rows.json").read_text())
    rows = [row for row in rows if row["precision"] == "fp32"]
    assert len(rows) == 10
    assert len(lines) == 2 * len(rows)  # bf16 has as many
    assert [row["codebook"] for row in rows[:-1]] == [f"tokens {number}" for number in range(9)]
    assert all(row["equal"] > 0.99 * row["tokens"] > 0 for row in rows[:-1])
    assert Company(**rows[-1]) == Company("dac", "fp32", 2, 2)
