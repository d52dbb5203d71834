"""hpc/progress.py: what the files say of a tar, and nothing else."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import msgspec
import pytest
from support.small_run import CLIPS, mulaw_spec, small_tar, stopping_after, tokenize

from hpc import progress
from hpc.progress import scan, state_of
from hpc.run import ListedTar, Run
from jobs.clip_journal import ClipJournal, LongClip, MemberSum
from jobs.fileops import FileOps
from jobs.manifest import Manifest
from jobs.spec import freeze_spec
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tar_task import InputIdentity


@pytest.fixture
def committed(tmp_path: Path) -> tuple[Path, TarPaths]:
    """A tar and its committed output."""
    tar = small_tar(tmp_path / "a.tar")
    tokenize(tar, tmp_path / "tokens")
    return tar, TarPaths(tmp_path / "tokens", "a")


def test_committed(committed: tuple[Path, TarPaths]) -> None:
    """A committed file with its manifest is done; its clips are the manifest's."""
    state = state_of(str(committed[0]), committed[1])
    assert (state.state, state.clips, state.problem) == ("committed", CLIPS, None)
    assert state.manifest is not None
    assert state.manifest.errors == {"decode": 1}


def test_committed_stays_so_without_its_tar(committed: tuple[Path, TarPaths]) -> None:
    """Tokens outlive the tar that they were made from."""
    committed[0].unlink()
    assert state_of(str(committed[0]), committed[1]).state == "committed"


def test_partial_counts_whole_lines(tmp_path: Path) -> None:
    """A partial's clips are its whole lines; a line cut by a crash is none."""
    tar = small_tar(tmp_path / "a.tar")
    tokenize(tar, tmp_path, **stopping_after(1))
    paths = TarPaths(tmp_path, "a")
    assert (state_of(str(tar), paths).state, state_of(str(tar), paths).clips) == ("partial", 1)
    with paths.partial.open("ab") as file:
        file.write(b'{"tar_file": "cut')
    assert state_of(str(tar), paths).clips == 1


@pytest.mark.slow
def test_a_long_clip_in_hand_counts(tmp_path: Path) -> None:
    """What is kept of a clip that has no line yet is audio that became tokens: a recording of days takes many jobs."""
    tar = small_tar(tmp_path / "a.tar")
    tokenize(tar, tmp_path, **stopping_after(1))
    spec, paths = mulaw_spec(), TarPaths(tmp_path, "a")
    freeze_spec(tmp_path, spec)
    attempt = read_manifest(paths.attempt)
    assert attempt is not None
    before = state_of(str(tar), paths)
    assert before.long_clip_seconds == 0.0
    for clip, counts in ((0, False), (1, True)):
        journal = ClipJournal(
            paths.private_journal(attempt.attempt), InputIdentity.of(tar), spec.fingerprint, spec.fields[0],
            ops=FileOps(), clock=lambda: 0.0, check_mine=lambda: None,
        )  # fmt: skip
        long = LongClip(clip, f"{clip:03}.wav", MemberSum(1, 1))
        assert journal.add(long, 0, 1, bytes(spec.sample_rate * 7200 // spec.hop_length))
        state = state_of(str(tar), paths)
        assert state.long_clip_seconds == (7200.0 if counts else 0.0)
        assert state.audio_seconds == before.audio_seconds + state.long_clip_seconds
        journal.forget()


def test_not_started(tmp_path: Path) -> None:
    """No file: not started; a tar that is missing, or cannot be reached, is told besides."""
    tar = small_tar(tmp_path / "a.tar")
    assert state_of(str(tar), TarPaths(tmp_path, "a")).problem is None
    missing = state_of(str(tmp_path / "b.tar"), TarPaths(tmp_path, "b"))
    assert (missing.state, missing.problem) == ("not_started", "there is no such tar")
    for address in ("s3://b/c.tar", "pipe:cat c.tar"):  # of which no server is asked
        assert state_of(address, TarPaths(tmp_path, "c")).problem is None
    odd = state_of(str(tmp_path / ("x" * 300)), TarPaths(tmp_path, "c"))
    assert odd.problem == f"the tar cannot be read: {os.strerror(errno.ENAMETOOLONG)}"


def test_broken_tar_keeps_its_reason(tmp_path: Path) -> None:
    """A tar that ended wrongly is a partial with the verdict of its last attempt."""
    tar = small_tar(tmp_path / "a.tar")
    tar.write_bytes(tar.read_bytes()[:1300])
    tokenize(tar, tmp_path)
    state = state_of(str(tar), TarPaths(tmp_path, "a"))
    assert state.state == "partial"
    assert state.problem is not None
    assert state.problem.startswith("cut: ")


@pytest.mark.parametrize("change", ["no manifest", "unfinished manifest", "longer", "manifest of garbage"])
def test_files_that_are_not_ours_are_invalid(committed: tuple[Path, TarPaths], change: str) -> None:
    """A committed file that its manifest does not vouch for is invalid, with the reason."""
    tar, paths = committed
    manifest = read_manifest(paths.manifest)
    words = {
        "no manifest": "no manifest",
        "unfinished manifest": "unfinished attempt",
        "longer": "its manifest says",
        "manifest of garbage": "expected a manifest",
    }[change]
    if change == "no manifest":
        paths.manifest.unlink()
    elif change == "unfinished manifest":
        assert manifest is not None
        paths.manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, verdict="in_progress")))
    elif change == "longer":
        paths.committed.write_bytes(paths.committed.read_bytes() + b"\n")
    else:
        paths.manifest.write_bytes(b"[]")
    state = state_of(str(tar), paths)
    assert state.state == "invalid"
    assert state.problem is not None
    assert words in state.problem


@pytest.mark.parametrize("waiting", [0.0, 1e9])
def test_scan_keeps_the_order(waiting: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """States come in the order of the list, in one thread where files answer at once, and in several where they do not."""
    monkeypatch.setattr(progress, "WAITING_SECONDS", waiting)
    threads = set()

    def noting(tar: str, paths: TarPaths) -> progress.TarState:
        threads.add(threading.current_thread())
        return state_of(tar, paths)

    monkeypatch.setattr(progress, "state_of", noting)
    names = [f"{number:04}" for number in range(20 * progress.CHUNK_TARS + 1)]
    states = scan(Run(tmp_path), [ListedTar(f"/d/{name}.tar", name) for name in names])
    assert [state.name for state in states] == names
    assert (len(threads) > 1) == (waiting == 0.0)


def test_the_latest_attempt_is_what_is_known_of_a_partial(tmp_path: Path) -> None:
    """A manifest that was written for a commit that did not happen says nothing of the attempt after it."""
    tar = small_tar(tmp_path / "a.tar")
    paths = TarPaths(tmp_path, "a")
    tokenize(tar, tmp_path)
    paths.committed.unlink()
    assert state_of(str(tar), paths).state == "not_started"
    tokenize(tar, tmp_path, **stopping_after(1))
    state = state_of(str(tar), paths)
    assert state.manifest is not None
    assert (state.state, state.manifest.verdict, state.manifest.clips) == ("partial", "in_progress", 1)
    paths.attempt.write_bytes(b"{")
    assert state_of(str(tar), paths).state == "invalid"


def test_a_commit_during_the_look_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tar that is committed between two questions is still unfinished, or committed: never a file without a manifest."""
    tar = small_tar(tmp_path / "a.tar")
    paths = TarPaths(tmp_path, "a")

    def commit_first(paths: TarPaths) -> Manifest | None:
        monkeypatch.undo()
        tokenize(tar, tmp_path)
        return paths.read_unfinished()

    monkeypatch.setattr(TarPaths, "read_unfinished", commit_first)
    state = state_of(str(tar), paths)
    assert (state.state, state.problem) == ("not_started", None)
    assert state_of(str(tar), paths).state == "committed"
