"""jobs/ledger.py: two writers are harmless, and lines become durable in time."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.crashing import CrashingOps, SimulatedCrash
from support.interleaving import Actor, HaltingOps, NearSighted, SweepingZombie, Zombie

from audio_tokenizers.base import Field
from audio_tokenizers.errors import ClaimLostError, UsageError
from jobs.claims import Claim, read_claim
from jobs.fileops import FileOps
from jobs.ledger import SYNC_SECONDS, Ledger
from jobs.line_file import WRITE_BYTES
from jobs.manifest import Findings
from jobs.progress import DeviceSeconds
from jobs.records import ErrorRecord, TokenRecord, codes_to_json, encode_record
from jobs.tar_paths import TarPaths, committed_fault, read_manifest
from jobs.tar_task import InputIdentity

FINGERPRINT = "f" * 16
TAR = Path("/in/a.tar")
IDENTITY = InputIdentity(str(TAR), 1000, 77)


FIELDS = (Field(name="tokens", form="codes", width=2, codebook_size=1024),)


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


def take(paths: TarPaths, *, ops: FileOps | None = None, clock: Clock | None = None, **settings: Any) -> Ledger:
    return Ledger.take(paths, IDENTITY, FINGERPRINT, FIELDS, ops=ops, clock=clock or Clock(), **settings)


def token_record(name: str) -> TokenRecord:
    tokens = codes_to_json(np.arange(8, dtype=np.int16).reshape(2, 4))
    return TokenRecord(
        tar_file="/in/a.tar",
        audio_file=name,
        num_samples=4000,
        sample_rate=1000,
        values={"tokens": msgspec.Raw(tokens), "token_shape": msgspec.Raw(b"[2,4]")},
    )


def append(ledger: Ledger, *names: str) -> None:
    for name in names:
        record = token_record(name)
        ledger.append(record, [encode_record(record)])


def as_if_elsewhere(paths: TarPaths) -> None:
    """Make the claim look like that of a machine that has been silent for long, so that this one takes it over."""
    claim = read_claim(paths.claim)
    assert claim is not None
    paths.claim.write_bytes(msgspec.json.encode(msgspec.structs.replace(claim, host="elsewhere")))
    os.utime(paths.claim, (0, 0))


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


@pytest.mark.parametrize("end", ["commit", "release"])
def test_a_misspelt_finding_is_an_error(end: str, paths: TarPaths) -> None:
    """It would otherwise be missing from the manifest, which says 0 in its place."""
    ledger = take(paths)
    with pytest.raises(TypeError, match="sidecar_fault"):
        getattr(ledger, end)(sidecar_fault=3)
    with pytest.raises(TypeError, match="sidecar_fault"):
        getattr(ledger, end)(Findings(sidecar_fault=3))  # type: ignore[call-arg]


@pytest.mark.parametrize("end", ["commit", "release"])
def test_findings_are_in_the_manifest(end: str, paths: TarPaths) -> None:
    """All of them, each under its own name."""
    findings = Findings(
        verdict="truncated",
        verdict_detail="why",
        verdict_offset=512,
        ignored_members={"directory": 1},
        linked_clips=2,
        left_out={".txt": 3},
        orphan_sidecars=4,
        sidecar_faults=5,
        text_encoding="cp1251",
        versions={"python": "3"},
    )
    manifest = getattr(take(paths), end)(findings)
    if end == "commit":  # the one thing that a commit knows better
        findings = msgspec.structs.replace(findings, verdict="complete")
    expected = msgspec.structs.asdict(findings)
    assert {key: getattr(manifest, key) for key in expected} == expected


def test_a_take_over_that_cannot_copy_a_line_fails(paths: TarPaths) -> None:
    """Even if the file system says that the file is missing, as some do of one that was removed: no line is passed over."""
    ledger = take(paths)
    append(ledger, "a.wav", "b.wav")
    ledger.release()

    class Removed(FileOps):
        def write(self, fd: int, data: bytes) -> None:
            if b"b.wav" in data:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory")
            super().write(fd, data)

    with pytest.raises(FileNotFoundError):
        take(paths, ops=Removed())
    assert take(paths).done == ["a.wav", "b.wav"]


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


def test_a_worker_overtaken_at_its_commit_has_nothing_to_commit(paths: TarPaths) -> None:
    """Overtaken between its last look at the claim and its rename, it learns so, and the successor has all its lines."""
    successor: list[Ledger] = []

    class Overtaken(FileOps):
        def rename(self, source: Path, target: Path) -> None:
            if target == paths.committed and not successor:
                as_if_elsewhere(paths)
                successor.append(take(paths))
            super().rename(source, target)

    first = take(paths, ops=Overtaken())
    append(first, "a.wav", "b.wav")
    with pytest.raises(ClaimLostError):
        first.commit()
    first.abandon()
    successor[0].commit()
    assert paths.committed.read_bytes().count(b"\n") == 2
    assert committed_fault(paths, TAR, read_manifest(paths.manifest)) is None


LINES = tuple(f"{number}.wav" for number in range(4))
REFERENCE = b"".join(encode_record(token_record(name)) + b"\n" for name in LINES)


def make_attempt(paths: TarPaths, kind: type[Ledger], end: str) -> Callable[[HaltingOps], None]:
    """An attempt that writes what is missing and commits, or writes one line and releases."""

    def attempt(ops: HaltingOps) -> None:
        ledger = kind.take(paths, IDENTITY, FINGERPRINT, FIELDS, ops=ops, clock=Clock())
        try:
            missing = LINES[len(ledger.done) :]
            append(ledger, *(missing if end == "commit" else missing[:1]))
            ledger.commit() if end == "commit" else ledger.release()
        except ClaimLostError:
            ledger.abandon()
            raise

    return attempt


def nothing_is_wrong(paths: TarPaths) -> None:
    """What is committed, if anything, is what an undisturbed worker commits."""
    if paths.committed.exists():
        assert paths.committed.read_bytes() == REFERENCE
        assert committed_fault(paths, TAR, read_manifest(paths.manifest)) is None


def take_turns(paths: TarPaths, zombie: Actor, successor: Actor) -> None:
    """The zombie to where it halts, the successor likewise, the zombie to its end, the successor to its end."""
    zombie.start()
    nothing_is_wrong(paths)
    successor.start()
    nothing_is_wrong(paths)
    zombie.finish()
    nothing_is_wrong(paths)
    successor.finish()
    nothing_is_wrong(paths)
    if not paths.committed.exists():  # both were told that they had been overtaken, or released
        make_attempt(paths, Ledger, "commit")(HaltingOps())
    assert paths.committed.exists()
    nothing_is_wrong(paths)


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(("zombie_end", "end"), [("commit", "commit"), ("commit", "release"), ("release", "commit")])
@pytest.mark.parametrize("kind", [Ledger, NearSighted])
@pytest.mark.parametrize("zombie_kind", [Zombie, SweepingZombie])
def test_a_zombie_that_sees_what_it_wants_harms_nothing(
    zombie_kind: type[Ledger], kind: type[Ledger], zombie_end: str, end: str, begun: bool, tmp_path: Path
) -> None:
    """Two workers take turns at any two operations, no look at the file system helping one or both of them.

    Whatever is committed at any moment is complete and fits its manifest, and the tar can be committed in the end. Where the
    successor halts is drawn anew for each case: all cases together try most pairs.
    """
    counting = HaltingOps()
    make_attempt(TarPaths(tmp_path / "count", "a"), Ledger, "commit")(counting)
    chance = random.Random(f"{zombie_kind} {kind} {zombie_end} {end} {begun}")
    for halt_at in range(counting.count + 3):
        for second_halt in (None, *chance.sample(range(counting.count + 3), 2)):
            paths = TarPaths(tmp_path / f"{halt_at}-{second_halt}", "a")
            if begun:
                make_attempt(paths, Ledger, "release")(HaltingOps())
            zombie = Actor(HaltingOps(halt_at), make_attempt(paths, zombie_kind, zombie_end))
            take_turns(paths, zombie, Actor(HaltingOps(second_halt), make_attempt(paths, kind, end)))


@pytest.mark.parametrize("moment", ["before its last look at the claim", "after it"])
def test_a_slow_takeover_never_makes_another_commit_its_short_copy(moment: str, paths: TarPaths) -> None:
    """A worker overtaken while it copies the partial gives up, even if its copy took its place late; the other commits."""
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
            if moment.startswith("before") and not successor and paths.private_partials():
                self.overtake()

        def rename(self, source: Path, target: Path) -> None:
            if moment.startswith("after") and target == paths.partial and not successor:
                kept = source.with_name("kept")  # or the successor would have swept it up
                os.link(source, kept)
                self.overtake()
                kept.rename(source)
            super().rename(source, target)

    with pytest.raises(ClaimLostError):
        take(paths, ops=Overtaken())
    assert paths.partial.read_bytes().count(b"\n") == (1 if moment.startswith("after") else 3)
    successor[0].commit()
    assert paths.committed.read_bytes().count(b"\n") == 3


def test_an_attempt_has_a_name_of_its_own_until_it_ends(paths: TarPaths) -> None:
    """While it runs the partial has two names; afterwards the public one is left, or the committed file alone."""
    for end in (Ledger.release, Ledger.abandon, Ledger.commit):
        ledger = take(paths)
        (private,) = paths.private_partials()
        assert private.samefile(paths.partial)
        end(ledger)
        assert paths.private_partials() == []
        assert paths.partial.exists() == (end is not Ledger.commit)
    assert read_manifest(paths.attempt) is None


def test_a_manifest_speaks_of_committed_files_only(paths: TarPaths) -> None:
    """What is known of a partial is kept apart, so that no late release can void a committed file's manifest."""
    late = take(paths)
    late.release()
    assert read_manifest(paths.manifest) is None
    attempt = read_manifest(paths.attempt)
    assert attempt is not None
    assert attempt.verdict == "in_progress"
    zombie = Zombie.take(paths, IDENTITY, FINGERPRINT, FIELDS, clock=Clock())
    take(paths).commit()
    zombie.release()
    assert committed_fault(paths, TAR, read_manifest(paths.manifest)) is None


def test_what_a_worker_killed_after_its_commit_left_is_removed(paths: TarPaths) -> None:
    """The partial as a second name of the committed file goes; another file of that name stays."""
    take(paths).commit()
    os.link(paths.committed, paths.partial)
    Ledger.tidy(paths, FileOps())
    assert not paths.partial.exists()
    paths.partial.write_bytes(b"")
    Ledger.tidy(paths, FileOps())
    assert paths.partial.exists()
    paths.committed.unlink()
    Ledger.tidy(paths, FileOps())
    assert paths.partial.exists()


def test_errors_are_retried_though_the_committed_file_has_a_second_name(paths: TarPaths) -> None:
    """A partial that a killed worker left beside its committed file does not bring the error records back."""
    ledger = take(paths)
    append(ledger, "a.wav")
    error = ErrorRecord(tar_file="/in/a.tar", audio_file="b.wav", error="no", error_kind="backend")
    ledger.append(error, [encode_record(error)])
    ledger.commit()
    os.link(paths.committed, paths.partial)
    ledger = take(paths, retry_errors=True)
    assert ledger.done == []
    paths.previous.unlink()  # as an overtaken worker may do
    assert ledger.reusable_line(0, "a.wav") == encode_record(token_record("a.wav"))
    assert ledger.reusable_line(1, "b.wav") is None
    append(ledger, "a.wav", "b.wav")
    assert ledger.commit().errors == {}


def test_a_file_committed_from_another_tar_never_stands_beside_a_new_manifest(paths: TarPaths) -> None:
    """Where errors of a tar that has changed are retried, a crash at any operation leaves a fitting pair, or no file."""
    take(paths).commit()
    changed = InputIdentity(IDENTITY.tar_file, IDENTITY.size, IDENTITY.mtime_ns + 1)

    def retry(ops: FileOps) -> None:
        ledger = Ledger.take(paths, changed, FINGERPRINT, FIELDS, retry_errors=True, ops=ops, clock=Clock())
        assert ledger.done == []
        try:
            append(ledger, "a.wav")
            ledger.commit()
        finally:
            ledger._close()

    for crash_at in itertools.count():
        try:
            retry(CrashingOps(crash_at))
        except SimulatedCrash:
            if paths.committed.exists():
                assert committed_fault(paths, TAR, read_manifest(paths.manifest)) is None
                continue
            Ledger.erase(paths, FileOps())
            take(paths).commit()
        else:
            break
    assert paths.committed.read_bytes().count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("end", ["commit", "release", "abandon", "start_over", "none"])
def test_no_sign_of_life_outlives_its_ledger(end: str, paths: TarPaths) -> None:
    """However an attempt ends, and if nobody ends it, its thread ends too."""
    others = set(threading.enumerate())
    ledger = take(paths)
    (thread,) = set(threading.enumerate()) - others
    if end != "none":
        getattr(ledger, end)()
    del ledger
    gc.collect()
    thread.join()


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
    """Fsync goes by time: not once per line, and not only at the end. Lines and their sums are two files."""
    clock, ops = Clock(), CountingOps()
    ledger = take(paths, ops=ops, clock=clock)
    before = ops.fsyncs
    for number in range(100):
        clock.now += SYNC_SECONDS / 10
        append(ledger, f"{number}.wav")
    assert 18 <= ops.fsyncs - before <= 22
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


def test_device_time_adds_up_over_attempts(paths: TarPaths) -> None:
    """So do the seconds of the device, of which each attempt is told what is new when it ends; the file has them."""
    for _ in range(3):
        ledger = take(paths, device_seconds=lambda: DeviceSeconds(2.0, 0.5, 0.25))
        released = ledger.release()
    assert released.device_seconds == DeviceSeconds(6.0, 1.5, 0.75)
    committed = take(paths, device_seconds=DeviceSeconds).commit()
    assert committed.device_seconds == released.device_seconds
    assert read_manifest(paths.manifest) == committed


def test_device_time_of_a_commit_that_fails_is_kept(paths: TarPaths) -> None:
    """Who ends an attempt in vain has been told already what was new: it is in the manifest of the release that follows."""
    told = iter([DeviceSeconds(2.0, 0.5, 0.25)])

    class Full(FileOps):
        def rename(self, source: Path, target: Path) -> None:
            if target == paths.committed:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().rename(source, target)

    ledger = take(paths, ops=Full(), device_seconds=lambda: next(told, DeviceSeconds()))
    with pytest.raises(OSError, match="No space"):
        ledger.commit()
    assert ledger.release().device_seconds == DeviceSeconds(2.0, 0.5, 0.25)


class TestLinesLeftForTheNextAttempt:
    """Those of tools.adopt beyond the first clip that has none."""

    LEFT = ("a", "", "c")
    """The first is in the partial, the second is to be made."""

    def leave(self, ledger: Ledger) -> None:
        nothing = ErrorRecord(tar_file="/in/a.tar", audio_file="b", error="to be made", error_kind="backend")
        ledger.leave_for_next(encode_record(token_record(name) if name else nothing) + b"\n" for name in self.LEFT)

    def test_they_are_used_by_number_and_name(self, paths: TarPaths) -> None:
        """Where the next attempt gets to them; the commit removes them."""
        ledger = take(paths)
        append(ledger, "a")
        self.leave(ledger)
        ledger.release()
        ledger = take(paths)
        assert ledger.done == ["a"]
        assert [ledger.reusable_line(1, "b"), ledger.reusable_line(2, "d"), ledger.reusable_line(1, "c")] == [None] * 3
        assert ledger.reusable_line(2, "c") == encode_record(token_record("c"))
        append(ledger, "b", "c")
        ledger.commit()
        assert list(paths.output_dir.glob("*")) == [paths.output_dir / ".run", paths.committed]
        assert list(paths.attempt.parent.iterdir()) == []

    def test_a_worker_that_was_overtaken_leaves_none(self, paths: TarPaths) -> None:
        """The lines of the attempt that goes on are not replaced; the private files go with its commit."""
        zombie = take(paths)
        as_if_elsewhere(paths)
        successor = take(paths)
        with pytest.raises(ClaimLostError):
            self.leave(zombie)
        assert not paths.previous.exists()
        successor.commit()
        assert sorted(path.name for path in paths.output_dir.iterdir()) == [".run", "a.jsonl"]
        assert list(paths.attempt.parent.iterdir()) == []


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
    ledger = Ledger.take(paths, IDENTITY, FINGERPRINT, FIELDS, task="0003/12")
    claim = read_claim(paths.claim)
    assert isinstance(claim, Claim)
    assert (claim.pid, claim.task) == (os.getpid(), "0003/12")
    ledger.release()
    assert read_claim(paths.claim) is None


@pytest.mark.parametrize("attempt", ["a/b", "../../../x", "", "nul\0", "x" * 5000, "."])
@pytest.mark.parametrize("where", ["claim", "attempt"])
def test_a_made_up_attempt_names_no_file(paths: TarPaths, where: str, attempt: str) -> None:
    """Anything may stand in claims and attempts: what they call an attempt is no part of a path unless it is as ours are."""
    ledger = take(paths)
    append(ledger, "a.wav")
    ledger.release() if where == "attempt" else ledger.sync()
    if where == "claim":
        as_if_elsewhere(paths)
        claim = read_claim(paths.claim)
        assert claim is not None
        paths.claim.write_bytes(msgspec.json.encode(msgspec.structs.replace(claim, attempt=attempt)))
        os.utime(paths.claim, (0, 0))
    else:
        known = read_manifest(paths.attempt)
        assert known is not None
        paths.attempt.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, attempt=attempt)))
    successor = take(paths)
    assert successor.done == ["a.wav"]
    successor.commit()


@pytest.mark.parametrize("change", [(b'e_rate":1000', b'e_rate":0'), (b'samples":4000', b'samples":-4')])
def test_an_old_line_with_impossible_numbers_is_made_again(paths: TarPaths, change: tuple[bytes, bytes]) -> None:
    """Partials of older versions have no sums: what their lines say has to be possible, and ends no worker with a bug."""
    ledger = take(paths)
    append(ledger, "a.wav", "b.wav")
    ledger.release()
    for sums in paths.all_private_sums():
        sums.unlink()
    first, second = paths.partial.read_bytes().splitlines(keepends=True)
    paths.partial.write_bytes(first + second.replace(*change))
    assert take(paths).done == ["a.wav"]
