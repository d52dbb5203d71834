"""Whatever a machine refuses, at whatever place on a clip's way to its line: no record says so, and no tar is blamed."""

from __future__ import annotations

import errno
import functools
import gzip
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
import soundfile
import soxr
from support.crashing import CrashingOps, RefusingOps
from support.small_run import mulaw_spec, tokenize, wav, write_tar
from support.tars import audio_file, end_blocks, link_member, member, noise, pyav_file

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.mulaw import MuLaw
from jobs import clip_lines, pyav_decoder, token_sink
from jobs.fileops import FileOps, StorageError
from jobs.spec import TokenizeSpec
from jobs.tar_format import TarStream
from jobs.token_sink import TokenSink

ERRNOS = (
    *(errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.EROFS, errno.ETIMEDOUT, errno.EAGAIN),
)
SYSTEM_ERROR, NO_MEMORY = soundfile.LibsndfileError(2), soundfile.LibsndfileError(17)
SPEC = mulaw_spec(max_tokens_per_fragment=400)


class Fault:
    """Raises `error` once, instead of the call numbered `at`."""

    def __init__(self, error: BaseException, at: int) -> None:
        self._error = error
        self._left = at
        self.happened = False

    def instead_of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def perhaps(*args: Any, **settings: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                self.happened = True
                raise self._error
            return call(*args, **settings)

        return perhaps


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small clips go where only long ones go: through files, in several blocks and fragments."""
    monkeypatch.setattr("jobs.tar_reader.AUDIO_IN_MEMORY", 5000)
    monkeypatch.setattr("jobs.audio.BLOCK_FRAMES", 3000)
    monkeypatch.setattr("jobs.tar_reading.TokenSink", functools.partial(TokenSink, tokens_in_memory=500))
    monkeypatch.setattr("jobs.clip_decoder.LONG_CLIP_SECONDS", 0.1)


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip for every way of decoding, one that no decoder takes and one that ends too early."""
    wave = noise(1600)
    members = {
        "small.wav": wav(100),
        "large.wav": wav(4000),
        "small.mp3": audio_file(wave, 8000, "MP3"),
        "large.mp3": audio_file(noise(20000), 8000, "MP3"),
        "small.flac": audio_file(wave, 16000, "FLAC", "PCM_16"),
        "large.ogg": audio_file(noise(12000), 16000, "OGG", "VORBIS"),
        "small.m4a": pyav_file(wave, 16000, "ipod", "aac"),
        "large.m4a": pyav_file(noise(16000), 16000, "ipod", "aac"),
        "small.aac": pyav_file(wave, 16000, "adts", "aac"),
        "chained.ogg": audio_file(wave, 16000, "OGG", "VORBIS") * 2,
        "bad.wav": b"not audio",
        "cut.flac": audio_file(wave, 16000, "FLAC", "PCM_16")[:-300],
        "text.wav": wav(50),
    }
    return write_tar(tmp_path_factory.mktemp("in") / "speech.tar", members)


@pytest.fixture(scope="module")
def reference(tar: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("reference")
    tokenize(tar, output, spec=SPEC)
    lines = (output / "speech.jsonl").read_bytes()
    errors = [line["audio_file"] for line in map(json.loads, lines.splitlines()) if "error" in line]
    assert errors == ["bad.wav", "cut.flac"]
    return lines


def no_harm(tar: Path, output: Path, reference: bytes, ops: FileOps | None = None, *, spec: TokenizeSpec = SPEC) -> None:
    """The attempt ends as the machine's trouble, or well; whatever is committed at last is right."""
    try:
        tokenize(tar, output, ops, spec=spec)
    except InfrastructureError:
        assert not (output / "speech.jsonl").exists() or (output / "speech.jsonl").read_bytes() == reference
    if not (output / "speech.jsonl").exists():
        tokenize(tar, output, spec=spec)
    assert (output / "speech.jsonl").read_bytes() == reference


def scratch_method(name: str) -> Callable[[pytest.MonkeyPatch, Fault], None]:
    """The fault is in a method of temporary files."""

    def put(patch: pytest.MonkeyPatch, fault: Fault) -> None:
        class Scratch(io.BufferedRandom):
            pass

        setattr(Scratch, name, fault.instead_of(getattr(io.BufferedRandom, name)))

        def make() -> io.BufferedRandom:
            fd = os.open(tempfile.gettempdir(), os.O_RDWR | os.O_TMPFILE)
            return Scratch(io.FileIO(fd, "r+"))

        patch.setattr(tempfile, "TemporaryFile", make)

    return put


def memory_method(name: str) -> Callable[[pytest.MonkeyPatch, Fault], None]:
    """The fault is in a method of the files in memory that clips are."""

    def put(patch: pytest.MonkeyPatch, fault: Fault) -> None:
        class Memory(io.BytesIO):
            pass

        setattr(Memory, name, fault.instead_of(getattr(io.BytesIO, name)))
        patch.setattr("jobs.tar_reader.io.BytesIO", Memory)

    return put


def attribute(owner: Any, name: str) -> Callable[[pytest.MonkeyPatch, Fault], None]:
    """The fault is in a function of a module, or in a method of a class."""

    def put(patch: pytest.MonkeyPatch, fault: Fault) -> None:
        patch.setattr(owner, name, fault.instead_of(getattr(owner, name)))

    return put


def in_chain(fault: Fault) -> Callable[[Any, Any], Any]:
    """A library that gives the machine's trouble another name."""

    def encode(model: MuLaw, waves: Any) -> Any:
        try:
            return fault.instead_of(ENCODE)(model, waves)
        except (OSError, MemoryError) as error:
            raise ValueError("cannot encode this") from error

    return encode


ENCODE = MuLaw.encode
OF_THE_SYSTEM: dict[str, Callable[[pytest.MonkeyPatch, Fault], None]] = {
    "the tar is opened": attribute(TarStream, "_open"),
    "the tar is read": attribute(TarStream, "_take"),
    "a temporary file is made": attribute(tempfile, "TemporaryFile"),
    "a temporary file is written": scratch_method("write"),
    "a temporary file is rewound": scratch_method("seek"),
    "a temporary file is read": scratch_method("read"),
    "a clip in memory is read": memory_method("read"),
    "a clip in memory is read by libsndfile": memory_method("readinto"),
    "a clip in memory is rewound": memory_method("seek"),
    "an MP3 is copied to a descriptor": attribute(os, "memfd_create"),
    "a descriptor is rewound": attribute(os, "lseek"),
    "a long clip is summed": attribute(os, "pread"),
    "a clip is resampled": attribute(soxr, "resample"),
    "a clip is encoded": attribute(MuLaw, "encode"),
    "a clip is encoded by a library with words of its own": lambda patch, fault: patch.setattr(
        MuLaw, "encode", in_chain(fault)
    ),
    "codes become JSON": attribute(token_sink, "codes_to_json"),
    "a line is put together": attribute(clip_lines, "line_parts"),
}
SCRATCH = ("a temporary file is written", "a temporary file is rewound", "a temporary file is read")
OF_DECODERS: dict[str, tuple[Callable[[pytest.MonkeyPatch, Fault], None], tuple[BaseException, ...]]] = {
    "libsndfile opens a clip": (attribute(soundfile.SoundFile, "__init__"), (SYSTEM_ERROR, NO_MEMORY, MemoryError())),
    "libsndfile reads a block": (attribute(soundfile.SoundFile, "read"), (SYSTEM_ERROR, NO_MEMORY, MemoryError())),
    "FFmpeg opens a clip": (attribute(av, "open"), (av.error.MemoryError(errno.ENOMEM, "no"), MemoryError())),
    "FFmpeg's frames are gathered": (
        attribute(pyav_decoder, "_pyav_frames"),
        (av.error.MemoryError(errno.ENOMEM, "no"), MemoryError()),
    ),
    "zlib and zstd decompress": (attribute(TarStream, "_take"), (MemoryError(),)),
    "a library has no memory": (
        attribute(MuLaw, "encode"),
        (RuntimeError("std::bad_alloc"), RuntimeError("[Errno 24] Too many open files: 'x.onnx'")),
    ),
}


PLACES_OF_PARTS = {
    **{place: put for place, put in OF_THE_SYSTEM.items() if "temporary" in place or "in memory" in place},
    "a temporary file is read in place": scratch_method("readinto"),
    "libsndfile opens a clip": attribute(soundfile.SoundFile, "__init__"),
    "FFmpeg opens a clip": attribute(av, "open"),
}


def cases() -> Iterator[Any]:
    for place, put in OF_THE_SYSTEM.items():
        yield pytest.param(put, (*(OSError(number, os.strerror(number)) for number in ERRNOS), MemoryError()), id=place)
    for place, (put, errors) in OF_DECODERS.items():
        yield pytest.param(put, errors, id=place)


@pytest.mark.slow
@pytest.mark.parametrize(("put", "errors"), list(cases()))
def test_no_fault_of_the_machine_becomes_a_record_or_a_verdict(
    put: Callable[[pytest.MonkeyPatch, Fault], None],
    errors: tuple[BaseException, ...],
    tar: Path,
    reference: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It happens once, at the first call or a later one: the attempt ends for it, or tries again; the bytes are the same."""
    for number, error in enumerate(errors):
        for at in (number, 0):  # where there are too few calls, at the first one after all
            fault = Fault(error, at)
            with monkeypatch.context() as patch:
                put(patch, fault)
                no_harm(tar, tmp_path / f"{number}-{at}", reference)
            if fault.happened:
                break
        assert fault.happened


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_link_whose_data_cannot_be_had_now_is_no_dead_link(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the machine refuses while a tar is searched for what its links lead to, or while that is copied or read."""
    members = [member(b"a.wav", wav(3000)), link_member(b"b.wav", b"c.wav", b"2"), member(b"c.wav", wav(4000, seed=1))]
    data = b"".join([*members, link_member(b"d.wav", b"a.wav"), end_blocks()])
    tar = tmp_path / "speech.tar"
    tar.write_bytes(gzip.compress(data) if packed else data)
    tokenize(tar, tmp_path / "reference", spec=SPEC)
    reference = (tmp_path / "reference" / "speech.jsonl").read_bytes()
    assert reference.count(b'"tokens"') == 4
    happened = 0
    for place in ("the tar is opened", "the tar is read", "a temporary file is made", *SCRATCH):
        for at in range(8):
            number = ERRNOS[at % len(ERRNOS)]
            fault = Fault(OSError(number, os.strerror(number)), at)
            with monkeypatch.context() as patch:
                OF_THE_SYSTEM[place](patch, fault)
                no_harm(tar, tmp_path / f"{place}-{at}", reference)
            happened += fault.happened
    assert happened > 30


CUT = mulaw_spec(segments=True, channel="split", max_tokens_per_fragment=400)


@pytest.fixture(scope="module")
def cut_tar(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Members of several parts, out of order, for every way of decoding, and the lines that they become."""
    wave, folder = noise(8000, 2), tmp_path_factory.mktemp("cut")
    said = json.dumps({"segments": [{"start": start, "end": start + 0.2} for start in (0.7, 0, 0.1, 0.8, 2)]}).encode()
    members = {
        "a.wav": audio_file(wave, 8000),
        "a.json": said,
        "b.mp3": audio_file(wave, 8000, "MP3"),
        "c.m4a": pyav_file(noise(64000, 2), 16000, "ipod", "aac", layout="stereo"),
        "d.flac": audio_file(wave[:1600], 16000, "FLAC", "PCM_16")[:-300],
        "e.wav": b"not audio",
        "f.wav": wav(50),
    }
    tar = write_tar(folder / "speech.tar", members)
    tokenize(tar, folder / "out", spec=CUT)
    lines = (folder / "out" / "speech.jsonl").read_bytes()
    names = [json.loads(line)["audio_file"] for line in lines.splitlines()]
    assert (len(names), names[-1], names[10:14]) == (18, "f.wav#0", ["b.mp3#0", "b.mp3#1", "c.m4a#0", "c.m4a#1"])
    return tar, lines


@pytest.mark.slow
@pytest.mark.parametrize("put", [pytest.param(put, id=place) for place, put in PLACES_OF_PARTS.items()])
def test_nor_does_it_where_members_are_cut(
    put: Callable[[pytest.MonkeyPatch, Fault], None],
    cut_tar: tuple[Path, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Channels are counted, and what is decoded too early is kept: no part is lost, and none is refused for it."""
    monkeypatch.setattr("jobs.sample_window.KEPT_IN_MEMORY", 5000)
    tar, reference = cut_tar
    happened = 0
    for at in range(8):
        error = MemoryError() if at % 2 else OSError(ERRNOS[at // 2], os.strerror(ERRNOS[at // 2]))
        fault = Fault(error, at)
        with monkeypatch.context() as patch:
            put(patch, fault)
            no_harm(tar, tmp_path / str(at), reference, spec=CUT)
        happened += fault.happened
    assert happened >= 4


@pytest.mark.slow
def test_no_refusal_of_the_file_system_becomes_a_verdict(tar: Path, reference: bytes, tmp_path: Path) -> None:
    """At each file operation of an attempt, from its claim to its commit, with one errno after the other."""
    counting = CrashingOps()
    tokenize(tar, tmp_path / "count", counting, spec=SPEC)

    for at in range(counting.count):
        number = (*ERRNOS, errno.EACCES)[at % (len(ERRNOS) + 1)]
        no_harm(tar, tmp_path / str(at), reference, RefusingOps(at, number))


def test_a_tar_that_cannot_be_read_for_itself_is_named(tmp_path: Path) -> None:
    """That it is missing, a folder or not ours to read is about the tar, and the worker goes on with the next one."""
    with pytest.raises(FileNotFoundError):
        tokenize(tmp_path / "none.tar", tmp_path / "out")
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(UsageError, match=r"folder\.tar: expected a tar, found a folder"):
        tokenize(tmp_path / "folder.tar", tmp_path / "out")


def test_a_full_folder_for_temporary_files_is_named(tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words say which folder it is and how to take another one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(InfrastructureError, match=r"temporary files, .*gone: No such file.*TMPDIR"):
        tokenize(tar, tmp_path / "out", spec=SPEC)


def test_memory_that_stays_short_blames_no_clip(tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libsndfile gets none, again and again: the clip is not given to another decoder, and has no record."""

    def none(*_args: Any, **_settings: Any) -> None:
        raise NO_MEMORY

    monkeypatch.setattr(soundfile.SoundFile, "__init__", none)
    monkeypatch.setattr("jobs.refusals.MUCH_MEMORY", 1 << 60)
    with pytest.raises(InfrastructureError, match="out of memory"):
        tokenize(tar, tmp_path / "out", spec=SPEC)
    assert (tmp_path / "out" / "speech.jsonl.partial").read_bytes() == b""


@pytest.mark.parametrize("method", ["write", "seek", "read"])
def test_a_full_folder_for_temporary_files_is_no_full_output(
    method: str, tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that machine's own: others may do better, so it counts as trouble with the machine."""
    scratch_method(method)(monkeypatch, Fault(OSError(errno.ENOSPC, "No space left on device"), 0))
    with pytest.raises(InfrastructureError) as raised:
        tokenize(tar, tmp_path / "out", spec=SPEC)
    assert not isinstance(raised.value, StorageError)


def test_channels_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full TMPDIR ends the attempt with its name and what to do; what has its line is kept, and no clip is an error."""
    members = {"a.wav": wav(40), "b.wav": audio_file(noise(80_000, 2), 8000)}
    tar = write_tar(tmp_path / "in" / "speech.tar", members)
    tokenize(tar, tmp_path / "reference", spec=CUT)
    with monkeypatch.context() as patch:
        patch.setattr("jobs.sample_window.KEPT_IN_MEMORY", 5000)
        patch.setattr(tempfile, "tempdir", str(tmp_path))
        scratch_method("write")(patch, Fault(OSError(errno.ENOSPC, "No space left on device"), 1))
        words = f"the folder for temporary files, {tmp_path}: No space left on device: make room there, or set TMPDIR"
        with pytest.raises(InfrastructureError, match=re.escape(words)):
            tokenize(tar, tmp_path / "out", spec=CUT, one_at_a_time=True)
    partial = (tmp_path / "out" / "speech.jsonl.partial").read_bytes()
    assert [json.loads(line)["audio_file"] for line in partial.splitlines()] == ["a.wav#0"]
    tokenize(tar, tmp_path / "out", spec=CUT)
    assert (tmp_path / "out" / "speech.jsonl").read_bytes() == (tmp_path / "reference" / "speech.jsonl").read_bytes()
