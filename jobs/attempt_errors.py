"""Whose fault an error of an attempt at a tar is: the tar's, the place's where results are stored, or the machine's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from audio_tokenizers.errors import InfrastructureError
from jobs.fileops import is_disk_trouble, output_error, public_name
from jobs.tar_paths import TarPaths
from jobs.tar_source import TarSource

__all__ = ["AttemptErrors"]


class AttemptErrors:
    """Sorts the exceptions of one attempt. An OSError has no sign of its own of which file it is about, so the code that
    reads the tar and the code that stores results note theirs; any other OSError is the machine's.
    """

    def __init__(self, tar: TarSource, paths: TarPaths) -> None:
        self._tar = tar
        self._paths = paths
        self._of_the_tar: OSError | None = None
        self._of_the_output: OSError | None = None

    def note_tar_error(self, error: BaseException | None) -> None:
        """Note how reading the tar ended: an OSError is about the tar."""
        self._of_the_tar = error if isinstance(error, OSError) else None

    @contextlib.contextmanager
    def storing(self) -> Iterator[None]:
        """An OSError within is about writing results, or reading them back."""
        try:
            yield
        except OSError as error:
            self._of_the_output = error
            raise

    def raise_trouble(self, error: BaseException) -> None:
        """Raise trouble with the machine as InfrastructureError, and trouble with the output as `output_error` has it; both
        name the tar. Return for every other error, such as one of the tar itself.
        """
        if isinstance(error, MemoryError):
            raise InfrastructureError(f"{self._tar}: out of memory; the partial stays good") from error
        if isinstance(error, OSError) and error is self._of_the_output:
            file = public_name(error.filename or self._paths.partial)
            message = f"{self._paths.name}: {file}: {error.strerror or error}; the partial stays good"
            raise output_error(message, error) from error
        if isinstance(error, OSError) and (error is not self._of_the_tar or is_disk_trouble(error)):
            raise InfrastructureError(f"{self._tar}: {error}; the partial stays good") from error
