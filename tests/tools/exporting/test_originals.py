"""tools/exporting/originals.py: the audio beside a record is its own, or the export stops and says why."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from support.exported import tokenized_run
from support.small_run import mulaw_spec, tokenize, wav, write_tar
from support.tars import audio_file, end_blocks, link_member, member, noise

from audio_tokenizers.errors import UsageError
from hpc.run import Run
from jobs.spec import freeze_spec
from tools.common.rereading import Rereading
from tools.common.run_files import CommittedFile, committed_files, spec_of
from tools.exporting.originals import Originals


@pytest.fixture
def file(tmp_path: Path) -> CommittedFile:
    """A committed file of five clips."""
    return committed_files(tokenized_run(tmp_path))[0]


@contextmanager
def opened(file: CommittedFile) -> Iterator[Originals]:
    originals = Originals(file, Rereading.of(spec_of(file.path.parent), file.manifest))
    with closing(originals):
        yield originals


def test_clips_by_their_numbers(file: CommittedFile) -> None:
    """Clips that nobody asks for are passed over; at the end all of them are counted."""
    with opened(file) as originals:
        for number in (0, 3):
            audio, extension = originals.audio(number, f"{number:03}.wav")
            with audio:
                assert (audio.read(), extension) == (wav(40 + number, seed=number), "wav")
        originals.finish()


def test_a_file_from_when_links_were_no_clips(file: CommittedFile) -> None:
    """Its records are those of the other members, and their audio is found."""
    members = [member(b"%03d.wav" % number, wav(40 + number, seed=number)) for number in range(5)]
    data = b"".join([link_member(b"first.wav", b"000.wav", b"2"), *members, end_blocks()])
    Path(file.tar).write_bytes(data)
    old = replace(file, manifest=msgspec.structs.replace(file.manifest, input_bytes=len(data), linked_clips=None))
    with opened(old) as originals:
        audio, extension = originals.audio(0, "000.wav")
        with audio:
            assert (audio.read(), extension) == (wav(40), "wav")
        originals.finish()


def test_a_tar_that_is_gone(file: CommittedFile) -> None:
    """The message says what to do without it."""
    Path(file.tar).unlink()
    with pytest.raises(UsageError, match=r"a\.tar: there is no such tar any more: .* without --with-audio"), opened(file):
        pass


def test_a_tar_of_another_size(file: CommittedFile) -> None:
    """It is not even opened."""
    with Path(file.tar).open("ab") as tar:
        tar.write(bytes(512))
    with (
        pytest.raises(UsageError, match=r"changed since it was tokenized: it had [0-9,]+ bytes, and has"),
        opened(file),
    ):
        pass


def same_size_tar(file: CommittedFile, members: dict[str, bytes]) -> None:
    """Replace the tar by one with these members and as many bytes."""
    size = Path(file.tar).stat().st_size
    write_tar(Path(file.tar), members)
    with Path(file.tar).open("r+b") as tar:
        tar.truncate(size)


def test_a_tar_with_other_members(file: CommittedFile) -> None:
    """No record ever gets the audio of another clip."""
    same_size_tar(file, {f"{number:03}x.wav": wav(40) for number in range(5)})
    with opened(file) as originals, pytest.raises(UsageError, match=r"expected 001\.wav as clip 1, found 001x\.wav"):
        originals.audio(1, "001.wav")


def test_a_tar_with_fewer_clips(file: CommittedFile) -> None:
    """Missing clips are noticed, at the latest at the end."""
    same_size_tar(file, {"000.wav": wav(40)})
    with opened(file) as originals, pytest.raises(UsageError, match=r"expected 003\.wav as clip 3, found no more"):
        originals.audio(3, "003.wav")
    with opened(file) as originals, pytest.raises(UsageError, match="it had 5 clips, and has 1 now"):
        originals.finish()


def test_something_that_is_no_tar(file: CommittedFile) -> None:
    """A damaged tar is a message too."""
    Path(file.tar).write_bytes(b"x" * file.manifest.input_bytes)
    with pytest.raises(UsageError, match="it has changed since it was tokenized"), opened(file) as originals:
        originals.finish()


def test_parts_of_members(tmp_path: Path) -> None:
    """Each comes as WAV of its own samples, whether or not those before it are asked for; whole members as they are."""
    data = audio_file(noise(800, 2), 8000, "FLAC", "PCM_16")
    wave = soundfile.read(io.BytesIO(data), dtype="int16")[0]
    said = b'{"segments": [{"start": 0, "end": 0.01}, {"start": 9, "end": 8}, {"start": 0.05, "end": 0.06}]}'
    tar = write_tar(tmp_path / "a.tar", {"a.flac": data, "a.json": said, "b.flac": data})
    spec = mulaw_spec(segments=True)
    run = Run(tmp_path / "run")
    freeze_spec(run.output_dir, spec)
    run.add_to_list([str(tar)], keep_dirs=False)
    tokenize(tar, run.output_dir, spec=spec)
    (file,) = committed_files(run.output_dir)
    for wanted in ((0, 2, 3), (2,), (3,)):
        with closing(Originals(file, Rereading.of(spec, file.manifest))) as originals:
            for index in wanted:
                audio, extension = originals.audio(index, "b.flac" if index == 3 else f"a.flac#{index}")
                with audio:
                    if index == 3:
                        assert (audio.read(), extension) == (data, "flac")
                    else:
                        first = 400 if index == 2 else 0
                        found = soundfile.read(audio, dtype="int16")[0]
                        assert (extension, np.array_equal(found, wave[first : first + 80])) == ("wav", True)
            originals.finish()
