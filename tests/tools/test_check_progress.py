"""tools/check_progress.py: the truth about a run, in words, in JSON and as lists for the next command."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.looked_at import report_of, tell_of_device, three_tars
from support.lossy import damaged_tar, use_lossy_decode
from support.runs import ROOT, call, start, tree, write_list
from support.small_run import CLIPS, mulaw_spec, small_tar, stopping_after, tokenize, write_tar
from support.tars import audio_file, noise

from hpc.launch import Launch
from hpc.run import Run, RunState
from jobs.progress import DeviceSeconds
from jobs.spec import freeze_spec
from tools.check_progress import check_progress


@pytest.fixture
def run(here: Path) -> Run:
    """A run of three tars: one committed, one begun, one not started."""
    return three_tars(here)


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

    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_clips_outside_of_the_runs_share(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """They have no lines: files are valid without them, their number is said, and a tar of only such is fine."""
        spec = mulaw_spec(subset_ratio=0.4)
        run = Run(here / "tokens")
        freeze_spec(run.output_dir, spec)
        tars = [small_tar(here / "a.tar", clips=20), small_tar(here / "b.tar", clips=1)]
        manifests = [tokenize(tar, run.output_dir, spec=spec).manifest for tar in tars]
        run.add_to_list([str(tar) for tar in tars], keep_dirs=False)
        assert [manifest.clips + manifest.outside_subset for manifest in manifests] == [20, 1]
        assert call(check_progress, "--check-validity") == 0
        text = " ".join(capsys.readouterr().out.split())
        assert f"{sum(manifest.outside_subset for manifest in manifests)} clips outside of --subset-ratio" in text
        assert "without any clip" not in text

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
        assert "1 sidecar without audio of its name, in no record: if it is a text, unpack the tar and run " in text

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


class TestTokens:
    def test_the_report_has_the_tokens_if_they_are_asked_for(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """In words and in JSON; otherwise nobody reads them."""
        found, text = report_of(capsys, "--tokens")
        assert found["tokens"]["tars"] == 1
        assert found["tokens"]["sequences"][0]["items"] == 40 + 41 + 43 + 44
        assert "Tokens of 4 clips of 1 tar" in text
        assert "tokens: 1 codebook of 256 ids" in text
        found, text = report_of(capsys)
        assert found["tokens"] is None
        assert "Tokens of" not in text

    def test_tars_of_an_older_version_are_counted_with_check_validity(
        self, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Their manifests have no statistics."""
        path = run.paths("000001").manifest
        manifest = msgspec.json.decode(path.read_bytes())
        del manifest["tokens"], manifest["made_by"]
        path.write_bytes(msgspec.json.encode(manifest))
        found, text = report_of(capsys, "--tokens")
        assert (found["tokens"]["tars"], found["tokens"]["not_counted"]) == (0, 1)
        assert "--tokens with --check-validity counts their lines" in text
        found, _ = report_of(capsys, "--tokens", "--check-validity")
        assert (found["tokens"]["tars"], found["tokens"]["not_counted"], found["invalid"]) == (1, 0, 0)
        assert found["tokens"]["sequences"][0]["items"] == 40 + 41 + 43 + 44
