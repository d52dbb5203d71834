"""tools/exporting/originals.py: the audio beside a record is its own, or the export stops and says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.exported import tokenized_run
from support.small_run import wav, write_tar

from audio_tokenizers.errors import UsageError
from tools.exporting.originals import Originals
from tools.run_files import CommittedFile, committed_files, spec_of


@pytest.fixture
def file(tmp_path: Path) -> CommittedFile:
    """A committed file of five clips."""
    return committed_files(tokenized_run(tmp_path))[0]


@contextmanager
def opened(file: CommittedFile) -> Iterator[Originals]:
    originals = Originals(file, spec_of(file.path.parent).extensions)
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
