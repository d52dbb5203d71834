"""tools/rehearsing/results.py: what a trial made."""

from __future__ import annotations

from pathlib import Path

from support.rehearsed import QuickCluster
from support.small_run import CLIPS, mulaw_spec, small_tar

from hpc.launch import Launch
from jobs.progress import Progress, write_progress
from tools.rehearsing.excerpts import Excerpt
from tools.rehearsing.results import ClipId, read_made
from tools.rehearsing.trial import launch_with_one, make_trial, work

LAUNCH = Launch(cluster="slurm", device="cpu", gpus_per_node=0)


def test_clips_and_figures(tmp_path: Path) -> None:
    """Each line by its clip, errors by kind, and of each excerpt what it stands for, cost and gave."""
    parts = [
        Excerpt(f"{name}.tar.gz", small_tar(tmp_path / name / "x.tar", samples=400), CLIPS, 1234) for name in ("a", "b")
    ]
    trial = make_trial(
        "one",
        tmp_path / "one",
        [part.path for part in parts],
        mulaw_spec(),
        launch_with_one(LAUNCH, 2),
        None,
        open_cluster=QuickCluster,
    )
    work([trial], pause_s=0.01)
    made = read_made(trial, parts)
    assert list(made.lines)[:2] == [ClipId("a/x", 0, "000.wav"), ClipId("a/x", 1, "001.wav")]
    assert len(made.lines) == 2 * CLIPS
    assert made.errors == {"decode": 2}
    assert [(one.source, one.bytes) for one in made.figures] == [("a.tar.gz", 1234), ("b.tar.gz", 1234)]
    longer = CLIPS * (len(str(parts[0].path)) - len("a.tar.gz"))
    size = trial.run.paths("a/x").committed.stat().st_size
    assert [one.output_bytes for one in made.figures] == [size - longer] * 2
    assert sum(one.seconds for one in made.figures) > 0
    assert made.rate > 0
    assert round(made.audio_seconds, 3) == round(2 * (4 * 400 + 0 + 1 + 3 + 4) / 8000, 3)
    assert (made.device, made.startup_s) == ("cpu", 0.0)


def test_how_long_a_worker_loads(tmp_path: Path) -> None:
    """From its start until its last report, without what its device did."""
    trial = make_trial("one", tmp_path / "one", [small_tar(tmp_path / "a.tar")], mulaw_spec(), LAUNCH, None)
    report = trial.run.new_submission().report_file(0)
    write_progress(report, Progress(started=1000.0))
    write_progress(report, Progress(started=report.stat().st_mtime - 30.0))
    made = read_made(trial, [])
    assert (made.workers, 29 < made.startup_s < 31) == (1, True)
    assert (made.lines, made.figures, made.device) == ({}, [], "")
