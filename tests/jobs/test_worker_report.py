"""jobs/worker_report.py: what is published while a tar is in hand: a witness of the worker's death has nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.small_run import mulaw_spec, small_tar, wav, write_tar

from jobs import clip_decoder, clip_journal, conveyor, progress
from jobs.progress import Kept, Progress, ProgressFile
from jobs.signals import StopFlag
from jobs.tar_paths import TarPaths
from jobs.tar_task import TarTask
from jobs.worker import run_tars
from jobs.worker_report import WorkerReport


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Collect (outcome, gained) of the last try whenever something is published, by a clock that stands."""
    published: list[tuple[str, int]] = []

    def note(_path: Path, progress: Progress) -> None:
        last = progress.tries[-1]
        published.append((last.outcome, last.gained))

    monkeypatch.setattr(progress, "write_progress", note)
    return published


def work(tar: Path, output: Path, **settings: Any) -> None:
    task = TarTask(str(tar), TarPaths.stem(tar), tar.stat().st_size, **settings)
    reports = ProgressFile(output / "p.json", clock=lambda: 0.0)
    run_tars([task], mulaw_spec(), output, device="cpu", stop=StopFlag(), reports=reports)


def test_what_it_is_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading, working, its first line and its end are told at once; further lines when there is time."""
    published = watch(monkeypatch)
    work(small_tar(tmp_path / "a.tar"), tmp_path)
    assert published == [("loading", 0), ("working", 0), ("working", 1), ("committed", 5), ("committed", 5)]


def test_first_line_that_took_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines for clips that nobody is to touch say nothing about the node; the first beyond them does."""
    published = watch(monkeypatch)
    work(small_tar(tmp_path / "a.tar"), tmp_path, crash_clips=(0, 1))
    assert ("working", 3) in published
    assert ("working", 1) not in published


def test_what_is_kept_of_a_long_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a try has come further within a clip is told at once; how far it is, when there is time."""
    monkeypatch.setattr(clip_decoder, "LONG_CLIP_SECONDS", 0.0)
    monkeypatch.setattr(clip_journal, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(conveyor, "CALLS_PER_STEP", 0)
    published: list[Kept | None] = []
    monkeypatch.setattr(progress, "write_progress", lambda _path, told: published.append(told.tries[-1].kept))
    work(write_tar(tmp_path / "a.tar", {"a.wav": wav(8000 * 60 * 6)}), tmp_path)
    assert published == [None, None, Kept(0, 0, 1), Kept(0, 0, 5), Kept(0, 0, 5), Kept(0, 0, 5)]


def test_bytes_of_tars_that_are_read_side_by_side() -> None:
    """The whole of those that have ended and what was used of the others; a tar is not counted twice when it ends."""
    reports = ProgressFile(None, progress=Progress(bytes_done=50))
    report = WorkerReport(reports)
    first, second = (report.begin(TarTask(f"/{name}.tar", name, 1000)) for name in "ab")
    for one in (first, second):
        report.working(one)
    report.encoded(first, 2.0, 900)
    report.encoded(second, 1.5, 300)
    assert (reports.progress.bytes_done, reports.progress.tar_bytes, reports.progress.audio_seconds) == (1250, 1200, 3.5)
    first.attempt.outcome = "committed"
    report.ended(first)
    assert (reports.progress.bytes_done, reports.progress.tar_bytes, reports.progress.tars_done) == (1350, 300, 1)
