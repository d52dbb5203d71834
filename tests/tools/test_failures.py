"""tools/failures.py: what failed is named with its reason and its log, and what is shown to run again works."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_cluster import Campaign
from support.looked_at import said, shown_commands, spoil
from support.lossy import damaged_tar, lossy, use_lossy_decode
from support.runs import call, slow_backend, start, tree, write_list
from support.small_run import mulaw_spec, small_tar, tokenize, wav, write_tar

from hpc.run import Run
from jobs.progress import Try
from jobs.spec import freeze_spec
from tools.failures import failures


@pytest.fixture
def campaign(here: Path) -> Campaign:
    """A run of four tars on a cluster."""
    return Campaign(here, tars=4)


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
