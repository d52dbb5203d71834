"""jobs/tokenize_tar.py: one tar, here and now, with the flags of the older tool."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.lossy import damaged_tar, use_lossy_decode
from support.runs import call, committed_bytes, lines_of, slow_backend, start, tree, wait_for
from support.small_run import BAD_CLIP, CLIPS, small_tar, wav, write_tar
from support.tars import audio_file, noise

from audio_tokenizers import mulaw
from audio_tokenizers.shared.file_hashes import files_sha256
from jobs import tokenize_tar as module
from jobs.claims import Claim, process_start
from jobs.conveyor import Feeding
from jobs.memory_readings import MemoryReader, Room
from jobs.records import ErrorRecord, decode_record
from jobs.spec import TokenizeSpec, make_spec
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tokenize_tar import tokenize_tar
from jobs.worker import run_tars

MULAW = ("--backend", "mulaw", "--device", "cpu")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The message of a command that is refused as bad usage."""
    assert call(tokenize_tar, *arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


class TestOneTar:
    def test_tar_becomes_a_committed_file(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One tar, one file, one log line with clips, hours and errors; a second run finds it committed."""
        small_tar(here / "my data" / "000001.tar")
        arguments = ("--input-tar", "my data/000001.tar", "--output-dir", "out", *MULAW)
        assert call(tokenize_tar, *arguments) == 0
        message = capsys.readouterr().err
        assert f"000001: committed: {CLIPS} clips" in message
        assert f"{BAD_CLIP:03}.wav: decode:" in message
        records = [decode_record(line) for line in (here / "out" / "000001.jsonl").read_bytes().splitlines()]
        assert [record.tar_file for record in records] == [str(here / "my data" / "000001.tar")] * CLIPS
        before = tree(here)
        for flags in ([], ["--skip-existing"]):
            assert call(tokenize_tar, *arguments, *flags) == 0
            assert "already committed" in capsys.readouterr().err
        assert tree(here) == before

    def test_texts(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Key and encoding are the run's: the log says what was found and what is in no record, and others are refused."""
        members = {"a.wav": wav(40), "a.json": b'{"said": "\xe9t\xe9", "text": "x"}', "b.wav": wav(40), "b.json": b"nothing"}
        write_tar(here / "1.tar", {**members, "zz.txt": b"nobody's"})
        arguments = ("--input-tar", "1.tar", "--output-dir", "out", *MULAW)
        assert call(tokenize_tar, *arguments, "--text-key", "said", "--text-encoding", "latin-1") == 0
        message = capsys.readouterr().err
        assert (
            "; 1 sidecar without audio of its name, in no record: if they are texts of its clips, unpack the tar" in message
        )
        assert "; 1 sidecar could not be read, or not all of it: see sidecar_errors" in message
        records = [decode_record(line) for line in (here / "out" / "1.jsonl").read_bytes().splitlines()]
        assert [record.text for record in records if not isinstance(record, ErrorRecord)] == ["été", None]
        message = refused(capsys, *arguments)
        assert "-text_keys: ('said',)" in message
        assert "-text_encoding: iso8859-1" in message
        assert "expected auto, or an encoding" in refused(capsys, *arguments, "--text-encoding", "x")

    def test_the_next_command_need_not_hash_the_model(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The hash of what it was described with stays in the run directory."""
        model = here / "model.safetensors"
        hashes: list[str] = []

        def hashing(*arguments: Any, **settings: Any) -> TokenizeSpec:
            hashes.append(files_sha256([model]))
            return make_spec(*arguments, **settings)

        monkeypatch.setattr("jobs.tokenize_tar.make_spec", hashing)
        small_tar(here / "1.tar")
        for data in (b"one", b"two"):  # the second unseen: size and time are those of the first
            model.write_bytes(data)
            os.utime(model, (1e9, 1e9))
            assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW) == 0
        assert hashes == [hashlib.sha256(b"one").hexdigest()] * 2

    def test_limits_of_the_older_tool(self, here: Path) -> None:
        """--max-duration makes longer clips errors; --extensions says what a clip is; fragments change no mu-law token."""
        members = {"a.wav": wav(8000), "b.wav": wav(800), "c.flac": wav(80)}
        write_tar(here / "1.tar", members)
        both = ("--extensions", ".wav", "FLAC", "--output-dir", "both")
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW, *both) == 0
        assert len((here / "both" / "1.jsonl").read_bytes().splitlines()) == 3
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW, "--output-dir", "plain", "--extensions", ".wav") == 0
        limits = (
            "--max-duration",
            0.5,
            "--extensions",
            ".WAV",
            "--max-tokens-per-fragment",
            100,
            "--num-tokens-overlap",
            10,
        )
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW, "--output-dir", "limited", *limits) == 0
        plain = (here / "plain" / "1.jsonl").read_bytes().splitlines()
        limited = (here / "limited" / "1.jsonl").read_bytes().splitlines()
        assert len(plain) == len(limited) == 2
        first = decode_record(limited[0])
        assert isinstance(first, ErrorRecord)
        assert first.error_kind == "too_long"
        assert plain[1] == limited[1]

    def test_damaged_clips(self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """--max-damage says how much a clip may lack; what was kept is told at the tar's end, by clip and in all. The same
        command on a run that keeps none goes on with it.
        """
        use_lossy_decode(monkeypatch)
        damaged_tar(here / "1.tar")
        for share, errors, words in (
            (["--max-damage", "0"], 4, []),
            ([], 4, []),
            (["--output-dir", "two"], 1, ["3 damaged clips kept (0.070 s missing)", "0.wav: damaged: 0.030 s could not"]),
            (["--output-dir", "all", "--max-damage", "1"], 0, ["4 damaged clips kept (0.570 s missing)"]),
        ):
            assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW, *share) == 0
            told = capsys.readouterr().err
            assert f"{errors} error" in told or "already committed" in told
            assert all(each in told for each in words)
            assert words or "damaged clip" not in told

    def test_channels_and_segments(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--channel says which channel is heard, --segments cuts; a run goes on as it began, and says so otherwise."""
        both = audio_file(noise(800, 2), 8000)
        write_tar(here / "1.tar", {"a.wav": both, "a.json": b'{"segments": [{"start": 0, "end": 0.05, "id": "x"}]}'})
        found = {}
        for settings in ("", "--channel right", "--channel split", "--segments", "--segments --channel split"):
            output = here / (settings or "plain")
            arguments = ("--input-tar", "1.tar", *MULAW, "--output-dir", output, *settings.split())
            assert call(tokenize_tar, *arguments) == 0
            found[settings] = [decode_record(line).audio_file for line in (output / "1.jsonl").read_bytes().splitlines()]
        assert list(found.values()) == [
            *(["a.wav"], ["a.wav"], ["a.wav#0", "a.wav#1"], ["a.wav#x"], ["a.wav#x#0", "a.wav#x#1"])
        ]
        capsys.readouterr()
        again = ("--input-tar", "1.tar", *MULAW, "--output-dir", here / "--segments")
        assert "-segments: True" in refused(capsys, *again)
        assert "+channel: 1" in refused(capsys, *again, "--segments", "--channel", "right")

    def test_force_begins_again(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--force makes a committed file anew, with the same bytes."""
        small_tar(here / "1.tar")
        arguments = ("--input-tar", "1.tar", *MULAW)
        assert call(tokenize_tar, *arguments) == 0
        before = committed_bytes(here)
        attempt = read_manifest(TarPaths(here / "tokens", "1").manifest)
        assert call(tokenize_tar, *arguments, "--force") == 0
        again = read_manifest(TarPaths(here / "tokens", "1").manifest)
        assert committed_bytes(here) == before
        assert attempt is not None
        assert again is not None
        assert attempt.attempt != again.attempt

    def test_retry_errors(self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """--retry-errors tries again what failed, and only that."""
        small_tar(here / "1.tar")
        calls: list[int] = []
        quick = mulaw.MuLaw.encode

        def broken(self: mulaw.MuLaw, waves: list[Any]) -> object:
            calls.append(len(waves))
            if len(calls) <= 2:
                raise ValueError("twice, and so it is the clip's fault")
            return quick(self, waves)

        monkeypatch.setattr(mulaw.MuLaw, "encode", broken)
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW) == 0
        manifest = read_manifest(TarPaths(here / "tokens", "1").manifest)
        assert manifest is not None
        assert manifest.errors == {"backend": 1, "decode": 1}
        calls[:] = [0, 0]
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW, "--retry-errors") == 0
        manifest = read_manifest(TarPaths(here / "tokens", "1").manifest)
        assert manifest is not None
        assert manifest.errors == {"decode": 1}
        assert len(calls) == 3

    def test_feeding_is_as_asked_for(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A decode thread per core and a memory of 1 GB, or what is said; none of it is part of the recipe."""
        asked: list[Feeding] = []

        def watched(*arguments: Any, feeding: Feeding, **settings: Any) -> None:
            asked.append(feeding)
            run_tars(*arguments, feeding=feeding, **settings)

        monkeypatch.setattr(module, "run_tars", watched)
        monkeypatch.setattr(module, "available_cores", lambda: 3)
        for number, flags in enumerate(([], ["--decode-threads", 2, "--buffer-memory", "20M"])):
            small_tar(here / f"{number}.tar")
            assert call(tokenize_tar, "--input-tar", f"{number}.tar", *MULAW, *flags) == 0
        assert asked == [Feeding(3, 10**9), Feeding(2, 20_000_000)]

    @pytest.mark.slow
    def test_a_clip_that_never_ends(self, here: Path) -> None:
        """The command gives up in time, with a message that names the clip and what goes on without it; lines stay."""
        small_tar(here / "1.tar")
        arguments = ("--input-tar", "1.tar", "--backend", "slow", "--set", "hang=43", "--clip-timeout", 2)
        process = start("jobs.tokenize_tar", *arguments, cwd=here, env=slow_backend(here / "site"))
        _, err = process.communicate()
        assert process.returncode == 1
        assert "error: encoding clip 3 of 1 has made no progress for" in err
        assert "hpc.submit --cluster local" in err
        assert lines_of(here / "tokens") == 3

    @pytest.mark.slow
    def test_interrupted_while_a_clip_hangs(self, here: Path) -> None:
        """A second Ctrl-C ends it at once."""
        small_tar(here / "1.tar")
        arguments = ("--input-tar", "1.tar", "--backend", "slow", "--set", "hang=43")
        process = start("jobs.tokenize_tar", *arguments, cwd=here, env=slow_backend(here / "site"))
        wait_for(lambda: lines_of(here / "tokens") == 3)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "finishing what is in hand" in (process.stderr.readline() if process.stderr else ""))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        assert process.returncode == 128 + signal.SIGINT
        assert "ended at once; the partial stays good" in err

    def test_log_file(self, here: Path) -> None:
        """--log-file has the lines of the screen."""
        small_tar(here / "1.tar")
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW, "--log-file", "logs/x.log") == 0
        assert "1: committed:" in (here / "logs" / "x.log").read_text()


class TestBadInput:
    @pytest.fixture(autouse=True)
    def tar(self, here: Path) -> Path:
        return small_tar(here / "1.tar")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--input-tar", "none.tar"], "expected a tar, found nothing"),
            (["--input-tar", "."], "expected a tar, found a folder"),
            (["--input-tar", "/dev/null"], "expected a tar, found a device"),
            (["--input-tar", "fifo.tar"], "expected a tar, found a FIFO"),
            (["--input-tar", "1.tar", "--force", "--skip-existing"], "--force starts from nothing"),
            (["--input-tar", "1.tar", "--force", "--retry-errors"], "--force starts from nothing"),
            (["--input-tar", "1.tar", "--set", "speed=1"], "has no option 'speed'"),
            (["--input-tar", "1.tar", "--set", "speed=["], "expected option=value"),
            (["--input-tar", "1.tar", "--model-path", "x"], "has no option 'model_path'"),
            (["--input-tar", "1.tar", "--gpu-id", "1", "--device", "auto"], "expected a GPU, found none"),
            (["--input-tar", "1.tar", "--backend", "higs"], "did you mean 'higgs'?"),
            (["--input-tar", "1.tar", "--max-duration", "-1"], "expected seconds above 0"),
            (["--input-tar", "1.tar", "--max-damage", "2"], "--max-damage 2: expected a share of the clip, from 0"),
            (["--input-tar", "1.tar", "--channel", "both"], "--channel both: expected mean, first, left, right, split"),
            (["--input-tar", "1.tar", "--log-file", "."], "cannot be written"),
            (["--input-tar", "1.tar", "--decode-threads", "many"], "expected a number from 1, or auto"),
            (["--input-tar", "1.tar", "--buffer-memory", "1X"], "expected a size such as 1GB"),
            (["--input-tar", "1.tar", "--memory-guard", "90"], "expected a share such as 0.9"),
            ([], "--input-tar"),
        ],
    )
    def test_bad_usage(self, here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
        """Each way to ask for what is not there: exit code 2, one message, nothing written."""
        before = tree(here)
        os.mkfifo(here / "fifo.tar")
        assert words in refused(capsys, *MULAW, *arguments)
        (here / "fifo.tar").unlink()
        assert tree(here) == before

    def test_broken_tars(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar that is empty, foreign or cut exits 1 with file, verdict and advice; whole clips are kept."""
        whole = (here / "1.tar").read_bytes()
        for data, verdict, advice in (
            (b"", "empty_file", "copy it again"),
            (b"text" * 500, "not_a_tar", "check the list"),
            (whole[:2600], "cut", "copy it again from its source"),
        ):
            (here / f"{verdict}.tar").write_bytes(data)
            assert call(tokenize_tar, "--input-tar", f"{verdict}.tar", *MULAW) == 1
            message = capsys.readouterr().err
            assert f"{here / verdict}.tar: {verdict}: " in message
            assert advice in message
            assert "Traceback" not in message
            assert not (here / "tokens" / f"{verdict}.jsonl").exists()
        assert (here / "tokens" / "cut.jsonl.partial").read_bytes().count(b"\n") == 1

    def test_missing_end_can_be_accepted(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar that lacks only its end marker says which flag accepts it, and the flag does."""
        tar = here / "open.tar"
        tar.write_bytes((here / "1.tar").read_bytes().rstrip(b"\0"))
        size = -(-tar.stat().st_size // 512) * 512
        os.truncate(tar, size)
        assert call(tokenize_tar, "--input-tar", "open.tar", *MULAW) == 1
        assert "--allow-missing-end" in capsys.readouterr().err
        assert call(tokenize_tar, "--input-tar", "open.tar", *MULAW, "--allow-missing-end") == 0

    def test_joined_tars_can_be_accepted(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Tars put end to end: the message says which flag accepts them and how to mend them, and the flag reads all. Of
        other data after the end it says neither.
        """
        one = (here / "1.tar").read_bytes()
        (here / "joined.tar").write_bytes(one + one)
        assert call(tokenize_tar, "--input-tar", "joined.tar", *MULAW) == 1
        message = capsys.readouterr().err
        assert "data_after_end" in message
        assert "--allow-joined" in message
        assert "tar --ignore-zeros -xf" in message
        assert call(tokenize_tar, "--input-tar", "joined.tar", *MULAW, "--allow-joined") == 0
        assert (here / "tokens" / "joined.jsonl").read_bytes().count(b"\n") == 2 * CLIPS
        (here / "other.tar").write_bytes(one + b"something else" * 100)
        assert call(tokenize_tar, "--input-tar", "other.tar", *MULAW, "--allow-joined") == 1
        message = capsys.readouterr().err
        assert "data_after_end" in message
        assert "--allow-joined" not in message

    def test_what_was_left_out_is_told(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """At the end of a tar, by suffix; --sniff takes what begins as audio, into a directory of its own."""
        flac = audio_file(noise(400), 8000, "FLAC")
        write_tar(here / "odd.tar", {"a.wav": wav(40), "b.xyz": b"?", "c": flac, "c.txt": b"words", "README": b"x"})
        assert call(tokenize_tar, "--input-tar", "odd.tar", *MULAW) == 0
        words = "2 members were no clips: no suffix 1, .xyz 1: --extensions takes them, or --sniff what begins as audio does"
        assert words in capsys.readouterr().err
        manifest = read_manifest(TarPaths(here / "tokens", "odd").manifest)
        assert manifest is not None
        assert (manifest.left_out, manifest.ignored_members) == ({"(none)": 1, "xyz": 1}, {"other": 3})
        assert "sniff" in refused(capsys, "--input-tar", "odd.tar", *MULAW, "--sniff")
        assert call(tokenize_tar, "--input-tar", "odd.tar", *MULAW, "--sniff", "--output-dir", "sniffed") == 0
        lines = map(msgspec.json.decode, (here / "sniffed" / "odd.jsonl").read_bytes().splitlines())
        assert [(line["audio_file"], line.get("text")) for line in lines] == [("a.wav", None), ("c", "words")]

    def test_namesake_is_not_written_over(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The output of another tar of this stem is neither taken for this one's nor destroyed, not even by --force."""
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW) == 0
        other = small_tar(here / "other" / "1.tar", clips=2)
        before = tree(here)
        for flags in ([], ["--force"]):
            message = refused(capsys, "--input-tar", other, *MULAW, *flags)
            assert f"{here / '1.tar'} and {other}" in message
            assert tree(here) == before
        (here / "1.tar").unlink()
        assert "--force replaces its tokens" in refused(capsys, "--input-tar", other, *MULAW)
        assert call(tokenize_tar, "--input-tar", other, *MULAW, "--force") == 0
        assert (here / "tokens" / "1.jsonl").read_bytes().count(b"\n") == 2

    def test_moved_tar_is_the_same_tar(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar that lies elsewhere now, with size and time as they were, has its tokens already."""
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW) == 0
        (here / "moved").mkdir()
        shutil.move(here / "1.tar", here / "moved" / "1.tar")
        assert call(tokenize_tar, "--input-tar", "moved/1.tar", *MULAW) == 0
        assert "already committed" in capsys.readouterr().err

    def test_other_recipe(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A directory of another recipe is refused with the difference, --force or not."""
        assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW) == 0
        before = tree(here)
        assert "+max_duration: 9.0" in refused(capsys, "--input-tar", "1.tar", *MULAW, "--max-duration", 9, "--force")
        assert tree(here) == before


def test_tar_that_another_worker_has(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tar with a living worker on it is left alone: exit code 1, who has it, nothing changed; later it is taken."""
    small_tar(here / "1.tar")
    arguments = ("--input-tar", "1.tar", *MULAW)
    claim_file = TarPaths(here / "tokens", "1").claim
    claim_file.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        mine = Claim.of_this_process("123456789abc")
        claim = msgspec.json.encode(msgspec.structs.replace(mine, pid=other.pid, started=process_start(other.pid)))
        claim_file.write_bytes(claim)
        assert call(tokenize_tar, *arguments) == 1
        assert f"process {other.pid} on {mine.host} is working on it" in capsys.readouterr().err
        assert claim_file.read_bytes() == claim
        assert not list((here / "tokens").glob("*.jsonl*"))
        other.communicate()
    assert call(tokenize_tar, *arguments) == 0
    assert list(committed_bytes(here / "tokens")) == ["1.jsonl"]


@pytest.mark.slow
def test_interruption(tmp_path: Path) -> None:
    """SIGTERM: the clip in hand is finished, the exit code is 128 + signal, and the same command goes on from there."""
    env = slow_backend(tmp_path / "site")
    tar = write_tar(tmp_path / "1.tar", {f"{number:02}.wav": wav(40, seed=number) for number in range(12)})
    brake = tmp_path / "brake"
    brake.touch()
    arguments = ("--input-tar", tar, "--backend", "slow", "--set", f"brake={brake}", "--set", "pause=2")
    process = start("jobs.tokenize_tar", *arguments, cwd=tmp_path, env=env)
    wait_for(lambda: lines_of(tmp_path / "tokens") >= 2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143
    assert "interrupted: run the same command again to go on" in err
    partial = (tmp_path / "tokens" / "1.jsonl.partial").read_bytes()
    assert partial.endswith(b"\n")
    assert partial.count(b"\n") < 12
    process = start("jobs.tokenize_tar", *arguments[:-1], "pause=0", cwd=tmp_path, env=env)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert (tmp_path / "tokens" / "1.jsonl").read_bytes().startswith(partial)
    assert list((tmp_path / "tokens" / ".run" / "claims").iterdir()) == []


def test_short_memory_is_not_done(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that yields for its memory exits 1 and says so; --memory-guard 0 goes on as if nothing were."""
    small_tar(here / "1.tar")
    monkeypatch.setattr(MemoryReader, "own", lambda _: 39 * 10**9)
    monkeypatch.setattr(MemoryReader, "rooms", lambda _, held: [Room("the machine", 40 * 10**9, 10**9)])
    assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW) == 1
    message = capsys.readouterr().err
    assert "the machine has 1.00 of 40.00 GB left, and this worker holds 39.00 GB" in message
    assert "--buffer-memory" in message
    assert call(tokenize_tar, "--input-tar", "1.tar", *MULAW, "--memory-guard", 0) == 0
