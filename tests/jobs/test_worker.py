"""jobs/worker.py: a worker may be killed at any moment, and one bad tar does not stop the next."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.small_run import mulaw_spec, small_tar

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.outputs import TarPaths, TarTask, read_manifest
from jobs.reporting import ProgressFile
from jobs.worker import StopFlag, Wishes, load_backend, run_tars

ROOT = Path(__file__).resolve().parents[2]
KILLS = 30


def start_slow_worker(output: Path, pause: float, tars: list[Path]) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "tokenizers", "tests"))
    script = ROOT / "tests" / "support" / "slow_worker.py"
    return subprocess.Popen(
        [sys.executable, str(script), str(output), str(pause), *map(str, tars)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def lines_so_far(output: Path) -> int:
    lines = 0
    for path in output.glob("[!.]*.jsonl*"):
        with suppress(FileNotFoundError):  # committed a moment ago
            lines += path.read_bytes().count(b"\n")
    return lines


def work(tars: list[Path], output: Path, **wishes: bool) -> ProgressFile:
    reports = ProgressFile(None)
    tasks = [TarTask(str(tar), TarPaths.stem(tar), 100) for tar in tars]
    stop = StopFlag()
    run_tars(tasks, mulaw_spec(), output, device="cpu", stop=stop, reports=reports, wishes=Wishes(**wishes))
    return reports


def test_kill_9_at_random_moments_changes_no_byte(tmp_path: Path) -> None:
    """At least 30 SIGKILLs while lines are being written, over one list: the committed files equal an undisturbed run's."""
    tars = [small_tar(tmp_path / "in" / f"{n}.tar", clips=60) for n in range(4)]
    work(tars, tmp_path / "reference")
    output = tmp_path / "out"
    chance = random.Random(0)
    kills = 0
    while kills < KILLS or lines_so_far(output) < 240:
        before = lines_so_far(output)
        worker = start_slow_worker(output, 0.03 if kills < KILLS else 0.0, tars)
        if kills >= KILLS:
            assert worker.wait(timeout=60) == 0
            break
        while lines_so_far(output) == before and worker.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.1))
        worker.kill()
        assert worker.wait() == -signal.SIGKILL, "the worker finished before it could be killed 30 times"
        kills += 1
    for tar in tars:
        name = f"{tar.stem}.jsonl"
        assert (output / name).read_bytes() == (tmp_path / "reference" / name).read_bytes()
    assert sorted(p.name for p in output.iterdir()) == [".run", "0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_worker_after_the_clip_in_hand(number: signal.Signals, tmp_path: Path) -> None:
    """It leaves whole lines, a manifest that counts them, no claim, and exits by itself."""
    tar = small_tar(tmp_path / "in" / "a.tar", clips=200)
    worker = start_slow_worker(tmp_path / "out", 0.02, [tar])
    while lines_so_far(tmp_path / "out") < 3:
        time.sleep(0.01)
    worker.send_signal(number)
    assert worker.wait(timeout=60) == 0
    manifest = read_manifest(TarPaths(tmp_path / "out", "a").manifest)
    assert manifest is not None
    assert 3 <= manifest.clips == lines_so_far(tmp_path / "out") < 200
    assert not list((tmp_path / "out" / ".run" / "claims").iterdir())


def test_a_bad_tar_does_not_stop_the_next(tmp_path: Path) -> None:
    """Missing, empty and cut tars are named as problems, once each, and the good ones are committed."""
    good = [small_tar(tmp_path / f"good{n}.tar") for n in range(2)]
    cut = small_tar(tmp_path / "cut.tar")
    cut.write_bytes(cut.read_bytes()[:3000])
    empty = tmp_path / "empty.tar"
    empty.write_bytes(b"")
    text = tmp_path / "text.tar"
    text.write_text("hello" * 500)
    tars = [good[0], tmp_path / "missing.tar", empty, cut, text, good[1]]
    reports = work(tars, tmp_path / "out")
    problems = dict(reports.progress.problems)
    assert list(problems) == ["missing", "empty", "cut", "text"]
    assert "No such file" in problems["missing"]
    assert "empty_file" in problems["empty"]
    assert "byte 3,000" in problems["cut"]
    assert "expected a tar header" in problems["text"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jsonl")) == ["good0.jsonl", "good1.jsonl"]
    assert reports.progress.finished


def test_finished_work_is_not_done_again(tmp_path: Path) -> None:
    """A second run of the same tars loads no backend and touches no byte."""
    tar = small_tar(tmp_path / "a.tar")
    work([tar], tmp_path / "out")
    before = (tmp_path / "out" / "a.jsonl").stat()
    manifest = (tmp_path / "out" / ".run" / "manifests" / "a.json").stat()
    reports = work([tar], tmp_path / "out")
    after = (tmp_path / "out" / "a.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert manifest.st_mtime_ns == (tmp_path / "out" / ".run" / "manifests" / "a.json").stat().st_mtime_ns
    assert reports.progress.tars_done == 1


def test_a_tar_that_another_worker_commits_meanwhile_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that loses a tar to one that finished it has no problem to report."""
    from jobs import worker as module

    tar = small_tar(tmp_path / "a.tar")

    def overtaken(*arguments: Any, **settings: Any) -> Any:
        monkeypatch.undo()
        work([tar], tmp_path / "out")
        return module.tokenize_tar(*arguments, **settings)

    monkeypatch.setattr(module, "tokenize_tar", overtaken)
    reports = work([tar], tmp_path / "out")
    assert (reports.progress.problems, reports.progress.tars_done) == ([], 1)


def test_a_foreign_committed_file_is_never_overwritten(tmp_path: Path) -> None:
    """A .jsonl without our manifest is somebody's work: refused, with what to do."""
    tar = small_tar(tmp_path / "a.tar")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jsonl").write_text("mine\n")
    reports = work([tar], tmp_path / "out")
    assert "move it away" in reports.progress.problems[0][1]
    assert (tmp_path / "out" / "a.jsonl").read_text() == "mine\n"
    assert work([tar], tmp_path / "out", force=True).progress.problems == []
    assert (tmp_path / "out" / "a.jsonl").read_bytes().count(b"\n") == 5


def test_trouble_with_the_machine_ends_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next tar would meet the same machine: it is not tried, and what happened is published."""
    from audio_tokenizers.mulaw import MuLaw

    def fail(self: object, waves: object) -> list[object]:
        raise MemoryError

    monkeypatch.setattr(MuLaw, "encode", fail)
    tars = [small_tar(tmp_path / f"{n}.tar") for n in range(2)]
    reports = ProgressFile(tmp_path / "progress.json")
    tasks = [TarTask(str(tar), TarPaths.stem(tar), 100) for tar in tars]
    with pytest.raises(InfrastructureError, match="out of memory"):
        run_tars(tasks, mulaw_spec(), tmp_path / "out", device="cpu", stop=StopFlag(), reports=reports)
    assert [name for name, _ in reports.progress.problems] == ["0"]
    assert b"out of memory" in (tmp_path / "progress.json").read_bytes()


def test_a_worker_that_would_compute_other_tokens_refuses(tmp_path: Path) -> None:
    """Another package version or weights on the worker than the run was frozen with is an error, not a mixture."""
    spec = mulaw_spec()
    changed = msgspec.structs.replace(spec, recipe={**spec.recipe, "numpy": "0.1"})
    with pytest.raises(UsageError, match="numpy"):
        load_backend(changed, "cpu")
