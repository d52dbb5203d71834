from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_measure
from benchmarks.gpu_measure import TINY, measure_backend


@pytest.mark.slow
def test_without_time_only_what_matters_most_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline and what it is compared with come first; what there was no time for is named."""
    monkeypatch.setattr(gpu_measure, "precisions", lambda _factory, _device: {"fp32": {}, "tf32": {"tf32": True}})
    records: list[dict[str, Any]] = []
    measure_backend("encodec", "cpu", TINY, tmp_path, records.append, lambda: -1.0)
    assert [record["kind"] for record in records] == ["model", "pipeline", "bare", "usual", "skipped"]
    assert records[-1]["what"] == "tf32"


@pytest.mark.slow
def test_all_precisions_are_measured_and_compared_with_full_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its speed, its agreement and its company; fragments are measured once."""
    monkeypatch.setattr(gpu_measure, "precisions", lambda _factory, _device: {"fp32": {}, "tf32": {"tf32": True}})
    records: list[dict[str, Any]] = []
    measure_backend("encodec", "cpu", TINY, tmp_path, records.append, lambda: 1000.0)
    for precision in ("fp32", "tf32"):
        kinds = {record["kind"] for record in records if record.get("precision") == precision}
        assert {"pipeline", "bare", "agreement", "company"} <= kinds
    assert [record["precision"] for record in records if record["kind"] == "fragments"] == ["fp32"]
    assert all(record["equal"] > 0.99 * record["tokens"] for record in records if record["kind"] == "agreement")


@pytest.mark.slow
def test_a_precision_that_the_backend_refuses_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the backend's own words; the others are measured."""
    monkeypatch.setattr(gpu_measure, "precisions", lambda _factory, _device: {"fp32": {}, "tf32": {"tf32": "maybe"}})
    records: list[dict[str, Any]] = []
    measure_backend("encodec", "cpu", TINY, tmp_path, records.append, lambda: 1000.0)
    assert "fragments" in {record["kind"] for record in records}
    assert records[-1]["kind"] == "skipped"
    assert "expected true or false, found 'maybe'" in records[-1]["why"]
