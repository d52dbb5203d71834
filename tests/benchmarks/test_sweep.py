from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import soundfile

from benchmarks import sweep
from benchmarks.page import files
from benchmarks.sweep import FORMATS, encoded_as


@pytest.mark.slow
def test_a_small_sweep_has_all_that_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures mean nothing, but each plot and each table has its rows."""
    monkeypatch.setattr(sys, "argv", ["sweep", "--small", "--out", str(tmp_path / "cpu.json")])
    assert sweep.main() == 0
    results = json.loads((tmp_path / "cpu.json").read_text())
    assert [(row["format"], row["threads"]) for row in results["threads"]] == [(f, n) for f in FORMATS for n in (1, 2)]
    assert [row["workers"] for row in results["workers"]] == [1, 2]
    assert [row["clips"] for row in results["counts"]] == [10, 20]
    assert all(row["per_cpu_second"] > 0 for part in ("threads", "lengths", "counts") for row in results[part])
    results["lanes"] += [{**row, "lanes": 16} for row in results["lanes"] if row["lanes"] == 4]  # of which the page speaks
    assert "docs/performance.md" in files(results, None)


@pytest.mark.parametrize(("name", "rate", "channels"), [("FLAC", 16000, 1), ("MP3", 44100, 2), ("Opus", 48000, 1)])
def test_files_are_what_their_names_say(name: str, rate: int, channels: int) -> None:
    """So that a figure for MP3 is one of MP3."""
    info = soundfile.info(io.BytesIO(encoded_as(name, 1.0)))
    assert (info.samplerate, info.channels) == (rate, channels)
    assert info.duration == pytest.approx(1.0, abs=0.05)
    assert name.upper() in (info.format, info.subtype)
