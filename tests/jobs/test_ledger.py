"""jobs/ledger.py: two writers are harmless, and lines become durable in time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from audio_tokenizers.errors import ClaimLostError, UsageError
from jobs.claims import Claim, read_claim
from jobs.fileops import FileOps
from jobs.ledger import SYNC_SECONDS, WRITE_BYTES, Ledger
from jobs.outputs import InputIdentity, TarPaths, read_manifest
from jobs.records import ErrorRecord, TokenRecord, codes_to_json, encode_record

FINGERPRINT = "f" * 16
IDENTITY = InputIdentity("/in/a.tar", 1000, 77)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class CountingOps(FileOps):
    def __init__(self) -> None:
        self.fsyncs = 0

    def fsync(self, fd: int) -> None:
        self.fsyncs += 1
        super().fsync(fd)


@pytest.fixture
def paths(tmp_path: Path) -> TarPaths:
    return TarPaths(tmp_path / "out", "a")


def take(paths: TarPaths, *, ops: FileOps | None = None, clock: Clock | None = None, **settings: bool) -> Ledger:
    return Ledger.take(paths, IDENTITY, FINGERPRINT, 1024, ops=ops, clock=clock or Clock(), **settings)


def token_record(name: str) -> TokenRecord:
    tokens = codes_to_json(np.arange(8, dtype=np.int16).reshape(2, 4))
    return TokenRecord(
        tar_file="/in/a.tar",
        audio_file=name,
        num_samples=4000,
        sample_rate=1000,
        tokens=msgspec.Raw(tokens),
        token_shape=(2, 4),
    )


def append(ledger: Ledger, *names: str) -> None:
    for name in names:
        record = token_record(name)
        ledger.append(record, [encode_record(record)])


def as_if_elsewhere(paths: TarPaths) -> None:
    """Make the claim look like another machine's, so that this one takes it over."""
    claim = read_claim(paths.claim)
    assert claim is not None
    paths.claim.write_bytes(msgspec.json.encode(msgspec.structs.replace(claim, host="elsewhere")))


def test_a_commit_is_one_file_and_its_manifest_speaks_the_truth(paths: TarPaths) -> None:
    """Counts, size and hash in the manifest are those of the committed file."""
    ledger = take(paths)
    append(ledger, "a.wav", "b.wav")
    error = ErrorRecord(tar_file="/in/a.tar", audio_file="c.wav", error="no", error_kind="empty")
    ledger.append(error, [encode_record(error)])
    manifest = ledger.commit()
    assert manifest == read_manifest(paths.manifest)
    assert manifest.verdict == "complete"
    assert (manifest.clips, manifest.errors, manifest.audio_seconds) == (3, {"empty": 1}, 8.0)
    assert manifest.output_bytes == paths.committed.stat().st_size


def test_a_zombie_writes_into_a_file_that_has_no_name(paths: TarPaths) -> None:
    """After a takeover the first worker's lines and its commit go nowhere, and the second worker's file is whole."""
    zombie = take(paths)
    append(zombie, "a.wav")
    as_if_elsewhere(paths)
    successor = take(paths)
    assert successor.done == ["a.wav"]
    append(zombie, "b.wav", "c.wav")
    with pytest.raises(ClaimLostError):
        zombie.commit()
    with pytest.raises(ClaimLostError):
        zombie.release()
    zombie.abandon()
    append(successor, "b.wav")
    assert paths.partial.read_bytes().count(b"\n") == 2
    successor.commit()
    assert paths.committed.read_bytes().count(b"\n") == 2


def test_two_finished_writers_commit_one_file(paths: TarPaths) -> None:
    """A worker overtaken between its last look at the claim and its rename does no harm: the lines are complete by then."""
    winner: list[Ledger] = []

    class Overtaken(FileOps):
        def rename(self, source: Path, target: Path) -> None:
            if target == paths.committed and not winner:
                as_if_elsewhere(paths)
                winner.append(take(paths))
            super().rename(source, target)

    first = take(paths, ops=Overtaken())
    append(first, "a.wav", "b.wav")
    first.commit()
    before = paths.committed.read_bytes()
    assert before.count(b"\n") == 2
    with pytest.raises(ClaimLostError):
        winner[0].commit()
    winner[0].abandon()
    assert paths.committed.read_bytes() == before


@pytest.mark.parametrize("moment", ["before its last look at the claim", "after it"])
def test_a_slow_takeover_never_makes_another_commit_its_short_copy(moment: str, paths: TarPaths) -> None:
    """A worker overtaken while it copies the partial may put its copy in place late: nothing incomplete is committed."""
    first = take(paths)
    append(first, "a.wav")
    first.release()
    successor: list[Ledger] = []

    class Overtaken(FileOps):
        def overtake(self) -> None:
            as_if_elsewhere(paths)
            successor.append(take(paths))
            append(successor[0], "b.wav", "c.wav")

        def fsync(self, fd: int) -> None:
            super().fsync(fd)
            if moment.startswith("before") and not successor and list(paths.output_dir.glob(".a.jsonl.partial.*")):
                self.overtake()

        def rename(self, source: Path, target: Path) -> None:
            if moment.startswith("after") and target == paths.partial and not successor:
                kept = source.with_name("kept")  # or the successor would have swept it up
                os.link(source, kept)
                self.overtake()
                kept.rename(source)
            super().rename(source, target)

    if moment.startswith("before"):
        with pytest.raises(ClaimLostError):
            take(paths, ops=Overtaken())
        successor[0].commit()
        assert paths.committed.read_bytes().count(b"\n") == 3
        return
    slow = take(paths, ops=Overtaken())
    with pytest.raises(ClaimLostError):
        successor[0].commit()
    successor[0].abandon()
    with pytest.raises(ClaimLostError):
        slow.commit()
    slow.abandon()
    assert not paths.committed.exists()


def test_what_is_committed_is_not_begun_again(paths: TarPaths) -> None:
    """A worker that was about to begin when another committed leaves the file alone, unless it is to retry errors."""
    ledger = take(paths)
    append(ledger, "a.wav")
    ledger.commit()
    with pytest.raises(ClaimLostError, match="has committed it"):
        take(paths)
    assert read_claim(paths.claim) is None
    assert paths.committed.exists()
    take(paths, retry_errors=True).release()
    assert not paths.committed.exists()


def test_lines_are_durable_within_two_seconds(paths: TarPaths) -> None:
    """Fsync goes by time: not once per line, and not only at the end."""
    clock, ops = Clock(), CountingOps()
    ledger = take(paths, ops=ops, clock=clock)
    before = ops.fsyncs
    for number in range(100):
        clock.now += SYNC_SECONDS / 10
        append(ledger, f"{number}.wav")
    assert 9 <= ops.fsyncs - before <= 11
    ledger.release()


def test_a_line_is_whole_however_many_parts_it_has(paths: TarPaths) -> None:
    """A long line is written in pieces of bounded size and is one line in the end, hashed like any other."""
    pieces: list[int] = []

    class Watching(FileOps):
        def write(self, fd: int, data: bytes) -> None:
            pieces.append(len(data))
            super().write(fd, data)

    ledger = take(paths, ops=Watching())
    record = token_record("a.wav")
    line = encode_record(record)
    parts = [line[:50], *([b" " * (1 << 20)] * 10), line[50:]]
    ledger.append(record, iter(parts))
    manifest = ledger.release()
    assert paths.partial.read_bytes() == b"".join(parts) + b"\n"
    assert manifest.output_bytes == paths.partial.stat().st_size
    assert max(pieces) <= WRITE_BYTES + (1 << 20)


def test_wall_time_adds_up_over_attempts(paths: TarPaths) -> None:
    """The manifest's wall seconds are those of all attempts that ended by themselves."""
    for _ in range(3):
        clock = Clock()
        ledger = take(paths, clock=clock)
        clock.now = 10.0
        manifest = ledger.release()
    assert manifest.wall_seconds == 30.0


def test_copies_that_a_killed_takeover_left_are_swept_up(paths: TarPaths) -> None:
    """A worker killed while it repaired a partial leaves a copy; the next one removes it, and nothing else."""
    paths.output_dir.mkdir(parents=True)
    litter = paths.output_dir / ".a.jsonl.partial.0123456789ab"
    other = paths.output_dir / ".b.jsonl.partial.0123456789ab"
    litter.write_bytes(b"x")
    other.write_bytes(b"x")
    take(paths).release()
    assert not litter.exists()
    assert other.exists()


def test_names_with_glob_characters_do_not_sweep_up_others(tmp_path: Path) -> None:
    """A tar called `a*` must not remove what belongs to `ab`."""
    other = tmp_path / ".ab.jsonl.partial.0123456789ab"
    other.write_bytes(b"x")
    take(TarPaths(tmp_path, "a*")).release()
    assert other.exists()


def test_a_manifest_that_is_none_is_refused(paths: TarPaths) -> None:
    """A damaged manifest stops the tar with a message that names the file."""
    paths.manifest.parent.mkdir(parents=True)
    paths.manifest.write_text("{")
    with pytest.raises(UsageError, match=r"manifests/a\.json.*delete it"):
        take(paths)


def test_force_erases_what_is_known(paths: TarPaths) -> None:
    """After erase a tar is as if it had never been begun."""
    ledger = take(paths)
    append(ledger, "a.wav")
    ledger.commit()
    Ledger.erase(paths, FileOps())
    assert not paths.committed.exists()
    ledger = take(paths)
    assert ledger.done == []
    ledger.release()


def test_of_many_threads_that_claim_one_commits(paths: TarPaths) -> None:
    """Workers that start on one tar at one moment end with one committed file and whole lines."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            ledger = take(paths)
            append(ledger, *(f"{n}.wav" for n in range(len(ledger.done), 20)))
            ledger.commit()
        except ClaimLostError:
            pass
        except (OSError, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    if not paths.committed.exists():
        work()
    assert paths.committed.read_bytes().count(b"\n") == 20


def test_no_descriptor_is_left_open(paths: TarPaths) -> None:
    """However an attempt ends, its files are closed: a worker that does a thousand tars must not run out."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        take(paths).release()
        take(paths).abandon()
    take(paths).commit()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_claim_names_its_process(paths: TarPaths) -> None:
    """People can see who works on a tar."""
    ledger = take(paths)
    claim = read_claim(paths.claim)
    assert isinstance(claim, Claim)
    assert claim.pid == os.getpid()
    ledger.release()
    assert read_claim(paths.claim) is None
