"""What the file system of an output directory does: each promise that a run relies on, tried in a folder of our own.

python -m tools.doctoring.folder_probe FOLDER makes it and prints an answer per check, so that whoever waits sees which one
hangs. Whoever waits removes it too.
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
    """The folder of our own is there."""

    parents: tuple[str, ...]
    """What had to be made above it, innermost first."""


class Exclusive(msgspec.Struct, frozen=True):
    """Of several that create one file, how many succeed."""

    most_winners: int
    fewest_winners: int
    refused: bool
    """A file that exists is not created again."""


class Replacing(msgspec.Struct, frozen=True):
    """What a reader sees of a file that is replaced again and again."""

    reads: int
    missing: int
    torn: int
    """Reads of something that nobody wrote whole."""


class Flush(msgspec.Struct, frozen=True):
    """How long it takes until bytes and names would survive a power loss."""

    file_s: float
    folder_error: str
    """Empty where names can be flushed."""


class Signs(msgspec.Struct, frozen=True):
    """Whether the age of a file tells how long its owner has been silent."""

    silence_s: float
    """Of a file whose time was 1970, and which then was touched."""
    clock_ahead_s: float
    """The file system's clock, against this host's."""


class Room(msgspec.Struct, frozen=True):
    """What a person may still write."""

    free_bytes: int
    total_bytes: int
    free_files: int | None
    """None where the file system does not count them."""
    kind: str
    """As in /proc/mounts: ext4, nfs4, lustre."""


def _race(create: Callable[[Path], bool], folder: Path, name: str) -> tuple[int, int]:
    """Most and fewest winners over NAMES files that WRITERS create at once."""
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
    """A file made whole under another name and then linked, as claims and plans are."""
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
    """What a claim's heartbeat does, and what another worker then finds."""
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
    """By statvfs; a quota may be narrower."""
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
    """The type of the last mount, in lines as of /proc/mounts, at or above a folder; empty if nobody knows. Pure."""
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
    """Try each, in folders of their own, and say what came of it."""
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
