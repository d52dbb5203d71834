"""Members made by several processes, each in a file of its own, and handed over in order."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from audio_tokenizers.errors import InfrastructureError
from jobs.fileops import FileOps
from tools.common.process_pool import Tell, in_processes
from tools.common.run_files import CommittedFile
from tools.merging.members import Compression, Made, make_member
from tools.merging.shapes import Shape

__all__ = ["PartTask", "make_parts", "writing"]


@dataclass(frozen=True, slots=True)
class PartTask:
    """A member to make, and its path."""

    file: CommittedFile
    path: Path
    shape: Shape | None
    compression: Compression


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within this block an OSError becomes a message that `path` cannot be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(
            f"{path}: cannot be written: {error.strerror}; make room or get write access and run the same command again: it "
            "resumes"
        ) from error


def make_parts(tasks: Sequence[PartTask], workers: int, tell: Tell) -> Generator[tuple[Path, Made]]:
    """The parts in the order of `tasks`, each as soon as it and all earlier ones are finished. `tell` gets bytes read.

    The consumer removes each part's file; if this ends early, unconsumed ones stay. There are up to two per process at a
    time.
    """
    with closing(in_processes(_make_part, tasks, workers, tell)) as made:
        for task, part in zip(tasks, made, strict=True):
            yield task.path, part


def _make_part(task: PartTask, tell: Tell) -> Made:
    ops = FileOps()
    with writing(task.path):
        fd = ops.create(task.path)

    def put(data: bytes) -> None:
        with writing(task.path):
            ops.write(fd, data)

    try:
        return make_member(task.file, task.shape, task.compression, put, tell=tell)
    finally:
        os.close(fd)
