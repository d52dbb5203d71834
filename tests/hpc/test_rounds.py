"""hpc/rounds.py: rounds until the end, what is said there, and workers of this machine that die or are left behind."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fake_cluster import Campaign, slurm_launch
from support.local_runs import SlowRun, submissions, task_pids
from support.runs import committed_bytes, lines_of, wait_for, worker_pids, write_list
from support.small_run import small_tar, wav, write_tar

from audio_tokenizers.errors import UsageError
from hpc import rounds as module
from hpc.controller import Round
from hpc.fresh_report import FreshReport
from hpc.local_cluster import LocalCluster
from hpc.lock import LockHeldError, locked
from hpc.rounds import EXIT_CODES, cluster_of, finish, launch_of, watch
from hpc.run import Run
from hpc.screen import Screen
from hpc.slurm import SlurmCluster
from jobs.fileops import StorageError
from jobs.tar_paths import read_manifest


def last_round(campaign: Campaign, **decided: object) -> Round:
    """The round in which a run came to its end, or one that ends as `decided` says."""
    seen = campaign.controller().round()
    decision = msgspec.structs.replace(seen.decision, **decided)
    return Round(**{**vars(seen), "decision": decision})


def work_at_each_look(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks in the queue are done when the controller looks."""
    look = campaign.cluster.look

    def work_and_look(jobs: Any) -> object:
        campaign.cluster.run_all()
        return look(jobs)

    monkeypatch.setattr(campaign.cluster, "look", work_and_look)


class TestFinish:
    def test_finished(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One line with tars, clips, errors and hours, and nothing on stderr; exit code 0."""
        campaign = Campaign(tmp_path, 2)
        campaign.controller().round()
        campaign.cluster.run_all()
        assert finish(campaign.run, last_round(campaign)) == 0
        out, err = capsys.readouterr()
        assert out == "2 of 2 tars committed: 6 clips, 2 errors, 0.00 audio-h\n"
        assert err == ""

    def test_damaged_clips_are_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Those that were kept are counted in the same line."""
        campaign = Campaign(tmp_path, 1)
        campaign.controller().round()
        campaign.cluster.run_all()
        paths = campaign.run.paths("0")
        manifest = read_manifest(paths.manifest)
        assert manifest is not None
        paths.manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, damaged_clips=2)))
        assert finish(campaign.run, last_round(campaign)) == 0
        assert capsys.readouterr().out == "1 of 1 tar committed: 3 clips, 1 error, 0.00 audio-h, 2 damaged clips kept\n"

    def test_what_was_left_out_is_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Of all tars together, by suffix: nothing that may be audio is passed over in silence."""
        campaign = Campaign(tmp_path, 2)
        for number, tar in enumerate(campaign.tars):
            write_tar(tar, {"a.wav": wav(40), "a.avi": b"?", "b.raw": b"?" * number, "README": b"?"})
        campaign.controller().round()
        campaign.cluster.run_all()
        assert finish(campaign.run, last_round(campaign)) == 0
        note = capsys.readouterr().out.splitlines()[1]
        assert note.startswith("note: 3 members were no clips: .avi 2, .raw 1: --extensions takes them")

    def test_quarantine_is_told_by_reason(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Each reason once, with the tars that have it, and the ways to learn more and to try again; exit code 3."""
        campaign = Campaign(tmp_path, 4)
        reasons = {"0": "cut: half a member", "1": "no such tar", "3": "cut: half a member"}
        seen = last_round(campaign, outcome="quarantined", quarantine=reasons)
        assert finish(campaign.run, seen) == 3
        err = capsys.readouterr().err.splitlines()
        assert err[:2] == ["in quarantine: 0, 3: cut: half a member", "in quarantine: 1: no such tar"]
        assert "tools.failures" in err[2]
        assert "--retry-quarantined" in err[2]

    def test_stuck_shows_why_and_the_end_of_a_log(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The diagnosis, what failed, the last lines of a log, and what to do then; exit code 4."""
        campaign = Campaign(tmp_path, 4)
        campaign.controller().round()
        campaign.cluster.end_all("machine", problem="CUDA error: no device")
        assert finish(campaign.run, last_round(campaign)) == 4
        out, err = capsys.readouterr()
        assert out.startswith("0 of 4 tars committed")
        lines = err.splitlines()
        assert lines[0].startswith("error: stuck: 4 tars met machine trouble")
        assert lines[1] == "error: 0, 1, 2, 3: CUDA error: no device"
        log = lines[2].removeprefix("the end of ").removesuffix(":")
        assert Path(log).read_text() == "last words\n"
        assert lines[3] == "  last words"
        assert "hpc.submit again" in lines[-1]

    def test_tasks_that_never_came_to_their_work(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where every task ended in its first second, such as in --setup, the log of one says it."""
        campaign = Campaign(tmp_path, 4)
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        for element in list(job.alive):
            log = job.submission.log_file(job.job_id, element, 0)
            log.parent.mkdir(exist_ok=True)
            log.write_text("module: command not found\n")
            campaign.cluster.lose(job, element, "FAILED")
        assert finish(campaign.run, last_round(campaign)) == 4
        assert "  module: command not found" in capsys.readouterr().err

    def test_avoided_nodes_are_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A node that was left out of the run is told also where all went well: somebody should mend it."""
        campaign = Campaign(tmp_path, 1)
        campaign.controller().round()
        campaign.cluster.run_all()
        finish(campaign.run, last_round(campaign, exclude={"n7": "2 tries failed on it"}))
        assert capsys.readouterr().err == "avoided: node n7: 2 tries failed on it\n"

    def test_exit_codes_differ(self) -> None:
        """A script can tell the ends apart, and none is 1 or 2, which are trouble with machine and usage."""
        assert set(EXIT_CODES) == {"finished", "running", "quarantined", "stuck"}
        assert len(set(EXIT_CODES.values()) - {1, 2}) == 4


class TestLaunch:
    def test_nobody_has_submitted(self, tmp_path: Path) -> None:
        """A folder that is no run is named, with the two ways out."""
        with pytest.raises(UsageError, match=r"begin it with python -m hpc\.submit, or give another --output-dir"):
            launch_of(Run(tmp_path))

    def test_cluster_is_that_of_the_launch(self) -> None:
        """Whoever watches looks for tasks where they were submitted, whatever is on its own PATH."""
        assert isinstance(cluster_of(slurm_launch()), SlurmCluster)
        assert isinstance(cluster_of(slurm_launch(cluster="local")), LocalCluster)


class TestRounds:
    @pytest.fixture
    def campaign(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
        found = Campaign(tmp_path, 2)
        monkeypatch.setattr(module, "cluster_of", lambda _launch, _stop: found.cluster)
        return found

    def test_the_end_waits_for_its_report(
        self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What a watch leaves behind may be killed with it: the last report is made before it ends, after its last line."""
        said: list[str] = []
        monkeypatch.setattr(FreshReport, "refresh", lambda *_, ended: said.append(f"ended={ended}"))
        monkeypatch.setattr(FreshReport, "wait", lambda *_: said.append(capsys.readouterr().out))
        work_at_each_look(campaign, monkeypatch)
        assert watch(campaign.run, campaign.launch, seconds=0.01) == 0
        assert "ended=True" in said
        assert said[-1].startswith("2 of 2 tars committed")

    def test_another_controller_is_waited_for(self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
        """While another one is in its round a watch neither ends nor acts; then it goes on."""
        held = iter([True, True])

        def hold(*arguments: Any, **more: Any) -> Any:
            if next(held, False):
                assert campaign.cluster.calls == []
                raise LockHeldError("process 7 on elsewhere")
            return locked(*arguments, **more)

        monkeypatch.setattr("hpc.controller.locked", hold)
        work_at_each_look(campaign, monkeypatch)
        assert watch(campaign.run, campaign.launch, seconds=0.01) == 0

    def test_squeue_that_comes_back(self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
        """A Slurm that cannot be asked for a while ends no watch."""
        look = campaign.cluster.look
        looks: Counter[str] = Counter()

        def troubled(jobs: Any) -> object:
            looks["all"] += 1
            campaign.cluster.blind = looks["all"] in (2, 3)
            if looks["all"] == 4:
                campaign.cluster.run_all()
            return look(jobs)

        monkeypatch.setattr(campaign.cluster, "look", troubled)
        assert watch(campaign.run, campaign.launch, seconds=0.01) == 0
        assert looks["all"] >= 4

    def test_refused_job_ends_the_watch(
        self, campaign: Campaign, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """One refusal may have passed by the next round; the same again is the end, told in all of Slurm's words."""
        campaign.cluster.refusal = "job 7 refused at 9:00\nUnspecified error"
        campaign.cluster.answers = ["refuse", "refuse"]
        assert watch(campaign.run, campaign.launch, seconds=0.01) == 4
        assert campaign.cluster.calls.count("submit") == 2
        assert "the next round tries again" in caplog.text
        assert "job 7 refused at 9:00\n  Unspecified error" in capsys.readouterr().err

    def test_refusal_that_passes(self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a single one the watch goes on."""
        campaign.cluster.answers = ["refuse"]
        work_at_each_look(campaign, monkeypatch)
        assert watch(campaign.run, campaign.launch, seconds=0.01) == 0


class TestFullDisk:
    @pytest.fixture
    def campaign(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
        found = Campaign(tmp_path, 2)
        monkeypatch.setattr(module, "cluster_of", lambda _launch, _stop: found.cluster)
        monkeypatch.setattr(module, "STORAGE_PAUSE_SECONDS", 0.01)
        return found

    def fill(self, monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
        """No room for the round's lock, for so many rounds."""
        left = iter(range(rounds))

        def locked_if_room(*arguments: Any, **more: Any) -> Any:
            if next(left, None) is not None:
                raise OSError(errno.ENOSPC, "No space left on device")
            return locked(*arguments, **more)

        monkeypatch.setattr("hpc.controller.locked", locked_if_room)

    def test_the_watch_goes_on(
        self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Others make room, and nobody has to come."""
        self.fill(monkeypatch, 5)
        work_at_each_look(campaign, monkeypatch)
        assert watch(campaign.run, campaign.launch, seconds=0.01) == 0
        assert "No space left on device; make room" in caplog.text

    def test_not_for_ever(self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
        """After half an hour somebody has to make room."""
        monkeypatch.setattr(module, "STORAGE_SECONDS", 0.05)
        self.fill(monkeypatch, 10**9)
        with pytest.raises(StorageError, match="make room"):
            watch(campaign.run, campaign.launch, seconds=0.01)

    def test_what_passes_by_itself_asks_for_no_amnesty(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """The diagnosis says what to do."""
        assert finish(campaign.run, last_round(campaign, outcome="stuck", diagnosis="no room on x", passes=True)) == 4
        said = capsys.readouterr().err
        assert "stuck: no room on x" in said
        assert "--retry-quarantined" not in said


@pytest.mark.slow
class TestWorkersOfThisMachine:
    @pytest.mark.slow
    def test_killed_worker_is_replaced(self, tmp_path: Path) -> None:
        """Kill -9 from outside, of a worker and its witness: its tar goes to another one, from its last line on, and the
        bytes are those of an undisturbed run. Nobody is told of an error. The events have each task's end, also of those
        that end after the last round.
        """
        case = SlowRun(tmp_path)
        process = case.start(60)
        wait_for(lambda: lines_of(case.output) >= 3 and len(worker_pids(case.output)) == 2)
        worker = worker_pids(case.output)[0]
        witness = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        for pid in (witness, worker):
            os.kill(pid, signal.SIGKILL)
        case.release()
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert err == ""
        assert "2 of 2 tars committed: 24 clips, 0 errors" in out
        assert submissions(case.output) <= 2
        case.assert_complete()
        events = [json.loads(line) for line in Run(case.output).events_file.read_text(encoding="utf-8").splitlines()]
        told = Counter(event["event"] for event in events)
        assert told["task_started"] == told["task_ended"] > 0
        assert told["submission_sent"] == told["submission_ended"] == submissions(case.output)
        assert (told["tar_committed"], told["run_finished"]) == (2, 1)
        text = Run(case.output).metrics_file.read_text(encoding="utf-8")
        assert 'state="running"} 0' in text

    @pytest.mark.slow
    def test_worker_killed_beside_its_witness(self, tmp_path: Path) -> None:
        """Kill -9 of a worker alone is no verdict on anything: the next one goes on with its tar."""
        case = SlowRun(tmp_path)
        process = case.start(60)
        wait_for(lambda: lines_of(case.output) >= 3 and len(worker_pids(case.output)) == 2)
        os.kill(worker_pids(case.output)[0], signal.SIGKILL)
        case.release()
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert "2 of 2 tars committed: 24 clips, 0 errors" in out
        case.assert_complete()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("settings", "kind", "runs"),
        [
            (("--set", "killer=99"), "crash", (2, 1)),
            (("--set", "killer=99", "--set", "signal=SIGABRT"), "crash", (2,)),
            (("--set", "hang=99", "--clip-timeout", "2"), "timeout", (2, 1)),
        ],
    )
    def test_clip_that_kills_becomes_a_record(
        self, tmp_path: Path, settings: tuple[str, ...], kind: str, runs: tuple[int, ...]
    ) -> None:
        """Clips that kill every worker become records of kind crash, those that never end of kind timeout; all others have
        tokens, and the bytes are those of a second, independent run with another number of workers.
        """
        found = []
        case = SlowRun(tmp_path)
        bad = {f"{number}.wav": wav(99 if number in (0, 3) else 40 + number, seed=number) for number in range(6)}
        case.tars = [write_tar(tmp_path / "bad.tar", bad), *(small_tar(tmp_path / f"{name}.tar") for name in "xy")]
        write_list(case.listed, case.tars)
        case.brake.touch()  # while which clips hang that are to
        for number, workers in enumerate(runs):
            case.output = tmp_path / f"tokens{number}"
            out, err = (process := case.start(0, *settings, workers=workers)).communicate()
            assert process.returncode == 0, err
            assert "3 of 3 tars committed" in out
            found.append(committed_bytes(case.output))
        assert found[0] == found[-1]
        kinds = [msgspec.json.decode(line).get("error_kind") for line in found[0]["bad.jsonl"].splitlines()]
        assert kinds == [kind, None, None, kind, None, None]

    def test_tar_whose_workers_somebody_kills(self, tmp_path: Path) -> None:
        """It comes to an end: after a few rounds the tar is in quarantine, with the signal and the machine in words. No
        clip becomes a record, and the other tars are done.
        """
        case = SlowRun(tmp_path, tars="a")
        case.tars.append(write_tar(tmp_path / "bad.tar", {f"{number}.wav": wav(90 + number) for number in range(6)}))
        write_list(case.listed, case.tars)
        _, err = (process := case.start(0, "--set", "killer=93", "--set", "signal=SIGKILL")).communicate()
        assert process.returncode == EXIT_CODES["quarantined"]
        assert "in quarantine: bad: killed by signal 9 without a memory event: someone or something on" in err
        assert [path.name for path in case.output.glob("*.jsonl")] == ["a.jsonl"]
        assert lines_of(case.output) <= 3  # of the clips before the killer; how many of them is luck

    def test_interrupted_while_a_clip_hangs(self, tmp_path: Path) -> None:
        """A second Ctrl-C ends workers that hang, and their partials stay good."""
        case = SlowRun(tmp_path, tars="a")
        case.brake.touch()
        process = case.start(0, "--set", "hang=43")
        wait_for((case.output / "a.jsonl.partial").exists)  # the worker is at the brake, or at the clip that hangs
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "a second one ends them at once" in (process.stderr.readline() if process.stderr else ""))
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 128 + signal.SIGINT
        assert task_pids(case.output) == []
        assert lines_of(case.output) <= 3  # of the clips before the killer; how many of them is luck

    def test_lost_terminal_leaves_no_worker_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """When progress can be shown no more, the workers finish their clips and end with their command."""
        case = SlowRun(tmp_path)
        process = case.start(2)
        wait_for(lambda: lines_of(case.output) >= 1)
        process.send_signal(signal.SIGINT)
        process.communicate()

        def gone(*_: object) -> None:
            if task_pids(case.output):
                raise BrokenPipeError

        monkeypatch.setattr(Screen, "show", gone)
        run = Run(case.output)
        with pytest.raises(BrokenPipeError):
            watch(run, launch_of(run))
        assert task_pids(case.output) == []
        monkeypatch.undo()
        case.assert_rerun_completes()
