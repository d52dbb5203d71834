"""hpc/trust.py: a run folder that others may write runs nothing in a person's name, and a group that shares one can work."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support.committed_runs import make_run, some_records
from support.fake_cluster import Campaign
from support.owners import give_away, some_group
from support.runs import call, committed_bytes, write_list
from support.small_run import mulaw_spec, small_tar

from audio_tokenizers.errors import UsageError
from hpc.batch_script import batch_text
from hpc.cancel import cancel
from hpc.chain import chain_text
from hpc.launch_options import Site
from hpc.resubmit_command import resubmit_command
from hpc.resume import resume
from hpc.run import Run
from hpc.site_file import site_defaults
from hpc.submissions import Job
from hpc.submit import submit
from hpc.trust import launch_to_look_with, of_code, open_run, share_run
from jobs.tokenize_tar import tokenize_tar
from jobs.trust import trust_of
from tools.check_progress import check_progress

LOCAL = ("--backend", "mulaw", "--device", "cpu", "--cluster", "local")
STATE = (
    *(".", ".run", ".run/run.json", ".run/spec.yaml", ".run/tars.txt", ".run/submissions", ".run/submissions/0001"),
    *(".run/submissions/0001/plan.json", ".run/submissions/0001/jobs.json", ".run/claims"),
)


@pytest.fixture(autouse=True)
def ambient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A umask and a folder that are nobody else's, and no cluster.yaml of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """A run on a fake Slurm that has submitted once."""
    found = Campaign(tmp_path, 2)
    found.controller().round()
    (found.run.folder / "claims").mkdir(exist_ok=True)
    return found


@pytest.fixture
def traps(tmp_path: Path, campaign: Campaign) -> Path:
    """A run.json that has all of Slurm's commands come from a folder of programs, which say there that they ran."""
    folder = tmp_path / "traps"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {folder}/ran\nexit 1\n")
        (folder / name).chmod(0o755)
    launch = msgspec.structs.replace(campaign.launch, environment={"PATH": f"{folder}:/usr/bin:/bin"})
    campaign.change_state(launch=launch)
    return folder


class TestRefused:
    def test_the_attack(self, campaign: Campaign, traps: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """With a run.json that everybody may write no command runs what it names; as soon as nobody else may, it does."""
        state = campaign.run.folder / "run.json"
        output = campaign.run.output_dir
        state.chmod(0o666)
        for command, flags in ((resume, ["--once"]), (resume, []), (resume, ["--chain"]), (cancel, [])):
            assert call(command, "--output-dir", output, *flags) == 2
            said = capsys.readouterr()
            assert f"error: not trusted: {state} is writable by everybody (mode 0666, " in said.err
            assert f"-w {state}\n" in said.err
            assert said.out == ""
        assert call(check_progress, "--output-dir", output) == 0
        assert not (traps / "ran").exists()
        state.chmod(0o644)
        assert call(resume, "--output-dir", output, "--once") == 75
        assert (traps / "ran").exists()

    @pytest.mark.parametrize("name", STATE)
    def test_every_part_of_the_state(
        self, name: str, campaign: Campaign, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """Each file or folder that a later round believes is looked at, by every command that acts; one chmod mends it."""
        path = campaign.run.output_dir / name
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | 0o002)
        before = sorted(campaign.run.output_dir.rglob("*"))
        listed = write_list(tmp_path / "list", campaign.tars)
        for command, flags in ((submit, ["--list", listed, *LOCAL]), (resume, ["--once"]), (cancel, [])):
            assert call(command, *flags, "--output-dir", campaign.run.output_dir) == 2
            said = capsys.readouterr().err
            assert f"{path} is writable by everybody (mode {mode | 2:04o}, " in said
            assert f"chmod o-w {path}\n" in said or f"chmod go-w {path}\n" in said
        assert sorted(campaign.run.output_dir.rglob("*")) == before
        path.chmod(mode)
        assert call(cancel, "--output-dir", campaign.run.output_dir) == 1  # there is no scancel here
        assert "not trusted" not in capsys.readouterr().err

    @pytest.mark.parametrize("there", [True, False])
    @pytest.mark.parametrize("name", [".run/history.jsonl", ".run/chain.log", ".run/submissions/0001/jobs.json"])
    def test_links_among_the_state(
        self, name: str, there: bool, campaign: Campaign, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """Who could write the folder once may have left a link that has a later round write elsewhere: a chmod of the folder
        mends nothing of that.
        """
        target, path = tmp_path / "profile", campaign.run.output_dir / name
        if there:
            target.write_text("mine\n")
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        for command, flags in ((resume, ["--once"]), (cancel, [])):
            assert call(command, *flags, "--output-dir", campaign.run.output_dir) == 2
            said = capsys.readouterr().err
            assert f"not trusted: {path} is a link to {target}" in said
            assert f"rm {path}" in said
        assert target.exists() == there
        assert not there or target.read_text() == "mine\n"

    def test_a_run_on_another_disk(self, campaign: Campaign, tmp_path: Path) -> None:
        """Folders may be links: people put a run where there is room."""
        campaign.run.folder.rename(tmp_path / "elsewhere")
        campaign.run.folder.symlink_to(tmp_path / "elsewhere")
        open_run(campaign.run.output_dir, None)

    @pytest.mark.parametrize("name", [".", ".run/run.json", ".run/submissions/0001"])
    def test_somebody_elses(
        self, name: str, campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What another user owns is refused too, whatever its mode, and no chmod is said to mend it."""
        give_away(campaign.run.output_dir / name, monkeypatch)
        for command, flags in ((resume, ["--once"]), (cancel, [])):
            assert call(command, *flags, "--output-dir", campaign.run.output_dir) == 2
            said = capsys.readouterr().err
            assert "is owned by" in said
            assert "chmod" not in said

    def test_a_run_that_is_put_in_its_place_meanwhile(self, campaign: Campaign, traps: Path) -> None:
        """A watch reads run.json again each round: another's in its place ends it before anything of it is used."""
        run = Run(campaign.run.output_dir, trust_of())
        assert run.read_state().launch is not None
        (run.folder / "run.json").chmod(0o646)
        with pytest.raises(UsageError, match="not trusted"):
            run.read_state()
        assert Run(run.output_dir).read_state().launch is not None  # for those who only look
        assert not (traps / "ran").exists()

    def test_a_worker_by_hand(self, campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
        """jobs.tokenize_tar writes there as well, so it looks too."""
        (campaign.run.folder / "claims").chmod(0o777)
        words = ("--input-tar", campaign.tars[0], "--backend", "mulaw", "--device", "cpu")
        assert call(tokenize_tar, *words, "--output-dir", campaign.run.output_dir) == 2
        assert f"not trusted: {campaign.run.folder / 'claims'} is writable by everybody" in capsys.readouterr().err
        assert campaign.committed() == {}

    def test_who_only_looks_runs_nothing_of_it(
        self, campaign: Campaign, traps: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """check_progress shows another's run, and asks for its tasks by the commands of its own PATH."""
        assert launch_to_look_with(campaign.run, campaign.launch) == campaign.launch
        give_away(campaign.run.output_dir, monkeypatch)
        assert launch_to_look_with(campaign.run, campaign.launch).environment == {}
        monkeypatch.setenv("PATH", "/nowhere")
        assert call(check_progress, "--output-dir", campaign.run.output_dir) == 0
        assert "Total tar files:       2" in capsys.readouterr().out
        assert not (traps / "ran").exists()


class TestGoesOn:
    def test_folders_of_before(self, campaign: Campaign, traps: Path) -> None:
        """A run begun under umask 022 by earlier commits goes on; of its kept environment what may not be kept is left."""
        state = msgspec.json.decode((campaign.run.folder / "run.json").read_bytes())
        for name in ("group", "umask"):
            del state["launch"][name]
        state["launch"]["environment"] |= {"HOME": "/theirs", "USER": "them", "LD_PRELOAD": "/evil.so"}
        (campaign.run.folder / "run.json").write_bytes(msgspec.json.encode(state))
        run, launch = open_run(campaign.run.output_dir, None)
        assert (launch.group, launch.umask) == ("", "")
        assert call(resume, "--output-dir", run.output_dir, "--once") == 75
        assert (traps / "ran").exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("umask", [0o000, 0o002, 0o027])
    def test_whatever_the_umask(self, umask: int, here: Path) -> None:
        """Nothing of a run is writable by others, be it made by a command or by its tasks; so the next command takes it."""
        some = write_list(here / "list", [small_tar(here / "1.tar"), small_tar(here / "2.tar")])
        os.umask(umask)
        assert call(submit, "--list", some, *LOCAL) == 0
        modes = {path: path.lstat().st_mode for path in (here / "tokens", *(here / "tokens").rglob("*"))}
        assert [path for path, mode in modes.items() if mode & 0o022] == []
        assert call(submit, "--list", some, *LOCAL) == 0
        assert len(committed_bytes(here / "tokens")) == 2

    @pytest.mark.slow
    def test_strict_umasks_reach_the_tasks(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--umask is kept for tasks on nodes, whose own would be whatever the site gives them; wrong ones are refused."""
        some = write_list(here / "list", [small_tar(here / "1.tar")])
        assert call(submit, "--list", some, *LOCAL, "--umask", "077") == 0
        assert {path.stat().st_mode & 0o077 for path in (here / "tokens").rglob("*")} == {0}
        launch = Run(here / "tokens").read_state().launch
        assert launch is not None
        assert launch.umask == "0077"
        assert call(submit, "--list", some, *LOCAL, "--umask", "002", "--output-dir", "other") == 2
        assert "--umask 002: the group could write" in capsys.readouterr().err
        assert not (here / "other").exists()


class TestGroups:
    @pytest.mark.slow
    def test_shared_from_the_start(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With --group all of a run, its tasks' files too, is the group's to write, and nobody else's. Who goes on with it
        has to name the group; a command that does not is told how.
        """
        name, gid = some_group(monkeypatch)
        some = write_list(here / "list", [small_tar(here / "1.tar"), small_tar(here / "2.tar")])
        assert call(submit, "--list", some, *LOCAL, "--group", name) == 0
        for path in (here / "tokens", *(here / "tokens").rglob("*")):
            status = path.stat()
            assert (status.st_gid, status.st_mode & 0o022) == (gid, 0o020), path
            assert bool(status.st_mode & stat.S_ISGID) == path.is_dir(), path
        os.umask(0o022)
        for command, flags in ((submit, ["--list", some, *LOCAL]), (resume, ["--once"]), (cancel, [])):
            capsys.readouterr()
            assert call(command, *flags) == 2
            said = capsys.readouterr().err
            assert f"is writable by group {name} (mode " in said
            assert f"--group {name}" in said
        for command, flags in ((submit, ["--list", some, *LOCAL]), (resume, ["--once"]), (cancel, [])):
            assert call(command, *flags, "--group", name) == 0
        assert call(tokenize_tar, "--input-tar", here / "1.tar", *LOCAL[:4], "--group", name) == 0

    @pytest.mark.slow
    def test_shared_later(self, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """hpc.submit --group gives the group what there is of the run, and nothing else that lies in the folder."""
        name, gid = some_group(monkeypatch)
        some = write_list(here / "list", [small_tar(here / "a" / "1.tar"), small_tar(here / "b" / "1.tar")])
        (here / "room").mkdir()
        (here / "tokens").symlink_to(here / "room")  # which a person may do
        assert call(submit, "--list", some, *LOCAL, "--keep-dirs") == 0
        mine = here / "tokens" / "mine.txt"
        mine.touch(mode=0o600)
        before = mine.stat()
        assert call(resume, "--once", "--group", name) == 2
        assert "is not shared with it: python -m hpc.submit --group" in capsys.readouterr().err
        assert call(submit, "--list", some, *LOCAL, "--keep-dirs", "--group", name) == 0
        assert mine.stat() == before
        for path in (here / "tokens", *(here / "tokens").rglob("*")):
            if path != mine:
                assert (path.stat().st_gid, path.stat().st_mode & 0o022) == (gid, 0o020), path
        # It was finished: hpc.submit had nothing to do but this, and the command that was refused before goes.
        assert call(resume, "--once", "--group", name) == 0

    def test_a_finished_run_of_tars_by_hand(self, here: Path) -> None:
        """hpc.submit, which other commands ask for there, makes it a run, although there is nothing left to do."""
        tar = small_tar(here / "1.tar")
        assert call(tokenize_tar, "--input-tar", tar, *LOCAL[:4]) == 0
        assert call(resume, "--once") == 2
        assert call(submit, *LOCAL) == 0
        assert call(resume, "--once") == 0

    def test_no_longer_shared(self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run of a group that has been closed to it by hand says which of the two it is to be."""
        monkeypatch.setattr("jobs.trust._own_group", lambda _uid: None)
        campaign.change_state(launch=msgspec.structs.replace(campaign.launch, group="lab"))
        with pytest.raises(UsageError, match=r"is shared with group lab: give --group lab, or run python -m hpc\.submit"):
            open_run(campaign.run.output_dir, None)

    def test_a_file_system_that_keeps_groups_to_itself(self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where new files do not get their folder's group the members could not go on: that is said before any is made."""
        monkeypatch.setattr("hpc.trust.share", lambda *_: None)
        trust = replace(trust_of(), group=campaign.run.folder.stat().st_gid + 1, group_name="lab")
        with pytest.raises(UsageError, match=r"do not get the folder's group .*newgrp lab"):
            share_run(campaign.run, trust)

    def test_batch_texts_say_it(self, campaign: Campaign) -> None:
        """Tasks get the umask, and links of a chain the group: neither is left to what a node's shell has."""
        launch = msgspec.structs.replace(campaign.launch, group="lab", umask="0002")
        (submission,) = campaign.run.submissions()
        job = Job(name="j", elements=1, parallel=1, host="h", intended_at=0.0)
        assert " --elements 1 --umask 0002 " in batch_text(submission, launch, job)
        assert chain_text(campaign.run, launch).endswith(f"/jobs/run_module.py hpc.chain {campaign.run.output_dir} lab\n")
        assert "umask" not in batch_text(submission, campaign.launch, job)

    def test_the_command_that_submits_again(self, campaign: Campaign) -> None:
        """tools.failures prints a command that shares the run as before."""
        launch = msgspec.structs.replace(campaign.launch, group="lab", umask="0007")
        words = resubmit_command(mulaw_spec(), launch, Site(), Path("l.txt"), Path("tokens"))
        assert words.endswith(" --group lab --umask 0007")
        assert "umask" not in resubmit_command(mulaw_spec(), campaign.launch, Site(), Path("l.txt"), Path("tokens"))


class TestSiteFile:
    """Setup lines of a cluster.yaml are commands, and it is taken from wherever one stands."""

    def test_written_by_others(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One that everybody may write is refused by whoever submits, and only there."""
        site = here / "cluster.yaml"
        site.write_text("setup: [evil]\n")
        site.chmod(0o646)
        some = write_list(here / "list", [small_tar(here / "1.tar")])
        assert call(submit, "--list", some, "--backend", "mulaw", "--dry-run") == 2
        assert "not trusted: cluster.yaml is writable by everybody" in capsys.readouterr().err
        assert site_defaults().setup == ("evil",)
        site.chmod(0o644)
        assert site_defaults(trust=trust_of()).setup == ("evil",)

    def test_somebody_elses(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another user's is refused, unless they own the code that runs here, as in a checkout that a lab shares."""
        site = here / "cluster.yaml"
        site.write_text("partition: theirs\n")
        give_away(site, monkeypatch)
        with pytest.raises(UsageError, match=r"cluster.yaml is owned by"):
            site_defaults(trust=trust_of())
        owner = site.stat().st_uid
        monkeypatch.setattr("hpc.trust.code_owner", lambda: owner)
        assert site_defaults(trust=of_code(trust_of())).partition == "theirs"


def test_looking_needs_no_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a run that only lies there, with nobody's launch, are read by tools whoever owns them."""
    make_run(tmp_path / "tokens", {"1": some_records(1)})
    give_away(tmp_path / "tokens", monkeypatch)
    assert call(check_progress, "--output-dir", tmp_path / "tokens", "--remaining-output", tmp_path / "left") == 0
