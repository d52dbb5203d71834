"""hpc/resume.py: the controller as a command: which of its ways to go, what it prints, and its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fake_cluster import Campaign
from support.local_runs import SlowRun, submissions, task_pids
from support.runs import ROOT, call, lines_of, tree, wait_for
from support.small_run import small_tar

from hpc.resume import resume
from jobs.claims import Claim, process_start


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A run of two tars on a fake Slurm, which commands find in place of the real one."""
    found = Campaign(tmp_path, 2)
    monkeypatch.setattr("hpc.rounds.cluster_of", lambda *_: found.cluster)
    return found


@pytest.fixture
def once(campaign: Campaign) -> Callable[..., int]:
    """One round of the command."""

    def run(*flags: str) -> int:
        return call(resume, "--output-dir", campaign.run.output_dir, "--once", *flags)

    return run


class TestUsage:
    def test_no_run(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where nobody has submitted there is nothing to resume: exit code 2, the way out, and no folder is made."""
        for flags in ([], ["--once"], ["--chain"]):
            assert call(resume, "--output-dir", "none", *flags) == 2
            assert "begin it with python -m hpc.submit" in capsys.readouterr().err
        assert not (here / "none").exists()

    def test_one_way_at_a_time(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """--watch, --once and --chain exclude each other."""
        before = tree(campaign.run.folder)
        assert call(resume, "--output-dir", campaign.run.output_dir, "--once", "--watch") == 2
        assert "expected one of them" in capsys.readouterr().err
        assert tree(campaign.run.folder) == before

    def test_chain_needs_slurm(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """On one machine there is nothing to chain."""
        campaign.change_state(launch=msgspec.structs.replace(campaign.launch, cluster="local"))
        assert call(resume, "--output-dir", campaign.run.output_dir, "--chain") == 2
        assert "--chain: this run is on one machine" in capsys.readouterr().err


class TestOnce:
    def test_still_running(self, campaign: Campaign, once: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
        """75 and one line on stdout, nothing on stderr: cron mails no more than that, and a script knows to come again."""
        for _ in range(2):
            assert once() == 75
            out, err = capsys.readouterr()
            assert (out.count("\n"), err) == (1, "")
            assert out.startswith("0/2 tars, 0 clips")
        assert len(campaign.cluster.jobs) == 1

    def test_finished(self, campaign: Campaign, once: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
        """0 when all is committed, and again 0: it changes nothing more."""
        once()
        campaign.cluster.run_all()
        capsys.readouterr()
        for _ in range(2):
            assert once() == 0
            out, err = capsys.readouterr()
            assert (out.count("\n"), err) == (1, "")
            assert out.startswith("2 of 2 tars committed: 6 clips, 2 errors")

    def test_report(self, campaign: Campaign, once: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
        """What a round leaves behind may be killed, as in a container: it waits for its report. The run's end has one."""
        said: list[str] = []
        monkeypatch.setattr("hpc.resume.FreshReport.refresh", lambda *_, ended: said.append(f"ended={ended}"))
        monkeypatch.setattr("hpc.resume.FreshReport.wait", lambda *_: said.append("waited"))
        once()
        campaign.cluster.run_all()
        once()
        assert said == ["ended=False", "waited", "ended=True", "waited"]

    def test_quarantine(self, campaign: Campaign, once: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
        """3 when all but the quarantine is committed, which is named with the reasons."""
        campaign.tars[1].write_bytes(b"no tar at all" * 100)
        once()
        campaign.cluster.run_all()
        capsys.readouterr()
        assert once() == 3
        out, err = capsys.readouterr()
        assert "1 of 2 tars committed" in out
        assert "in quarantine: 1: not_a_tar" in err

    def test_stuck(self, campaign: Campaign, once: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
        """4 when all meet the same trouble, with the end of a task's log; asked again it stays so, and nothing more is
        submitted.
        """
        more = [small_tar(campaign.run.output_dir.parent / f"more{number}.tar") for number in range(2)]
        campaign.run.add_to_list([str(tar) for tar in more], keep_dirs=False)
        assert once() == 75
        campaign.cluster.end_all("machine", problem="CUDA error: no device")
        capsys.readouterr()
        for _ in range(2):
            assert once() == 4
            out, err = capsys.readouterr()
            assert "0 of 4 tars committed" in out
            assert "error: stuck: " in err
            assert "CUDA error: no device" in err
            assert "  last words" in err
        assert campaign.cluster.tars() == []

    def test_refused(self, campaign: Campaign, once: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
        """75 when Slurm refuses the job, with its words; 4 when it does so again, and then nobody asks it any more until a
        person does.
        """
        campaign.cluster.refusal = "lua: add -A PROJECT\nUnspecified error"
        campaign.cluster.answers = ["refuse", "refuse"]
        assert once() == 75
        words = "sbatch refused the job: lua: add -A PROJECT\n  Unspecified error"
        assert f"{words}; the next round tries again" in capsys.readouterr().err
        for _ in range(2):
            assert once() == 4
            err = capsys.readouterr().err
            assert f"error: stuck: twice the same: {words}" in err
            assert err.count("lua: add -A PROJECT") == 1  # once is enough to read
        assert campaign.cluster.calls.count("submit") == 2
        assert once("--retry-quarantined") == 75
        assert campaign.cluster.tars() == campaign.names

    def test_another_controller(
        self, campaign: Campaign, once: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A cron that comes while another round is under way says so and leaves: 75."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            mine = Claim.of_this_process("123456789abc")
            holder = msgspec.structs.replace(mine, pid=other.pid, started=process_start(other.pid))
            (campaign.run.folder / "round.lock").write_bytes(msgspec.json.encode(holder))
            assert once() == 75
            out, err = capsys.readouterr()
            assert "another controller is at work" in out + err
            other.communicate()
        assert campaign.cluster.calls == []
        assert once() == 75
        assert campaign.cluster.tars() == campaign.names

    def test_list_that_has_grown(self, campaign: Campaign, once: Callable[..., int]) -> None:
        """What hpc.submit has added is in the next round of cron, though all was finished before."""
        once()
        campaign.cluster.run_all()
        assert once() == 0
        campaign.run.add_to_list([str(small_tar(campaign.run.output_dir.parent / "new.tar"))], keep_dirs=False)
        assert once() == 75
        assert campaign.cluster.tars() == ["new"]

    @pytest.mark.slow
    def test_retry_quarantined(self, campaign: Campaign, once: Callable[..., int]) -> None:
        """--retry-quarantined lets in again what was given up, once: the next quarantine needs new evidence."""
        whole = campaign.tars[1].read_bytes()
        campaign.tars[1].unlink()
        while (code := once()) == 75:
            campaign.cluster.run_all()
        assert code == 3
        campaign.tars[1].write_bytes(whole)
        assert once() == 3
        assert once("--retry-quarantined") == 75
        campaign.cluster.run_all()
        assert once() == 0


class TestWatch:
    def test_until_the_end(
        self, campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without a flag it goes round and round, and its exit codes are those of --once."""
        look = campaign.cluster.look

        def and_work(jobs: Any) -> object:
            if campaign.cluster.living():
                job = campaign.cluster.living()[0]
                campaign.cluster.run(job, next(iter(job.alive)))
            return look(jobs)

        monkeypatch.setattr(campaign.cluster, "look", and_work)
        assert call(resume, "--output-dir", campaign.run.output_dir, "--interval", 0.1) == 0
        assert "2 of 2 tars committed" in capsys.readouterr().out
        assert campaign.cluster.calls.count("look") > 2

    def test_interrupted_on_slurm(
        self, campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C ends the watch and not the tasks: 130, and how to go on."""
        looks: list[int] = []
        look = campaign.cluster.look

        def and_interrupt(jobs: Any) -> object:
            looks.append(1)
            if len(looks) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return look(jobs)

        monkeypatch.setattr(campaign.cluster, "look", and_interrupt)
        assert call(resume, "--output-dir", campaign.run.output_dir, "--watch", "--interval", 0.1) == 130
        assert "the tasks continue; python -m hpc.resume watches them again" in capsys.readouterr().err
        assert campaign.cluster.tars() == campaign.names


class TestOneMachine:
    @pytest.mark.slow
    def test_goes_on_where_a_killed_submit_left_off(self, tmp_path: Path) -> None:
        """After kill -9 of hpc.submit and of all its workers, hpc.resume needs no list and no recipe to finish the run."""
        case = SlowRun(tmp_path)
        process = case.start(60)
        wait_for(lambda: lines_of(case.output) >= 3)
        process.kill()
        process.communicate()
        for pid in task_pids(case.output):
            os.kill(pid, signal.SIGKILL)
        case.release()
        out, err = (process := case.command("hpc.resume")).communicate()
        assert process.returncode == 0, err
        assert "2 of 2 tars committed" in out
        case.assert_complete()

    @pytest.mark.slow
    def test_once_starts_workers_and_leaves_them(self, tmp_path: Path) -> None:
        """--once on one machine, from cron's bare environment: workers outlive the command, and the next one finds them."""
        case = SlowRun(tmp_path)
        process = case.start(2)
        wait_for(lambda: lines_of(case.output) >= 1)
        process.send_signal(signal.SIGINT)
        process.communicate()
        begun = submissions(case.output)

        def once() -> int:
            command = [sys.executable, "-m", "hpc.resume", "--once", "--output-dir", str(case.output)]
            done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
            assert (done.stdout.count("\n"), done.stderr) == (1, "")
            return done.returncode

        assert once() == 75
        assert task_pids(case.output)
        assert once() == 75
        assert submissions(case.output) == begun + 1
        case.release()
        wait_for(lambda: not task_pids(case.output))
        assert once() == 0
        case.assert_complete()
