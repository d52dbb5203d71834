"""tools/checking/rerun_commands.py: what is shown to run again works."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.fake_cluster import Campaign
from support.looked_at import said, shown_commands, spoil
from support.runs import call, slow_backend, start, write_list
from support.slurm_commands import SlurmCommands
from support.small_run import small_tar, tokenize

from hpc import submit as submit_module
from hpc.submit import submit
from tools.failures import failures


@pytest.fixture
def campaign(here: Path) -> Campaign:
    """A run of four tars on a cluster."""
    return Campaign(here, tars=4)


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
