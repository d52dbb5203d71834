"""jobs/tar_work.py: whatever happens, the committed bytes are those of an undisturbed run."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from support.crashing import CrashingOps, PowerLossOps, SimulatedCrash
from support.envelope import Envelope, envelope_spec
from support.lossy import damaged_tar, use_lossy_decode
from support.sentences import SENTENCES
from support.small_run import BAD_CLIP, CLIPS, mulaw_spec, small_tar, stopping_after, tokenize, wav, write_tar
from support.tars import audio_file, end_blocks, link_member, member, noise

from audio_tokenizers.base import Batching, Codes, Utterance, Values
from audio_tokenizers.errors import ClaimLostError, ClipError, InfrastructureError, UsageError
from audio_tokenizers.mulaw import FACTORY, mu_law_codes
from jobs.conveyor import Feeding
from jobs.damage import Damage
from jobs.fileops import FileOps
from jobs.ledger import Ledger
from jobs.mp3_frames import scan_mp3
from jobs.records import ErrorRecord, TokenRecord, decode_record
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tar_work import WrittenMeanwhileError
from jobs.token_sink import TokenSink
from jobs.validation import validate_file


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return small_tar(tmp_path / "in" / "speech.tar")


@pytest.fixture
def reference(tar: Path, tmp_path: Path) -> bytes:
    """The committed bytes of an undisturbed run."""
    tokenize(tar, tmp_path / "reference")
    return (tmp_path / "reference" / "speech.jsonl").read_bytes()


def committed(output: Path) -> bytes:
    return (output / "speech.jsonl").read_bytes()


def test_a_tar_becomes_a_committed_file_with_a_line_per_clip(tar: Path, tmp_path: Path) -> None:
    """Every clip is a record with its transcript, or a named error, in tar order; the manifest counts them."""
    result = tokenize(tar, tmp_path)
    lines = [json.loads(line) for line in committed(tmp_path).splitlines()]
    assert [line["audio_file"] for line in lines] == [f"{n:03}.wav" for n in range(CLIPS)]
    assert lines[0]["text"] == "clip 0, é 語"
    assert lines[0]["num_samples"] == 40
    assert lines[0]["token_shape"] == [1, 40]
    assert list(lines[BAD_CLIP]) == ["tar_file", "audio_file", "error", "error_kind"]
    assert lines[BAD_CLIP]["error_kind"] == "decode"
    assert result.manifest.clips == CLIPS
    assert result.manifest.errors == {"decode": 1}
    assert not list(tmp_path.glob("*.partial"))
    assert not list((tmp_path / ".run" / "claims").iterdir())


def test_a_share_of_the_clips(tmp_path: Path) -> None:
    """Others have no lines, are not decoded and are counted; a larger share has a smaller one's lines among its own; an
    attempt that stops resumes to the same bytes; the file is valid.
    """
    tar = small_tar(tmp_path / "speech.tar", clips=24)
    lines: list[set[bytes]] = []
    for ratio in (0.2, 0.5, 1.0):
        spec, output = mulaw_spec(subset_ratio=ratio), tmp_path / str(ratio)
        manifest = tokenize(tar, output, spec=spec).manifest
        lines.append(set(committed(output).splitlines()))
        assert (manifest.clips, manifest.outside_subset) == (len(lines[-1]), 24 - len(lines[-1]))
        assert validate_file(output / "speech.jsonl", manifest, spec).fault is None
    assert set() < lines[0] < lines[1] < lines[2]
    half = mulaw_spec(subset_ratio=0.5)
    again = tmp_path / "again"
    assert tokenize(tar, again, spec=half, **stopping_after(3)).outcome == "yielded"
    assert tokenize(tar, again, spec=half).outcome == "committed"
    assert committed(again) == committed(tmp_path / "0.5")


@pytest.mark.slow
def test_a_crash_at_any_file_operation_costs_nothing(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Stopped before or after each single operation, then resumed: the same bytes, and never an incomplete commit."""
    counting = CrashingOps()
    tokenize(tar, tmp_path / "count", counting)
    for after in (False, True):
        for crash_at in range(counting.count):
            output = tmp_path / f"{after}-{crash_at}"
            ops = CrashingOps(crash_at, after=after)
            with pytest.raises(SimulatedCrash):
                tokenize(tar, output, ops)
            if (output / "speech.jsonl").exists():
                assert committed(output) == reference
                Ledger.tidy(TarPaths(output, "speech"), FileOps())
            else:
                tokenize(tar, output)
            assert committed(output) == reference
            assert sorted(path.name for path in output.iterdir()) == [".run", "speech.jsonl"]


def test_crashes_in_a_row_at_every_operation_still_end(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """A worker that dies at operation 20, 21, 22, ... of every life makes progress and ends with the same bytes."""
    output = tmp_path / "out"
    lives = 0
    while not (output / "speech.jsonl").exists():
        lives += 1
        assert lives < 200
        try:
            tokenize(tar, output, CrashingOps(20 + lives, after=bool(lives % 2)))
        except SimulatedCrash:
            continue
    assert committed(output) == reference
    assert lives > 1


@pytest.mark.slow
def test_power_loss_at_any_file_operation_costs_nothing(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Bytes and names that no fsync had made durable may vanish; a committed file is complete all the same."""
    counting = CrashingOps()
    tokenize(tar, tmp_path / "count", counting)
    for seed in range(3):
        for crash_at in range(counting.count):
            output = tmp_path / f"{seed}-{crash_at}"
            ops = PowerLossOps(crash_at, after=bool((crash_at + seed) % 2), seed=1000 * seed + crash_at)
            with pytest.raises(SimulatedCrash):
                tokenize(tar, output, ops)
            ops.lose_power()
            if (output / "speech.jsonl").exists():
                assert committed(output) == reference
                continue
            tokenize(tar, output)
            assert committed(output) == reference


@pytest.mark.slow
def test_a_partial_cut_at_every_byte_of_its_last_lines_resumes(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """A torn tail of any length, of an error or of tokens, is repaired: no line is lost, doubled or fused."""
    lines = reference.splitlines(keepends=True)
    first_cut, last_cut = (len(b"".join(lines[:count])) for count in (BAD_CLIP, BAD_CLIP + 2))
    assert last_cut - first_cut > 250
    begun, output = tmp_path / "begun", tmp_path / "out"
    begin(tar, begun, b"")
    for cut in range(first_cut, last_cut + 1):
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(begun, output)
        (output / "speech.jsonl.partial").write_bytes(reference[:cut])
        tokenize(tar, output)
        assert committed(output) == reference, f"cut at byte {cut}"


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 4096, b"\xff\xfe", b'{"tar_file":1}\n', b"\n", b"\r\n", b"[]\n", b'{"tar_file":"x","audio_file":"y"}\n'],
)
def test_garbage_after_good_lines_is_cut_off(tail: bytes, tar: Path, reference: bytes, tmp_path: Path) -> None:
    """What a file system leaves after a power loss (NUL blocks, half lines) does not survive a resume."""
    good = b"".join(reference.splitlines(keepends=True)[:2])
    begin(tar, tmp_path / "out", good + tail)
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == reference


def test_a_changed_token_in_a_partial_is_not_kept(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """A line whose tokens are out of range ends the good prefix, and is made again."""
    lines = reference.splitlines(keepends=True)
    broken = lines[1].replace(b'"tokens":[[', b'"tokens":[[9', 1)
    begin(tar, tmp_path / "out", lines[0] + broken + lines[2])
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == reference


def begin(tar: Path, output: Path, partial: bytes) -> None:
    """Leave a run as a killed worker does: what is known of an attempt under way, and this partial."""
    result = tokenize(tar, output, **stopping_after(1))
    assert result.outcome == "yielded"
    (output / "speech.jsonl.partial").write_bytes(partial)


def damages(partial: bytes, chance: random.Random) -> dict[str, bytes]:
    """What disks, tools and people do to a file, at a place by chance."""
    at = chance.randrange(len(partial))
    digit = chance.choice([n for n, byte in enumerate(partial) if byte in b"0123456789"])
    return {
        "a flipped bit": partial[:at] + bytes([partial[at] ^ 1 << chance.randrange(8)]) + partial[at + 1 :],
        "another digit": partial[:digit] + b"%d" % ((partial[digit] - 47) % 10) + partial[digit + 1 :],
        "a byte less": partial[:at] + partial[at + 1 :],
        "two lines in one's place": partial.replace(b"\n", b"\n\n", 1),
        "other line ends": partial.replace(b"\n", b"\r\n"),
        "a space": partial.replace(b":", b": ", 1),
        "lines in another order": b"".join(reversed(partial.splitlines(keepends=True))),
        "a line less": b"".join(partial.splitlines(keepends=True)[1:]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_damaged_partial_is_made_again_from_the_damage_on(end: str, tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Whatever happened to its bytes, the committed file is right, and what stands before the damage is not made twice."""
    begun, output = tmp_path / "begun", tmp_path / "out"
    if end == "stopped":
        tokenize(tar, begun, **stopping_after(4))
    else:
        with pytest.raises(SimulatedCrash):
            tokenize(tar, begun, Killed(reference.splitlines(keepends=True)[3]))
    partial = (begun / "speech.jsonl.partial").read_bytes()
    assert partial == b"".join(reference.splitlines(keepends=True)[:4])
    for seed in range(15):
        for name, damaged in damages(partial, random.Random(seed)).items():
            shutil.rmtree(output, ignore_errors=True)
            shutil.copytree(begun, output)
            (output / "speech.jsonl.partial").write_bytes(damaged)
            backend = Recording()
            tokenize(tar, output, backend=backend)
            assert committed(output) == reference, f"{name}, {seed}"
            first = next(n for n, (old, new) in enumerate(zip(partial + b"\0", damaged + b"\1", strict=False)) if old != new)
            whole = partial[:first].count(b"\n")
            assert len(backend.lengths) == sum(clip != BAD_CLIP for clip in range(whole, CLIPS)), f"{name}, {seed}"


class Killed(CrashingOps):
    """Dies when this line has been written."""

    def __init__(self, last: bytes) -> None:
        super().__init__()
        self._last = last
        self._written = False

    def write(self, fd: int, data: bytes) -> None:
        if self._written:
            self.dead = True
        super().write(fd, data)
        self._written = self._written or data == self._last


def test_damaged_sums_cost_lines_and_never_make_a_wrong_one(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Where the file of the sums is damaged, what they do not vouch for is made again."""
    begun, output = tmp_path / "begun", tmp_path / "out"
    tokenize(tar, begun, **stopping_after(4))
    (sums,) = TarPaths(begun, "speech").all_private_sums()
    chance = random.Random(0)
    for damaged in [b"", sums.read_bytes()[:-1], *(damages(sums.read_bytes(), chance).values())]:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(begun, output)
        (output / sums.relative_to(begun)).write_bytes(damaged)
        tokenize(tar, output)
        assert committed(output) == reference


def forget_sums(output: Path) -> None:
    """Leave a partial as it was left before there were sums."""
    for path in TarPaths(output, "speech").all_private_sums():
        path.unlink()


def test_a_partial_from_before_there_were_sums_goes_on(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Its lines are used if they are, byte for byte, what we write; others are made again."""
    damages: list[tuple[Callable[[bytes], bytes], int]] = [
        (lambda lines: lines, 1),
        (lambda lines: lines.replace(b"\n", b"\r\n"), 4),
    ]
    for damage, encoded in damages:
        output = tmp_path / str(encoded)
        tokenize(tar, output, **stopping_after(4))
        forget_sums(output)
        partial = output / "speech.jsonl.partial"
        partial.write_bytes(damage(partial.read_bytes()))
        backend = Recording()
        tokenize(tar, output, backend=backend)
        assert committed(output) == reference
        assert len(backend.lengths) == encoded


def test_of_a_file_whose_errors_are_retried_no_damaged_line_is_used(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """A committed file is compared with its manifest, a partial with its sums; what does not fit is made again."""

    def refuse(waves: Sequence[Any]) -> None:
        if len(waves[0]) == 44:
            raise ClipError("backend", "not today")

    for lines, encoded in ((None, 4), (5, 3)):
        output = tmp_path / str(lines)
        stop = stopping_after(lines) if lines else {}
        tokenize(tar, output, backend=Recording(fail=refuse), **stop)
        path = output / ("speech.jsonl.partial" if lines else "speech.jsonl")
        second = path.read_bytes().splitlines(keepends=True)[1]
        damaged = second.replace(b'"tokens":[[', b'"tokens":[[1', 1)
        assert path.read_bytes() != reference
        path.write_bytes(path.read_bytes().replace(second, damaged.replace(b",1", b",", 1)))
        backend = Recording()
        tokenize(tar, output, backend=backend, retry_errors=True)
        assert committed(output) == reference
        assert len(backend.lengths) == encoded


def move(tar: Path) -> Path:
    """The same tar at another place, as a person moves it: its time stays."""
    target = tar.parent.with_name(tar.parent.name + "x") / tar.name
    target.parent.mkdir(exist_ok=True)
    return tar.rename(target)


@pytest.mark.parametrize("retry_errors", [False, True])
def test_all_lines_name_the_tar_where_it_is_read_last(tar: Path, tmp_path: Path, *, retry_errors: bool) -> None:
    """A tar that moves between attempts has one path in its lines: those an undisturbed run there would have."""
    for lines in range(1, CLIPS + 1):
        tokenize(tar, tmp_path / "out", **stopping_after(lines))
        tar = move(tar)
        backend = Recording()
        tokenize(tar, tmp_path / "out", backend=backend, retry_errors=retry_errors)
        assert len(backend.lengths) == CLIPS - lines - (lines <= BAD_CLIP)
        tokenize(tar, tmp_path / "reference")
        assert committed(tmp_path / "out") == committed(tmp_path / "reference")
        shutil.rmtree(tmp_path / "out")
        shutil.rmtree(tmp_path / "reference")


@pytest.mark.slow
def test_a_crash_at_any_file_operation_after_a_move_costs_nothing(tar: Path, tmp_path: Path) -> None:
    """The lines and their sums change together, wherever a worker that writes other paths dies: none is made again."""
    begun = tmp_path / "begun"
    tokenize(tar, begun, **stopping_after(3))
    moved = move(tar)
    tokenize(moved, tmp_path / "reference")
    shutil.copytree(begun, tmp_path / "count")
    counting = CrashingOps()
    tokenize(moved, tmp_path / "count", counting, **stopping_after(1))
    for crash_at in range(counting.count):
        output = tmp_path / str(crash_at)
        shutil.copytree(begun, output)
        with pytest.raises(SimulatedCrash):
            tokenize(moved, output, CrashingOps(crash_at, after=bool(crash_at % 2)))
        backend = Recording()
        tokenize(moved, output, backend=backend)
        assert committed(output) == committed(tmp_path / "reference")
        assert len(backend.lengths) <= CLIPS - 3


@pytest.mark.slow
def test_whoever_commits_tidies_up_after_the_dead(tar: Path, tmp_path: Path) -> None:
    """A worker that died at any file operation leaves no file behind, once another one has committed its tar."""
    counting = CrashingOps()
    tokenize(tar, tmp_path / "count", counting)
    everything = {path.relative_to(tmp_path / "count") for path in (tmp_path / "count").rglob("*")}
    for crash_at in range(counting.count):
        output = tmp_path / str(crash_at)
        with pytest.raises(SimulatedCrash):
            tokenize(tar, output, CrashingOps(crash_at, after=bool(crash_at % 2)))
        if (output / "speech.jsonl").exists():
            Ledger.tidy(TarPaths(output, "speech"), FileOps())
            TarPaths(output, "speech").claim.unlink(missing_ok=True)
        else:
            tokenize(tar, output)
        assert {path.relative_to(output) for path in output.rglob("*")} == everything


def test_resuming_does_not_encode_again(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Finished clips are neither read nor encoded a second time."""
    begin(tar, tmp_path / "out", b"".join(reference.splitlines(keepends=True)[:3]))
    backend = Recording()
    tokenize(tar, tmp_path / "out", backend=backend)
    assert len(backend.lengths) == CLIPS - 3
    assert committed(tmp_path / "out") == reference


def test_a_partial_of_a_changed_tar_is_not_used(tar: Path, tmp_path: Path) -> None:
    """When the tar under the same name is another one, its lines are made from nothing."""
    output = tmp_path / "out"
    tokenize(tar, output, **stopping_after(1))
    small_tar(tar, samples=60)
    tokenize(tar, output)
    assert json.loads(committed(output).splitlines()[0])["num_samples"] == 60


def appended(tar: Path) -> None:
    with tar.open("ab") as file:
        file.write(b"\0" * 512)


def overwritten(tar: Path) -> None:
    """In place, and dated as its source, as `rsync --inplace --times` does it."""
    before = tar.stat()
    other = small_tar(tar.with_name("other.tar"), samples=41).read_bytes()
    with tar.open("r+b") as file:
        file.write(other)
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns - 10**15))


def replaced(tar: Path) -> None:
    small_tar(tar.with_name("other.tar"), samples=60).replace(tar)


def cut_in_place(tar: Path) -> None:
    os.truncate(tar, 3000)


def meanwhile(change: Any, tar: Path) -> dict[str, Any]:
    """Settings for `tokenize` with which something happens to the tar after the first line."""
    changes = iter([change])
    return {"one_at_a_time": True, "on_progress": lambda *_: next(changes, lambda _tar: None)(tar)}


@pytest.mark.parametrize("change", [appended, overwritten, replaced, cut_in_place])
def test_a_tar_that_is_written_to_while_it_is_read_is_not_committed(change: Any, tar: Path, tmp_path: Path) -> None:
    """However it ends and is dated then: that is told, its lines are forgotten, and the next try begins anew."""
    with pytest.raises(WrittenMeanwhileError, match=r"speech\.tar: it was written to while it was read; once that is over"):
        tokenize(tar, tmp_path / "out", **meanwhile(change, tar))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".run"]
    assert not list((tmp_path / "out" / ".run" / "claims").iterdir())
    outcome = tokenize(tar, tmp_path / "out").outcome
    assert outcome == tokenize(tar, tmp_path / "fresh").outcome
    if outcome == "committed":
        assert committed(tmp_path / "out") == committed(tmp_path / "fresh")


def linked(tar: Path) -> None:
    os.link(tar, tar.with_name("link.tar"))
    tar.chmod(0o600)


@pytest.mark.parametrize("change", [Path.unlink, linked])
def test_what_leaves_the_bytes_of_a_tar_alone_keeps_nothing_from_its_commit(
    change: Any, tar: Path, reference: bytes, tmp_path: Path
) -> None:
    """It was read to its end, though it has no name any more, or another mode or a name more."""
    tokenize(tar, tmp_path / "out", **meanwhile(change, tar))
    assert committed(tmp_path / "out") == reference


def test_a_partial_whose_names_do_not_fit_is_made_again(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Lines that name other clips than the tar has cannot be its own, whatever the manifest says."""
    lines = reference.splitlines(keepends=True)
    begin(tar, tmp_path / "out", lines[0] + lines[0])
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == reference
    begin(tar, tmp_path / "more", reference + lines[0])
    tokenize(tar, tmp_path / "more")
    assert committed(tmp_path / "more") == reference


def test_a_partial_without_a_manifest_is_not_trusted(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Nobody can say with which recipe it was made."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "speech.jsonl.partial").write_bytes(reference.replace(b"0", b"1"))
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == reference


def test_another_recipe_is_refused(tar: Path, tmp_path: Path) -> None:
    """Two recipes never mix in one output directory."""
    tokenize(tar, tmp_path, **stopping_after(1))
    other = msgspec.structs.replace(mulaw_spec(), fingerprint="0" * 16)
    with pytest.raises(UsageError, match="another --output-dir"):
        tokenize(tar, tmp_path, spec=other)


@pytest.mark.parametrize("keep", [0, 511, 512, 700, 1023, 1024, 1025, 3000, -512, -1024, -10240 + 1024])
def test_a_cut_tar_is_never_committed(keep: int, tar: Path, tmp_path: Path) -> None:
    """What could be read stays in the partial, and the manifest says at which byte the tar broke."""
    whole = tar.read_bytes().rstrip(b"\0")
    whole += b"\0" * (-len(whole) % 512)  # no end marker at all
    tar.write_bytes(whole[:keep])
    result = tokenize(tar, tmp_path)
    assert result.outcome == "damaged"
    assert result.manifest.verdict_offset is not None
    assert result.manifest.verdict_offset <= len(whole)
    assert not (tmp_path / "speech.jsonl").exists()
    stored = read_manifest(TarPaths(tmp_path, "speech").attempt)
    assert stored == result.manifest
    assert (tmp_path / "speech.jsonl.partial").read_bytes().count(b"\n") == result.manifest.clips


def test_a_missing_end_marker_can_be_accepted(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """A tar whose writer never closed it is refused by its own verdict, and committed whole under the switch."""
    data = tar.read_bytes().rstrip(b"\0")
    before = tar.stat()
    tar.write_bytes(data + b"\0" * (-len(data) % 512))
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
    refused = tokenize(tar, tmp_path / "out")
    assert refused.manifest.verdict == "no_end_marker"
    accepted = tokenize(tar, tmp_path / "out", allow_missing_end=True)
    assert accepted.outcome == "committed"
    assert committed(tmp_path / "out") == reference


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_links_are_committed_the_same_whatever_is_interrupted(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """A linked clip's line has the tokens of what it leads to; one that leads nowhere is an error of kind `decode`. A stop
    after any line, and going on, gives the same bytes.
    """
    data = b"".join(
        [
            link_member(b"early.wav", b"late.wav", b"2"),
            member(b"a.wav", wav(40)),
            link_member(b"b.wav", b"a.wav"),
            link_member(b"lost.wav", b"no.wav"),
            member(b"late.wav", wav(50, seed=1)),
            end_blocks(),
        ]
    )
    tar = tmp_path / "speech.tar"
    tar.write_bytes(compress(data))
    result = tokenize(tar, tmp_path / "whole")
    assert (result.manifest.clips, result.manifest.errors, result.manifest.linked_clips) == (5, {"decode": 1}, 3)
    whole = committed(tmp_path / "whole")
    records = [msgspec.json.decode(line) for line in whole.splitlines()]
    assert [record["audio_file"] for record in records] == ["early.wav", "a.wav", "b.wav", "lost.wav", "late.wav"]
    assert records[0]["tokens"] == records[4]["tokens"] != records[1]["tokens"] == records[2]["tokens"]
    assert records[3]["error"] == "a hard link to no.wav: there is no such member before it in the tar"
    for lines in range(1, 5):
        output = tmp_path / f"{lines}"
        assert tokenize(tar, output, **stopping_after(lines)).outcome == "yielded"
        assert tokenize(tar, output).outcome == "committed"
        assert committed(output) == whole


def test_joined_tars_go_on_from_the_first_ones_partial(tmp_path: Path) -> None:
    """What was read of joined tars before anybody allowed it is kept, and what comes of both is what one go gives."""
    tar = small_tar(tmp_path / "speech.tar")
    one = tar.read_bytes()
    tar.write_bytes(one + one)
    refused = tokenize(tar, tmp_path / "out")
    assert (refused.outcome, refused.manifest.verdict, refused.manifest.clips) == ("damaged", "data_after_end", CLIPS - 1)
    assert tokenize(tar, tmp_path / "out", allow_joined=True).outcome == "committed"
    assert tokenize(tar, tmp_path / "again", allow_joined=True).manifest.clips == 2 * CLIPS
    assert committed(tmp_path / "out") == committed(tmp_path / "again")


def test_a_tar_without_clips_is_committed_empty(tmp_path: Path) -> None:
    """It is complete: there was nothing to tokenize, and the manifest says what was there instead."""
    tar = write_tar(tmp_path / "speech.tar", {"readme.md": b"x", "._a.wav": b"y", "b.txt": b"z"})
    result = tokenize(tar, tmp_path)
    assert committed(tmp_path) == b""
    assert result.manifest.ignored_members == {"appledouble": 1, "other": 1}
    assert result.manifest.orphan_sidecars == 1


def test_texts_are_those_of_one_go_however_often_it_stops(tmp_path: Path) -> None:
    """Sidecars in another encoding, that stand apart from their clips: a run that stops after each line reads them alike."""
    sentences = SENTENCES["ja"]
    members = {f"{n}.wav": wav(40 + n) for n in range(len(sentences))}
    members |= {f"{n}.txt": sentence.encode("shift_jis") for n, sentence in enumerate(sentences)}
    tar = write_tar(tmp_path / "speech.tar", members)
    manifest = tokenize(tar, tmp_path / "reference").manifest
    assert (manifest.text_encoding, manifest.orphan_sidecars, manifest.sidecar_faults) == ("cp932", 0, 0)
    lines = committed(tmp_path / "reference").splitlines()
    assert [json.loads(line)["text"] for line in lines] == list(sentences)
    for _ in range(len(sentences)):
        tokenize(tar, tmp_path / "out", **stopping_after(1))
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == committed(tmp_path / "reference")


def test_a_run_from_before_texts_had_rules_goes_on_as_it_began(tmp_path: Path) -> None:
    """JSON strictly, `text` alone, UTF-8 or GB18030, and only what stands beside the clip."""
    members = {"a.wav": wav(40), "a.json": b'{"text": "x", "snr": NaN}', "b.wav": wav(40), "b.json": b'{"sentence": "s"}'}
    members |= {
        "c.txt": b"far",
        "c.wav.x.txt": b"far",
        "d.wav": wav(40),
        "e.wav": wav(40),
        "e.txt": "はい".encode("shift_jis"),
    }
    members |= {"d.txt.json": b"{}", "c.wav": wav(40)}
    tar = write_tar(tmp_path / "speech.tar", members)
    spec = msgspec.structs.replace(mulaw_spec(), text_keys=None, text_encoding=None)
    manifest = tokenize(tar, tmp_path, spec=spec).manifest
    found = [json.loads(line) for line in committed(tmp_path).splitlines()]
    assert [line.get("text") for line in found] == [None, None, None, "はい".encode("shift_jis").decode("gb18030"), None]
    assert (manifest.orphan_sidecars, manifest.sidecar_faults, manifest.text_encoding) == (3, 1, "")


class Recording:
    """mu-law that notes what it is asked to encode, and can fail on demand."""

    def __init__(self, batching: Batching = Batching.SINGLE, max_batch: int = 1, fail: Any = None) -> None:
        import dataclasses

        self.info = dataclasses.replace(FACTORY.describe({}, "cpu"), batching=batching, max_batch=max_batch)
        self.lengths: list[list[int]] = []
        self._fail = fail

    def encode(self, waves: Sequence[Any]) -> list[Any]:
        self.lengths.append([len(wave) for wave in waves])
        if self._fail is not None:
            self._fail(waves)
        return FACTORY.load({}, "cpu").encode(waves)


def test_one_at_a_time_leaves_no_clip_waiting(tmp_path: Path) -> None:
    """Where a worker has died before, each clip has its line before the next one is touched, whatever the batches are."""
    tar = small_tar(tmp_path / "a.tar", clips=6)
    backend = Recording(Batching.ANY, 4)
    calls_before_line: list[int] = []

    def note(_record: Any, _used: int) -> None:
        calls_before_line.append(len(backend.lengths))

    tokenize(tar, tmp_path / "out", backend=backend, one_at_a_time=True, on_progress=note)
    assert [len(batch) for batch in backend.lengths] == [1] * 5
    assert calls_before_line == [1, 2, 2, 3, 4, 5]


@pytest.mark.parametrize(("batching", "size"), [(Batching.ANY, 3), (Batching.EQUAL_LENGTH, 2), (Batching.EQUAL_LENGTH, 4)])
def test_batches_change_neither_bytes_nor_order(batching: Batching, size: int, tmp_path: Path) -> None:
    """Records stand in tar order and are the same for every batch size, with clips of many lengths and long ones."""
    lengths = [random.Random(n).choice([30, 30, 45, 200, 90]) for n in range(40)]
    tar = write_tar(tmp_path / "speech.tar", {f"{n:03}.wav": wav(length, seed=n) for n, length in enumerate(lengths)})
    spec = mulaw_spec(max_tokens_per_fragment=50, num_tokens_overlap=5)
    tokenize(tar, tmp_path / "one", spec=spec)
    backend = Recording(batching, size)
    tokenize(tar, tmp_path / "many", spec=spec, backend=backend)
    assert committed(tmp_path / "many") == committed(tmp_path / "one")
    assert max(len(batch) for batch in backend.lengths) == size


def test_fragments_of_an_elementwise_codec_equal_the_whole(tmp_path: Path) -> None:
    """Cutting with overlap and dropping it gives each sample once, in order."""
    tar = write_tar(tmp_path / "speech.tar", {"a.wav": wav(1000)})
    tokenize(tar, tmp_path / "whole")
    tokenize(tar, tmp_path / "cut", spec=mulaw_spec(max_tokens_per_fragment=64, num_tokens_overlap=9))
    assert committed(tmp_path / "whole") == committed(tmp_path / "cut")


def test_bad_clips_become_records_of_their_kind(tmp_path: Path) -> None:
    """Each kind of bad data is a named error, and the clips around it are tokenized."""
    import soundfile

    def float_wav(wave: Any, rate: int = 8000) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
        return file.getvalue()

    nan = np.full(100, np.nan, np.float32)
    members = {
        "ok1.wav": wav(100),
        "empty.wav": b"",
        "no_samples.wav": float_wav(np.zeros(0, np.float32)),
        "nan.wav": float_wav(nan),
        "noise.mp3": b"\x00\x01\x02" * 300,
        "one_sample.wav": float_wav(np.ones(1, np.float32), 44100),
        "long.wav": wav(8000 * 3),
        "rate192.flac": float_wav(np.zeros(19200, np.float32), 192_000),
        "six.wav": float_wav(np.zeros((800, 6), np.float32)),
        "ok2.wav": wav(100),
    }
    tar = write_tar(tmp_path / "speech.tar", members)
    tokenize(tar, tmp_path / "out", spec=mulaw_spec(max_duration=2.0))
    kinds = {
        line["audio_file"]: line.get("error_kind") for line in map(json.loads, committed(tmp_path / "out").splitlines())
    }
    assert kinds == {
        "ok1.wav": None,
        "empty.wav": "empty",
        "no_samples.wav": "empty",
        "nan.wav": "not_finite",
        "noise.mp3": "decode",
        "one_sample.wav": "too_short",
        "long.wav": "too_long",
        "rate192.flac": None,
        "six.wav": None,
        "ok2.wav": None,
    }


def test_a_clip_that_the_backend_refuses_is_a_record(tar: Path, tmp_path: Path) -> None:
    """An ordinary exception for one clip is that clip's error, in a batch too; the rest goes on."""

    def fail(waves: Sequence[Any]) -> None:
        if any(len(wave) == 41 for wave in waves):
            raise ValueError("cannot encode this")

    tokenize(tar, tmp_path / "out", backend=Recording(Batching.ANY, 3, fail))
    lines = [json.loads(line) for line in committed(tmp_path / "out").splitlines()]
    assert (lines[1]["error_kind"], lines[1]["error"]) == ("backend", "ValueError: cannot encode this")
    assert "tokens" in lines[0]
    assert "tokens" in lines[3]


@pytest.mark.parametrize(
    "trouble",
    [
        MemoryError(),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("CUDA error: device-side assert triggered"),
        InfrastructureError("the GPU is gone"),
    ],
)
def test_trouble_with_the_machine_ends_the_attempt_and_is_no_record(
    trouble: BaseException, tar: Path, reference: bytes, tmp_path: Path
) -> None:
    """The partial stays good, and the next attempt ends with the same bytes."""

    def fail(waves: Sequence[Any]) -> None:
        if len(waves[0]) == 43:
            raise trouble

    with pytest.raises(InfrastructureError):
        tokenize(tar, tmp_path / "out", backend=Recording(fail=fail))
    partial = (tmp_path / "out" / "speech.jsonl.partial").read_bytes()
    assert partial == b"".join(reference.splitlines(keepends=True)[:3])
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == reference


def test_a_full_disk_ends_the_attempt_and_is_no_record(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """ENOSPC in the middle of a line leaves a partial that the next attempt repairs."""

    class FullDisk(FileOps):
        written = 0

        def write(self, fd: int, data: bytes) -> None:
            self.written += len(data)
            if self.written > 1500:
                super().write(fd, data[:7])
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(fd, data)

    with pytest.raises(InfrastructureError, match=r"No space left.*the partial stays good"):
        tokenize(tar, tmp_path / "out", FullDisk())
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == reference


def test_trouble_at_the_end_of_a_tar_is_told(tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages' versions cannot be read, say, for the manifest: that is raised, and the worker does not hang."""

    def fail() -> dict[str, str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("jobs.tar_findings.versions", fail)
    with pytest.raises(InfrastructureError, match="Input/output"):
        tokenize(tar, tmp_path)


def test_codes_that_break_the_backends_own_promise_stop_the_worker(tar: Path, tmp_path: Path) -> None:
    """A code out of range is a bug in the backend, which would make every clip wrong: nothing of it is written."""

    class Wrong(Recording):
        def encode(self, waves: Sequence[Any]) -> list[Any]:
            return [np.full((1, 5), 256) for _ in waves]

    with pytest.raises(InfrastructureError, match="bug in the backend"):
        tokenize(tar, tmp_path / "out", backend=Wrong())
    assert (tmp_path / "out" / "speech.jsonl.partial").read_bytes() == b""


def test_a_clip_of_which_a_part_was_lost_gets_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the codes of its last fragment are put aside: those before it are not taken for the clip."""
    tar = write_tar(tmp_path / "in" / "speech.tar", {"a.wav": wav(40), "b.wav": wav(150)})
    spec = mulaw_spec(max_tokens_per_fragment=100)
    tokenize(tar, tmp_path / "reference", spec=spec)
    add = TokenSink.add

    def full_disk(sink: TokenSink, codes: Codes, **settings: bool) -> None:
        add(sink, codes, **settings)
        if codes.shape[1] == 50:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(TokenSink, "add", full_disk)
        with pytest.raises(InfrastructureError, match="No space left"):
            tokenize(tar, tmp_path / "out", spec=spec)
    assert not (tmp_path / "out" / "speech.jsonl").exists()
    tokenize(tar, tmp_path / "out", spec=spec)
    assert committed(tmp_path / "out") == committed(tmp_path / "reference")


def test_stopping_yields_after_the_clip_in_hand(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """A stop between clips keeps whole lines, gives the claim back, and the next attempt goes on."""
    result = tokenize(tar, tmp_path / "out", **stopping_after(2))
    assert (result.outcome, result.manifest.clips) == ("yielded", 2)
    assert not list((tmp_path / "out" / ".run" / "claims").iterdir())
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == reference


def test_retrying_errors_keeps_good_lines_and_tries_the_rest_again(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Only clips with error records are encoded again, whether the file was committed or not, and after a crash too."""
    output = tmp_path / "out"

    def refuse(waves: Sequence[Any]) -> None:
        raise ClipError("backend", "not today")

    tokenize(tar, output, backend=Recording(fail=lambda waves: refuse(waves) if len(waves[0]) in (41, 44) else None))
    assert committed(output) != reference
    tokenize(tar, output, retry_errors=True, **stopping_after(3))
    assert not (output / "speech.jsonl").exists()
    backend = Recording()
    tokenize(tar, output, backend=backend)
    assert committed(output) == reference
    assert backend.lengths == [[44]]
    assert not (output / "speech.jsonl.previous").exists()


def test_clips_that_killed_workers_become_records_unread(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """Clips that are named are neither decoded nor encoded; each is a record of kind `crash`, and all else is as ever."""
    backend = Recording()
    tokenize(tar, tmp_path / "out", backend=backend, crash_clips=(1, BAD_CLIP))
    lines = committed(tmp_path / "out").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record.get("error_kind") for record in records] == [None, "crash", "crash", None, None]
    assert [lines[n] for n in (0, 3, 4)] == [reference.splitlines()[n] for n in (0, 3, 4)]
    assert backend.lengths == [[40], [43], [44]]
    manifest = read_manifest(TarPaths(tmp_path / "out", "speech").manifest)
    assert manifest is not None
    assert manifest.errors == {"crash": 2}


@pytest.mark.parametrize("lines_before", range(CLIPS))
def test_crash_records_do_not_depend_on_when_the_clip_was_named(lines_before: int, tar: Path, tmp_path: Path) -> None:
    """Told from the start, or when workers had died over the clip: the same bytes. What already has a line keeps it."""
    tokenize(tar, tmp_path / "start", crash_clips=(3,))
    if lines_before:
        tokenize(tar, tmp_path / "out", **stopping_after(lines_before))
    tokenize(tar, tmp_path / "out", crash_clips=(3,))
    if lines_before <= 3:
        assert committed(tmp_path / "out") == committed(tmp_path / "start")
    else:
        assert b'"error_kind":"crash"' not in committed(tmp_path / "out")


def test_crash_records_keep_their_place_among_batches(tmp_path: Path) -> None:
    """A clip that is passed over neither overtakes nor holds up those around it that wait for a batch to fill."""
    tar = write_tar(tmp_path / "speech.tar", {f"{n:03}.wav": wav(30, seed=n) for n in range(12)})
    tokenize(tar, tmp_path / "one", crash_clips=(0, 4, 5, 11))
    tokenize(tar, tmp_path / "many", backend=Recording(Batching.ANY, 4), crash_clips=(0, 4, 5, 11))
    assert committed(tmp_path / "many") == committed(tmp_path / "one")
    names = [json.loads(line)["audio_file"] for line in committed(tmp_path / "many").splitlines()]
    assert names == [f"{n:03}.wav" for n in range(12)]


def test_a_crash_record_can_be_tried_again(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """With --retry-errors, on a machine that survives the clip, its tokens take the record's place."""
    tokenize(tar, tmp_path / "out", crash_clips=(3,))
    backend = Recording()
    tokenize(tar, tmp_path / "out", backend=backend, retry_errors=True)
    assert committed(tmp_path / "out") == reference
    assert backend.lengths == [[43]]


def test_a_clip_that_another_worker_holds_is_left_alone(tar: Path, tmp_path: Path) -> None:
    """A living process on this machine keeps its claim."""
    from jobs.claims import Claim, process_start

    claim = TarPaths(tmp_path, "speech").claim
    claim.parent.mkdir(parents=True)
    holder = Claim.of_this_process("another")
    parent = os.getppid()
    claim.write_bytes(msgspec.json.encode(msgspec.structs.replace(holder, pid=parent, started=process_start(parent))))
    with pytest.raises(ClaimLostError, match="left alone"):
        tokenize(tar, tmp_path)
    assert not list(tmp_path.glob("speech*"))


def envelope_lines(tar: Path, output: Path, backend: Envelope, **settings: Any) -> list[dict[str, Any]]:
    tokenize(tar, output, spec=envelope_spec(**settings), backend=backend)
    return [json.loads(line) for line in committed(output).splitlines()]


def test_a_clip_backend_gets_whole_clips_with_their_texts(tar: Path, tmp_path: Path) -> None:
    """However long a clip is, it comes in one piece, at the backend's rate, with its transcript, in batches."""
    backend = Envelope(max_batch=2)
    lines = envelope_lines(tar, tmp_path, backend)
    assert max(len(batch) for batch in backend.batches) <= 2
    assert [text for batch in backend.batches for text in batch] == [f"clip {n}, é 語" for n in (0, 1, 3, 4)]
    assert [line.get("num_samples") for line in lines] == [40, 41, None, 43, 44]
    assert lines[0]["tokens"].count("<audio_") == 40


def test_whole_clips_have_the_same_bytes_in_any_batches(tar: Path, tmp_path: Path) -> None:
    """As with fragments: how clips are batched, and where a run was interrupted, changes no byte."""
    found = []
    for number, size in enumerate((1, 2, 5)):
        output = tmp_path / str(number)
        tokenize(tar, output, spec=envelope_spec(), backend=Envelope(max_batch=size), **stopping_after(number))
        tokenize(tar, output, spec=envelope_spec(), backend=Envelope(max_batch=size))
        found.append(((output / "speech.jsonl").read_bytes(), (output / "speech.safetensors").read_bytes()))
    assert found[0] == found[1] == found[2]


def test_a_clip_without_a_transcript_is_an_error_where_one_is_needed(tmp_path: Path) -> None:
    """A backend of texts is not asked about a clip that has none, or a blank one; the record says what was expected."""
    members = {"0.wav": wav(40), "1.wav": wav(40), "1.txt": b" \n", "2.wav": wav(40), "2.txt": b"words"}
    backend = Envelope(needs_text=True)
    lines = envelope_lines(write_tar(tmp_path / "in" / "speech.tar", members), tmp_path, backend)
    assert [line.get("error_kind") for line in lines] == ["no_text", "no_text", None]
    assert backend.batches == [["words"]]


def test_a_whole_clip_that_is_too_short_after_resampling(tmp_path: Path) -> None:
    """The shortest clip is counted at the backend's rate."""
    tar = write_tar(tmp_path / "in" / "speech.tar", {"a.wav": wav(18, rate=16000), "b.wav": wav(20, rate=16000)})
    lines = envelope_lines(tar, tmp_path, Envelope(), min_samples=10)
    assert [line.get("error_kind") for line in lines] == ["too_short", None]
    assert lines[0]["error"] == "9 samples at 8000 Hz, expected at least 10"


def test_values_that_a_backend_did_not_declare_are_never_written(tar: Path, tmp_path: Path) -> None:
    """A key too few or a type that is not the declared one is a bug in the backend: the attempt ends."""

    class Wrong(Envelope):
        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            return [{**values, "sum": values["sum"].astype(np.float64)} for values in super().encode_clips(clips)]

    with pytest.raises(InfrastructureError, match=r"sum of shape .* float64"):
        envelope_lines(tar, tmp_path, Wrong())
    assert not (tmp_path / "speech.jsonl").exists()


class TestDamage:
    """Clips of which something is missing."""

    @pytest.fixture(autouse=True)
    def lossy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_lossy_decode(monkeypatch)

    def lines(self, tmp_path: Path, max_damage: float) -> list[Any]:
        """What became of the clips of a tar."""
        output = tmp_path / str(max_damage)
        tokenize(damaged_tar(tmp_path / "speech.tar"), output, spec=mulaw_spec(max_damage=max_damage))
        return [decode_record(line) for line in committed(output).splitlines()]

    def test_a_record_says_what_is_missing(self, tmp_path: Path) -> None:
        """Up to the share a clip has its tokens and says what it lacks; above it is an error; whole ones say nothing."""
        records = self.lines(tmp_path, 0.02)
        assert [record.damage if isinstance(record, TokenRecord) else record.error_kind for record in records] == [
            Damage(0.03, "frames that cannot be decoded"),
            None,
            Damage(0.02, "its end"),
            "decode",
            Damage(0.02, "its end; a gap"),
            None,
        ]
        assert records[0].num_samples == 8000

    def test_none_or_all(self, tmp_path: Path) -> None:
        """A share of 0 keeps none that lacks anything, a share of 1 whatever decodes."""
        none = [isinstance(record, ErrorRecord) for record in self.lines(tmp_path, 0.0)]
        assert none == [True, False, True, True, True, False]
        everything = self.lines(tmp_path, 1.0)
        assert [record.damage and record.damage.seconds for record in everything] == [0.03, None, 0.02, 0.5, 0.02, None]

    def test_the_same_bytes_after_any_interruption(self, tmp_path: Path) -> None:
        """Lines and counts add up over attempts, wherever they ended."""
        tar = damaged_tar(tmp_path / "speech.tar")
        whole = tokenize(tar, tmp_path / "whole").manifest
        assert (whole.clips, whole.errors, whole.damaged_clips, whole.damaged_seconds) == (6, {"decode": 1}, 3, 0.07)
        for lines in range(1, 6):
            output = tmp_path / str(lines)
            tokenize(tar, output, **stopping_after(lines))
            manifest = tokenize(tar, output).manifest
            assert committed(output) == committed(tmp_path / "whole")
            assert (manifest.damaged_clips, manifest.damaged_seconds) == (3, 0.07)

    def test_a_partial_from_before_there_were_sums(self, tmp_path: Path) -> None:
        """A line with damage is used again if it is what we write, and made again if its seconds are written otherwise."""
        tar = damaged_tar(tmp_path / "speech.tar")
        for change, encoded in (((b"", b""), 3), ((b'"seconds":0.03,', b'"seconds":0.030,'), 5)):
            output = tmp_path / str(encoded)
            tokenize(tar, output, **stopping_after(2))
            forget_sums(output)
            partial = output / "speech.jsonl.partial"
            partial.write_bytes(partial.read_bytes().replace(*change))
            backend = Recording()
            tokenize(tar, output, backend=backend)
            assert len(backend.lengths) == encoded  # all that are left but the one that is refused

    def test_retrying_errors_keeps_damaged_lines(self, tmp_path: Path) -> None:
        """A clip that was kept is no error, and is not decoded again."""
        tar = damaged_tar(tmp_path / "speech.tar")
        before = tokenize(tar, tmp_path / "out").manifest
        expected = committed(tmp_path / "out")
        backend = Recording()
        after = tokenize(tar, tmp_path / "out", backend=backend, retry_errors=True).manifest
        assert committed(tmp_path / "out") == expected
        assert backend.lengths == []
        assert after.damaged_seconds == before.damaged_seconds == 0.07


def recording_tar(path: Path) -> Path:
    """A clip, a recording of ten segments of which two are bad, out of order and overlapping, a stereo one, and a clip."""
    segments = [
        {"start": start / 100, "end": start / 100 + 0.05, "text": str(start)} for start in (0, 5, 8, 30, 20, 21, 90, 60)
    ]
    segments[2:2] = [{"start": 2, "end": 1}, {"start": 50, "end": 60}]
    stereo = audio_file(noise(300, 2), 8000, subtype="PCM_16")
    return write_tar(
        path,
        {
            "a.wav": wav(50),
            "long.wav": wav(8000, seed=1),
            "long.json": json.dumps({"segments": segments}).encode(),
            "pair.wav": stereo,
            "pair.txt": b"words",
            "z.wav": wav(60, seed=2),
        },
    )


CUTS = {
    "segments": mulaw_spec(segments=True),
    "channels": mulaw_spec(channel="split"),
    "both": mulaw_spec(segments=True, channel="split", max_tokens_per_fragment=60, num_tokens_overlap=10),
}


@pytest.mark.parametrize("cut", CUTS)
def test_parts_of_a_recording_have_a_line_each(cut: str, tmp_path: Path) -> None:
    """Bad ones are named in their place and cost no other; the tokens are those of the audio cut by hand."""
    spec, tar = CUTS[cut], recording_tar(tmp_path / "speech.tar")
    tokenize(tar, tmp_path / "out", spec=spec)
    records = {(record := json.loads(line))["audio_file"]: record for line in committed(tmp_path / "out").splitlines()}
    numbers, mono = [str(number) for number in range(10)], "" if cut == "segments" else "#0"
    whole = [] if cut == "channels" else [f"long.wav#{number}{mono}" for number in numbers]
    pair = ["pair.wav"] if cut == "segments" else ["pair.wav#0", "pair.wav#1"]
    assert list(records) == [f"a.wav{mono}", *(whole or ["long.wav#0"]), *pair, f"z.wav{mono}"]
    if whole:
        kinds = [records[name].get("error_kind") for name in whole]
        assert kinds == [*[None] * 2, *["segment"] * 2, *[None] * 6]
        wave = soundfile.read(io.BytesIO(wav(8000, seed=1)), dtype="float32")[0]
        for name, start in zip([*whole[:2], *whole[4:]], (0, 5, 8, 30, 20, 21, 90, 60), strict=True):
            assert records[name]["tokens"] == mu_law_codes(wave[start * 80 : start * 80 + 400])[None].tolist()
            assert records[name]["text"] == str(start)


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
def test_parts_resume_at_every_line(cut: str, tmp_path: Path) -> None:
    """With the same bytes, and without decoding what has its line."""
    spec, tar = CUTS[cut], recording_tar(tmp_path / "speech.tar")
    tokenize(tar, tmp_path / "reference", spec=spec)
    reference = committed(tmp_path / "reference")
    for lines in range(1, reference.count(b"\n")):
        output = tmp_path / str(lines)
        tokenize(tar, output, spec=spec, **stopping_after(lines))
        backend = Recording()
        tokenize(tar, output, spec=spec, backend=backend)
        assert committed(output) == reference
        left = [json.loads(line) for line in reference.splitlines()[lines:]]
        assert len(backend.lengths) <= sum(1 + record["num_samples"] // 40 for record in left if "error" not in record)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.slow
def test_parts_have_the_same_bytes_in_any_threads_and_memory(cut: str, tmp_path: Path) -> None:
    """Many decoders at one recording, and memory for a part of it, change nothing and end."""
    spec, tar = CUTS[cut], recording_tar(tmp_path / "speech.tar")
    tokenize(tar, tmp_path / "reference", spec=spec)
    for number, feeding in enumerate((Feeding(8), Feeding(8, 1), Feeding(2, 3000), Feeding(1, 1))):
        tokenize(tar, tmp_path / str(number), spec=spec, feeding=feeding, backend=Recording(Batching.ANY, 4))
        assert committed(tmp_path / str(number)) == committed(tmp_path / "reference")


@pytest.mark.slow
def test_a_crash_at_any_file_operation_costs_no_part(tmp_path: Path) -> None:
    """As with whole clips."""
    tar = recording_tar(tmp_path / "speech.tar")
    tokenize(tar, tmp_path / "reference", spec=CUTS["segments"])
    operations = 0
    while True:
        output = tmp_path / f"out{operations}"
        try:
            tokenize(tar, output, CrashingOps(operations), spec=CUTS["segments"])
        except SimulatedCrash:
            TarPaths(output, "speech").claim.unlink(missing_ok=True)
            if not TarPaths(output, "speech").committed.exists():
                tokenize(tar, output, spec=CUTS["segments"])
            assert committed(output) == committed(tmp_path / "reference")
            operations += 3
        else:
            return


LISTED = (0, 1, 9, 2, 3, 4, 5, 6, 7, 11, 8, 10)
"""The order in which segments stand in their list."""


def damaged_recording_tar(path: Path, *, counted: bool) -> Path:
    """A recording of twelve segments in any order, of whose MP3 (with a count of frames or not) nine are bad; and a clip."""
    wave = np.concatenate([noise(8000, seed=half) for half in range(12)])
    data = audio_file(wave, 16_000, "MP3")
    places = scan_mp3(io.BytesIO(data), 0, len(data)).positions
    begin, end = int(places[len(places) // 2]), int(places[len(places) // 2 + 9])
    list_of = [{"start": at / 2, "end": at / 2 + 0.5, "transcript": f"words {at}"} for at in LISTED]
    members = {
        "long.mp3": data[0 if counted else int(places[1]) : begin] + b"\x55" * (end - begin) + data[end:],
        "long.json": json.dumps({"segments": list_of}).encode(),
        "z.wav": wav(60),
    }
    return write_tar(path, members)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_damage", "kind", "counted"),
    [(1.0, None, False), (0.5, "segment", False), (0.02, None, True)],
)
def test_segments_of_a_damaged_recording_whatever_interrupts_them(
    max_damage: float, kind: str | None, counted: bool, tmp_path: Path
) -> None:
    """Those before the damage are whole. So are those behind it, if it is known how much is missing; else they are errors,
    or say what is. The bytes are those of one go.
    """
    tar = damaged_recording_tar(tmp_path / "speech.tar", counted=counted)
    spec = mulaw_spec(segments=True, max_damage=max_damage)
    tokenize(tar, tmp_path / "reference", spec=spec)
    lines = [json.loads(line) for line in committed(tmp_path / "reference").splitlines()]
    for at, line in zip(LISTED, lines, strict=False):
        assert line.get("text", f"words {at}") == f"words {at}"
        if at < 5:
            assert "error" not in line
            assert "damage" not in line
        elif at > 6:
            assert line.get("error_kind") == kind or at == 11
            assert ("damage" in line) == ("error" not in line and not counted)
    assert "error" not in lines[12]
    for stop in (1, 3, 4, 8, 12):
        output = tmp_path / str(stop)
        assert tokenize(tar, output, spec=spec, **stopping_after(stop)).outcome == "yielded"
        tokenize(tar, output, spec=spec)
        assert committed(output) == committed(tmp_path / "reference")


def test_errors_of_parts_are_retried_alone(tmp_path: Path) -> None:
    """Lines of the others are used again."""
    tar = recording_tar(tmp_path / "speech.tar")
    spec, backend = CUTS["segments"], Recording()
    tokenize(tar, tmp_path / "reference", spec=spec)
    tokenize(tar, tmp_path / "out", spec=spec, crash_clips=(5,))
    assert json.loads(committed(tmp_path / "out").splitlines()[5])["error_kind"] == "crash"
    tokenize(tar, tmp_path / "out", spec=spec, retry_errors=True, backend=backend)
    assert committed(tmp_path / "out") == committed(tmp_path / "reference")
    assert backend.lengths == [[400]]


def test_a_recording_that_kills_workers_costs_few_of_them(tmp_path: Path) -> None:
    """When two parts in a row have, those after them are not tried: each would have to pass the same place."""
    tar = recording_tar(tmp_path / "speech.tar")
    for crashed, kinds in (((2,), "c"), ((2, 3), "cccccccccc"), ((2, 5), "c..c"), ((0, 1), "")):
        tokenize(tar, tmp_path / str(crashed), spec=CUTS["segments"], crash_clips=crashed)
        records = [json.loads(line) for line in committed(tmp_path / str(crashed)).splitlines()]
        found = "".join("c" if one.get("error_kind") == "crash" else "." for one in records[2:11])
        assert found.rstrip(".") == kinds[:9]
        assert "error" not in records[-1]


def test_opposite_phase_is_noted_and_counted(tmp_path: Path) -> None:
    """In the record of each clip or segment that cancels itself, and in the manifest; not where one channel is heard."""
    left = noise(4000)
    half = np.stack([left, np.where(np.arange(4000) < 2000, -left, left)], axis=1)
    segments = b'{"segments": [{"start": 0, "end": 0.2}, {"start": 0.3, "end": 0.5}]}'
    members = {"a.wav": audio_file(half[:2000], 8000), "b.wav": audio_file(half, 8000), "b.json": segments}
    tar = write_tar(tmp_path / "speech.tar", members)
    for settings, noted in (({}, ["a.wav"]), ({"channel": "left"}, []), ({"segments": True}, ["a.wav", "b.wav#0"])):
        output = tmp_path / str(len(settings)) / str(len(noted))
        manifest = tokenize(tar, output, spec=mulaw_spec(**settings)).manifest
        records = [json.loads(line) for line in committed(output).splitlines()]
        assert [one["audio_file"] for one in records if one.get("notes") == ["opposite_phase"]] == noted
        assert manifest.notes == ({"opposite_phase": len(noted)} if noted else {})
        assert validate_file(output / "speech.jsonl", manifest, mulaw_spec(**settings)).fault is None


def test_a_channel_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Of its clip alone."""
    tar = recording_tar(tmp_path / "speech.tar")
    tokenize(tar, tmp_path / "out", spec=mulaw_spec(channel="right"))
    records = [json.loads(line) for line in committed(tmp_path / "out").splitlines()]
    assert [one.get("error_kind") for one in records] == ["decode", "decode", None, "decode"]


def test_parts_for_a_backend_of_whole_clips(tmp_path: Path) -> None:
    """Each segment comes in one piece with its own text."""
    tar = recording_tar(tmp_path / "speech.tar")
    spec = envelope_spec(segments=True)
    tokenize(tar, tmp_path / "out", spec=spec, backend=Envelope())
    records = [json.loads(line) for line in committed(tmp_path / "out").splitlines()]
    assert [one["audio_file"] for one in records][1:3] == ["long.wav#0", "long.wav#1"]
    assert [one.get("error_kind") for one in records][1:6] == [None, None, "segment", "segment", None]
    assert [one["text"] for one in records[1:3]] == ["0", "5"]
