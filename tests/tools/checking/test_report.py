"""tools/checking/report.py: counts of what there is, and what the run's tasks are at."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from support.fake_cluster import Campaign
from support.looked_at import report_of, tell_of_device
from support.runs import tree
from support.small_run import small_tar, stopping_after, tokenize

from hpc.cluster import SubmitRefusedError
from hpc.monitor import take_snapshot
from hpc.progress import TarState
from hpc.rounds import finish
from hpc.slurm import SlurmCluster
from hpc.stalls import stall_file, write_stall
from jobs.activities import Activity
from jobs.claims import Claim
from jobs.manifest import Manifest
from jobs.progress import DeviceSeconds, Progress, write_progress
from jobs.watchdog import Stall
from tools.checking import report as report_module
from tools.checking.report import make_report


def test_manifest_type() -> None:
    """Older manifests lack fields that newer ones have, and still count."""
    old = {"tar_file": "/d/1.tar", "input_bytes": 1, "input_mtime_ns": 1, "fingerprint": "x", "verdict": "complete"}
    assert (
        make_report(
            Path("tokens"),
            [TarState("/d/1.tar", "1", "committed", 0, msgspec.convert(old, Manifest), None)],
            checked=False,
        ).tars_without_clips
        == 1
    )


class TestHours:
    """Audio hours are one sum, whoever tells them: of committed files and partials, each clip once."""

    def agree(self, campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> float:
        """What check_progress, the live table and the last line say, which has to be one figure; in seconds."""
        monkeypatch.setattr(report_module, "cluster_of", lambda *_, **__: campaign.cluster)
        seen = campaign.controller().round()
        shown = take_snapshot(seen)
        capsys.readouterr()
        finish(campaign.run, seen)
        (told,) = re.findall(r"([0-9.]+) audio-h", capsys.readouterr().out)
        report, text = report_of(capsys)
        assert f"Audio:                 {shown.audio_seconds / 3600:,.2f} hours" in text
        assert told == f"{shown.audio_seconds / 3600:,.2f}"
        assert report["audio_hours"] == round(shown.audio_seconds / 3600, 6)
        return shown.audio_seconds

    @pytest.mark.slow
    def test_after_redone_work(
        self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Work that was done twice counts once: lost lines, --force, clips that were tried again."""
        campaign = Campaign(here, tars=0)
        tars = [small_tar(here / f"{number}.tar", samples=300_000) for number in range(2)]
        campaign.run.add_to_list([str(tar) for tar in tars], keep_dirs=False)
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        campaign.cluster.run(job, 0)
        tokenize(tars[1], campaign.run.output_dir, **stopping_after(2))
        once = self.agree(campaign, capsys, monkeypatch)
        assert once == pytest.approx((4 * 300_000 + 8 + 2 * 300_000 + 1) / 8000, abs=0.001)
        campaign.run.paths("0").committed.unlink()  # as a person does whose disk has lost it
        assert self.agree(campaign, capsys, monkeypatch) < once
        for _ in range(3):
            campaign.controller().round()
            campaign.cluster.run_all()
        assert self.agree(campaign, capsys, monkeypatch) == pytest.approx(2 * (4 * 300_000 + 8) / 8000, abs=0.001)


class TestRunning:
    """What a run that is under way adds to its report."""

    @pytest.fixture
    def campaign(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
        """A run of three tars, one of them cut, with a task on n1, one pending, and a claim."""
        campaign = Campaign(here, tars=3)
        monkeypatch.setattr(report_module, "cluster_of", lambda *_, **__: campaign.cluster)
        cut = campaign.tars[2]
        cut.write_bytes(cut.read_bytes()[:700])
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        element = {job.plan.slots[e][0].name: e for e in range(3)}
        campaign.cluster.run(job, element["2"])
        campaign.cluster.begin(job, element["0"], "n1")
        claim = msgspec.structs.replace(Claim.of_this_process("0" * 12, f"0001/{element['0']}"), host="n1")
        campaign.run.paths("0").claim.write_bytes(msgspec.json.encode(claim))
        return campaign

    def test_who_works_on_what(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """The tars in hand are shown with task and node, tasks by node with why others wait, and what is given up."""
        campaign.cluster.calls.clear()
        (job,) = campaign.cluster.living()
        for slot in range(3):  # of which one runs
            stall = Stall(Activity(0, 1, 600.0, "decode", "0", 7), 300.0)
            write_stall(stall_file(job.submission, slot), f"0001/{slot}", "n1", stall, 1000.0)
        found, text = report_of(capsys)
        (worker,) = found["working"].values()
        assert worker["node"] == "n1"
        assert f"[1/3] ○ 0.tar (not started): task {worker['task']} on n1" in text
        assert "Running:               1 task runs on n1 (1); 1 pending (Priority)" in text
        assert text.count(f"No progress:           task {worker['task']} on n1 has made no progress since ") == 1
        assert "decoding clip 7 of 0" in text
        assert [still["what"] for still in found["running"]["stalls"]] == ["decoding clip 7 of 0"]
        assert "In quarantine:         1 (python -m tools.failures says why)" in text
        assert set(found["quarantined"]) == {"2"}
        assert found["running"]["running"] == {"n1": 1}
        assert campaign.cluster.calls == ["look", "look"]

    def test_what_devices_wait_for_now(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """While tasks run their words are about these; JSON has both."""
        (job,) = campaign.cluster.living()
        campaign.cluster.run(job, next(element for element, task in job.alive.items() if task.state == "PENDING"))
        tell_of_device(campaign.run, "1", DeviceSeconds(10.0, 0.0, 0.0))
        assert "Device:                busy 100 %" in report_of(capsys)[1]
        (element,) = job.alive
        write_progress(job.submission.report_file(element), Progress(device_seconds=DeviceSeconds(3.0, 1.0, 0.0)))
        found, text = report_of(capsys)
        assert "Device:                busy 75 %, waiting for audio 25 %, for the writer 0 %\n" in text
        assert found["device_seconds"] == {"busy": 10.0, "audio": 0.0, "writer": 0.0}
        assert found["running"]["device_seconds"] == {"busy": 3.0, "audio": 1.0, "writer": 0.0}

    def test_why_nothing_more_is_submitted(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """Who looks at a run that stands still is told why: it was cancelled, or Slurm has refused it twice."""
        found, text = report_of(capsys)
        assert (found["stopped"], "Stopped:" in text) == ("", False)
        state = campaign.run.read_state()
        campaign.run.write_state(msgspec.structs.replace(state, cancelled=True))
        assert "Stopped:               nothing more is submitted: it was cancelled; hpc.submit" in report_of(capsys)[1]
        campaign.run.write_state(state)
        (job,) = campaign.cluster.living()
        for element in list(job.alive):
            campaign.cluster.end(job, element)
        campaign.cluster.answers = ["refuse", "refuse"]
        with pytest.raises(SubmitRefusedError):
            campaign.controller().round()
        assert report_of(capsys)[0]["stopped"] == ""  # a round tries once more
        campaign.controller().round()
        found, text = report_of(capsys)
        assert found["stopped"].startswith("twice the same: ")
        assert f"Stopped:               nothing more is submitted: {found['stopped']}" in text

    def test_nobody_answers(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """Where Slurm does not answer the report is whole all the same, and claims what files tell only."""
        campaign.cluster.blind = True
        found, text = report_of(capsys)
        assert "Running:               not known now" in text
        assert found["running"]["known"] is False
        assert set(found["working"]) == {"0"}

    def test_no_slurm_on_this_machine(
        self, campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run looked at from a machine without Slurm's commands has a report, without a word on stderr."""
        environment = {"PATH": "/nowhere"}
        monkeypatch.setattr(report_module, "cluster_of", lambda *_, patience_s: SlurmCluster(environment, patience_s))
        _, text = report_of(capsys)
        assert "Running:               not known now" in text

    def test_finished_run_asks_nobody(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """A run that is done is reported without Slurm, and nothing is written beside it."""
        for tar in (*campaign.tars[:2], small_tar(campaign.tars[2])):
            campaign.run.paths(tar.stem).claim.unlink(missing_ok=True)
            tokenize(tar, campaign.run.output_dir)
        campaign.cluster.calls.clear()
        before = tree(campaign.run.output_dir)
        found, text = report_of(capsys)
        assert (found["completed"], found["running"], found["quarantined"]) == (3, None, {})
        assert "Running" not in text
        assert campaign.cluster.calls == []
        assert tree(campaign.run.output_dir) == before
