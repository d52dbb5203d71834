"""jobs/clip_journal.py: a long clip goes on where an attempt has left it, with the bytes of one go, or from its start."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import random
import shutil
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from support.crashing import CrashingOps, PowerLossOps, RefusingOps, SimulatedCrash
from support.envelope import Envelope, envelope_spec
from support.small_run import mulaw_spec, tokenize, wav, write_tar
from support.tars import audio_file, noise
from support.waiting import PATIENCE_SECONDS

from audio_tokenizers.base import Codes, Field
from audio_tokenizers.errors import ClaimLostError, ClipError, InfrastructureError
from audio_tokenizers.mulaw import FACTORY
from jobs import clip_decoder, clip_journal, conveyor, tar_reader
from jobs.audio import decode
from jobs.clip_journal import ClipJournal, LongClip, MemberSum, code_type, frames_kept, member_sum
from jobs.fileops import FileOps
from jobs.ledger import Ledger
from jobs.pending import Pending
from jobs.progress import Kept
from jobs.tar_paths import TarPaths
from jobs.tar_task import InputIdentity
from jobs.tar_work import TarResult
from jobs.token_counter import count_file
from jobs.token_statistics import read_statistics

IDENTITY = InputIdentity("/data/a.tar", 10**6, 17)
FIELD = Field(name="tokens", form="codes", width=3, codebook_size=1000)
CLIP = LongClip(7, "long.wav", MemberSum(123, 456))
SPEC = mulaw_spec(max_tokens_per_fragment=100, num_tokens_overlap=10)
LONG, LONG_FRAGMENTS = 1, 7
MEMBERS = {"a.wav": wav(40), "b.wav": wav(530, seed=1), "c.wav": wav(50, seed=2), "d.wav": wav(300, seed=3)}


def a_journal(path: Path, ops: FileOps | None = None, **changes: Any) -> ClipJournal:
    settings: dict[str, Any] = {"identity": IDENTITY, "fingerprint": "f", "field": FIELD, "clock": lambda: 0.0} | changes
    return ClipJournal(path, ops=ops or FileOps(), check_mine=settings.pop("check_mine", lambda: None), **settings)


def codes_of(fragments: int) -> Codes:
    """Those of a fragment each."""
    return np.random.default_rng(fragments).integers(0, 1000, (3, 5 + fragments))


def kept(codes: Codes) -> bytes:
    return np.ascontiguousarray(codes.T, "<u2").tobytes()


def written(path: Path, entries: int = 3, **changes: Any) -> bytes:
    """A journal of CLIP with an entry per fragment; returns the file's bytes."""
    journal = a_journal(path, **changes)
    for number in range(entries):
        assert journal.add(CLIP, number, number + 1, kept(codes_of(number)))
    journal.close()
    return path.read_bytes()


def found(journal: ClipJournal, clip: LongClip = CLIP) -> tuple[int, list[list[int]]]:
    codes: list[Codes] = [np.zeros((3, 0), np.int64)]
    fragments = journal.read(clip, codes.append)
    return fragments, np.concatenate(codes, axis=1).tolist()


def expected(fragments: int) -> tuple[int, list[list[int]]]:
    codes = [np.zeros((3, 0), np.int64), *map(codes_of, range(fragments))]
    return fragments, np.concatenate(codes, axis=1).tolist()


@given(lowest=st.integers(0, 1000), size=st.integers(1, 200_000))
def test_codes_are_kept_in_the_smallest_type_that_holds_them(lowest: int, size: int) -> None:
    """Every code of the field comes back as it was."""
    field = Field(name="tokens", form="codes", lowest=lowest, codebook_size=size)
    ends = np.array([lowest, lowest + size - 1])
    assert ends.astype(code_type(field)).tolist() == ends.tolist()
    assert code_type(field).itemsize == (1 if ends[1] < 256 else 2 if ends[1] < 65536 else 4)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_members_sum_leaves_the_file_where_it_stands(in_memory: bool, tmp_path: Path) -> None:
    """It is taken while a decoder reads, of a clip in memory or in a file."""
    data = bytes(range(256)) * 100
    (tmp_path / "a").write_bytes(data)
    with io.BytesIO(data) if in_memory else (tmp_path / "a").open("rb") as audio:
        audio.seek(77)
        assert member_sum(audio, lambda: None) == MemberSum(25600, zlib.crc32(data))
        assert audio.tell() == 77


def test_the_next_attempt_finds_what_was_added(tmp_path: Path) -> None:
    """It copies it, adds to the copy, and the one after finds it all."""
    written(tmp_path / "1")
    second = a_journal(tmp_path / "2")
    second.take_over([tmp_path / "none", tmp_path / "1"], first=0)
    assert (second.clip, found(second)) == (7, expected(3))
    assert not second.may_know(6, "long.wav")
    assert not second.may_know(7, "other.wav")
    assert second.may_know(7, "long.wav")
    assert second.add(CLIP, 3, 4, kept(codes_of(3)))
    second.close()
    third = a_journal(tmp_path / "3")
    third.take_over([tmp_path / "1", tmp_path / "2"], first=7)
    assert found(third) == expected(4)
    third.forget()
    assert not (tmp_path / "3").exists()
    assert third.clip is None
    late = a_journal(tmp_path / "4")
    late.take_over([tmp_path / "2"], first=8)  # the clip has its line
    assert late.clip is None
    assert not (tmp_path / "4").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"identity": dataclasses.replace(IDENTITY, size=5)},
        {"identity": dataclasses.replace(IDENTITY, mtime_ns=5)},
        {"fingerprint": "other"},
        {"field": dataclasses.replace(FIELD, width=1)},
        {"field": dataclasses.replace(FIELD, codebook_size=70_000)},
    ],
)
def test_a_journal_of_another_tar_or_recipe_is_not_used(change: dict[str, Any], tmp_path: Path) -> None:
    """Its codes would be others."""
    written(tmp_path / "1")
    journal = a_journal(tmp_path / "2", **change)
    journal.take_over([tmp_path / "1"], first=0)
    assert journal.clip is None
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(CLIP, index=8),
        dataclasses.replace(CLIP, name="other.wav"),
        dataclasses.replace(CLIP, member=MemberSum(124, 456)),
        dataclasses.replace(CLIP, member=MemberSum(123, 457)),
    ],
)
def test_a_journal_of_another_clip_is_not_used(other: LongClip, tmp_path: Path) -> None:
    """Another place, name or content is another clip; which begins its own journal, from its start only."""
    written(tmp_path / "1")
    journal = a_journal(tmp_path / "2")
    journal.take_over([tmp_path / "1"], first=0)
    assert found(journal, other) == expected(0)
    assert not journal.add(other, 3, 4, kept(codes_of(3)))
    assert journal.add(other, 0, 1, kept(codes_of(0)))
    assert found(journal, other) == expected(1)
    assert found(journal) == expected(0)
    assert not journal.add(CLIP, 3, 4, kept(codes_of(3)))
    journal.close()


def test_a_journal_has_no_gap(tmp_path: Path) -> None:
    """What does not follow on what is there is not added."""
    journal = a_journal(tmp_path / "1")
    assert not journal.add(CLIP, 2, 3, kept(codes_of(2)))
    assert not (tmp_path / "1").exists()
    assert journal.add(CLIP, 0, 2, kept(np.concatenate([codes_of(0), codes_of(1)], axis=1)))
    assert not journal.add(CLIP, 1, 3, kept(codes_of(2)))
    assert journal.add(CLIP, 2, 3, kept(codes_of(2)))
    assert found(journal) == expected(3)
    journal.close()


def test_a_journal_cut_at_every_byte_keeps_its_whole_entries(tmp_path: Path) -> None:
    """A torn end is cut off; one that lacks its header, or all entries, is none."""
    data, ends = b"", []
    for entries in range(1, 4):
        data = written(tmp_path / f"{entries}", entries)
        ends.append(len(data))
    for cut in range(len(data) + 1):
        (tmp_path / "1").write_bytes(data[:cut])
        journal = a_journal(tmp_path / "next")
        journal.take_over([tmp_path / "1"], first=0)
        whole = sum(end <= cut for end in ends)
        assert found(journal) == expected(whole), cut
        assert (tmp_path / "next").exists() == bool(whole)
        journal.forget()


@pytest.mark.slow
def test_a_damaged_journal_never_gives_a_wrong_code(tmp_path: Path) -> None:
    """Whatever happened to its bytes, what is found is a beginning of what was written."""
    data = written(tmp_path / "whole", 6)
    chance = random.Random(0)
    for _ in range(400):
        at, length = chance.randrange(len(data)), chance.choice([1, 1, 4, 50])
        damaged = {
            "flipped": data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            "zeros": data[:at] + bytes(length) + data[at + length :],
            "less": data[:at] + data[at + length :],
            "more": data[:at] + chance.randbytes(length) + data[at:],
            "twice": data + data[at:],
            "garbage": data[:at] + chance.randbytes(len(data) - at),
        }[chance.choice(["flipped", "zeros", "less", "more", "twice", "garbage"])]
        (tmp_path / "1").write_bytes(damaged)
        journal = a_journal(tmp_path / "next")
        journal.take_over([tmp_path / "1"], first=0)
        fragments, codes = found(journal)
        assert (fragments, codes) == expected(fragments)
        journal.forget()


def test_what_is_damaged_after_the_take_over_is_not_gone_on_with(tmp_path: Path) -> None:
    """The whole entries are used, and nothing is added behind a gap."""
    written(tmp_path / "1")
    journal = a_journal(tmp_path / "2")
    journal.take_over([tmp_path / "1"], first=0)
    data = (tmp_path / "2").read_bytes()
    (tmp_path / "2").write_bytes(data[:-1])
    assert found(journal) == expected(2)
    assert not journal.add(CLIP, 2, 3, kept(codes_of(2)))
    assert not (tmp_path / "2").exists()


def test_an_entry_is_due_after_a_while_or_when_there_is_much(tmp_path: Path) -> None:
    """Counted from when the clip's turn came, and from the entry before; never for the clips in between that are quick."""
    now = [0.0]
    journal = a_journal(tmp_path / "1", clock=lambda: now[0])
    other = dataclasses.replace(CLIP, index=8)
    for second in range(60):  # two clips in turn, of a second each
        now[0] = float(second)
        assert not journal.is_time(CLIP if second % 2 else other, 1000)
    now[0] = 88.9
    assert not journal.is_time(CLIP, 1000)
    assert journal.is_time(CLIP, clip_journal.MOST_UNKEPT_BYTES)
    now[0] = 89.0
    assert journal.is_time(CLIP, 1000)
    journal.add(CLIP, 0, 1, kept(codes_of(0)))
    assert not journal.is_time(CLIP, 1000)
    now[0] = 119.0
    assert journal.is_time(CLIP, 1000)
    journal.close()


def test_a_worker_that_was_overtaken_begins_no_journal(tmp_path: Path) -> None:
    """Whoever commits the tar may have looked for journals already."""

    def lost() -> None:
        raise ClaimLostError("another worker has taken it over")

    journal = a_journal(tmp_path / "1", check_mine=lost)
    with pytest.raises(ClaimLostError):
        journal.add(CLIP, 0, 1, kept(codes_of(0)))
    assert not (tmp_path / "1").exists()


class Recording:
    """mu-law that counts the fragments that it encodes; those after `hold` wait until they are let go."""

    def __init__(self, hold: int | None = None, fail_at: int | None = None) -> None:
        self.info = FACTORY.describe({}, "cpu")
        self.fragments: list[int] = []
        self.let_go = threading.Event()
        self._hold = hold
        self._fail_at = fail_at

    def encode(self, waves: Sequence[Any]) -> list[Any]:
        if self._hold is not None and len(self.fragments) >= self._hold:
            assert self.let_go.wait(PATIENCE_SECONDS)
        if self._fail_at is not None and len(self.fragments) >= self._fail_at:
            raise InfrastructureError("the device is gone")
        self.fragments += map(len, waves)
        return FACTORY.load({}, "cpu").encode(waves)


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every clip of more than 80 samples is long, and each fragment is kept as it comes."""
    monkeypatch.setattr(clip_decoder, "LONG_CLIP_SECONDS", 0.01)
    monkeypatch.setattr(clip_journal, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(conveyor, "CALLS_PER_STEP", 0)  # beside the first


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "in" / "speech.tar", MEMBERS)


@pytest.fixture
def reference(tar: Path, tmp_path: Path) -> bytes:
    """The bytes of one go."""
    run(tar, tmp_path / "reference")
    return committed(tmp_path / "reference")


def committed(output: Path) -> bytes:
    return (output / "speech.jsonl").read_bytes()


def run(tar: Path, output: Path, ops: FileOps | None = None, **settings: Any) -> TarResult:
    return tokenize(tar, output, ops, spec=SPEC, **settings)


def journals(output: Path) -> list[Path]:
    return TarPaths(output, "speech").private_journals()


def stopped_within(tar: Path, output: Path, fragments: int, **settings: Any) -> list[Kept]:
    """An attempt that is stopped when so many fragments of the long clip have been kept; what it told of them."""
    told: list[Kept] = []
    backend = Recording(hold=fragments + 1)  # with that of the clip before

    def stop() -> bool:
        if told and told[-1].after >= told[-1].before + fragments:
            backend.let_go.set()
        return backend.let_go.is_set()

    result = run(tar, output, backend=backend, stop=stop, on_kept=told.append, **settings)
    assert result.outcome == "yielded"
    return told


def test_a_long_clip_goes_on_where_it_was_left(keeping: None, tar: Path, reference: bytes, tmp_path: Path) -> None:
    """A stop within it keeps the fragments so far, with the one that the device had in hand: they are not encoded again."""
    output = tmp_path / "out"
    told = stopped_within(tar, output, 3)
    assert [(one.clip, one.before) for one in told] == [(LONG, 0)] * len(told)
    assert told[-1].after == 4
    assert len(journals(output)) == 1
    backend = Recording()
    later: list[Any] = []
    run(tar, output, backend=backend, on_kept=later.append)
    assert committed(output) == reference
    assert len(backend.fragments) == LONG_FRAGMENTS - 4 + 1 + 4
    assert [(one.clip, one.before, one.after) for one in later if one.clip == LONG] == [(LONG, 4, 5), (LONG, 4, 6)]
    assert not journals(output)


def test_a_clip_from_a_journal_has_the_statistics_of_one_go(
    keeping: None, tar: Path, reference: bytes, tmp_path: Path
) -> None:
    """Codes of an earlier attempt are counted like those of this one."""
    output = tmp_path / "out"
    stopped_within(tar, output, 3)
    run(tar, output)
    found = [read_statistics(TarPaths(folder, "speech").manifest) for folder in (output, tmp_path / "reference")]
    assert found[0] is not None
    assert found[0] == found[1] == count_file(output / "speech.jsonl", SPEC.fields)


def test_a_long_clip_is_told_while_it_goes_on(keeping: None, tar: Path, tmp_path: Path) -> None:
    """Of its audio and of its tar's bytes, as fragments are kept; what an attempt goes on with counts no second time."""
    output = tmp_path / "out"
    told: list[list[tuple[float, int]]] = [[], []]
    stopped_within(tar, output, 3, on_encoded=lambda *said: told[0].append(said))
    run(tar, output, on_encoded=lambda *said: told[1].append(said))
    seconds = [[one for one, _ in attempt] for attempt in told]
    clips = [len(soundfile.read(io.BytesIO(audio))[0]) / 8000 for audio in MEMBERS.values()]
    assert sum(map(sum, seconds)) == pytest.approx(sum(clips))
    assert sum(seconds[0]) > clips[0] + 0.3 * clips[LONG]
    assert all(one >= 0 for attempt in seconds for one in attempt)
    size = tar.stat().st_size
    for attempt in told:
        used = [one for _, one in attempt]
        assert used == sorted(used)
        assert used[-1] <= size
    long_begins = told[0][0][1]
    assert [used for _, used in told[0][1:] if not long_begins < used < size] == []
    assert told[1][0][1] > long_begins


def test_parts_are_told_by_how_much_of_their_recording_is_read(tmp_path: Path) -> None:
    """Or the first segment of a recording would stand for all of its bytes."""
    said = {"segments": [{"start": 10 * number, "end": 10 * number + 10} for number in range(25)]}
    members = {"a.wav": wav(2_000_000), "a.json": msgspec.json.encode(said)}
    tar, told = write_tar(tmp_path / "speech.tar", members), []
    tokenize(tar, tmp_path / "out", spec=mulaw_spec(segments=True), on_encoded=lambda *said: told.append(said))
    used = [used for _, used in told]
    assert used == sorted(used)
    assert used[0] < tar.stat().st_size / 2
    assert used[-1] > tar.stat().st_size * 0.9
    assert sum(seconds for seconds, _ in told) == pytest.approx(250.0)


def test_frames_kept_are_counted_without_their_codes(tmp_path: Path) -> None:
    """Those of a clip without a line, in whole entries; a file that is none, or not there, has none."""
    path = tmp_path / "1"
    assert frames_kept(path, 0) == 0
    data = written(path)
    frames = expected(3)[1]
    assert frames_kept(path, 0) == frames_kept(path, CLIP.index) == len(frames[0])
    assert frames_kept(path, CLIP.index + 1) == 0
    for size in range(len(data)):
        path.write_bytes(data[:size])
        assert frames_kept(path, 0) in (0, len(expected(1)[1][0]), len(expected(2)[1][0]))
    for seed in range(200):
        random.seed(seed)
        path.write_bytes(data[: random.randrange(200)] + random.randbytes(random.randrange(200)))
        assert frames_kept(path, 0) >= 0
    assert frames_kept(tmp_path, 0) == 0


@pytest.mark.parametrize("cut", [{"channel": "split"}, {"segments": True}], ids=str)
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_long_part_goes_on_where_it_was_left(
    in_memory: bool, cut: dict[str, Any], keeping: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each channel of a telephone call, and each segment, that takes longer than a job may."""
    if not in_memory:
        monkeypatch.setattr(tar_reader, "AUDIO_IN_MEMORY", 0)
    stereo = audio_file(noise(530, 2), 8000, subtype="PCM_16")
    said = b'{"segments": [{"start": 0, "end": 0.066}, {"start": 0.001, "end": 0.066}]}'
    tar = write_tar(tmp_path / "in" / "speech.tar", {"a.wav": stereo, "a.json": said})
    spec = mulaw_spec(max_tokens_per_fragment=100, num_tokens_overlap=10, **cut)
    tokenize(tar, tmp_path / "reference", spec=spec)
    output, told, encoded = tmp_path / "out", [(-1, 0)], 0
    for _ in range(2 * LONG_FRAGMENTS):
        backend = Recording()
        kept: list[Kept] = []
        result = tokenize(
            tar, output, spec=spec, backend=backend, stop=lambda kept=kept: bool(kept), on_kept=kept.append,
            one_at_a_time=True,
        )  # fmt: skip
        encoded += len(backend.fragments)
        told += [(one.clip, one.after) for one in kept]
        if result.outcome == "committed":
            break
    assert committed(output) == committed(tmp_path / "reference")
    assert told == sorted(set(told))
    assert {clip for clip, _ in told} == {-1, 0, 1}
    assert encoded < 3 * LONG_FRAGMENTS
    assert not journals(output)


@pytest.mark.slow
def test_attempts_that_get_one_fragment_further_each_come_to_the_end(
    keeping: None, tar: Path, reference: bytes, tmp_path: Path
) -> None:
    """However little a job's time suffices for, the clip ends, and nothing is encoded twice."""
    output, encoded = tmp_path / "out", 0
    for _ in range(40):
        if (output / "speech.jsonl").exists():
            break
        backend = Recording(hold=1)
        calls = iter(range(10**9))

        def stop(backend: Recording = backend, calls: Iterator[int] = calls) -> bool:
            if backend.fragments and next(calls) > 1:
                backend.let_go.set()
            return backend.let_go.is_set()

        run(tar, output, backend=backend, stop=stop)
        encoded += len(backend.fragments)
    assert committed(output) == reference
    assert encoded <= LONG_FRAGMENTS + 1 + 1 + 4 + 4  # clips in between that had no line yet are short


@pytest.mark.slow
def test_a_crash_at_any_file_operation_costs_nothing(keeping: None, tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Stopped before or after each operation, then resumed: the same bytes, and nothing is left beside them."""
    counting = CrashingOps()
    run(tar, tmp_path / "count", counting)
    assert counting.count > 50
    for after in (False, True):
        for crash_at in range(counting.count):
            output = tmp_path / "out"
            shutil.rmtree(output, ignore_errors=True)
            try:
                run(tar, output, CrashingOps(crash_at, after=after))
            except SimulatedCrash:
                if (output / "speech.jsonl").exists():
                    assert committed(output) == reference
                    Ledger.tidy(TarPaths(output, "speech"), FileOps())
                else:
                    run(tar, output)
            assert committed(output) == reference
            assert not journals(output)


def test_crashes_in_a_row_at_every_operation_still_end(keeping: None, tar: Path, reference: bytes, tmp_path: Path) -> None:
    """A worker that dies at operation 20, 21, 22, ... of every life ends with the same bytes."""
    output = tmp_path / "out"
    for life in range(100):
        if (output / "speech.jsonl").exists():
            break
        try:
            run(tar, output, CrashingOps(20 + life, after=bool(life % 2)))
        except SimulatedCrash:
            continue
    assert committed(output) == reference


@pytest.mark.slow
def test_a_refusal_at_any_file_operation_costs_nothing(keeping: None, tar: Path, reference: bytes, tmp_path: Path) -> None:
    """No room, or a file system that does not answer: the attempt ends for it, and the next one is right."""
    counting = CrashingOps()
    run(tar, tmp_path / "count", counting)

    for at in range(counting.count):
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        with suppress(InfrastructureError):
            run(tar, output, RefusingOps(at, (errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EDQUOT)[at % 4]))
        if not (output / "speech.jsonl").exists():
            run(tar, output)
        assert committed(output) == reference


@pytest.mark.slow
def test_power_loss_at_any_file_operation_costs_nothing(keeping: None, tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Bytes and names that no fsync had made durable may vanish; the bytes in the end are the same."""
    counting = CrashingOps()
    run(tar, tmp_path / "count", counting)
    for crash_at in range(counting.count):
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        ops = PowerLossOps(crash_at, after=bool(crash_at % 2), seed=crash_at)
        try:
            run(tar, output, ops)
        except SimulatedCrash:
            ops.lose_power()
            if not (output / "speech.jsonl").exists():
                run(tar, output)
        assert committed(output) == reference


def test_a_journal_goes_only_after_its_line_is_durable(keeping: None, tar: Path, tmp_path: Path) -> None:
    """Or a power loss in between would take both, and with them all the hours of the clip."""
    steps: list[str] = []

    class Watching(FileOps):
        def fsync(self, fd: int) -> None:
            super().fsync(fd)
            steps.append("fsync")

        def write(self, fd: int, data: bytes) -> None:
            super().write(fd, data)
            if data.startswith(b'{"tar_file"') and b"b.wav" in data:
                steps.append("line")

        def unlink(self, path: Path) -> None:
            super().unlink(path)
            if ".clip." in path.name:
                steps.append("forgotten")

    run(tar, tmp_path / "out", Watching())
    since_line = steps[steps.index("line") :]
    assert since_line.index("fsync") < since_line.index("forgotten")


@pytest.mark.slow
def test_a_journal_that_is_damaged_costs_fragments_and_never_makes_a_wrong_one(
    keeping: None, tar: Path, reference: bytes, tmp_path: Path
) -> None:
    """Cut anywhere, flipped anywhere, or of a clip whose bytes are others by now: the bytes of one go."""
    begun, output = tmp_path / "begun", tmp_path / "out"
    stopped_within(tar, begun, 3)
    (journal,) = journals(begun)
    data, chance = journal.read_bytes(), random.Random(1)
    flipped = [data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] for at in chance.sample(range(len(data)), 20)]
    for damaged in [b"", *(data[:cut] for cut in range(1, len(data), 23)), *flipped, data + b"\0" * 4096]:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(begun, output)
        (output / journal.relative_to(begun)).write_bytes(damaged)
        run(tar, output)
        assert committed(output) == reference
        assert not journals(output)


def test_a_clip_whose_bytes_have_changed_is_begun_again(keeping: None, tar: Path, tmp_path: Path) -> None:
    """Even if the tar has the size and the time that it had."""
    output, before = tmp_path / "out", tar.stat()
    stopped_within(tar, output, 3)
    write_tar(tar, MEMBERS | {"b.wav": wav(530, seed=9)})
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
    run(tar, output)
    run(tar, tmp_path / "fresh")
    assert committed(output) == committed(tmp_path / "fresh")


def test_another_tar_of_the_same_name_has_no_use_for_it(keeping: None, tar: Path, tmp_path: Path) -> None:
    """Nor is it left beside it."""
    output = tmp_path / "out"
    stopped_within(tar, output, 3)
    write_tar(tar, {"x.wav": wav(40), "b.wav": wav(530, seed=1)})
    backend = Recording()
    run(tar, output, backend=backend)
    run(tar, tmp_path / "fresh")
    assert committed(output) == committed(tmp_path / "fresh")
    assert len(backend.fragments) == 1 + LONG_FRAGMENTS
    assert not journals(output)


def test_force_forgets_it(keeping: None, tar: Path, tmp_path: Path) -> None:
    """All that is known of a tar goes, and this too."""
    output = tmp_path / "out"
    stopped_within(tar, output, 3)
    Ledger.erase(TarPaths(output, "speech"), FileOps())
    assert not journals(output)


def test_retrying_errors_does_not_cost_the_long_clip_in_hand(
    keeping: None, tar: Path, reference: bytes, tmp_path: Path
) -> None:
    """Lines are used again from another file then, and the clip that has none goes on all the same."""
    output = tmp_path / "out"
    stopped_within(tar, output, 3)
    backend = Recording()
    run(tar, output, backend=backend, retry_errors=True)
    assert committed(output) == reference
    assert len(backend.fragments) == LONG_FRAGMENTS - 4 + 1 + 4


def test_trouble_with_the_device_keeps_what_was_kept(keeping: None, tar: Path, reference: bytes, tmp_path: Path) -> None:
    """The next attempt goes on from there."""
    output = tmp_path / "out"
    told: list[Kept] = []
    with pytest.raises(InfrastructureError, match="the device is gone"):
        run(tar, output, backend=Recording(fail_at=5), on_kept=told.append)
    assert told[-1].after == 4
    backend = Recording()
    run(tar, output, backend=backend)
    assert committed(output) == reference
    assert len(backend.fragments) == LONG_FRAGMENTS - 4 + 1 + 4


def test_a_clip_that_is_shorter_than_its_journal_is_begun_again(
    keeping: None, tar: Path, reference: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was wrong then or is now, it is the machine's: that is told, and the next attempt begins with the clip."""
    output = tmp_path / "out"
    stopped_within(tar, output, 3)
    plain = decode

    def shorter(*args: Any, **settings: Any) -> Iterator[tuple[Any, int]]:
        for wave, rate in plain(*args, **settings):
            yield wave[:150], rate

    with monkeypatch.context() as patch:
        patch.setattr(clip_decoder, "decode", shorter)
        with pytest.raises(InfrastructureError, match=r"b\.wav: shorter than an earlier attempt found it"):
            run(tar, output)
    assert not journals(output)
    run(tar, output)
    assert committed(output) == reference


def test_a_refused_clip_ends_without_its_rest(keeping: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same record, wherever it was interrupted; what follows the refused fragment is not encoded, be it hours."""
    tar = write_tar(tmp_path / "in" / "speech.tar", {"b.wav": wav(20_000)})
    monkeypatch.setattr(conveyor, "ITEMS_AHEAD", 4)

    class Refusing(Recording):
        def encode(self, waves: Sequence[Any]) -> list[Any]:
            if len(self.fragments) == refused_at:
                self.fragments += map(len, waves)
                raise ClipError("backend", "odd")
            if len(self.fragments) > refused_at:
                assert told_of_it.wait(PATIENCE_SECONDS)
            return super().encode(waves)

    take, told_of_it = Pending.encoded, threading.Event()

    def encoded(pending: Pending, *what: Any) -> int:
        grown = take(pending, *what)
        if pending.refused:
            told_of_it.set()
        return grown

    monkeypatch.setattr(Pending, "encoded", encoded)
    refused_at = 6
    backend = Refusing()
    run(tar, tmp_path / "reference", backend=backend)
    assert b'"error":"odd"' in committed(tmp_path / "reference")
    assert len(backend.fragments) < 30  # of 250
    output = tmp_path / "out"
    told: list[Any] = []
    refused_at = 999
    backend = Refusing(hold=3)

    def stop() -> bool:
        if told:
            backend.let_go.set()
        return backend.let_go.is_set()

    run(tar, output, backend=backend, stop=stop, on_kept=told.append)
    refused_at = 6 - told[-1].after
    run(tar, output, backend=Refusing())
    assert committed(output) == committed(tmp_path / "reference")


def test_a_clip_that_becomes_a_crash_record_needs_its_journal_no_more(keeping: None, tar: Path, tmp_path: Path) -> None:
    """It is not decoded again, and nothing is left of it."""
    output = tmp_path / "out"
    stopped_within(tar, output, 3)
    run(tar, output, crash_clips=(LONG,))
    assert committed(output).splitlines()[LONG].endswith(b'"error_kind":"crash"}')
    assert not journals(output)


class Names(FileOps):
    """Notes the files that are made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def create(self, path: Path) -> int:
        self.made.append(path.name)
        return super().create(path)


@pytest.mark.parametrize("long_seconds", [300.0, 0.01])
def test_a_clip_that_is_short_or_quick_has_no_journal(
    long_seconds: float, tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one below five minutes, however slow, nor one that takes less than half a minute, however long."""
    monkeypatch.setattr(clip_decoder, "LONG_CLIP_SECONDS", long_seconds)
    monkeypatch.setattr(clip_journal, "KEEP_SECONDS", 0.0 if long_seconds == 300.0 else 1e9)
    monkeypatch.setattr(conveyor, "CALLS_PER_STEP", 0)
    ops = Names()
    run(tar, tmp_path / "out", ops)
    assert ops.made
    assert not [name for name in ops.made if ".clip." in name]


def test_a_journal_of_many_codes_waits_in_bounded_memory(
    keeping: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written when there is much of them, however little time has passed."""
    monkeypatch.setattr(clip_journal, "KEEP_SECONDS", 1e9)
    monkeypatch.setattr(clip_journal, "MOST_UNKEPT_BYTES", 200)
    tar = write_tar(tmp_path / "in" / "speech.tar", {"b.wav": wav(2000)})
    told: list[Kept] = []
    run(tar, tmp_path / "out", on_kept=told.append)
    assert len(told) >= 5


def test_floats_and_whole_clips_have_none(keeping: None, tmp_path: Path) -> None:
    """A ClipBackend gets a clip in one call, of which there is no half."""
    tar = write_tar(tmp_path / "in" / "speech.tar", {"b.wav": wav(2000)})
    ops = Names()
    tokenize(tar, tmp_path / "out", ops, spec=envelope_spec(), backend=Envelope())
    assert not [name for name in ops.made if ".clip." in name]
