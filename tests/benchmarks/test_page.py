from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.models import CASES
from benchmarks.page import NOT_MEASURED, ROOT, files, load, with_block

MACHINE = {"kind": "machine", "device": "H100", "cores": 16, "python": "3.12", "torch": "2.11", "transformers": "5.3"}


def speed(precision: str, rate: float) -> list[dict[str, Any]]:
    common = {"backend": "higgs", "precision": precision}
    pipeline = {"rate": rate, "busy": 0.93, "fill": 0.91, "host_bytes": 3e9, "gpu_bytes": 8e9}
    return [{"kind": "pipeline", **common, **pipeline}, {"kind": "bare", **common, "rate": rate * 1.25}]


GPU = {
    "rehearsal": False,
    "parts": [
        {"part": "machine", "status": "done", "records": [MACHINE]},
        {
            "part": "higgs",
            "status": "done",
            "records": [
                *speed("fp32", 800.0),
                *speed("tf32", 1600.0),
                {"kind": "usual", "backend": "higgs", "precision": "fp32", "rate": 50.0},
                {
                    "kind": "agreement",
                    "backend": "higgs",
                    "precision": "fp32",
                    "codebook": "tokens 7",
                    "tokens": 9,
                    "equal": 9,
                },
            ],
        },
        {
            "part": "scaling",
            "status": "done",
            "records": [
                {"kind": "lanes", "backend": "higgs", "lanes": 4, "rate": 300.0},
                {"kind": "threads", "format": "FLAC", "threads": 8, "rate": 9000.0},
                {"kind": "threads", "format": "MP3", "threads": 8, "rate": 5000.0},
                {"kind": "threads", "format": "Opus", "threads": 8, "rate": 1500.0},
            ],
        },
    ],
}


@pytest.fixture(scope="module")
def cpu() -> Mapping[str, Any]:
    return load()[0]


def test_docs_are_what_the_stored_results_say() -> None:
    """Who changes one without the other is told: run `python -m benchmarks.page`."""
    results = load()
    made = files(*results)
    assert {name: (ROOT / name).read_text() for name in made} == made
    assert {path.name for path in (ROOT / "docs").glob("performance*")} == {name.partition("/")[2] for name in made}
    readme = (ROOT / "README.md").read_text()
    assert with_block(readme, *results) == readme


def test_what_nobody_has_measured_is_not_there(cpu: Mapping[str, Any]) -> None:
    """Without a GPU's results its cells say so, and no plot of it is shown."""
    made = files(cpu, None)
    page = made["docs/performance.md"]
    assert all(f"| `{name}` | {NOT_MEASURED} |" in page for name in CASES)
    assert "docs/performance-gpu.svg" not in made
    assert "H100" not in page


def test_a_gpu_s_results_fill_its_cells(cpu: Mapping[str, Any]) -> None:
    """Rates by precision, shares, hours, cores; what it did not measure still says so."""
    made = files(cpu, GPU)
    page = made["docs/performance.md"]
    assert "| `higgs` | 800 | 1,600 | 0.80 | 93% | 91% | 16.0 | 100.000% |" in page
    assert f"| `mimi` | {NOT_MEASURED} |" in page
    assert "| GPU, `higgs` | 1.25 GPU hours in fp32, 0.62 GPU hours in tf32 |" in page
    assert "a GPU of `higgs` on H100, 800 s/s" in page
    assert "4 lanes 300" in page
    assert "16 cores beside the GPU" in page
    assert {"800", "1,600", "50"} <= {text.text for text in ET.fromstring(made["docs/performance-gpu.svg"]).iter()}
    block = with_block("a\n<!-- python -m benchmarks.page -->\nold\n<!-- end -->\nb\n", cpu, GPU)
    assert "1.25 GPU hours for 1,000 hours, 16 times the speed of one clip at a time" in " ".join(block.split())
    assert block.startswith("a\n")
    assert block.endswith("<!-- end -->\nb\n")
    assert "old" not in block


def test_every_picture_that_is_shown_exists(cpu: Mapping[str, Any]) -> None:
    """Under the name that the page has for it."""
    for gpu in (None, GPU):
        made = files(cpu, gpu)
        shown = [
            line.partition("(")[2].removesuffix(")") for line in made["docs/performance.md"].splitlines() if line[:2] == "!["
        ]
        assert {f"docs/{name}" for name in shown} == made.keys() - {"docs/performance.md"}
        assert all(ET.fromstring(svg) is not None for name, svg in made.items() if name.endswith(".svg"))


def test_a_rehearsal_is_no_result(tmp_path: Path, cpu: Mapping[str, Any]) -> None:
    """Tiny models on a CPU must never stand in the table."""
    (tmp_path / "cpu.json").write_text(json.dumps(cpu))
    (tmp_path / "gpu.json").write_text(json.dumps({**GPU, "rehearsal": True}))
    with pytest.raises(SystemExit, match="rehearsal"):
        load(tmp_path)


def test_a_readme_without_its_place_is_an_error(cpu: Mapping[str, Any]) -> None:
    """Rather than one without figures."""
    with pytest.raises(ValueError, match="expected"):
        with_block("no block here\n", cpu, None)


def test_the_page_does_not_refer_to_itself(cpu: Mapping[str, Any]) -> None:
    """The README's lines say where there is more; the page that has it does not."""
    page = files(cpu, None)["docs/performance.md"]
    assert "docs/performance.md" not in page
    assert "(docs/performance.md)" in with_block((ROOT / "README.md").read_text(), cpu, None)
