"""Tests of an output directory's file system: each guarantee that a run relies on, in a folder of its own.

python -m tools.doctoring.folder_probe FOLDER makes the folder and prints an answer per check: the caller sees which one
hangs, and removes the folder.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from jobs.claims import seconds_silent
from jobs.commands import command_parser
from jobs.fileops import FileOps, write_atomically, write_if_absent
from tools.doctoring.bounded import Answer

__all__ = ["CHECKS", "FOLDER", "Exclusive", "Flush", "Made", "Replacing", "Room", "Signs", "file_system_of", "probe"]

FOLDER = "folder"
NAMES = 20
"""Files that WRITERS want to create at once."""
WRITERS = 4
REPLACEMENTS = 100
READS_AFTER = 20
BLOCK = 4096
FLUSHES = 5


class Made(msgspec.Struct, frozen=True):
    """The folder was made."""

    parents: tuple[str, ...]
    """Parents that had to be made, innermost first."""


class Exclusive(msgspec.Struct, frozen=True):
    """How many of several writers succeed in creating one file."""

    most_winners: int
    fewest_winners: int
    refused: bool
    """A file that exists is not created again."""


class Replacing(msgspec.Struct, frozen=True):
    """What a reader sees of a file that is replaced repeatedly."""

    reads: int
    missing: int
    torn: int
    """Reads of a mixture of versions."""


class Flush(msgspec.Struct, frozen=True):
    """How long it takes until bytes and names would survive a power loss."""

    file_s: float
    folder_error: str
    """Empty where names can be flushed."""


class Signs(msgspec.Struct, frozen=True):
    """Whether a file's age shows how long its owner has been silent."""

    silence_s: float
    """Age of a file that was set to 1970 and then touched."""
    clock_ahead_s: float
    """The file system's clock, relative to this host's."""


class Room(msgspec.Struct, frozen=True):
    """The space that the user may still write."""

    free_bytes: int
    total_bytes: int
    free_files: int | None
    """None if the file system does not count them."""
    kind: str
    """As in /proc/mounts: ext4, nfs4, lustre."""


def _race(create: Callable[[Path], bool], folder: Path, name: str) -> tuple[int, int]:
    """(most, fewest) winners over NAMES files that WRITERS create at once."""
    winners = [0] * NAMES
    errors: list[OSError] = []
    lock = threading.Lock()
    gate = threading.Barrier(WRITERS)

    def work() -> None:
        gate.wait()
        for number in range(NAMES):
            try:
                won = create(folder / f"{name}{number}")
            except OSError as error:
                errors.append(error)
                return
            with lock:
                winners[number] += won

    threads = [threading.Thread(target=work) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return max(winners), min(winners)


def exclusive_create(folder: Path, ops: FileOps) -> Exclusive:
    """O_CREAT with O_EXCL."""

    def create(path: Path) -> bool:
        try:
            os.close(ops.create(path))
        except FileExistsError:
            return False
        return True

    most, fewest = _race(create, folder, "exclusive")
    return Exclusive(most, fewest, refused=not create(folder / "exclusive0"))


def hard_link(folder: Path, ops: FileOps) -> Exclusive:
    """Write a file under another name and link it, as for claims and plans."""
    most, fewest = _race(lambda path: write_if_absent(ops, path, b"whole"), folder, "link")
    return Exclusive(most, fewest, refused=not write_if_absent(ops, folder / "link0", b"whole"))


def rename(folder: Path, ops: FileOps) -> Replacing:
    """Replace a file while another thread reads it."""
    path = folder / "replaced"
    write_atomically(ops, path, bytes([0]) * BLOCK)
    ended = threading.Event()
    counts = {"reads": 0, "missing": 0, "torn": 0}

    def read() -> None:
        after = 0
        while after < READS_AFTER:
            after += ended.is_set()
            counts["reads"] += 1
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                counts["missing"] += 1
            else:
                counts["torn"] += len(data) != BLOCK or len(set(data)) != 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(REPLACEMENTS):
            source = path.with_name(f"new{number}")
            fd = ops.create(source)
            try:
                ops.write(fd, bytes([number % 256]) * BLOCK)
            finally:
                os.close(fd)
            ops.rename(source, path)
    finally:
        ended.set()
        reader.join()
    return Replacing(**counts)


def fsync(folder: Path, ops: FileOps) -> Flush:
    """The slowest of a few flushes of a new file, and one of the folder."""
    slowest = 0.0
    for number in range(FLUSHES):
        fd = ops.create(folder / f"flushed{number}")
        try:
            ops.write(fd, bytes(BLOCK))
            began = time.monotonic()
            ops.fsync(fd)
            slowest = max(slowest, time.monotonic() - began)
        finally:
            os.close(fd)
    error = ""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        ops.fsync(fd)
    except OSError as refused:
        error = refused.strerror or str(refused)
    finally:
        os.close(fd)
    return Flush(slowest, error)


def signs_of_life(folder: Path, ops: FileOps) -> Signs:
    """Do what a claim's heartbeat does, and look at it as another worker does."""
    path = folder / "claim"
    fd = ops.create(path)
    try:
        ops.write(fd, b"?")
        ahead = os.fstat(fd).st_mtime - time.time()
    finally:
        os.close(fd)
    os.utime(path, (0.0, 0.0))
    os.utime(path)
    return Signs(seconds_silent(ops, path), ahead)


def room(folder: Path, _ops: FileOps) -> Room:
    """By statvfs; a quota may be lower."""
    found = os.statvfs(folder)
    free_files = found.f_favail if found.f_files else None
    kind = file_system_of(folder.resolve(), _mounts())
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, free_files, kind)


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def file_system_of(folder: Path, mounts: str) -> str:
    """The type of the last mount at or above a folder, from lines of /proc/mounts; empty if unknown. Pure."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].encode().decode("unicode_escape", errors="replace"))
        if (point == folder or point in folder.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def make_folder(folder: Path) -> Made:
    """Make the folder, and its parents if need be."""
    made = [str(path) for path in folder.parents if not path.exists()]
    folder.mkdir(parents=True)
    return Made(tuple(made))


CHECKS: Mapping[str, Callable[[Path, FileOps], msgspec.Struct]] = {
    "exclusive create": exclusive_create,
    "hard link": hard_link,
    "rename": rename,
    "fsync": fsync,
    "signs of life": signs_of_life,
    "room": room,
}


def probe(folder: Path, ops: FileOps, say: Callable[[Answer], None]) -> None:
    """Run each check in a folder of its own, and print its answer."""
    for number, (check, function) in enumerate(CHECKS.items()):
        try:
            place = folder / str(number)
            place.mkdir()
            say(Answer(check, msgspec.Raw(msgspec.json.encode(function(place, ops)))))
        except OSError as error:
            say(Answer(check, error=error.strerror or str(error)))


def main(arguments: Sequence[str]) -> int:
    """A folder, for tools.doctor: make it, and probe it."""

    def say(answer: Answer) -> None:
        print(msgspec.json.encode(answer).decode(), flush=True)

    parser = command_parser(main.__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder.absolute()
    with suppress(BrokenPipeError):
        try:
            made = make_folder(folder)
        except OSError as error:
            say(Answer(FOLDER, error=error.strerror or str(error)))
            return 1
        say(Answer(FOLDER, msgspec.Raw(msgspec.json.encode(made))))
        probe(folder, FileOps(), say)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
