"""tools/check_progress.py: the truth about a run, in words, in JSON and as lists for the next command."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support import part_makers
from support.fake_cluster import Campaign
from support.lossy import damaged_tar, use_lossy_decode
from support.runs import ROOT, call, read_json, start, tree, write_list
from support.small_run import CLIPS, mulaw_spec, small_tar, stopping_after, tokenize, write_tar
from support.tars import audio_file, noise

from hpc.cluster import SubmitRefusedError
from hpc.launch import Launch
from hpc.monitor import take_snapshot
from hpc.rounds import finish
from hpc.run import Run, RunState
from hpc.slurm import SlurmCluster
from hpc.stalls import stall_file, write_stall
from jobs.activities import Activity
from jobs.claims import Claim
from jobs.outputs import TarPaths, read_manifest
from jobs.records import Manifest
from jobs.reporting import DeviceSeconds, Progress, write_progress
from jobs.spec import freeze_spec
from jobs.watchdog import Stall
from tools import check_progress as module
from tools.check_progress import check_progress


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and checks in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "available_cores", lambda: 1)
    return tmp_path


@pytest.fixture
def run(here: Path) -> Run:
    """A run of three tars: one committed, one begun, one not started."""
    tars = [small_tar(here / "data" / f"00000{number}.tar") for number in (1, 2, 3)]
    run = Run(here / "tokens")
    freeze_spec(run.output_dir, mulaw_spec())
    run.add_to_list([str(tar) for tar in tars], keep_dirs=False)
    tokenize(tars[0], run.output_dir)
    tokenize(tars[1], run.output_dir, **stopping_after(2))
    return run


def report_of(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[dict[str, object], str]:
    """The report as JSON and in words."""
    assert call(check_progress, *arguments, "--json") == code
    out, err = capsys.readouterr()
    assert err == ""
    assert call(check_progress, *arguments) == code
    return read_json(out), capsys.readouterr().out


class TestReport:
    def test_marks_and_summary(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """The marks and the summary that users of the older tool know, with clips, named errors and audio hours."""
        assert call(check_progress, "--verbose") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "Checking progress for 3 tar files..."
        assert lines[1] == f"Output directory: {run.output_dir}"
        assert f"[1/3] ✓ 000001.tar ({CLIPS} clips)" in lines
        assert "[2/3] ◐ 000002.tar (partial: 2 clips processed)" in lines
        assert "[3/3] ○ 000003.tar (not started)" in lines
        start_of_summary = lines.index("PROGRESS SUMMARY")
        assert lines[start_of_summary - 1] == lines[start_of_summary + 1] == "=" * 80
        assert lines[start_of_summary + 2 : start_of_summary + 5] == [
            "Total tar files:       3",
            "Completed:             1 (33.3%)",
            "Remaining:             2 (66.7%)",
        ]
        assert "Clips:                 7" in lines
        assert "Audio:                 0.00 hours" in lines
        assert "Clips with errors:     1 (decode 1)" in lines

    def test_json_is_all_of_stdout_and_says_the_same(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """--json prints one object and nothing else, with the numbers of the text."""
        found, text = report_of(capsys)
        numbers = {key: found[key] for key in ("total_tars", "completed", "partial", "not_started", "invalid", "clips")}
        assert numbers == {"total_tars": 3, "completed": 1, "partial": 1, "not_started": 1, "invalid": 0, "clips": 7}
        assert found["errors"] == {"decode": 1}
        assert found["audio_hours"] == pytest.approx((40 + 41 + 43 + 44 + 40 + 41) / 8000 / 3600, abs=1e-6)
        assert found["problems"] == {}
        for words in ("partial:             1", "not started:         1", "invalid:             0"):
            assert words in text

    def test_damaged_clips(self, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that were kept are counted, with what they lack, in committed files and partials; validity finds nothing
        wrong with them.
        """
        found, text = report_of(capsys)
        assert (found["damaged_clips"], found["damaged_seconds"]) == (0, 0.0)
        assert "Damaged clips, kept" not in text
        use_lossy_decode(monkeypatch)
        tars = [damaged_tar(run.output_dir.parent / "data" / f"{name}.tar") for name in ("4", "5")]
        run.add_to_list([str(tar) for tar in tars], keep_dirs=False)
        tokenize(tars[1], run.output_dir, **stopping_after(3))
        found, text = report_of(capsys)
        assert found["damaged_clips"] == 2
        assert "Damaged clips, kept:   2 (0.050 s missing; python -m tools.show NAME marks them)\n" in text
        tokenize(tars[0], run.output_dir)
        found, text = report_of(capsys, "--check-validity")
        assert (found["damaged_clips"], found["damaged_seconds"]) == (5, 0.12)
        assert "Damaged clips, kept:   5 (0.120 s missing; python -m tools.failures shows some)\n" in text
        assert found["errors"] == {"decode": 2}

    def test_a_long_clip_in_hand(
        self, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A recording that takes many jobs is seen to move before it has its line."""
        monkeypatch.setattr("hpc.progress.frames_kept", lambda _path, _first: 8000 * 7325)
        found, _ = report_of(capsys)
        assert found["audio_hours"] == pytest.approx(7325 / 3600, abs=0.01)
        assert call(check_progress, "--verbose") == 0
        text = capsys.readouterr().out
        assert "[2/3] ◐ 000002.tar (partial: 2 clips processed, 2:02:05 of a long one)" in text
        assert "Audio:                 2.03 hours" in text

    def test_problems_are_shown_without_verbose(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar that needs a person is named, with its reason, in a report that else has only sums."""
        tar = write_tar(run.output_dir.parent / "data" / "4.tar", {"a.wav": b"x" * 900})
        tar.write_bytes(tar.read_bytes()[:600])
        run.add_to_list([str(tar), "/none/5.tar"], keep_dirs=False)
        tokenize(tar, run.output_dir)
        found, text = report_of(capsys)
        assert "[5/5] ○ 5.tar (not started): there is no such tar" in text
        assert "◐ 4.tar (partial: 0 clips processed): cut: " in text
        assert "000002" not in text
        assert set(found["problems"]) == {"4", "5"}

    def test_notes(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """Tars without clips, sidecars without audio and what may be audio are told: --extensions is often to blame."""
        tar = write_tar(
            run.output_dir.parent / "empty.tar", {"a.txt": b"words", "b.avi": b"?", "c.avi": b"?", "README": b"x"}
        )
        tokenize(tar, run.output_dir)
        run.add_to_list([str(tar)], keep_dirs=False)
        found, text = report_of(capsys)
        assert (found["tars_without_clips"], found["orphan_sidecars"]) == (1, 1)
        assert "1 tar without any clip" in text
        assert found["left_out"] == {"avi": 2}
        assert "Note:                  2 members were no clips: .avi 2: --extensions takes them" in text
        assert (
            "1 sidecar without audio of its name, in no record: if it is a text, unpack the tar and give the folder" in text
        )

    def test_clips_whose_channels_cancel(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """They are counted, with what can be done."""
        left = noise(800)
        data = audio_file(np.stack([left, -left], axis=1), 8000)
        tar = write_tar(run.output_dir.parent / "stereo.tar", {"a.wav": data, "b.wav": data})
        tokenize(tar, run.output_dir)
        run.add_to_list([str(tar)], keep_dirs=False)
        found, text = report_of(capsys)
        assert found["notes"] == {"opposite_phase": 2}
        assert "2 clips whose channels cancel each other when mixed (--channel first hears one)" in text

    @pytest.mark.slow
    def test_a_narrow_locale_does_not_matter(self, run: Run) -> None:
        """Where the terminal has no ✓, the report is still a report."""
        env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
        process = start("tools.check_progress", "--verbose", cwd=run.output_dir.parent, env=env)
        out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        assert "\\u2713 000001.tar" in out


class TestLists:
    def test_remaining_and_completed(self, run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The lists are tars for the next command; those of ours that would be out of date become empty."""
        assert call(check_progress, "--completed-output", "done.txt") == 0
        out = capsys.readouterr().out
        tars = [tar.tar for tar in run.listed()]
        assert (here / "remaining_tar_files.txt").read_text() == f"{tars[1]}\n{tars[2]}\n"
        assert (here / "done.txt").read_text() == f"{tars[0]}\n"
        assert not (here / "invalid_tar_files.txt").exists()
        assert "Remaining tar files: remaining_tar_files.txt" in out
        assert "Completed tar files: done.txt" in out
        for tar in tars[1:]:
            tokenize(Path(tar), run.output_dir)
        assert call(check_progress, "--remaining-output", "remaining_tar_files.txt") == 0
        assert (here / "remaining_tar_files.txt").read_bytes() == b""
        assert "Remaining tar files" not in capsys.readouterr().out

    def test_twice_is_once(self, run: Run, here: Path) -> None:
        """The command changes nothing but its lists, and those not from one time to the next."""
        call(check_progress)
        before = tree(here)
        assert call(check_progress, "--check-validity") == 0
        assert tree(here) == before

    @pytest.mark.parametrize("option", ["--remaining-output", "--completed-output"])
    def test_input_is_never_written_over(
        self, run: Run, here: Path, capsys: pytest.CaptureFixture[str], option: str
    ) -> None:
        """A list that is being checked is no place for another list, however it is spelled; nor is the run's own."""
        mine = write_list(here / "mine.txt", [Path(run.listed()[0].tar)])
        for target in (f"./{mine.name}", run.list_file):
            before = tree(here)
            assert call(check_progress, "--tar-list", mine, option, target) == 2
            assert "in use already" in capsys.readouterr().err
            assert tree(here) == before
        assert call(check_progress, "--completed-output", "remaining_tar_files.txt") == 2

    def test_report_survives_lists_that_cannot_be_written(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """In a folder that takes no files the report is printed all the same; a note says that there are no lists."""
        assert call(check_progress, "--remaining-output", "/proc/none/list.txt") == 0
        out, err = capsys.readouterr()
        assert "PROGRESS SUMMARY" in out
        assert "note: /proc/none/list.txt: the list could not be written" in err
        assert "--remaining-output" in err


class TestUsage:
    def test_no_run(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where there is no run the message says what to give; exit code 2, and nothing is written."""
        assert call(check_progress, "--output-dir", "none") == 2
        message = capsys.readouterr().err
        assert "no run here yet" in message
        assert "--tar-list" in message
        assert list(here.iterdir()) == []

    def test_file_in_place_of_a_run(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A file is no run either."""
        (here / "tokens").write_text("x")
        assert call(check_progress) == 2
        assert "no run here yet" in capsys.readouterr().err

    def test_list_before_the_first_submission(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """With a list, a run that has not begun is truly at 0 %."""
        listed = write_list(here / "l.txt", [small_tar(here / "1.tar")])
        assert call(check_progress, "--tar-list", listed, "--check-validity") == 0
        assert "Completed:             0 (0.0%)" in capsys.readouterr().out

    def test_list_narrows_the_report(self, run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Only the tars of --tar-list (or --list) are counted, those included that the run does not have yet."""
        listed = write_list(here / "l.txt", [Path(run.listed()[0].tar), small_tar(here / "new.tar")])
        found, _ = report_of(capsys, "--list", listed)
        assert (found["total_tars"], found["completed"], found["not_started"]) == (2, 1, 1)

    def test_namesake_is_not_taken_for_done(self, run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar of another folder with the name of a committed one is not committed."""
        listed = write_list(here / "l.txt", [small_tar(here / "other" / "000001.tar")])
        assert call(check_progress, "--tar-list", listed) == 2
        assert "--keep-dirs" in capsys.readouterr().err
        found, _ = report_of(capsys, "--tar-list", listed, "--keep-dirs")
        assert (found["completed"], found["not_started"]) == (0, 1)

    def test_bad_list(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """A list that is not there exits 2."""
        assert call(check_progress, "--tar-list", "none.txt") == 2
        assert "there is no such file" in capsys.readouterr().err

    def test_validity_needs_the_spec(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """Without the run's spec nothing says what is valid, and nothing is called valid."""
        run.spec_file.unlink()
        assert call(check_progress, "--check-validity") == 2
        assert "spec.yaml: there is no such file" in capsys.readouterr().err


def rewrite(paths: TarPaths, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a committed file."""
    paths.committed.write_bytes(b"".join(change(paths.committed.read_bytes().splitlines(keepends=True))))


def vouch(paths: TarPaths, **values: object) -> None:
    """Have the manifest promise what the file now is, but for `values`: only reading the lines can tell."""
    data = paths.committed.read_bytes()
    promise = {"output_bytes": len(data), "output_sha256": hashlib.sha256(data).hexdigest(), **values}
    manifest = read_manifest(paths.manifest)
    assert manifest is not None
    paths.manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **promise)))


def edit(paths: TarPaths, old: bytes, new: bytes) -> None:
    """Replace the first `old` in the first line, which has it, and promise the result."""

    def change(lines: list[bytes]) -> list[bytes]:
        assert old in lines[0]
        return [lines[0].replace(old, new, 1), *lines[1:]]

    rewrite(paths, change)
    vouch(paths)


def first_token(paths: TarPaths) -> bytes:
    return paths.committed.read_bytes().partition(b'"tokens":[[')[2].partition(b",")[0]


def change_digit(paths: TarPaths) -> None:
    data = bytearray(paths.committed.read_bytes())
    place = data.index(b'"tokens":[[') + len(b'"tokens":[[')
    data[place] = ord("1") if data[place] != ord("1") else ord("2")
    paths.committed.write_bytes(bytes(data))


CORRUPTIONS: dict[str, tuple[Callable[[TarPaths], object], str]] = {
    "token out of range": (
        lambda p: edit(p, b"[[" + first_token(p) + b",", b"[[256,"),
        "expected 1 list of 40 integers in 0..255, found 1 list of [40] in 0..256",
    ),
    "huge token": (lambda p: edit(p, b"[[" + first_token(p) + b",", b"[[99999,"), "found 1 list of [40] in 0..99999"),
    "negative token": (lambda p: edit(p, b"[[" + first_token(p) + b",", b"[[-1,"), "found 1 list of [40] in -1..255"),
    "token lost": (lambda p: edit(p, b"[[" + first_token(p) + b",", b"[["), "found 1 list of [39]"),
    "wrong codebooks": (lambda p: edit(p, b'"token_shape":[1,', b'"token_shape":[8,'), "token_shape is [8,40]"),
    "no frames": (lambda p: edit(p, b'"token_shape":[1,40]', b'"token_shape":[1,0]'), "token_shape is [1,0]"),
    "wrong sample count": (lambda p: edit(p, b'"num_samples":40', b'"num_samples":48'), "48 samples became 40 frames"),
    "absurd shape": (
        lambda p: (
            edit(p, b'"token_shape":[1,40]', b'"token_shape":[1,4000000000000]'),
            edit(p, b'"num_samples":40', b'"num_samples":4000000000000'),
        ),
        "expected 1 list of 4,000,000,000,000 integers",
    ),
    "wrong rate": (lambda p: edit(p, b'"sample_rate":8000', b'"sample_rate":16000'), "sample_rate is 16000, expected 8000"),
    "not JSON": (lambda p: edit(p, b"{", b"<"), "line 1: not a record"),
    "endless nesting": (
        lambda p: edit(p, b"{", b'{"metadata":' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b","),
        "line 1: not a record",
    ),
    "unknown field": (lambda p: edit(p, b"{", b'{"more":1,'), "it has the keys ['more', 'tokens'"),
    "unknown error kind": (
        lambda p: (rewrite(p, lambda lines: [line.replace(b'"decode"', b'"weird"') for line in lines]), vouch(p)),
        "line 3: not a record",
    ),
    "missing line": (
        lambda p: (rewrite(p, lambda lines: lines[1:]), vouch(p)),
        f"it has {CLIPS - 1} clips",
    ),
    "missing line, size tells": (lambda p: rewrite(p, lambda lines: lines[1:]), "its manifest says"),
    "duplicate line": (
        lambda p: (rewrite(p, lambda lines: [lines[0], *lines]), vouch(p)),
        f"it has {CLIPS + 1} clips",
    ),
    "error line lost, another twice": (
        lambda p: (rewrite(p, lambda lines: [*lines[:2], lines[1], *lines[3:]]), vouch(p)),
        "with errors none, its manifest says 5 with {'decode': 1}",
    ),
    "lines in another order": (
        lambda p: rewrite(p, lambda lines: [lines[1], lines[0], *lines[2:]]),
        "its sha256 is",
    ),
    "cut tail": (
        lambda p: (p.committed.write_bytes(p.committed.read_bytes()[:-9]), vouch(p)),
        "it has no newline: the file is cut short",
    ),
    "empty": (lambda p: (p.committed.write_bytes(b""), vouch(p)), "it has 0 clips"),
    "changed digit": (change_digit, "its sha256 is"),
    "foreign recipe": (lambda p: vouch(p, fingerprint="0" * 16), "made with the recipe 0000000000000000"),
    "missing manifest": (lambda p: p.manifest.unlink(), "no manifest, so this run did not commit it"),
}


class TestValidity:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", CORRUPTIONS)
    def test_corruption_is_found(self, run: Run, here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
        """Each way in which a committed file can be wrong: ✗, the reason, exit code 1, and the tar in the lists."""
        corrupt, words = CORRUPTIONS[name]
        corrupt(run.paths("000001"))
        found, text = report_of(capsys, "--check-validity", code=1)
        assert (found["invalid"], found["completed"], found["checked"]) == (1, 0, True)
        line = next(line for line in text.splitlines() if "✗ 000001.tar" in line)
        assert words in line, line
        assert "000001.jsonl" in line
        assert "move it away to have it made again" in line
        assert found["problems"]["000001"] in line
        assert (here / "invalid_tar_files.txt").read_text() == f"{run.listed()[0].tar}\n"
        assert run.listed()[0].tar in (here / "remaining_tar_files.txt").read_text().splitlines()
        assert "Invalid tar files: invalid_tar_files.txt" in text

    def test_changed_input(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar that is another one than its tokens were made from makes them invalid; a copy or none does not."""
        tar = Path(run.listed()[0].tar)
        os.utime(tar, (1, 1))
        report_of(capsys, "--check-validity")
        size = tar.stat().st_size
        tar.write_bytes(tar.read_bytes() + bytes(1024))
        _, text = report_of(capsys, code=1)
        assert f"has changed since: it had {size:,} bytes then, and has {size + 1024:,} now" in text
        tar.unlink()
        report_of(capsys, "--check-validity")

    def test_unreadable_file(self, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that the disk gives no more is invalid, and does not end the report."""

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(module, "validate_file", fail)
        _, text = report_of(capsys, "--check-validity", code=1)
        assert "000001.jsonl: cannot be read: Input/output error" in text

    @pytest.mark.slow
    def test_good_files_in_parallel(
        self, run: Run, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Processes of their own find what one process finds."""
        monkeypatch.setattr(module, "available_cores", lambda: 2)
        tokenize(Path(run.listed()[1].tar), run.output_dir)
        found, text = report_of(capsys, "--check-validity")
        assert found["completed"] == 2
        assert "2 files valid in every line, 0 invalid" in text
        change_digit(run.paths("000002"))
        assert call(check_progress, "--check-validity") == 1
        assert (here / "invalid_tar_files.txt").read_text() == f"{run.listed()[1].tar}\n"
        run.paths("000002").committed.unlink()
        tokenize(Path(run.listed()[1].tar), run.output_dir)
        assert call(check_progress, "--check-validity") == 0
        assert (here / "invalid_tar_files.txt").read_bytes() == b""

    def test_moving_the_file_away_mends_it(self, run: Run) -> None:
        """What the message advises works: the file is made again, and is valid."""
        change_digit(run.paths("000001"))
        assert call(check_progress, "--check-validity") == 1
        run.paths("000001").committed.rename(run.output_dir / "away")
        tokenize(Path(run.listed()[0].tar), run.output_dir)
        assert call(check_progress, "--check-validity") == 0


@pytest.mark.slow
def test_killed_check_is_one_message(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A checking process that dies, for want of memory perhaps, is told in words."""
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    tokenize(Path(run.listed()[1].tar), run.output_dir)
    monkeypatch.setattr(module, "_fault", part_makers.die)
    assert call(check_progress, "--check-validity") == 1
    assert "one of 2 processes was killed" in capsys.readouterr().err


def tell_of_device(run: Run, name: str, spent: DeviceSeconds) -> None:
    """Have a tar's manifest say that its device did this."""
    manifest = read_manifest(run.paths(name).manifest)
    assert manifest is not None
    run.paths(name).manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, device_seconds=spent)))


@pytest.mark.parametrize(("device", "advice"), [("cuda", True), ("cpu", False), (None, False)])
def test_what_the_device_waited_for(run: Run, capsys: pytest.CaptureFixture[str], device: str | None, advice: bool) -> None:
    """Summed over committed tars, in words and in JSON; advice where the run was launched on GPUs."""
    tokenize(Path(run.listed()[1].tar), run.output_dir)
    tell_of_device(run, "000001", DeviceSeconds(60.0, 8.0, 2.0))
    tell_of_device(run, "000002", DeviceSeconds(25.0, 4.0, 1.0))
    if device is not None:
        run.write_state(RunState(launch=Launch(cluster="local", device=device, gpus_per_node=0)))
    found, text = report_of(capsys)
    assert (found["device"], found["device_seconds"]) == (device or "", {"busy": 85.0, "audio": 12.0, "writer": 3.0})
    line = next(line for line in text.splitlines() if line.startswith("Device:"))
    assert line.startswith("Device:                busy 85 %, waiting for audio 12 %, for the writer 3 %")
    assert line.endswith("more CPU cores would help (--cpus-per-gpu)") == advice


def test_manifest_type() -> None:
    """Older manifests lack fields that newer ones have, and still count."""
    old = {"tar_file": "/d/1.tar", "input_bytes": 1, "input_mtime_ns": 1, "fingerprint": "x", "verdict": "complete"}
    assert (
        module.make_report(
            Path("tokens"),
            [module.TarState("/d/1.tar", "1", "committed", 0, msgspec.convert(old, Manifest), None)],
            checked=False,
        ).tars_without_clips
        == 1
    )


class TestHours:
    """Audio hours are one sum, whoever tells them: of committed files and partials, each clip once."""

    def agree(self, campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> float:
        """What check_progress, the live table and the last line say, which has to be one figure; in seconds."""
        monkeypatch.setattr(module, "cluster_of", lambda *_, **__: campaign.cluster)
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
        monkeypatch.setattr(module, "cluster_of", lambda *_, **__: campaign.cluster)
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
        monkeypatch.setattr(module, "cluster_of", lambda *_, patience_s: SlurmCluster(environment, patience_s))
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
