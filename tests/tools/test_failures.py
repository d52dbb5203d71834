"""tools/failures.py: what failed is named with its reason and its log, and what is shown to run again works."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import msgspec
import pytest
from support.fake_cluster import Campaign
from support.lossy import damaged_tar, lossy, use_lossy_decode
from support.runs import call, slow_backend, start, tree, write_list
from support.slurm_commands import SlurmCommands
from support.small_run import mulaw_spec, small_tar, tokenize, wav, write_tar

from hpc import submit as submit_module
from hpc.run import Run
from hpc.submit import submit
from jobs.records import Manifest
from jobs.reporting import Try
from jobs.spec import freeze_spec
from tools.failures import failures, find


@pytest.fixture
def campaign(here: Path) -> Campaign:
    """A run of four tars on a cluster."""
    return Campaign(here, tars=4)


def said(capsys: pytest.CaptureFixture[str], code: int) -> str:
    """What the command prints."""
    capsys.readouterr()  # what the workers of the test have said
    assert call(failures) == code
    out, err = capsys.readouterr()
    assert err == ""
    return out


def shown_commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("  python -m ")]


def spoil(campaign: Campaign) -> None:
    """A round in which one tar goes well, one is cut, one meets a bad node, and one is under way."""
    cut = campaign.tars[1]
    cut.write_bytes(cut.read_bytes()[:700])
    campaign.controller().round()
    (job,) = campaign.cluster.living()
    element = {job.plan.slots[e][0].name: e for e in range(4)}
    campaign.cluster.run(job, element["0"], "n1")
    campaign.cluster.run(job, element["1"], "n1")
    died = Try("2", "machine", problem="CUDA error: no device")
    campaign.cluster.end(job, element["2"], died, node="n2", log="loading\nERROR CUDA error: no device\nlater words")


class TestWhileItRuns:
    def test_what_failed_and_why(self, campaign: Campaign, capsys: pytest.CaptureFixture[str], here: Path) -> None:
        """Failures are grouped with tars, nodes and the log up to the problem; a quarantine says its reason at once."""
        spoil(campaign)
        text = said(capsys, 1)
        assert "1 tar on n2: CUDA error: no device\n  2\n  the end of " in text
        assert "    loading\n    ERROR CUDA error: no device\n\n" in text
        assert "In quarantine, not tried again by themselves: 1 tar\n  1: cut: the file ends at byte 700" in text
        assert (here / "failed_tars.txt").read_text() == f"{campaign.tars[1]}\n{campaign.tars[2]}\n"
        assert f"  python -m hpc.resume --output-dir {campaign.run.output_dir} --retry-quarantined\n" in text

    def test_clips_with_errors(self, campaign: Campaign, capsys: pytest.CaptureFixture[str], here: Path) -> None:
        """Clips are counted by kind, with an example that says where it is and what is wrong with it."""
        spoil(campaign)
        text = said(capsys, 1)
        assert "Clips with errors: 1 in 1 tar\n  decode 1\n" in text
        assert f"    {campaign.tars[0]}: 002.wav: not decodable: " in text
        assert (here / "tars_with_errors.txt").read_text() == f"{campaign.tars[0]}\n"

    def test_nodes_that_are_avoided(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """A node where different tars fail while others work is named."""
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        campaign.cluster.run(job, 0, "n1")
        for element in (1, 2):
            name = job.plan.slots[element][0].name
            campaign.cluster.end(job, element, Try(name, "machine", problem="CUDA error"), node="n2")
        text = said(capsys, 1)
        assert "Nodes that are avoided:\n  n2: " in text

    def test_it_changes_nothing_but_its_lists(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """To look twice is to look once."""
        spoil(campaign)
        first = said(capsys, 1)  # which notes in the run folder which lists it wrote
        before = tree(campaign.run.output_dir)
        assert said(capsys, 1) == first
        assert tree(campaign.run.output_dir) == before


class TestExitCodes:
    def test_run_that_is_stuck_though_nothing_failed(
        self, campaign: Campaign, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        """Workers that yield again and again for want of memory have failed at nothing: still the reason is told."""
        controller = campaign.controller()
        for _ in range(2):
            controller.round()
            (job,) = campaign.cluster.living()
            for element, slot in enumerate(job.plan.slots):
                short = Try(slot[0].name, "yielded", problem="memory is short: there", short_of_memory=True)
                campaign.cluster.end(job, element, short, node="n1")
        assert controller.round().decision.outcome == "stuck"
        text = said(capsys, 1)
        assert text.startswith(
            "Stuck, nothing more is submitted: 2 rounds in a row brought no new line on n1: memory is short"
        )
        assert shown_commands(text) == [f"python -m hpc.resume --output-dir {campaign.run.output_dir} --retry-quarantined"]
        assert "nothing failed" not in text

    def test_nothing_failed(self, campaign: Campaign, capsys: pytest.CaptureFixture[str], here: Path) -> None:
        """A run without a failure says so, and writes no list."""
        assert said(capsys, 0) == f"{campaign.run.output_dir}: nothing failed\n"
        assert not (here / "failed_tars.txt").exists()

    def test_damaged_clips_are_no_failures(
        self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Clips that were kept are a group of their own, with examples; where nothing else is to be said, nothing failed."""
        use_lossy_decode(monkeypatch)
        tar = write_tar(here / "a.tar", {f"{n}.wav": lossy(wav(8000), (0.01 + n / 100, "a gap")) for n in range(1, 3)})
        run = Run(here / "tokens")
        freeze_spec(run.output_dir, mulaw_spec(max_damage=0.5))
        run.add_to_list([str(tar)], keep_dirs=False)
        tokenize(tar, run.output_dir, spec=mulaw_spec(max_damage=0.5))
        assert said(capsys, 0) == (
            f"{run.output_dir}: nothing failed\n\nClips kept though damaged: 2 in 1 tar, 0.050 s of them missing\n"
            f"  {tar}: 1.wav: 0.020 s: a gap\n  {tar}: 2.wav: 0.030 s: a gap\n"
        )
        bad = damaged_tar(here / "b.tar")
        run.add_to_list([str(bad)], keep_dirs=False)
        tokenize(bad, run.output_dir, spec=mulaw_spec(max_damage=0.5))
        (here / "c.tar").write_bytes(small_tar(here / "c.tar").read_bytes()[:-700])
        run.add_to_list([str(here / "c.tar")], keep_dirs=False)
        tokenize(here / "c.tar", run.output_dir, spec=mulaw_spec(max_damage=0.5))
        text = said(capsys, 1)
        assert "nothing failed" not in text
        assert "\n\nClips kept though damaged: 6 in 2 tars, 0.620 s of them missing\n" in text

    def test_what_is_done_since_is_told_and_no_failure(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar that failed once and went well later is no reason for a person to act."""
        campaign = Campaign(here, tars=0)
        clean = small_tar(here / "clean.tar", clips=2)
        campaign.run.add_to_list([str(clean)], keep_dirs=False)
        campaign.controller().round()
        campaign.cluster.end_all("machine", "n2", "CUDA error: no device")
        assert "1 tar on n2" in said(capsys, 1)
        campaign.controller().round()
        campaign.cluster.run_all()
        text = said(capsys, 0)
        assert "clean (1 of them done since)" in text
        assert "To run again" not in text
        assert (here / "failed_tars.txt").read_bytes() == b""

    def test_tasks_that_never_start(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """Where no task comes to its work no tar has failed, and yet somebody has to act."""
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        campaign.cluster._log(job, 0, 0, "module: command not found")
        campaign.cluster.lose_all("FAILED")
        campaign.controller().look()
        text = said(capsys, 1)
        assert "see --setup" in text
        assert "    module: command not found" in text
        assert "--retry-quarantined" in text

    def test_no_run(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where there is no run the message says so, and nothing is written."""
        assert call(failures) == 2
        assert "no run here yet" in capsys.readouterr().err
        assert list(here.iterdir()) == []

    def test_lists_that_cannot_be_written(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """The words come all the same; the run's own list is never written over."""
        spoil(campaign)
        assert call(failures, "--failed-output", "/proc/none/list.txt") == 1
        out, err = capsys.readouterr()
        assert "In quarantine" in out
        assert "--failed-output writes elsewhere" in err
        assert "tars_with_errors.txt" not in out
        assert call(failures, "--failed-output", campaign.run.list_file) == 2


class TestCommands:
    def test_a_command_names_no_list_that_is_somebody_elses(
        self, campaign: Campaign, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        """Where the list could not be written the command that takes it is not shown, but what to do is."""
        spoil(campaign)
        (here / "tars_with_errors.txt").write_text("mine\n")
        capsys.readouterr()
        assert call(failures) == 1
        out, err = capsys.readouterr()
        assert "tars_with_errors.txt" not in out
        assert "(give --failed-output the name of a new file: the command needs the list)" in out
        assert "note: tars_with_errors.txt: left as it is" in err

    def test_tasks_that_never_start_after_a_cancel(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """Where no tar has failed the command takes the run's own list, which is there."""
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        campaign.cluster._log(job, 0, 0, "module: command not found")
        campaign.cluster.lose_all("FAILED")
        campaign.controller().look()
        campaign.change_state(cancelled=True)
        (command,) = shown_commands(said(capsys, 1))
        assert f"--list {campaign.run.list_file} " in command

    @pytest.mark.slow
    def test_backend_that_is_not_here(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Whoever looks without the package of a run's backend is told all the rest."""
        env = slow_backend(here / "site")
        tar_list = write_list(here / "tars.txt", [small_tar(here / "1.tar")])
        words = (
            "--list",
            tar_list,
            "--backend",
            "slow",
            "--cluster",
            "local",
            "--workers",
            1,
            "--output-dir",
            here / "tokens",
        )
        with start("hpc.submit", *words, cwd=here, env=env) as process:
            process.communicate()
        text = said(capsys, 1)
        assert "Clips with errors: 1 in 1 tar\n" in text
        assert "  (there is no backend 'slow': " in text

    def test_retrying_errors_submits_just_those(
        self, campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The command for clips with errors is accepted as it stands, and asks for the tars that have some."""
        monkeypatch.setattr(submit_module, "_submit_to_slurm", lambda _: 0)
        slurm = SlurmCommands(campaign.run.output_dir.parent / "bin")
        monkeypatch.setenv("PATH", slurm.environment["PATH"])
        for tar in campaign.tars[:2]:
            tokenize(tar, campaign.run.output_dir)
        (command,) = shown_commands(said(capsys, 1))
        words = shlex.split(command)
        assert words[-1] == "--retry-errors"
        assert call(submit, *words[3:]) == 0
        assert set(campaign.run.read_state().retry) == {"0", "1"}

    def test_missing_end_marker(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar that only lacks its end marker has a command of its own, which the one for cut tars is not."""
        campaign = Campaign(here, tars=1)
        whole = campaign.tars[0].read_bytes().rstrip(b"\0")
        campaign.tars[0].write_bytes(whole + bytes(-len(whole) % 512))
        campaign.controller().round()
        campaign.cluster.run_all()
        plain, accepting = shown_commands(said(capsys, 1))
        assert plain.endswith("--retry-quarantined")
        assert "--list failed_tars.txt" in accepting
        assert accepting.endswith("--allow-missing-end")

    def test_joined_tars(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Tars put end to end have a command of their own, too."""
        campaign = Campaign(here, tars=1)
        campaign.tars[0].write_bytes(campaign.tars[0].read_bytes() * 2)
        campaign.controller().round()
        campaign.cluster.run_all()
        _, accepting = shown_commands(said(capsys, 1))
        assert "--list failed_tars.txt" in accepting
        assert accepting.endswith("--allow-joined")

    def test_cancelled_run_is_submitted_anew(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """hpc.resume submits nothing for a run that was cancelled, so another command is shown."""
        spoil(campaign)
        campaign.change_state(cancelled=True)
        first = shown_commands(said(capsys, 1))[0]
        assert first.startswith("python -m hpc.submit --list failed_tars.txt --backend mulaw ")


@pytest.mark.slow
def test_five_thousand_clean_tars(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The time grows with the number of tars, and not with its square: 5 s of CPU or more once, 0.6 s now."""
    run = many_committed(here / "tokens", 5000)
    before = time.process_time()
    assert call(failures) == 0
    assert time.process_time() - before < 2
    assert "nothing failed" in capsys.readouterr().out
    assert len(find(run).done) == 5000


def many_committed(output_dir: Path, tars: int) -> Run:
    """A run of so many tars as its workers would have left it, but for the tokens."""
    run = Run(output_dir)
    freeze_spec(output_dir, mulaw_spec())
    run.add_to_list([f"/data/{number:05}.tar" for number in range(tars)], keep_dirs=False)
    (run.folder / "manifests").mkdir()
    for tar in run.listed():
        manifest = Manifest(
            tar_file=tar.tar, input_bytes=1, input_mtime_ns=1, fingerprint="", verdict="complete", clips=1, output_bytes=3
        )
        run.paths(tar.name).manifest.write_bytes(msgspec.json.encode(manifest))
        run.paths(tar.name).committed.write_bytes(b"{}\n")
    return run


@pytest.mark.slow
def test_from_a_worker_that_died_to_a_finished_run(here: Path) -> None:
    """On one machine: a fault of the backend is shown with its log, and the shown command finishes the run."""
    env = slow_backend(here / "package")
    listed = write_list(here / "l.txt", [small_tar(here / "1.tar", clips=2)])
    arguments = ("--list", listed, "--backend", "slow", "--cluster", "local", "--workers", "1")
    process = start("hpc.submit", *arguments, "--set", "fault=load", cwd=here, env=env)
    process.communicate()
    assert process.returncode in (3, 4)
    process = start("tools.failures", cwd=here, env=env)
    out, err = process.communicate()
    assert (process.returncode, err) == (1, "")
    assert "a bug in the backend" in out
    (command,) = [line.strip() for line in out.splitlines() if line.startswith("  python -m ")]
    assert command == f"python -m hpc.resume --output-dir {here / 'tokens'} --retry-quarantined"
    process = start("hpc.submit", *arguments, cwd=here, env=env)  # mended: the fault was an option of this backend
    process.communicate()
    assert process.returncode == 0
    process = start("tools.failures", cwd=here, env=env)
    assert "nothing failed" in process.communicate()[0]
