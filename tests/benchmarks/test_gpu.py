from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from support import gpu_parts
from support.runs import wait_for

from benchmarks import gpu
from benchmarks.gpu import PARTS, Part, run, run_tests
from benchmarks.gpu_measure import FULL, TINY
from benchmarks.models import CASES

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'tokenizers'}"}
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process: subprocess.Popen[str] = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes, **more)
    return process


@pytest.mark.slow
def test_the_rehearsal_runs_every_part(tmp_path: Path) -> None:
    """What will be run on a GPU once: each part from building a model to its row of the table, on the CPU."""
    process = start("--rehearse", "--out", tmp_path / "out")
    table, log = process.communicate()
    assert process.returncode == 0, log
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(part["part"], part["status"]) for part in results["parts"]] == [(part.name, "done") for part in PARTS]
    found: dict[str, set[str]] = {}
    for part in results["parts"]:
        found.setdefault(part["part"], set()).update(record["kind"] for record in part["records"])
    figures = {"model", "pipeline", "bare", "company", "fragments"}
    for name in CASES:
        assert figures <= found[name], name
        assert {"usual", "agreement"} <= found[name] or "skipped" in found[name]
    assert {"lanes", "threads"} <= found["scaling"]
    assert (tmp_path / "out" / "table.txt").read_text() == table.removesuffix("\n")
    assert all(f"\n{name} " in table for name in (*CASES, "tests"))
    assert "REHEARSAL" in table
    assert ET.parse(tmp_path / "out" / "plot.svg").getroot().tag.endswith("svg")
    assert len(list((tmp_path / "out").iterdir())) <= 8


def test_all_backends_are_parts_and_higgs_is_first() -> None:
    """Time may run out, so what matters most comes first."""
    names = [part.name for part in PARTS]
    assert names[1:4] == ["higgs", "mimi", "cosyvoice_s3"]
    assert {*CASES, "machine", "tests", "scaling"} == set(names)


@pytest.mark.slow
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    """And measures nothing."""
    process = start("--out", tmp_path / "out")
    _, log = process.communicate()
    assert process.returncode == 2
    assert "no CUDA device" in log
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_signal_costs_only_what_is_not_measured_yet(tmp_path: Path) -> None:
    """The partial table is printed and written, and nobody is left running."""
    process = start("--rehearse", "--out", tmp_path / "out", "--only", "higgs")
    assert process.stderr is not None
    while not process.stderr.readline().startswith("-- higgs"):
        pass
    process.terminate()
    table, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "higgs: INTERRUPTED" in table
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [part["status"] for part in results["parts"]] == ["done", "interrupted"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_parts_that_end_badly_cost_the_others_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash, a hang and an exception: what each had found until then counts, and what it had started is ended."""
    monkeypatch.setattr(gpu, "FEWEST_SECONDS", 1.0)
    shares = {gpu_parts.crash: 1.0, gpu_parts.fail: 1.0, gpu_parts.hang: 0.1, gpu_parts.succeed: 1.0}
    parts = [Part(work.__name__, weight, work) for work, weight in shares.items()]
    results = run(parts, "cpu", TINY, 100.0, tmp_path)
    status = {part["part"]: part["status"] for part in results["parts"]}
    assert status == {"crash": "died of SIGSEGV", "fail": "done", "hang": "out of time", "succeed": "done"}
    kinds = [record["kind"] for part in results["parts"] for record in part["records"]]
    assert kinds.count("bare") == 4
    (child,) = (record["pid"] for part in results["parts"] for record in part["records"] if record["kind"] == "child")
    wait_for(lambda: not alive(child))
    table = capsys.readouterr().out
    assert "crash: DIED OF SIGSEGV" in table
    assert "fail: FAILED RuntimeError: CUDA error: an illegal memory access was encountered" in table
    assert "hang: OUT OF TIME" in table
    assert json.loads((tmp_path / "results.json").read_text()) == results


@pytest.mark.slow
def test_a_part_is_not_begun_when_the_time_is_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named as left out."""
    results = run([Part("succeed", 1.0, gpu_parts.succeed)], "cpu", TINY, 1.0, tmp_path)
    assert results["parts"] == [{"part": "succeed", "status": "no time left", "records": [], "seconds": 0.0}]
    assert "succeed: NO TIME LEFT" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code", "summary"), [("assert 1 == 2", 1, "1 failed"), ("print('equal codes: 0.5')", 0, "1 passed")]
)
def test_the_suite_s_failures_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, code: int, summary: str
) -> None:
    """Which test failed is in the results, as what it prints of equal codes is."""
    test = tmp_path / "test_it.py"
    test.write_text(f"def test_it():\n    {body}\n")
    monkeypatch.setattr(gpu, "PYTEST", ("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(test)))
    records: list[dict[str, Any]] = []
    run_tests("cpu", FULL, tmp_path, records.append, lambda: 100.0)
    (tests,) = (record for record in records if record["kind"] == "tests")
    assert tests["code"] == code
    assert tests["summary"].startswith(summary)
    failed = [record["what"] for record in records if record["kind"] == "failed_test"]
    assert len(failed) == (1 if code else 0)
    assert all("test_it" in name for name in failed)
    assert tests["shares"] == ([] if code else ["equal codes: 0.5"])


@pytest.mark.slow
def test_tests_that_hang_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the part's time, and it is told."""
    monkeypatch.setattr(gpu, "PYTEST", ("-c", "import time; time.sleep(1000)"))
    records: list[dict[str, Any]] = []
    run_tests("cpu", FULL, tmp_path, records.append, lambda: 0.0)
    assert [record["kind"] for record in records] == ["tests", "error"]
    assert records[0]["summary"] == "no end within its time"
