"""jobs/attempt_errors.py: an error is the machine's unless it is known to be about the tar or the output."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from audio_tokenizers.errors import ClipError, InfrastructureError
from jobs.attempt_errors import AttemptErrors
from jobs.fileops import StorageError
from jobs.tar_paths import TarPaths


@pytest.fixture
def errors(tmp_path: Path) -> AttemptErrors:
    return AttemptErrors(Path("speech.tar"), TarPaths(tmp_path, "speech"))


def test_an_error_of_the_tar_is_left_as_it_is(errors: AttemptErrors) -> None:
    """A tar that cannot be opened is that tar's failure: the worker goes on with the next one."""
    error = PermissionError(errno.EACCES, "Permission denied", "speech.tar")
    errors.note_tar_error(error)
    errors.raise_trouble(error)
    errors.raise_trouble(ClipError("decode", "no audio"))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_while_the_tar_is_read_is_the_machines(errors: AttemptErrors, number: int) -> None:
    """These say nothing about the tar."""
    error = OSError(number, "trouble")
    errors.note_tar_error(error)
    with pytest.raises(InfrastructureError, match=r"speech\.tar: .*trouble; the partial stays good"):
        errors.raise_trouble(error)


def test_any_other_error_is_the_machines(errors: AttemptErrors) -> None:
    """An OSError of a library, and memory that runs out."""
    for error in (FileNotFoundError(errno.ENOENT, "No such file", "weights"), MemoryError()):
        with pytest.raises(InfrastructureError, match=r"speech\.tar: .*the partial stays good"):
            errors.raise_trouble(error)


def test_an_error_of_the_output_names_its_file(errors: AttemptErrors) -> None:
    """Storage that is full is told as such, whichever thread noticed."""
    with pytest.raises(OSError, match="No space") as caught, errors.storing():
        raise OSError(errno.ENOSPC, "No space left", "/out/speech.jsonl.partial")
    errors.note_tar_error(caught.value)  # the reading thread reads lines back, too
    with pytest.raises(StorageError, match=r"^speech: /out/speech\.jsonl\.partial: No space left; the partial stays good"):
        errors.raise_trouble(caught.value)
