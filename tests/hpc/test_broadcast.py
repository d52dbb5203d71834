"""hpc/broadcast.py: what a round makes known survives kills, and trouble with it never reaches the round."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from support.broadcasts import events_of, telling
from support.crashing import CrashingOps, SimulatedCrash
from support.fake_cluster import Campaign
from support.training_campaign import TrainingCampaign, tell_status

from hpc import broadcast as module
from hpc.event_hooks import Hook, Hooks
from hpc.patience import GRACE_SECONDS
from hpc.run import Run
from hpc.task_id import TaskId
from jobs.progress import Progress, Try, write_progress

LATER = GRACE_SECONDS + 1


def metric(campaign: Campaign, name: str, path: Path | None = None, **labels: str) -> float | None:
    """A sample of the run's metrics; None if there is none."""
    text = (path or campaign.run.metrics_file).read_text(encoding="utf-8")
    found = [
        sample.value
        for family in open_metrics(text)
        for sample in family.samples
        if sample.name == f"tar2tokens_{name}" and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1
    return found[0] if found else None


def story(campaign: Campaign) -> None:
    """A run from its list to its end, by controllers that come and go as cron starts them."""
    for _ in range(2):
        telling(campaign).round()
        campaign.cluster.run_all()
        campaign.clock.now += LATER


def append_through(ops: CrashingOps) -> Callable[[Path, bytes], None]:
    """As append_line, with a step of `ops`."""

    def append(path: Path, line: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            ops.write(file.fileno(), line + b"\n")

    return append


def facts_on_disk(campaign: Campaign) -> set[str]:
    """The ids of what the files of a finished run say."""
    found = {"run_started", "run_finished", *(f"tar_committed/{name}" for name in campaign.names)}
    for submission in campaign.run.submissions():
        job, digest = submission.read_job(), submission.read_digest()
        if job is None or not job.job_id:
            continue
        assert digest is not None
        found |= {f"submission_sent/{submission.number}", f"submission_ended/{submission.number}"}
        for end in digest.ends:
            task = TaskId(submission.number, end.slot)
            found |= {f"task_started/{task}", f"task_ended/{task}"}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step(tmp_path_factory: pytest.TempPathFactory, after: bool) -> None:
    """Whatever write of its news a controller dies at, those after it tell every fact of the files, and none twice. To die
    earlier in a round is to die before the first of them.
    """
    step, over = 0, False
    while not over:
        campaign = Campaign(tmp_path_factory.mktemp("killed"), 1)
        ops = CrashingOps(step, after=after)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("hpc.broadcast.FileOps", lambda ops=ops: ops)
                patch.setattr("hpc.event_file.append_line", append_through(ops))
                story(campaign)
        except SimulatedCrash:
            story(campaign)
        over = not ops.dead
        ids = [event["id"] for event in events_of(campaign)]
        assert len(set(ids)) == len(ids), step
        counted = ("tar_committed", "run_")  # an attempt's id, or a number, comes last
        told = {one.rsplit("/", 1)[0] if one.startswith(counted) else one for one in ids if not one.startswith("round")}
        assert told == facts_on_disk(campaign), step
        step += 1
    assert step > 10


class TestTrouble:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.ESTALE])
    def test_file_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
    ) -> None:
        """The rounds go on, with one warning per file that names it; when there is room again, nothing is missing."""
        campaign = Campaign(tmp_path, 1)

        def fail(*_: Any) -> None:
            raise OSError(number, os.strerror(number), str(campaign.run.events_file))

        controller = telling(campaign)
        with monkeypatch.context() as patch:
            patch.setattr("hpc.event_file.append_line", fail)
            patch.setattr(module, "write_atomically", fail)
            controller.round()
            campaign.cluster.run_all()
            campaign.clock.now += LATER
            assert controller.round().decision.outcome == "finished"
        assert not campaign.run.events_file.exists()
        assert len(caplog.messages) == 2
        assert "events.jsonl" in caplog.text
        assert os.strerror(number) in caplog.text
        controller.round()
        told = [event["event"] for event in events_of(campaign)]
        assert told.count("tar_committed") == told.count("run_started") == told.count("run_finished") == 1
        assert metric(campaign, "tars", state="committed") == 1

    def test_metrics_folder_that_is_none(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A folder that cannot be made costs a warning; the run's own file is written."""
        (tmp_path / "file").touch()
        campaign = Campaign(tmp_path, 1, metrics_dir=str(tmp_path / "file" / "below"))
        telling(campaign).round()
        assert "below" in caplog.text
        assert metric(campaign, "tars", state="not_started") == 1


class TestMetrics:
    def test_folder_of_several_runs(self, tmp_path: Path) -> None:
        """Two runs write two files to node_exporter's folder, and no other names that it would read."""
        folder = tmp_path / "textfile"
        for name in ("one", "other"):
            campaign = Campaign(tmp_path / name, 1, metrics_dir=str(folder))
            campaign.change_state(run_id=name)
            telling(campaign).round()
        assert sorted(path.name for path in folder.iterdir()) == ["tar2tokens-one.prom", "tar2tokens-other.prom"]
        assert metric(campaign, "run_info", folder / "tar2tokens-one.prom", run="one", backend="mulaw") == 1

    def test_rounds_in_quick_succession(self, tmp_path: Path) -> None:
        """Rounds every 0.2 s do not write a file each; the last round does."""
        campaign = Campaign(tmp_path, 2)
        controller = telling(campaign)
        controller.round()
        first = campaign.run.metrics_file.stat().st_ino
        campaign.clock.now += 0.2
        controller.round()
        assert campaign.run.metrics_file.stat().st_ino == first
        campaign.cluster.run_all()
        campaign.clock.now += 0.2
        controller.round()
        assert metric(campaign, "run_outcome", outcome="finished") == 1

    def test_time_left_without_a_process_that_stays(self, tmp_path: Path) -> None:
        """Each round of cron is a process of its own: the rate is measured from the last round in the file."""
        campaign = Campaign(tmp_path, 2, tars_per_gpu=2)
        telling(campaign).round()
        assert metric(campaign, "eta_seconds") is None
        campaign.clock.now += 100
        job = campaign.cluster.living()[0]
        campaign.cluster.begin(job, 0)
        size = campaign.tars[0].stat().st_size
        report = Progress(node="n1", audio_seconds=50.0, tar_bytes=size, tries=[Try("0", "working")])
        write_progress(job.submission.report_file(0), report)
        telling(campaign).round()
        assert metric(campaign, "eta_seconds") == 100, "half of the bytes took 100 s"
        assert metric(campaign, "node_tasks", node="n1") == 1

    def test_folder_that_is_no_utf8(self, tmp_path: Path) -> None:
        """A run in a folder with bytes of another encoding is told of like any other."""
        campaign = Campaign(tmp_path, 1)
        campaign.run = Run(campaign.run.output_dir.rename(tmp_path / os.fsdecode(b"caf\xe9")))
        telling(campaign).round()
        assert events_of(campaign)[0]["output_dir"].endswith("/caf\\udce9")
        assert metric(campaign, "tars", state="not_started") == 1

    def test_unreadable_spec(self, tmp_path: Path) -> None:
        """It is another's to report: the figures are known without it."""
        campaign = Campaign(tmp_path, 1)
        telling(campaign).round()
        campaign.run.spec_file.write_text("][")
        telling(campaign).round()
        assert metric(campaign, "run_info", backend="") == 1


def test_training(tmp_path: Path) -> None:
    """A training has the same events with its own figures, none of tars, and metrics of its own."""
    campaign = TrainingCampaign(tmp_path)
    telling(campaign).round()
    tell_status(campaign.run.output_dir, epoch=1, step=7, saved=7)
    campaign.end("yielded", gained=7, how="COMPLETED")
    campaign.clock.now += LATER
    telling(campaign).round()
    assert metric(campaign, "training_step") == 7
    assert metric(campaign, "run_info", backend="taste") == 1
    tell_status(campaign.run.output_dir, epoch=3, step=15, saved=15)
    campaign.end("committed", gained=8, how="COMPLETED")
    campaign.clock.now += LATER
    telling(campaign).round()
    events = events_of(campaign)
    assert not any(event["event"].startswith("tar_") for event in events)
    assert events[0]["training"] == {"epochs": 3, "epoch": 0, "step": 0, "loss": None}
    assert [event["gained"] for event in events if event["event"] == "task_ended"] == [7, 8]
    assert (events[-1]["event"], events[-1]["committed"], events[-1]["training"]["step"]) == ("run_finished", 1, 15)


def test_hooks_get_what_the_file_gets(tmp_path: Path) -> None:
    """Each event once, as it is in the file, whichever controller writes it."""
    campaign = Campaign(tmp_path, 1)
    got: list[dict[str, Any]] = []
    for _ in range(3):
        hooks = Hooks(lambda: [Hook("test", lambda: got.append)])
        telling(campaign, hooks=hooks).round()
        hooks.wait()
        campaign.cluster.run_all()
    assert got == events_of(campaign)


def test_rounds_of_commands_are_made_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `broadcasting`, the hooks of installed packages get everything before the command ends."""
    got: list[dict[str, Any]] = []
    monkeypatch.setattr("hpc.event_hooks.installed_hooks", lambda: [Hook("test", lambda: got.append)])
    campaign = Campaign(tmp_path, 1)
    with module.broadcasting(campaign.run) as tell:
        seen_by = telling(campaign)
        seen_by._tell = tell
        seen_by.round()
    assert got == [json.loads(line) for line in campaign.run.events_file.read_bytes().splitlines()]
    assert got[0]["event"] == "run_started"
