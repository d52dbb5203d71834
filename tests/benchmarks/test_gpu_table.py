from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from benchmarks.gpu_table import facts_of, plot, table

MACHINE: dict[str, Any] = {
    "kind": "machine",
    "device": "H100",
    "cores": 16,
    "python": "3.12",
    "torch": "2.11",
    "transformers": "5.3",
}


def speed(precision: str, rate: float) -> list[dict[str, Any]]:
    common = {"backend": "higgs", "precision": precision}
    pipeline = {"rate": rate, "busy": 0.93, "fill": 0.91, "host_bytes": 3e9, "gpu_bytes": 8e9}
    return [{"kind": "pipeline", **common, **pipeline}, {"kind": "bare", **common, "rate": rate * 1.25}]


def agreement(codebook: str, equal: int) -> dict[str, Any]:
    return {
        "kind": "agreement",
        "backend": "higgs",
        "precision": "fp32",
        "codebook": codebook,
        "tokens": 1000,
        "equal": equal,
    }


RESULTS: dict[str, Any] = {
    "rehearsal": False,
    "parts": [
        {"part": "machine", "status": "done", "records": [MACHINE]},
        {
            "part": "higgs",
            "status": "done",
            "records": [
                *speed("fp32", 800.0),
                {"kind": "usual", "backend": "higgs", "precision": "fp32", "rate": 50.0},
                agreement("tokens 0", 1000),
                agreement("tokens 7", 990),
                agreement("tokens 5", 995),
                {"kind": "company", "backend": "higgs", "precision": "fp32", "same": 16, "clips": 16},
                *speed("tf32", 1600.0),
            ],
        },
        {"part": "tests", "status": "done", "records": [{"kind": "tests", "summary": "42 passed in 60 s"}]},
        {
            "part": "scaling",
            "status": "done",
            "records": [
                {"kind": "lanes", "backend": "higgs", "lanes": 4, "rate": 300.0},
                {"kind": "threads", "format": "FLAC", "threads": 8, "rate": 9000.0},
            ],
        },
        {"part": "mimi", "status": "died of SIGABRT", "records": []},
    ],
}


def test_one_row_says_it_all() -> None:
    """Rate, share of the bare loop, device, fill, against the usual way, the worst codebook, bits, memory."""
    lines = table(RESULTS).splitlines()
    assert lines[0].startswith("H100, 16 cores")
    rows = [line.split() for line in lines]
    assert ["higgs", "fp32", "800.0", "0.80", "0.93", "0.91", "16.0", "99.000%", "16/16", "8.0", "3.0"] in rows
    assert ["higgs", "tf32", "1,600.0", "0.80", "0.93", "0.91", "32.0", "-", "-", "8.0", "3.0"] in rows
    assert ["tests", "42", "passed", "in", "60", "s"] in rows
    assert ["higgs", "4", "lanes,", "bare", "300.0", *["-"] * 8] in rows
    assert ["decoding", "FLAC,", "8", "threads", "9,000.0", *["-"] * 8] in rows
    assert "mimi: DIED OF SIGABRT" in lines


def test_of_the_codebooks_the_worst_is_shown() -> None:
    """Whatever their order."""
    facts = facts_of(RESULTS["parts"][1]["records"])
    assert facts["higgs"]["fp32"]["agreement"]["codebook"] == "tokens 7"


def test_nothing_measured_is_no_error() -> None:
    """An interrupted run still has a table, and then no plot."""
    assert table({"rehearsal": False, "parts": []}).startswith("machine unknown")
    assert plot({"rehearsal": False, "parts": []}) is None


def test_the_plot_has_a_bar_for_each_way() -> None:
    """Both precisions and the usual way."""
    drawing = plot(RESULTS)
    assert drawing is not None
    words = [element.text for element in ET.fromstring(drawing).iter() if element.tag.endswith("text")]
    assert {"higgs", "fp32", "tf32", "usual way", "800", "1,600", "50"} <= set(words)
