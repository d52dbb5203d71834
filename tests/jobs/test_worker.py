"""jobs/worker.py: a worker may be killed at any moment, and one bad tar does not stop the next."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.runs import committed_bytes, wait_for
from support.small_run import mulaw_spec, small_tar, wav, write_tar
from support.tars import audio_file, noise
from support.waiting import PATIENCE_SECONDS

from audio_tokenizers.base import Backend, Codes, Waveform
from audio_tokenizers.errors import ClaimLostError, InfrastructureError, UsageError
from audio_tokenizers.mulaw import MuLaw
from audio_tokenizers.shared.file_hashes import files_sha256
from jobs.claims import Claim
from jobs.fileops import StorageError
from jobs.ledger import Ledger
from jobs.progress import DeviceSeconds, Progress, ProgressFile, Try, read_progress
from jobs.signals import StopFlag
from jobs.spec import TokenizeSpec
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tar_task import TarTask
from jobs.tar_work import TarResult, TarWork
from jobs.tokenize import Tokenizer
from jobs.worker import Crew, Wishes, load_backend, run_tars

ROOT = Path(__file__).resolve().parents[2]
KILLS = 30


def start_slow_worker(output: Path, pause: float, tars: list[Path], *, long_clips: bool = False) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "tokenizers", "tests"))
    script = ROOT / "tests" / "support" / "slow_worker.py"
    return subprocess.Popen(
        [sys.executable, str(script), str(output), str(pause), *map(str, tars)],
        env={**os.environ, "PYTHONPATH": paths, **({"LONG_CLIPS": "yes"} if long_clips else {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def lines_so_far(output: Path) -> int:
    lines = 0
    for path in output.glob("[!.]*.jsonl*"):
        with suppress(FileNotFoundError):  # committed a moment ago
            lines += path.read_bytes().count(b"\n")
    return lines


def as_task(tar: Path, **settings: Any) -> TarTask:
    return TarTask(str(tar), TarPaths.stem(tar), tar.stat().st_size, **settings)


def work(tars: list[Path], output: Path, **wishes: bool) -> ProgressFile:
    reports = ProgressFile(None)
    tasks = [TarTask(str(tar), TarPaths.stem(tar), 100) for tar in tars]
    stop = StopFlag()
    run_tars(tasks, mulaw_spec(), output, device="cpu", stop=stop, reports=reports, wishes=Wishes(**wishes))
    return reports


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_no_byte(tmp_path: Path) -> None:
    """At least 30 SIGKILLs while lines are being written, over one list: the committed files equal an undisturbed run's."""
    tars = [small_tar(tmp_path / "in" / f"{n}.tar", clips=60) for n in range(4)]
    work(tars, tmp_path / "reference")
    outputs = [tmp_path / "out"]
    chance = random.Random(0)
    kills = 0
    while kills < KILLS:
        output = outputs[-1]
        before = lines_so_far(output)
        worker = start_slow_worker(output, 0.03, tars)
        while lines_so_far(output) == before and worker.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.1))
        worker.kill()
        if worker.wait() == 0:  # this process was held up: the others shall die elsewhere
            outputs.append(tmp_path / f"out{len(outputs)}")
        else:
            kills += 1
    assert start_slow_worker(outputs[-1], 0.0, tars).wait() == 0
    for output in outputs:
        assert committed_bytes(output) == committed_bytes(tmp_path / "reference")
        assert sorted(p.name for p in output.iterdir()) == [".run", "0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl"]


def kept_so_far(output: Path) -> int:
    """Bytes of the journal of a long clip."""
    size = 0
    for path in TarPaths(output, "long").private_journals():
        with suppress(FileNotFoundError):
            size = max(size, path.stat().st_size)
    return size


@pytest.mark.slow
def test_kills_and_stops_within_a_long_clip_change_no_byte(tmp_path: Path) -> None:
    """Each life ends within the clip, by SIGKILL or on request, some fragments later than the one before it."""
    members = {"a.wav": wav(800), "long.wav": wav(8000 * 60 * 30, seed=1), "z.wav": wav(900)}  # 30 fragments
    tar = write_tar(tmp_path / "in" / "long.tar", members)
    work([tar], tmp_path / "reference")
    output, chance = tmp_path / "out", random.Random(0)
    lives = 0
    while not (output / "long.jsonl").exists():
        lives += 1
        before = kept_so_far(output)
        worker = start_slow_worker(output, 0.1, [tar], long_clips=True)
        while kept_so_far(output) <= before and worker.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        worker.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
        worker.wait()
    assert lives > 2
    assert committed_bytes(output) == committed_bytes(tmp_path / "reference")
    assert sorted(p.name for p in output.iterdir()) == [".run", "long.jsonl"]
    assert not kept_so_far(output)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_ends_the_worker_after_the_clip_in_hand(number: signal.Signals, tmp_path: Path) -> None:
    """It leaves whole lines, a manifest that counts them, no claim, and exits by itself."""
    tar = small_tar(tmp_path / "in" / "a.tar", clips=200)
    worker = start_slow_worker(tmp_path / "out", 0.2, [tar])
    wait_for(lambda: lines_so_far(tmp_path / "out") >= 3)
    worker.send_signal(number)
    assert worker.wait() == 0
    manifest = read_manifest(TarPaths(tmp_path / "out", "a").attempt)
    assert manifest is not None
    assert 3 <= manifest.clips == lines_so_far(tmp_path / "out") < 200
    assert not list((tmp_path / "out" / ".run" / "claims").iterdir())


def test_a_try_at_a_tar_that_is_written_to_has_gained_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are void, and three such tries are enough: a tar that is written to all the time is not tried for ever."""
    tar = small_tar(tmp_path / "in" / "a.tar")
    finish = TarWork._finish

    def cut_first(work: TarWork) -> TarResult:
        os.truncate(tar, 900)
        return finish(work)

    monkeypatch.setattr(TarWork, "_finish", cut_first)
    (attempt,) = work([tar], tmp_path / "out").progress.tries
    assert (attempt.outcome, attempt.gained) == ("failed", 0)
    assert "written to while it was read" in attempt.problem


@pytest.mark.parametrize("place", ["load_backend", "Ledger.erase", "nothing_to_do", "Ledger.take"])
def test_a_full_machine_blames_no_tar(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether weights are loaded, old files removed or the tar claimed: it ends the worker as trouble with the machine."""

    def refuse(*_args: Any, **_settings: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(f"jobs.worker.{place}", refuse)
    tar, reports = small_tar(tmp_path / "in" / "a.tar"), ProgressFile(None)
    wishes = Wishes(force=True)
    with pytest.raises(InfrastructureError, match="Too many open files"):
        run_tars([as_task(tar)], mulaw_spec(), tmp_path, device="cpu", stop=StopFlag(), reports=reports, wishes=wishes)
    assert [attempt.outcome for attempt in reports.progress.tries] == ["machine"]


@pytest.mark.parametrize("place", [*("create", "write", "fsync", "rename", "link", "fsync_dir"), "nothing_to_do", "erase"])
@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "full"), (errno.ESTALE, "away"), (errno.EMFILE, None)])
def test_results_that_cannot_be_written(
    place: str, number: int, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of a claim, a line or a commit there is no room for: the worker ends, says that it is the storage, and not
    the tar; no other tar is tried.
    """

    def refuse(*_args: Any, **_settings: Any) -> None:
        raise OSError(number, os.strerror(number))

    where = {"nothing_to_do": "jobs.worker.nothing_to_do", "erase": "jobs.worker.Ledger.erase"}
    monkeypatch.setattr(where.get(place, f"jobs.fileops.FileOps.{place}"), refuse)
    tars = [small_tar(tmp_path / "in" / f"{n}.tar") for n in range(3)]
    reports = ProgressFile(tmp_path / "progress.json")
    tasks, wishes = [as_task(tar) for tar in tars], Wishes(force=place == "erase")
    with pytest.raises(InfrastructureError, match=os.strerror(number)):
        run_tars(tasks, mulaw_spec(), tmp_path / "out", device="cpu", stop=StopFlag(), reports=reports, wishes=wishes)
    published = read_progress(tmp_path / "progress.json")
    assert published is not None
    first, *begun = published.tries
    assert (first.name, first.outcome, first.storage) == ("0", "machine", told)
    assert os.strerror(number) in first.problem
    assert str(tars[0]) not in first.problem
    assert all(one.outcome == "yielded" for one in begun)


def test_a_full_disk_at_the_end_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for what a stop leaves behind, it is the storage too."""
    monkeypatch.setattr(Ledger, "release", lambda *_args, **_findings: _raise_full())
    reports, asked, encode = ProgressFile(None), threading.Event(), MuLaw.encode
    tar = small_tar(tmp_path / "a.tar")

    def encode_late(self: MuLaw, waves: Sequence[Waveform]) -> list[Codes]:
        assert asked.wait(PATIENCE_SECONDS)
        return encode(self, waves)

    def stop_soon() -> bool:
        if any(one.outcome == "working" for one in reports.progress.tries):
            asked.set()
        return asked.is_set()

    monkeypatch.setattr(MuLaw, "encode", encode_late)

    with pytest.raises(StorageError, match=r"a: .*a\.jsonl\.partial: No space left on device; the partial stays good"):
        run_tars([as_task(tar)], mulaw_spec(), tmp_path / "out", device="cpu", stop=Stop(stop_soon), reports=reports)
    assert [one.storage for one in reports.progress.tries] == ["full"]


def _raise_full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Stop(StopFlag):
    """A stop whenever a test says so."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        super().__init__()
        self._wanted = wanted

    def __call__(self) -> bool:
        return self._wanted()


def test_a_bad_tar_does_not_stop_the_next(tmp_path: Path) -> None:
    """Missing, empty and cut tars are named as problems, once each, and the good ones are committed."""
    good = [small_tar(tmp_path / f"good{n}.tar") for n in range(2)]
    cut = small_tar(tmp_path / "cut.tar")
    cut.write_bytes(cut.read_bytes()[:3000])
    empty = tmp_path / "empty.tar"
    empty.write_bytes(b"")
    text = tmp_path / "text.tar"
    text.write_text("hello" * 500)
    tars = [good[0], tmp_path / "missing.tar", empty, cut, text, good[1]]
    reports = work(tars, tmp_path / "out")
    problems = dict(reports.progress.problems)
    assert sorted(problems) == ["cut", "empty", "missing", "text"]  # several tars are in hand at once
    assert "No such file" in problems["missing"]
    assert "empty_file" in problems["empty"]
    assert "byte 3,000" in problems["cut"]
    assert "expected a tar header" in problems["text"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jsonl")) == ["good0.jsonl", "good1.jsonl"]
    assert reports.progress.finished
    assert sorted((one.name, one.outcome) for one in reports.progress.tries) == [
        ("cut", "damaged"),
        ("empty", "damaged"),
        ("good0", "committed"),
        ("good1", "committed"),
        ("missing", "failed"),
        ("text", "damaged"),
    ]


def test_finished_work_is_not_done_again(tmp_path: Path) -> None:
    """A second run of the same tars loads no backend and touches no byte."""
    tar = small_tar(tmp_path / "a.tar")
    work([tar], tmp_path / "out")
    before = (tmp_path / "out" / "a.jsonl").stat()
    manifest = (tmp_path / "out" / ".run" / "manifests" / "a.json").stat()
    reports = work([tar], tmp_path / "out")
    after = (tmp_path / "out" / "a.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert manifest.st_mtime_ns == (tmp_path / "out" / ".run" / "manifests" / "a.json").stat().st_mtime_ns
    assert reports.progress.tars_done == 1


def test_a_tar_that_another_worker_commits_meanwhile_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that loses a tar to one that finished it has no problem to report."""
    tar = small_tar(tmp_path / "a.tar")

    def overtaken(self: Tokenizer, *arguments: Any, **settings: Any) -> Any:
        monkeypatch.undo()
        work([tar], tmp_path / "out")
        return self.begin(*arguments, **settings)

    monkeypatch.setattr(Tokenizer, "begin", overtaken)
    reports = work([tar], tmp_path / "out")
    assert (reports.progress.problems, reports.progress.tars_done) == ([], 1)


def test_a_tar_that_is_lost_to_a_foreign_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has put a file in its place meanwhile: its problem alone, and the next tar is done."""

    def overtaken(self: Tokenizer, *_: Any, **__: Any) -> Any:
        monkeypatch.undo()
        (tmp_path / "out" / "a.jsonl").write_text("mine\n")
        raise ClaimLostError("another worker has committed it")

    monkeypatch.setattr(Tokenizer, "begin", overtaken)
    (tmp_path / "out").mkdir()
    reports = work([small_tar(tmp_path / "a.tar"), small_tar(tmp_path / "b.tar")], tmp_path / "out")
    assert [(one.name, one.outcome) for one in reports.progress.tries] == [("a", "failed"), ("b", "committed")]
    assert "move it away" in reports.progress.problems[0][1]


def test_a_foreign_committed_file_is_never_overwritten(tmp_path: Path) -> None:
    """A .jsonl without our manifest is somebody's work: refused, with what to do."""
    tar = small_tar(tmp_path / "a.tar")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jsonl").write_text("mine\n")
    reports = work([tar], tmp_path / "out")
    assert "move it away" in reports.progress.problems[0][1]
    assert [(one.outcome, one.untrusted) for one in reports.progress.tries] == [("failed", True)]
    assert (tmp_path / "out" / "a.jsonl").read_text() == "mine\n"
    assert work([tar], tmp_path / "out", force=True).progress.problems == []
    assert (tmp_path / "out" / "a.jsonl").read_bytes().count(b"\n") == 5


@pytest.mark.parametrize("trouble", [MemoryError(), FileNotFoundError(errno.ENOENT, "No such file", "kernel.so")])
def test_trouble_with_the_machine_ends_the_worker(
    trouble: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next tar would meet the same machine: it is not tried, and what happened is published."""

    def fail(self: object, waves: object) -> list[object]:
        raise trouble

    monkeypatch.setattr(MuLaw, "encode", fail)
    tars = [small_tar(tmp_path / f"{n}.tar") for n in range(2)]
    reports = ProgressFile(tmp_path / "progress.json")
    tasks = [TarTask(str(tar), TarPaths.stem(tar), 100) for tar in tars]
    with pytest.raises(InfrastructureError, match=r"out of memory|kernel\.so"):
        run_tars(tasks, mulaw_spec(), tmp_path / "out", device="cpu", stop=StopFlag(), reports=reports)
    published = read_progress(tmp_path / "progress.json")
    assert published is not None
    assert [name for name, _ in published.problems] == ["0"]
    first, *begun = published.tries
    assert (first.name, first.outcome) == ("0", "machine")
    assert first.problem == dict(published.problems)["0"]
    assert all(one.outcome == "yielded" for one in begun)  # perhaps it had begun to read the next one
    assert not published.finished


def test_a_tar_beside_one_that_ends_the_worker_yields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its partial is good, and nobody is to take it for one whose worker was killed: that is what `working` says."""
    begun, encode, take = threading.Event(), MuLaw.encode, Ledger.take

    def wait(self: MuLaw, waves: Sequence[Waveform]) -> list[Codes]:
        assert begun.wait(PATIENCE_SECONDS)
        return encode(self, waves)

    def fail(paths: TarPaths, *arguments: Any, **settings: Any) -> Ledger:
        if paths.name == "1":
            begun.set()
            raise InfrastructureError("no space left")
        return take(paths, *arguments, **settings)

    monkeypatch.setattr(MuLaw, "encode", wait)
    monkeypatch.setattr(Ledger, "take", fail)
    tasks = [as_task(small_tar(tmp_path / f"{n}.tar")) for n in range(2)]
    reports = ProgressFile(tmp_path / "progress.json")
    with pytest.raises(InfrastructureError, match="no space left"):
        run_tars(tasks, mulaw_spec(), tmp_path / "out", device="cpu", stop=StopFlag(), reports=reports)
    published = read_progress(tmp_path / "progress.json")
    assert published is not None
    assert [(one.name, one.outcome) for one in published.tries] == [("0", "yielded"), ("1", "machine")]
    assert not list((tmp_path / "out" / ".run" / "claims").iterdir())


def test_an_exception_that_nobody_foresaw_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the worker, which says at which tar: or else that tar would be tried for ever, and nobody knew why."""
    from audio_tokenizers.mulaw import MuLawFactory

    def fail(self: object, options: object, device: str) -> object:
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setattr(MuLawFactory, "load", fail)
    reports = ProgressFile(tmp_path / "progress.json")
    tar = small_tar(tmp_path / "a.tar")
    with pytest.raises(RuntimeError):
        run_tars([as_task(tar)], mulaw_spec(), tmp_path / "out", device="cpu", stop=StopFlag(), reports=reports)
    assert read_progress(tmp_path / "progress.json") == reports.progress
    assert reports.progress.tries == [Try("a", "machine", problem="RuntimeError: No CUDA GPUs are available")]


def test_clips_whose_channels_cancel_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the end of their tar, with what can be done."""
    caplog.set_level(logging.INFO, "tar2tokens")
    left = noise(100)
    tar = write_tar(tmp_path / "a.tar", {"a.wav": audio_file(np.stack([left, -left], axis=1), 8000), "b.wav": wav(50)})
    work([tar], tmp_path / "out")
    assert "1 clip whose channels cancel each other when mixed (--channel first hears one)" in caplog.text


def test_what_the_device_did(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has it over all lives of a task, manifests by tar, and the log in words; a CPU gets no advice."""
    monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
    caplog.set_level(logging.INFO, "tar2tokens")
    tars = [small_tar(tmp_path / f"{n}.tar") for n in range(3)]
    before = DeviceSeconds(100.0, 10.0, 1.0)
    reports = ProgressFile(tmp_path / "p.json", progress=Progress(device_seconds=before))
    tasks = [as_task(tar) for tar in tars]
    run_tars(tasks[:2], mulaw_spec(), tmp_path / "out", device="cpu", stop=StopFlag(), reports=reports)
    run_tars(tasks[2:], mulaw_spec(), tmp_path / "out", device="cpu", stop=StopFlag(), reports=reports)
    published = read_progress(tmp_path / "p.json")
    manifests = [read_manifest(TarPaths(tmp_path / "out", tar.stem).manifest) for tar in tars]
    assert published is not None
    told = published.device_seconds - before
    by_tar = sum((manifest.device_seconds for manifest in manifests if manifest is not None), DeviceSeconds())
    assert by_tar.busy > 0
    for name in ("busy", "audio", "writer"):
        assert getattr(told, name) == pytest.approx(getattr(by_tar, name), abs=1e-5)
    # Once each, however many loggers the handler hangs on after other tests.
    words = list(
        {record.created: record.getMessage() for record in caplog.records if "committed: " in record.getMessage()}.values()
    )
    assert len(words) == 3
    assert "; device busy " in words[0]
    assert "would help" not in "".join(words)


def test_clips_that_killed_workers_are_left_out(tmp_path: Path) -> None:
    """What the plan says of a tar's clips reaches the tar, and the report says of which clips it was told."""
    tar = small_tar(tmp_path / "a.tar")
    reports = ProgressFile(None)
    task = as_task(tar, crash_clips=(1,))
    run_tars([task], mulaw_spec(), tmp_path, device="cpu", stop=StopFlag(), reports=reports)
    assert b'"error_kind":"crash"' in (tmp_path / "a.jsonl").read_bytes().splitlines()[1]
    assert reports.progress.tries == [Try("a", "committed", gained=5, crash_clips=(1,))]


def test_a_plan_can_ask_for_a_second_try_of_bad_clips(tmp_path: Path) -> None:
    """A committed tar whose task says so is worked on again, and keeps its good lines; without errors it is left alone."""
    tar = small_tar(tmp_path / "a.tar")
    work([tar], tmp_path / "reference")
    run_tars(
        [as_task(tar, crash_clips=(1,))], mulaw_spec(), tmp_path, device="cpu", stop=StopFlag(), reports=ProgressFile(None)
    )
    again = [as_task(tar, retry_errors=True)]
    run_tars(again, mulaw_spec(), tmp_path, device="cpu", stop=StopFlag(), reports=ProgressFile(None))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "reference" / "a.jsonl").read_bytes()


def test_no_tar_is_begun_after_a_stop(tmp_path: Path) -> None:
    """A worker whose time is up takes neither its own tars nor those of others, and loads nothing."""
    own, other = small_tar(tmp_path / "own.tar"), small_tar(tmp_path / "other.tar")
    reports = ProgressFile(None)
    run_tars(
        [as_task(own)],
        mulaw_spec(),
        tmp_path / "out",
        device="cpu",
        stop=StopFlag(0.0),
        reports=reports,
        crew=Crew(others_tars=[as_task(other)]),
    )
    assert (reports.progress.tries, reports.progress.finished) == ([], True)
    assert not (tmp_path / "out").exists()


class TestCrew:
    """One of several workers of a submission."""

    def work(self, output: Path, own: list[Path], others: list[Path], *, forgiving: bool = False, **crew: Any) -> Progress:
        reports = ProgressFile(None)
        wishes = Wishes(allow_missing_end=forgiving)
        members = Crew("0002/0", others_tars=[as_task(tar) for tar in others], **crew)
        tasks = [as_task(tar) for tar in own]
        run_tars(tasks, mulaw_spec(), output, device="cpu", stop=StopFlag(), reports=reports, wishes=wishes, crew=members)
        return reports.progress

    def claim(self, output: Path, name: str, task: str) -> Path:
        """A claim of a worker on another host, a moment old."""
        path = TarPaths(output, name).claim
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(Claim("0123456789ab", "elsewhere", 1, "1", task)))
        return path

    def test_helps_with_what_nobody_has_begun(self, tmp_path: Path) -> None:
        """After its own tars it takes those of others that have no claim, and leaves those that have without a word."""
        own, free, claimed, done = (small_tar(tmp_path / f"{name}.tar") for name in ("own", "free", "claimed", "done"))
        output = tmp_path / "out"
        work([done], output)
        claim = self.claim(output, "claimed", "0002/3")
        progress = self.work(output, [own], [claimed, done, free])
        assert [(one.name, one.outcome) for one in progress.tries] == [("own", "committed"), ("free", "committed")]
        assert progress.problems == []
        assert not (output / "claimed.jsonl.partial").exists()
        assert claim.exists()

    def test_leaves_a_tar_that_was_found_damaged(self, tmp_path: Path) -> None:
        """What another has read to its bad end is not read again, or a worker that is told to go home leaves it undecided;
        unless that end is forgiven.
        """
        own, bad = small_tar(tmp_path / "own.tar"), small_tar(tmp_path / "bad.tar")
        without_end = bad.read_bytes().rstrip(b"\0")
        bad.write_bytes(without_end + bytes(-len(without_end) % 512))
        output = tmp_path / "out"
        work([bad], output)
        attempt = TarPaths(output, "bad").attempt
        verdict = attempt.read_bytes()
        assert b"no_end_marker" in verdict
        progress = self.work(output, [own], [bad])
        assert [one.name for one in progress.tries] == ["own"]
        assert attempt.read_bytes() == verdict

        forgiving = self.work(output, [own], [bad], forgiving=True)
        assert [(one.name, one.outcome) for one in forgiving.tries] == [("own", "committed"), ("bad", "committed")]

    def test_helps_with_a_damaged_tar_that_was_copied_again(self, tmp_path: Path) -> None:
        """The verdict is that of other bytes."""
        own, bad = small_tar(tmp_path / "own.tar"), small_tar(tmp_path / "bad.tar")
        whole = bad.read_bytes()
        bad.write_bytes(whole[:-2000])
        output = tmp_path / "out"
        work([bad], output)
        bad.write_bytes(whole)
        progress = self.work(output, [own], [bad])
        assert [(one.name, one.outcome) for one in progress.tries] == [("own", "committed"), ("bad", "committed")]

    def test_its_own_tar_in_anothers_hands(self, tmp_path: Path) -> None:
        """It is left to whoever has it, which is no problem, and the next tar is done."""
        tar, following = small_tar(tmp_path / "a.tar"), small_tar(tmp_path / "b.tar")
        self.claim(tmp_path / "out", "a", "0001/5")
        progress = self.work(tmp_path / "out", [tar, following], [])
        assert [(one.name, one.outcome) for one in progress.tries] == [("a", "left_alone"), ("b", "committed")]
        assert progress.problems == []

    def test_claims_of_tasks_that_have_ended_are_taken_over(self, tmp_path: Path) -> None:
        """The plan knows which tasks were gone when it was made: their claims stop nobody, however fresh they are."""
        tar = small_tar(tmp_path / "a.tar")
        self.claim(tmp_path / "out", "a", "0001/5")
        asked: list[str] = []

        def gone(task: str) -> bool:
            asked.append(task)
            return True

        progress = self.work(tmp_path / "out", [tar], [], gone=gone)
        assert [one.outcome for one in progress.tries] == ["committed"]
        assert asked == ["0001/5"]


def test_a_worker_that_would_compute_other_tokens_refuses(tmp_path: Path) -> None:
    """Another package version or weights on the worker than the run was frozen with is an error, not a mixture."""
    spec = mulaw_spec()
    changed = msgspec.structs.replace(spec, recipe={**spec.recipe, "numpy": "0.1"})
    with pytest.raises(UsageError, match="numpy"):
        load_backend(changed, "cpu")


def test_workers_of_a_run_read_its_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finds the hash in the run directory: bytes that were replaced with size and time kept stay unseen."""
    model, hashes = tmp_path / "model.safetensors", []

    def describe_and_load(spec: TokenizeSpec, device: str) -> Backend:
        hashes.append(files_sha256([model]))
        return load_backend(spec, device)

    monkeypatch.setattr("jobs.worker.load_backend", describe_and_load)
    for number, data in enumerate((b"one", b"two")):
        model.write_bytes(data)
        os.utime(model, (1e9, 1e9))
        work([small_tar(tmp_path / f"{number}.tar")], tmp_path / "out")
    assert hashes == [hashlib.sha256(b"one").hexdigest()] * 2


def test_worker_that_runs_short_of_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It flushes what it has, yields with words and advice, and blames nothing; the next one goes on at the next clip."""
    tars = [small_tar(tmp_path / f"{n}.tar", clips=20) for n in range(2)]
    tasks = [TarTask(str(tar), TarPaths.stem(tar), 100, one_at_a_time=True) for tar in tars]
    reports = ProgressFile(None)
    stop = StopFlag(shortage=lambda: "memory is short: 1 of 2 GB" if reports.progress.clips >= 7 else "")
    output = tmp_path / "out"
    monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        run_tars(tasks, mulaw_spec(), output, device="cpu", stop=stop, reports=reports)
    (attempt,) = reports.progress.tries
    assert (attempt.outcome, attempt.short_of_memory, attempt.problem) == ("yielded", True, "memory is short: 1 of 2 GB")
    assert reports.progress.problems == []
    assert "memory is short: 1 of 2 GB: what is done is flushed, and the worker yields" in caplog.text
    assert "--buffer-memory" in caplog.text
    lines = (output / "0.jsonl.partial").read_bytes().count(b"\n")
    assert lines == attempt.gained >= 7
    rest = work(tars, output)
    assert [attempt.gained for attempt in rest.progress.tries] == [20 - lines, 20]
    work(tars, tmp_path / "reference")
    assert committed_bytes(output) == committed_bytes(tmp_path / "reference")


def test_shortage_with_no_tar_in_hand(tmp_path: Path) -> None:
    """It is told of the tar that would have been next; whoever looks does not take it for a worker with nothing to do."""
    reports = ProgressFile(None)
    tasks = [TarTask(str(small_tar(tmp_path / f"{n}.tar")), str(n), 100) for n in range(3)]
    run_tars(tasks[:1], mulaw_spec(), tmp_path / "out", device="cpu", stop=StopFlag(), reports=reports)
    stop = StopFlag(shortage=lambda: "memory is short")
    run_tars(tasks, mulaw_spec(), tmp_path / "out", device="cpu", stop=stop, reports=reports)
    assert [(attempt.name, attempt.outcome, attempt.short_of_memory) for attempt in reports.progress.tries] == [
        ("0", "committed", False),
        ("1", "yielded", True),
    ]


def test_a_yield_for_another_reason_says_nothing_of_memory(tmp_path: Path) -> None:
    """A deadline that has come is no shortage."""
    reports = ProgressFile(None)
    stop = StopFlag(0.0, clock=lambda: float(reports.progress.clips >= 2) - 1)
    task = TarTask(str(small_tar(tmp_path / "a.tar", clips=20)), "a", 100, one_at_a_time=True)
    run_tars([task], mulaw_spec(), tmp_path / "out", device="cpu", stop=stop, reports=reports)
    (attempt,) = reports.progress.tries
    assert (attempt.outcome, attempt.short_of_memory, attempt.problem) == ("yielded", False, "")
