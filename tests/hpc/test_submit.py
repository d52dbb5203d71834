"""hpc/submit.py: a list becomes committed files, whatever is wrong with the list, the tars, the workers or the moment."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from support.fake_cluster import FakeCluster
from support.local_runs import SlowRun, submissions, task_pids
from support.runs import ROOT, call, committed_bytes, lines_of, speech_list, tree, wait_for, worker_pids, write_list
from support.slurm_commands import SlurmCommands
from support.small_run import small_tar, spec_of, wav, write_tar

from audio_tokenizers.shared.file_hashes import FileVersion, files_sha256
from hpc.run import Run
from hpc.submit import submit
from jobs.audio_formats import FORMER_EXTENSIONS
from jobs.fileops import FileOps
from jobs.model_hashes import ModelHashes
from jobs.spec import freeze_spec, make_spec
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tokenize_tar import tokenize_tar

MULAW = ("--backend", "mulaw", "--device", "cpu", "--cluster", "local")
SLURM = ("--backend", "mulaw", "--device", "cpu", "--cluster", "slurm")


@pytest.fixture(autouse=True)
def no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster.yaml of whoever runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one message of a submission that is refused as bad usage, before anything has been written."""
    assert call(submit, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert sum(line.startswith("error: ") for line in captured.err.splitlines()) == 1
    return captured.err


class TestLists:
    def test_missing_list_says_what_makes_one(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A list that is not there exits 2 and names the tool that writes lists."""
        message = refused(capsys, "--list", "none.txt", *MULAW)
        assert "none.txt: there is no such file" in message
        assert "generate_tar_list" in message
        assert list(here.iterdir()) == []

    @pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"# only\n# comments\n", b"\xef\xbb\xbf\n"])
    def test_empty_list_is_bad_usage(self, here: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
        """A list without a tar exits 2 and leaves no run behind."""
        (here / "list.txt").write_bytes(content)
        assert "expected a tar per line, found none" in refused(capsys, "--list", "list.txt", *MULAW)
        assert not (here / "tokens").exists()

    def test_tar_given_as_list(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Who gives a tar where a list belongs reads just that."""
        small_tar(here / "a.tar")
        assert "expected a text file with a tar per line, found binary data" in refused(capsys, "--list", "a.tar", *MULAW)

    def test_namesakes_are_refused_with_a_way_out(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Two tars with one stem: both are named, nothing is frozen, and --keep-dirs, which is offered, works."""
        one, two = small_tar(here / "a" / "1.tar"), small_tar(here / "b" / "1.tar")
        write_list(here / "list.txt", [one, two])
        message = refused(capsys, "--list", "list.txt", *MULAW)
        assert f"{one} and {two}" in message
        assert "--keep-dirs" in message
        assert not (here / "tokens").exists()
        assert call(submit, "--list", "list.txt", *MULAW, "--keep-dirs", "--dry-run") == 0

    def test_range_takes_a_part_of_the_list(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--from-index is the first tar, --to-index the one after the last; a range without a tar is bad usage."""
        write_list(here / "list.txt", [small_tar(here / f"{number}.tar") for number in range(5)])
        assert call(submit, "--list", "list.txt", *MULAW, "--dry-run", "--from-index", 1, "--to-index", 4) == 0
        assert "3 tars: 0 committed" in capsys.readouterr().out
        message = refused(capsys, "--list", "list.txt", *MULAW, "--from-index", 5)
        assert "no tar of list.txt is in this range" in message
        assert call(submit, "--list", "list.txt", *MULAW, "--to-index", -1) == 2
        capsys.readouterr()
        assert call(submit, "--list", "list.txt", *MULAW, "--from-index", 100) == 2
        assert capsys.readouterr().err == "error: --from-index 100: no tar of list.txt is in this range\n"

    def test_both_spellings_of_the_list_option(self, here: Path) -> None:
        """--tar-list is --list, for scripts that know the older tool."""
        write_list(here / "list.txt", [small_tar(here / "1.tar")])
        assert call(submit, "--tar-list", "list.txt", *MULAW, "--dry-run") == 0


class TestUsage:
    @pytest.fixture
    def listed(self, here: Path) -> Path:
        return write_list(here / "list.txt", [small_tar(here / "1.tar")])

    def test_unknown_backend_gets_the_nearest(self, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A misspelt backend exits 2, with what exists and the nearest name."""
        message = refused(capsys, "--list", listed, "--backend", "higs")
        assert "there is no backend 'higs'" in message
        assert "mulaw" in message
        assert "did you mean 'higgs'?" in message

    def test_backend_must_be_named(self, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A forgotten --backend must not turn a corpus into tokens of some default codec."""
        assert call(submit, "--list", listed) == 2
        assert "--backend: expected a preset or backend, for example higgs" in capsys.readouterr().err
        assert call(submit) == 2

    def test_unknown_option_of_a_backend(self, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--set takes only options that the backend has."""
        assert "has no option 'speed'" in refused(capsys, "--list", listed, *MULAW, "--set", "speed=1")

    def test_unknown_flag_and_value_exit_2_in_words(self, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What the option parser refuses is bad usage too: exit code 2 and no traceback."""
        for bad in (["--nope"], ["--workers", "0"], ["--from-index", "x"]):
            assert call(submit, "--list", listed, *MULAW, *bad) == 2
            message = capsys.readouterr().err
            assert "Error" in message
            assert "Traceback" not in message

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            (["--cluster", "pbs"], "expected auto, slurm or local"),
            (["--time", "soon"], "as sbatch takes them"),
            (["--gpus-per-node", "many"], "TYPE:NUMBER"),
            (["--tars-per-gpu", "0"], "expected a number from 1, or auto"),
            (["--decode-threads", "0"], "expected a number from 1, or auto"),
            (["--buffer-memory", "lots"], "expected a size such as 1GB"),
            (["--buffer-memory", "8"], "expected at least 1,000,000 bytes"),
            (["--slurm", "array=0-3"], "none that tar2tokens sets itself: array,"),
            (["--slurm", "time=10"], "--slurm time: give --time instead"),
            (["--device", "tpu"], "expected auto, cpu or cuda"),
        ],
    )
    def test_wrong_settings_leave_no_trace(
        self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str], settings: list[str], words: str
    ) -> None:
        """What Slurm or we could not make sense of is refused before anything is written."""
        before = tree(here)
        assert words in refused(capsys, "--list", listed, *SLURM, *settings)
        assert tree(here) == before

    def test_site_file_with_a_wrong_key(self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A cluster.yaml that says what nobody knows is named with the key, and nothing is written."""
        (here / "cluster.yaml").write_text("partitoin: gpu\n")
        message = refused(capsys, "--list", listed, *MULAW)
        assert "cluster.yaml" in message
        assert "partitoin" in message
        assert not (here / "tokens").exists()

    def test_verbose_adds_the_traceback_and_keeps_the_exit_code(
        self, listed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """--verbose shows where an error came from; scripts still see the same exit code."""
        assert call(submit, "--list", listed, "--backend", "higs", "--verbose") == 2
        message = capsys.readouterr().err
        assert "Traceback" in message
        assert message.rstrip().splitlines()[-1].startswith("error: there is no backend")

    def test_path_that_slurm_would_change(self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A path with %j, which Slurm replaces, is refused in words for Slurm; one machine does not care."""
        assert "a meaning of its own" in refused(capsys, "--list", listed, *SLURM, "--output-dir", "tokens%j")
        assert not (here / "tokens%j").exists()
        assert call(submit, "--list", listed, *MULAW, "--output-dir", "tokens%j", "--dry-run") == 0


class TestRunDirectory:
    @pytest.fixture
    def listed(self, here: Path) -> Path:
        return write_list(here / "list.txt", [small_tar(here / f"{number}.tar") for number in range(2)])

    @pytest.mark.slow
    def test_dry_run_changes_nothing(self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--dry-run writes not one file, neither before the first run nor after it."""
        before = tree(here)
        assert call(submit, "--list", listed, *MULAW, "--dry-run") == 0
        assert tree(here) == before
        out = capsys.readouterr().out
        assert out.startswith("dry run: this is what would run; nothing is written and nothing is submitted\n")
        assert "2 tars: 0 committed" in out
        assert call(submit, "--list", listed, *MULAW, "--workers", 1) == 0
        assert "dry run" not in capsys.readouterr().out
        write_list(listed, [here / "0.tar", here / "1.tar", small_tar(here / "new.tar")])
        before = tree(here)
        assert call(submit, "--list", listed, *MULAW, "--dry-run") == 0
        assert "3 tars: 2 committed" in capsys.readouterr().out
        assert tree(here) == before

    @pytest.mark.slow
    def test_other_recipe_is_refused_with_the_difference(
        self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One directory holds one recipe: another one is refused before anything runs, also in a dry run."""
        assert call(submit, "--list", listed, *MULAW, "--workers", 1) == 0
        capsys.readouterr()
        before = tree(here)
        for flags in ([], ["--dry-run"]):
            message = refused(capsys, "--list", listed, *MULAW, "--max-duration", 5, *flags)
            assert "-max_duration: None" in message
            assert "+max_duration: 5.0" in message
            assert "--output-dir" in message
            assert "+channel: split" in refused(capsys, "--list", listed, *MULAW, "--channel", "split", *flags)
            assert "+segments: True" in refused(capsys, "--list", listed, *MULAW, "--segments", *flags)
        assert tree(here) == before

    @pytest.mark.slow
    def test_what_may_be_missing_of_a_clip(self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Part of the recipe: another share is refused with the difference; one that is none by itself."""
        for share in ("-0.1", "1.5", "2"):
            assert "expected a share of the clip, from 0" in refused(capsys, "--list", listed, *MULAW, "--max-damage", share)
        assert not (here / "tokens").exists()
        assert call(submit, "--list", listed, *MULAW, "--workers", 1) == 0
        capsys.readouterr()
        message = refused(capsys, "--list", listed, *MULAW, "--max-damage", 0)
        assert "-max_damage: 0.02" in message
        assert "+max_damage: 0.0" in message

    @pytest.mark.slow
    def test_a_run_that_keeps_no_damaged_clip_goes_on_so(self, here: Path, listed: Path) -> None:
        """As one that was begun before there was a choice: the same command goes on with it, and does not mix recipes."""
        assert call(submit, "--list", listed, *MULAW, "--workers", 1, "--max-damage", 0) == 0
        spec = here / "tokens" / ".run" / "spec.yaml"
        before = spec.read_text()
        spec.write_text("".join(line for line in before.splitlines(keepends=True) if not line.startswith("max_damage:")))
        assert spec.read_text() != before
        write_list(listed, [here / "0.tar", small_tar(here / "new.tar")])
        assert call(submit, "--list", listed, *MULAW, "--workers", 1) == 0
        assert (here / "tokens" / "new.jsonl").exists()

    def test_file_in_place_of_the_directory(self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """An --output-dir that is a file is bad usage, named as what it is."""
        (here / "tokens").write_text("mine")
        assert "expected a folder, found a file" in refused(capsys, "--list", listed, *MULAW)
        assert (here / "tokens").read_text() == "mine"

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
    def test_directory_that_cannot_be_written(
        self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """A read-only or full output directory: one message with the reason and what to do, exit code 1."""

        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(FileOps, "write", fail)
        assert call(submit, "--list", listed, *MULAW) == 1
        message = capsys.readouterr().err
        assert f"{here / 'tokens'}: cannot be written: {os.strerror(number)}" in message
        assert "what is there stays good" in message
        assert "Traceback" not in message

    @pytest.mark.slow
    def test_finished_run_needs_no_write_access(
        self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once all is committed the same command writes nothing, and says that there is nothing to do."""
        assert call(submit, "--list", listed, *MULAW, "--workers", 1) == 0
        before = tree(here)
        monkeypatch.setattr(FileOps, "create", lambda *_: pytest.fail("it wrote something"))
        capsys.readouterr()
        assert call(submit, "--list", listed, *MULAW) == 0
        assert "nothing to do" in capsys.readouterr().out
        assert tree(here) == before


@pytest.mark.slow
def test_bad_tars_do_not_stop_the_good_ones(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Tars that have become missing, empty, foreign or cut since they were listed are each named with what is wrong; the
    others are committed; exit code 3. A second run tries the bad ones again, and a tar that has been mended is taken.
    """
    good = small_tar(here / "with space" / "go'od.tar")
    whole = good.read_bytes()
    (here / "empty.tar").write_bytes(b"")
    (here / "text.tar").write_bytes(b"no tar at all" * 100)
    (here / "cut.tar").write_bytes(whole[:600])
    cut_gzip = here / "short.tar.gz"
    cut_gzip.write_bytes(gzip.compress(whole)[:-30])
    no_clips = write_tar(here / "no clips.tar", {"a.txt": b"words"})
    bad = [here / name for name in ("missing.tar", "empty.tar", "text.tar", "cut.tar")] + [cut_gzip]
    write_list(here / "list.txt", [good, *bad, no_clips])
    output = here / 'run "dir" \'x'
    Run(output).add_to_list([str(tar) for tar in (good, *bad, no_clips)], keep_dirs=False)
    arguments = ("--list", "list.txt", *MULAW, "--workers", 1, "--output-dir", output)
    assert call(submit, *arguments) == 3
    captured = capfd.readouterr()
    assert "2 of 7 tars committed" in captured.out
    assert "Traceback" not in captured.err
    verdicts = ["No such file", "empty_file", "not_a_tar", "cut: ", "bad_compression"]
    for tar, verdict in zip(bad, verdicts, strict=True):
        name = tar.name.partition(".")[0]
        line = next(line for line in captured.err.splitlines() if line.startswith(f"in quarantine: {name}:"))
        assert verdict in line, line
    assert "--retry-quarantined" in captured.err
    assert set(committed_bytes(output)) == {"go'od.jsonl", "no clips.jsonl"}
    assert committed_bytes(output)["no clips.jsonl"] == b""

    small_tar(here / "cut.tar")
    assert call(submit, *arguments) == 3
    assert "3 of 7 tars committed" in capfd.readouterr().out
    assert set(committed_bytes(output)) == {"go'od.jsonl", "no clips.jsonl", "cut.jsonl"}


class TestTarsThatCannotBeTokenized:
    @pytest.fixture
    def tars(self, here: Path) -> list[Path]:
        """One that is missing, a FIFO, which blocks whoever opens it, one that is none, and a good one."""
        os.mkfifo(here / "fifo.tar")
        (here / "text.tar").write_text("not a tar")
        tars = [here / "none.tar", here / "fifo.tar", here / "text.tar", small_tar(here / "good.tar")]
        write_list(here / "list.txt", tars)
        return tars

    def test_they_are_named_before_anything_is_written(
        self, here: Path, tars: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Each is named with its reason; exit code 2, also of a dry run, with the way out; there is no run afterwards."""
        for flags in ((), ("--dry-run",)):
            message = refused(capsys, "--list", "list.txt", *MULAW, *flags)
            assert "3 of 4 cannot be tokenized:" in message
            assert f"{tars[0]}: there is no such file" in message
            assert f"{tars[1]}: expected a tar, found a FIFO" in message
            assert f"{tars[2]}: expected a tar header of 512 bytes" in message
            assert "--skip-missing" in message
            assert not (here / "tokens").exists()

    def test_all_faults_of_a_list_are_named_at_once(
        self, here: Path, tars: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Patterns, names, commands and tars: whoever mends what one message names has mended the list."""
        vain, command, twice = "e/*.tar", "pipe:cat x.tar", small_tar(here / "d/good.tar")
        clash, missing = f"would both become good.jsonl: {tars[3]} and {twice}", "cannot be tokenized:\n"
        for lines, words in (
            ([*map(str, tars), vain, command, str(twice)], ("nothing matches", "--allow-pipe", clash, missing)),
            ([*map(str, tars), command, str(twice)], ("--allow-pipe", clash, missing)),
            ([*map(str, tars), str(twice)], (clash, missing)),
        ):
            (here / "list.txt").write_text("\n".join(lines) + "\n")
            message = refused(capsys, "--list", "list.txt", *MULAW)
            assert [each for each in words if each not in message] == []
            assert message.count(str(tars[0])) == message.count(str(tars[1])) == 1

    @pytest.mark.slow
    def test_skip_missing_goes_on_with_the_others(
        self, here: Path, tars: list[Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        """--skip-missing says what it leaves out, and the rest becomes a run; of only bad ones there is none."""
        arguments = ("--list", "list.txt", *MULAW, "--workers", 1, "--skip-missing")
        assert call(submit, *arguments) == 0
        captured = capfd.readouterr()
        assert "3 of 4 cannot be tokenized" in captured.err
        assert "left out; 1 tar left to tokenize" in captured.err
        assert "1 of 1 tar committed" in captured.out
        assert [tar.name for tar in Run(here / "tokens").listed()] == ["good"]
        write_list(here / "list.txt", tars[:3])
        assert call(submit, *arguments) == 2
        assert "3 of 3 cannot be tokenized" in capfd.readouterr().err

    @pytest.mark.slow
    def test_only_new_tars_are_looked_at(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """A tar that the run knows, or that has its tokens, may be gone: the same command goes on as it always did."""
        tars = [small_tar(here / "a.tar"), small_tar(here / "b.tar")]
        write_list(here / "list.txt", tars)
        assert call(tokenize_tar, "--input-tar", tars[0], "--backend", "mulaw", "--device", "cpu") == 0
        tars[0].unlink()
        assert call(submit, "--list", "list.txt", *MULAW, "--workers", 1) == 0
        tars[1].unlink()
        capfd.readouterr()
        assert call(submit, "--list", "list.txt", *MULAW) == 0
        assert "nothing to do" in capfd.readouterr().out

    @pytest.mark.slow
    def test_fifo_in_the_list_of_an_earlier_version(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """A run that has recorded one goes on: its worker does not open it, and it ends in quarantine."""
        os.mkfifo(here / "fifo.tar")
        tars = [here / "fifo.tar", small_tar(here / "good.tar")]
        write_list(here / "list.txt", tars)
        Run(here / "tokens").add_to_list([str(tar) for tar in tars], keep_dirs=False)
        assert call(submit, "--list", "list.txt", *MULAW, "--workers", 1) == 3
        captured = capfd.readouterr()
        assert "1 of 2 tars committed" in captured.out
        assert "expected a tar, found a FIFO" in captured.err


@pytest.mark.slow
def test_machine_with_too_little_memory(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Workers that yield at the same place again end as stuck, with what is short and what helps; nothing is blamed, and
    with more memory the same command finishes.
    """
    write_list(here / "list.txt", [small_tar(here / "a.tar"), small_tar(here / "b.tar")])
    arguments = ("--list", "list.txt", *MULAW, "--workers", 1)
    assert call(submit, *arguments, "--memory-guard", "1e-9") == 4  # which whatever a worker holds is too much for
    message = capfd.readouterr().err
    assert "error: stuck: 2 rounds in a row brought no new line on " in message
    assert "memory is short: " in message
    assert "--buffer-memory" in message
    assert "quarantine:" not in message
    assert call(submit, *arguments) == 0
    assert "2 of 2 tars committed" in capfd.readouterr().out


@pytest.mark.slow
class TestSpeech:
    def test_two_workers_from_list_to_committed_files(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """The speech examples become committed files of two workers, and a second run finds nothing to do."""
        listed = speech_list(here / "data")
        assert call(submit, "--list", listed, *MULAW, "--workers", 2) == 0
        captured = capfd.readouterr()
        assert "2 tars (" in captured.out
        assert "for 2 workers" in captured.out
        assert "2 of 2 tars committed" in captured.out
        assert captured.err == ""
        assert sorted(committed_bytes(here / "tokens")) == ["speech-000.jsonl", "speech-001.jsonl"]
        assert submissions(here / "tokens") == 1
        before = tree(here)
        assert call(submit, "--list", listed, *MULAW, "--workers", 2) == 0
        assert "nothing to do" in capfd.readouterr().out
        assert tree(here) == before

    def test_list_that_has_grown(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Tars that were added to the list are tokenized by the same command; what is committed is left as it is."""
        tars = [small_tar(here / f"{number}.tar") for number in range(2)]
        listed = write_list(here / "list.txt", tars[:1])
        assert call(submit, "--list", listed, *MULAW) == 0
        before = committed_bytes(here / "tokens")
        write_list(listed, tars)
        assert call(submit, "--list", listed, *MULAW) == 0
        captured = capfd.readouterr()
        assert "2 tars: 1 committed" in captured.out
        assert "2 of 2 tars committed" in captured.out
        assert committed_bytes(here / "tokens")["0.jsonl"] == before["0.jsonl"]

    def test_run_of_an_earlier_version(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Without --extensions it goes on with the default that it was begun with; joined tars are read where the command
        says so; --sniff is another recipe.
        """
        tar = write_tar(here / "1.tar", {"a.wav": wav(40), "b.mkv": b"?"})
        tar.write_bytes(tar.read_bytes() * 2)
        write_list(here / "list.txt", [tar])
        freeze_spec(here / "tokens", spec_of("mulaw", device="cpu", extensions=FORMER_EXTENSIONS[0]))
        assert call(submit, "--list", "list.txt", *MULAW, "--workers", 1) == 3
        assert call(submit, "--list", "list.txt", *MULAW, "--workers", 1, "--allow-joined") == 0
        assert "1 of 1 tar committed: 2 clips, 0 errors" in capfd.readouterr().out
        assert call(submit, "--list", "list.txt", *MULAW, "--sniff") == 2
        assert "sniff: True" in capfd.readouterr().err

    def test_braces_and_globs(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """A run's own list has what they stand for, as absolute paths; the same command adds nothing, or what a glob has
        newly found, and goes on when tars are gone.
        """
        for number in (1, 2, 10):
            small_tar(here / f"d/t-{number:02}.tar", clips=1)
        (here / "list.txt").write_text("d/t-{01..02}.tar\nd/*.tar\n")
        arguments = ("--list", "list.txt", *MULAW, "--workers", 1)
        assert call(submit, *arguments) == 0
        lines = [f"{here}/d/t-{name}.tar\tt-{name}\n" for name in ("01", "02", "10")]
        assert Run(here / "tokens").list_file.read_text() == "".join(lines)
        before = tree(here)
        assert call(submit, *arguments) == 0
        assert tree(here) == before
        small_tar(here / "d/t-03.tar", clips=1)
        assert call(submit, *arguments) == 0
        assert Run(here / "tokens").list_file.read_text() == "".join([*lines, f"{here}/d/t-03.tar\tt-03\n"])
        for tar in (here / "d").iterdir():
            tar.unlink()
        capfd.readouterr()
        assert call(submit, *arguments) == 0
        assert "4 tars: 4 committed, 0 begun, 0 invalid\nnothing to do" in capfd.readouterr().out
        (here / "list.txt").write_text("e/*.tar\n")
        assert "nothing matches\n  line 1: e/*.tar" in refused(capfd, *arguments)

    def test_retry_errors(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """--retry-errors makes tars with error records once more, and leaves those without alone."""
        small = small_tar(here / "errors.tar")
        clean = small_tar(here / "clean.tar", clips=2)
        listed = write_list(here / "list.txt", [small, clean])
        assert call(submit, "--list", listed, *MULAW) == 0
        paths = [TarPaths(here / "tokens", name) for name in ("errors", "clean")]
        before = [read_manifest(path.manifest) for path in paths]
        bytes_before = committed_bytes(here / "tokens")
        assert call(submit, "--list", listed, *MULAW) == 0
        assert "nothing to do" in capfd.readouterr().out
        assert call(submit, "--list", listed, *MULAW, "--retry-errors") == 0
        assert "1 tar (" in capfd.readouterr().out
        after = [read_manifest(path.manifest) for path in paths]
        attempts = [(one.attempt, two.attempt) for one, two in zip(before, after, strict=True) if one and two]
        assert [one == two for one, two in attempts] == [False, True]
        assert committed_bytes(here / "tokens") == bytes_before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_signal_ends_cleanly_and_a_rerun_completes(tmp_path: Path, number: signal.Signals, whole_group: bool) -> None:
    """Ctrl-C, and SIGTERM to the command: whole lines, nothing left running, 128 + signal; the same command then commits
    the bytes of an undisturbed run.
    """
    case = SlowRun(tmp_path)
    process = case.start(2)
    wait_for(lambda: sum(b"\n" in path.read_bytes() for path in case.output.glob("[!.]*.partial")) == 2)
    if whole_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert task_pids(case.output) == []
    assert f"{number.name}: the workers finish what is in hand" in err
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert "error" not in err
    partials = list(case.output.glob("*.partial"))
    assert len(partials) == 2
    assert all(partial.read_bytes().endswith(b"\n") for partial in partials)
    assert list((case.output / ".run" / "claims").iterdir()) == []
    case.assert_rerun_completes()


@pytest.mark.slow
def test_second_interrupt_ends_workers_at_once(tmp_path: Path) -> None:
    """A clip that never ends does not hold the command: the second Ctrl-C kills, and a rerun completes all the same."""
    case = SlowRun(tmp_path)
    process = case.start(600)
    wait_for(lambda: len(worker_pids(case.output)) == 2)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "a second one ends them at once" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGINT, err
    assert "Traceback" not in err
    assert task_pids(case.output) == []
    case.assert_rerun_completes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_workers_listen_is_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    """Whatever moment of the start a signal hits, no worker goes on without its command."""
    case = SlowRun(tmp_path, clips=40)  # enough for two or three at a time
    for begun in (0, 1, 2, 4):
        before = submissions(case.output)
        process = case.start(2)
        wait_for(partial(lambda before: submissions(case.output) > before, before))
        wait_for(partial(lambda begun: len(task_pids(case.output)) >= begun, begun))
        process.send_signal(number)
        _, err = process.communicate()
        assert process.returncode == 128 + number, err
        assert task_pids(case.output) == []
        assert "Traceback" not in err
    case.assert_rerun_completes()


def rounds(case: SlowRun) -> int:
    """How many decisions of controllers have been written down: the first of each, and all that change something."""
    return len((case.output / ".run" / "history.jsonl").read_bytes().splitlines())


@pytest.mark.slow
def test_killed_command_is_found_again(tmp_path: Path) -> None:
    """Kill -9 of the command: its workers go on; the same command finds them, submits nothing beside them, and finishes."""
    case = SlowRun(tmp_path)
    process = case.start(60)
    wait_for(lambda: len(task_pids(case.output)) == 4 and lines_of(case.output) >= 2)
    process.kill()
    process.communicate()
    assert len(task_pids(case.output)) == 4
    process = case.start(60)
    wait_for(lambda: rounds(case) == 2)
    case.release()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "2 of 2 tars committed" in out
    assert submissions(case.output) == 1
    case.assert_complete()


@pytest.mark.slow
def test_bug_in_the_backend(tmp_path: Path) -> None:
    """An exception that no worker should raise ends the run as stuck, with the end of a log; exit code 4. Options are
    those of the latest command and not of the frozen spec: once they are mended, the same command completes.
    """
    case = SlowRun(tmp_path, "xyz")
    out, err = (process := case.start(0, "--set", "fault=load", workers=3)).communicate()
    assert process.returncode == 4
    assert "0 of 3 tars committed" in out
    assert "error: stuck: " in err
    assert "ValueError: a bug in the backend" in err
    assert "the end of " in err
    assert "_log.out:" in err
    case.assert_rerun_completes()


@pytest.mark.slow
def test_full_disk(tmp_path: Path) -> None:
    """A disk that is full for every worker stops the run with the reason, told once for all tars; partials stay good."""
    case = SlowRun(tmp_path, "xyz")
    _, err = (process := case.start(0, "--set", "fault=disk", workers=3)).communicate()
    assert process.returncode == 4
    assert err.count("error: x, y, z: [Errno 28] No space left on device; the partial stays good") == 1
    assert "Traceback" not in err
    assert "hpc.submit again" in err
    case.assert_rerun_completes()


@pytest.mark.slow
def test_two_commands_at_once(tmp_path: Path) -> None:
    """The same command twice at the same time commits each tar once, with the bytes of one command."""
    case = SlowRun(tmp_path)
    both = [case.start(0.05), case.start(0.05)]
    ends = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert all("Traceback" not in err for _, err in ends)
    case.assert_complete()


@pytest.mark.slow
def test_interrupt_beside_another_command(tmp_path: Path) -> None:
    """Ctrl-C in one of two terminals ends that command, and the other one finishes the run."""
    case = SlowRun(tmp_path)
    first = case.start(2)
    wait_for(lambda: lines_of(case.output) >= 2)
    other = case.command("hpc.resume")
    wait_for(lambda: rounds(case) == 2)  # both have begun
    first.send_signal(signal.SIGINT)
    _, err = first.communicate()
    assert first.returncode == 128 + signal.SIGINT, err
    case.release()
    out, err = other.communicate()
    assert other.returncode == 0, err
    assert "2 of 2 tars committed" in out
    case.assert_complete()


class TestSlurm:
    @pytest.fixture
    def listed(self, here: Path) -> Path:
        return write_list(here / "list.txt", [small_tar(here / f"{number}.tar") for number in range(4)])

    @pytest.fixture
    def cluster(self, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
        found = FakeCluster()
        monkeypatch.setattr("hpc.rounds.cluster_of", lambda _launch: found)
        return found

    def test_dry_run_shows_what_sbatch_would_get(
        self, here: Path, listed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """--dry-run prints the plan's summary and the sbatch text, needs no Slurm for it, and changes nothing."""
        monkeypatch.setenv("PATH", "/nowhere")
        before = tree(here)
        shape: tuple[object, ...] = (
            "--device",
            "cuda",
            "--gpus-per-node",
            "a100:2",
            "--tars-per-gpu",
            2,
            "--max-running",
            3,
        )
        site = ("--partition", "gpu", "--account", "lab", "--slurm", "reservation=big", "--setup", "module load cuda")
        shape += ("--time", "1:30:00")
        assert call(submit, "--list", listed, "--backend", "mulaw", "--cluster", "slurm", *shape, *site, "--dry-run") == 0
        out = capsys.readouterr().out
        assert "on Slurm: 1 array task of 90 min, each with 2 GPUs and 2 workers" in out
        options = {line.partition(" ")[2] for line in out.splitlines() if line.startswith("#SBATCH")}
        assert {"--time=90", "--partition=gpu", "--account=lab", "--reservation=big", "--no-requeue"} <= options
        assert {"--array=0-0%1", "--gpus-per-node=a100:2", "--ntasks-per-node=2"} <= options
        assert "\nmodule load cuda\n" in out
        assert tree(here) == before

    def test_one_round_and_what_comes_next(
        self, here: Path, listed: Path, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The list is submitted, and the command returns with what to run next; again, it submits nothing twice."""
        for _ in range(2):
            assert call(submit, "--list", listed, *SLURM) == 0
            out = capsys.readouterr().out
            assert "0/4 tars" in out
            assert f"python -m hpc.resume --output-dir {here / 'tokens'}" in out
        assert cluster.tars() == ["0", "1", "2", "3"]
        assert len(cluster.jobs) == 1
        cluster.run_all()
        assert call(submit, "--list", listed, *SLURM) == 0
        assert "nothing to do" in capsys.readouterr().out

    def test_submit_limit_is_no_error(self, listed: Path, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
        """Where Slurm takes a part only, the rest waits, and is told to."""
        cluster.queue_limit = 2
        assert call(submit, "--list", listed, *SLURM) == 0
        captured = capsys.readouterr()
        assert "2 tars wait until Slurm takes more jobs" in captured.out
        assert captured.err == ""

    def test_refused_job(self, here: Path, listed: Path, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
        """What Slurm will never take is bad usage in its own words; with other settings the same run goes on."""
        cluster.answers = ["refuse"]
        assert call(submit, "--list", listed, *SLURM, "--partition", "nope") == 2
        assert "error: sbatch refused the job: Invalid partition name" in capsys.readouterr().err
        assert call(submit, "--list", listed, *SLURM, "--partition", "gpu") == 0
        launch = Run(here / "tokens").read_state().launch
        assert launch is not None
        assert launch.partition == "gpu"
        assert cluster.tars() == ["0", "1", "2", "3"]

    def test_no_sbatch_here(self, listed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """On a node without Slurm's commands, --cluster slurm is bad usage, and says so."""
        monkeypatch.setenv("PATH", "/nowhere")
        assert call(submit, "--list", listed, *SLURM) == 2
        assert "is this a node that may submit?" in capsys.readouterr().err

    @pytest.fixture
    def commands(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCommands:
        """Slurm's commands as scripts, on the PATH."""
        found = SlurmCommands(tmp_path / "slurm")
        monkeypatch.setenv("PATH", found.environment["PATH"])
        return found

    @pytest.mark.slow
    @pytest.mark.parametrize("flags", [[], ["--dry-run"]])
    def test_sbatch_without_a_slurm(
        self, here: Path, listed: Path, commands: SlurmCommands, capsys: pytest.CaptureFixture[str], flags: list[str]
    ) -> None:
        """Its packages may be installed where no Slurm runs: then nobody waits for one who has not asked for it. All of
        Slurm's words, and what to do; nothing is written.
        """
        words = "scontrol: error: fetch_config: DNS SRV lookup failed\nscontrol: fatal: Could not establish a configuration"
        commands.answer("scontrol", err=f"{words}\n", code=1)
        before = tree(here)
        assert call(submit, "--list", listed, "--backend", "mulaw", *flags) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        told = words.replace("\n", "\n  ")
        assert f"error: there is an sbatch here, but no Slurm answers: {told}\n  --cluster local" in captured.err
        assert "is SLURM_CONF right?" in captured.err
        assert "wait for it" not in captured.err  # sbatch would refuse: these words do not pass by themselves
        after = {path: data for path, data in tree(here).items() if path != "slurm/calls"}
        assert after == before
        assert call(submit, "--list", listed, "--backend", "mulaw", "--cluster", "local", "--workers", 1) == 0

    def test_slurm_that_is_away_for_now(
        self, listed: Path, commands: SlurmCommands, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Who has asked for Slurm waits for it, and is told for what; whoever has not is told that one may."""
        commands.answer("scontrol", err="Unable to contact slurm controller (connect failure)\n", code=1)
        assert call(submit, "--list", listed, "--backend", "mulaw") == 1
        assert "let --cluster slurm wait for it" in capsys.readouterr().err
        assert call(submit, "--list", listed, *SLURM) == 0
        assert "4 tars wait (scontrol show config: Unable to contact slurm controller" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("wants", "sinfo", "expected"),
        [
            (False, "gpu:4\n", "each with no GPU"),
            (True, "gpu:4\n(null)\n", "each with 1 GPU"),
            (True, "(null)\n", "each with no GPU"),
        ],
    )
    def test_gpus_are_planned_where_they_are_wanted_and_there(
        self,
        listed: Path,
        commands: SlurmCommands,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        wants: bool,
        sinfo: str,
        expected: str,
    ) -> None:
        """Not for a backend that never uses one, nor where no node has any; the second is told."""
        monkeypatch.setattr("hpc.begin_run.uses_gpu", lambda _backend: wants)
        commands.answer("scontrol", out="MaxArraySize = 1001\n")
        commands.answer("sinfo", out=sinfo)
        assert call(submit, "--list", listed, "--backend", "mulaw", "--dry-run") == 0
        captured = capsys.readouterr()
        assert expected in captured.out
        assert ("--gpu-request none" in captured.err) == (wants and "gpu" not in sinfo)

    def test_gpus_that_somebody_asks_for_are_planned(
        self, listed: Path, commands: SlurmCommands, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Whatever Slurm knows of them: on some sites it knows of none."""
        commands.answer("scontrol", out="MaxArraySize = 1001\n")
        commands.answer("sinfo", out="(null)\n")
        for words in (["--device", "cuda", "--gpu-request", "none"], ["--gpus-per-node", 1, "--gpu-request", "gres"]):
            assert call(submit, "--list", listed, "--backend", "mulaw", *words, "--dry-run") == 0
            captured = capsys.readouterr()
            assert ("each with 1 GPU" in captured.out, captured.err) == (True, "")
            assert "--gpus-per-node" not in captured.out
            assert ("--gres=gpu:1" in captured.out) == ("gres" in words)

    def test_workers_need_not_hash_the_model(
        self, here: Path, listed: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the command has read to describe the backend is in the run directory; --dry-run leaves no trace."""
        model, real = here / "model.safetensors", make_spec
        model.write_bytes(b"one")
        os.utime(model, (1e9, 1e9))
        monkeypatch.setattr("hpc.begin_run.make_spec", lambda *args, **how: (files_sha256([model]), real(*args, **how))[1])
        assert call(submit, "--list", listed, *SLURM, "--dry-run") == 0
        assert not (here / "tokens").exists()
        assert call(submit, "--list", listed, *SLURM) == 0
        found = ModelHashes(here / "tokens").find((FileVersion.of(model),))
        assert found == hashlib.sha256(b"one").hexdigest()

    def test_submitting_is_an_amnesty(self, here: Path, listed: Path, cluster: FakeCluster) -> None:
        """Who submits again means it: what counted against tars and nodes is forgotten, and a cancelled run goes on."""
        assert call(submit, "--list", listed, *SLURM) == 0
        run = Run(here / "tokens")
        for _ in range(3):
            cluster.end_all("machine", problem="CUDA error: no device")
            assert call(submit, "--list", listed, *SLURM) == 0
            assert cluster.tars() == ["0", "1", "2", "3"]
        assert run.read_state().amnesty == 3
        assert not run.read_state().cancelled


@pytest.mark.slow
class TestImports:
    def test_commands_import_no_torch(self, here: Path) -> None:
        """Login nodes need no torch: neither importing the commands nor a whole dry run loads it, nor a decoder."""
        write_list(here / "list.txt", [small_tar(here / "1.tar")])
        code = (
            "import sys, runpy\n"
            "import hpc.submit, tools.check_progress, tools.generate_tar_list, tools.decode_check, tools.fetch_model\n"
            "import tools.pack, tools.merge, tools.export, tools.show\n"
            "sys.argv = ['submit', '--list', 'list.txt', '--backend', 'mulaw', '--cluster', 'local', '--dry-run']\n"
            "try:\n    runpy.run_module('hpc.submit', run_name='__main__', alter_sys=True)\n"
            "except SystemExit as end:\n    assert not end.code, end.code\n"
            "assert not {'soundfile', 'soxr', 'av', 'pyarrow', 'py7zr', 'datasets'} & set(sys.modules)\n"
            "import jobs.tokenize_tar\n"
            "assert not {'torch', 'transformers', 'torchaudio'} & set(sys.modules)\n"
        )
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tokenizers'}"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], check=False, cwd=here, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def test_help_is_quick(self, here: Path) -> None:
        """`--help` takes under half a second of a processor, on the best of five tries: other tests run beside this one."""
        best = 60.0
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [sys.executable, "-m", "hpc.submit", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            best = min(best, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
            assert "--list,--tar-list" in done.stdout.replace(" ", "").replace("|", ",")
            if best < 0.5:
                break
        assert best < 0.5
