"""The data of a 7z archive, in one pass: by `7z x -so` if installed, else by py7zr.

Both give the members' data as one stream without separators: 7z for the requested extensions, py7zr for all members. The
list tells where each member ends, and its CRC verifies it. Nothing is unpacked to a file.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.extras import install_words
from tools.packing.archives.listing import ArchiveMember, MemberData, broken
from tools.packing.archives.volumes import is_volume, open_volumes

__all__ = ["PROGRAMS", "open_sevenzip", "require_unpacker"]

PROGRAMS = ("7zz", "7z", "7za")
PIPE_BYTES = 1 << 20
PROGRAM_MEMORY = 6 << 30
"""Limit of address space; half of the machine's memory if that is more, since 7z unpacks in a thread per core. The largest
dictionary of the format is 4 GiB: an archive that needs more than this limit was made to exhaust memory."""
SETTLED_ENDINGS = (0, 1)
"""Exit codes: success, and warnings, for example about data after the end."""
NOT_ENOUGH_MEMORY = 8
MOST_SAID = 1 << 16
PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./ -]*")
PLAIN_ENDING = re.compile(r"\.[A-Za-z0-9]+")


def require_unpacker(path: Path) -> str | None:
    """The first of `PROGRAMS` that is installed, or None for py7zr. Raises UsageError if there is neither."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None and importlib.util.find_spec("py7zr") is None:
        raise UsageError(
            f"{path}: nothing here reads 7z: install 7-Zip (Debian: apt install 7zip; macOS: brew install sevenzip), "
            f"or {install_words('pack')}"
        )
    return program


class _Flow(Protocol):
    """A stream of members' data."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end."""

    def finish(self) -> None:
        """Called at the end; raises if the stream did not end properly."""

    def close(self) -> None:
        """Stop at any point."""


@contextmanager
def open_sevenzip(
    volumes: Sequence[Path],
    members: Sequence[ArchiveMember],
    wanted: Collection[int],
    program: str | None,
    scratch: Path,
) -> Iterator[Iterator[tuple[int, MemberData]]]:
    """Iterates over the `wanted` members in the archive's order, as (position, data). Without a `program`, py7zr unpacks.

    `volumes` is the archive, or its parts, which get names in `scratch` that the program understands.

    Raises UsageError where the archive is damaged: at the member that is not as listed, or at the end.
    """
    path = volumes[0]
    with ExitStack() as stack:
        file = stack.enter_context(open_volumes(volumes) if len(volumes) > 1 or is_volume(path.name) else path.open("rb"))
        flow: _Flow
        if program is not None:
            patterns, passing = _patterns(members, wanted)
            if is_volume(path.name):
                folder = stack.enter_context(tempfile.TemporaryDirectory(dir=scratch))
                for number, volume in enumerate(volumes, 1):
                    Path(folder, f"x.7z.{number:03}").symlink_to(volume.absolute())
                flow = _Program(path, None, program, ["-t7z.split", *patterns, "--", "x.7z.001"], folder)
            else:
                flow = _Program(path, file, program, ["-t7z", *patterns, "--", _archive(path, file)])
        else:
            passing = list(range(len(members)))
            flow = _Library(path, file)
        try:
            yield _cut(path, members, passing, wanted, flow)
        finally:
            flow.close()


def _cut(
    path: Path, members: Sequence[ArchiveMember], passing: Sequence[int], wanted: Collection[int], flow: _Flow
) -> Iterator[tuple[int, MemberData]]:
    def read(size: int) -> bytes:
        data = flow.read(size)
        if not data:
            flow.finish()  # knows why the data ended
        return data

    for index in passing:
        data = MemberData(path, members[index], read)
        if index in wanted:
            yield index, data
        data.skip()
    if flow.read(1):
        raise broken(path, "it has more data than its list says")
    flow.finish()


def _patterns(members: Sequence[ArchiveMember], wanted: Collection[int]) -> tuple[list[str], list[int]]:
    """(switches that select the wanted members and few others, positions of all selected members).

    By extension: 7z compares every member with every given name, so names would take quadratic time.
    """
    endings = {_ending(members[index].name) for index in wanted}
    folders = {member.name if member.kind == "directory" else member.name.rpartition("/")[0] for member in members}
    # 7z takes everything in a matching folder.
    misleading = any(_ending(part) in endings for folder in folders for part in folder.split("/"))
    if misleading or not all(PLAIN_ENDING.fullmatch(ending) for ending in endings):
        return [], list(range(len(members)))
    passing = [index for index, member in enumerate(members) if _ending(member.name) in endings]
    return [f"-ir!*{ending}" for ending in sorted(endings)], passing


def _ending(name: str) -> str:
    """Extension such as `.wav`, in its original case; empty if there is none."""
    base = name.rpartition("/")[2]
    return base[base.rfind(".") :] if "." in base else ""


def _archive(path: Path, file: BinaryIO) -> str:
    """The archive's path for 7z; the open file if the name has wildcards, or is not in the locale's encoding."""
    archive = str(path.absolute())
    return archive if PLAIN_PATH.fullmatch(archive) else f"/dev/fd/{file.fileno()}"


class _Program:
    """The output of a 7z program."""

    def __init__(
        self, path: Path, file: BinaryIO | None, program: str, arguments: Sequence[str], folder: str | None = None
    ) -> None:
        self._path = path
        self._name = Path(program).name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (an unread pipe could block it)
        self._process = subprocess.Popen(  # noqa: S603
            [program, "x", "-so", "-ssc", "-bd", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            pass_fds=() if file is None else (file.fileno(),),
            bufsize=PIPE_BYTES,
        )
        self._data = cast("IO[bytes]", self._process.stdout)
        with suppress(OSError, AttributeError):
            fcntl.fcntl(self._data.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        _limit_memory(self._process.pid)
        self.read = self._data.read

    def finish(self) -> None:
        """Raises if the program failed."""
        code = self._process.wait()
        if code in SETTLED_ENDINGS:
            return
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - MOST_SAID))
        lines = [line.strip() for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else f"exit code {code}")
        if code < 0 or code == NOT_ENOUGH_MEMORY or "memory" in said:
            raise InfrastructureError(f"{self._path}: {self._name} could not unpack it on this machine: {said}")
        raise broken(self._path, f"{self._name} says: {said}")

    def close(self) -> None:
        """Kill the program if it still runs."""
        self._process.kill()
        self._process.wait()
        self._data.close()
        self._said.close()


def _limit_memory(process: int) -> None:
    if sys.platform == "linux":
        import resource

        limit = max(PROGRAM_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
        with suppress(OSError, ValueError):  # it has exited
            if resource.prlimit(process, resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY:
                resource.prlimit(process, resource.RLIMIT_AS, (limit, limit))


class _Library:
    """The output of py7zr, which runs in a thread at the reader's pace."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        import py7zr

        self._path = path
        self._problem: Exception | None = None
        self._wrong_crc: type[Exception] = py7zr.exceptions.CrcError
        read_end, write_end = os.pipe()
        self._data = open(read_end, "rb", buffering=PIPE_BYTES)  # noqa: PTH123, SIM115
        self._thread = threading.Thread(target=self._unpack, args=(file, write_end), name="py7zr", daemon=True)
        self._thread.start()
        self.read = self._data.read

    def _unpack(self, file: BinaryIO, write_end: int) -> None:
        import py7zr
        from py7zr.io import Py7zIO, WriterFactory

        class Sink(Py7zIO):
            def write(self, s: bytes | bytearray) -> int:
                left = memoryview(s)
                while left:
                    left = left[os.write(write_end, left) :]
                return len(s)

            def read(self, size: int | None = None) -> bytes:  # noqa: ARG002
                return b""

            def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002
                return 0

            def flush(self) -> None:
                pass

            def size(self) -> int:
                return 0

        class Sinks(WriterFactory):
            def create(self, filename: str) -> Py7zIO:  # noqa: ARG002
                return Sink()

        try:
            file.seek(0)
            with py7zr.SevenZipFile(file) as archive:  # an open file: given a name, py7zr unpacks in several threads
                for number, member in enumerate(archive.files.files_list):
                    member["filename"] = f"{number:08d}"  # py7zr refuses some names that are harmless here
                archive.extractall(factory=Sinks())
        except Exception as error:  # noqa: BLE001 (it is raised by `finish`)
            self._problem = error
        finally:
            os.close(write_end)

    def finish(self) -> None:
        """Raises what py7zr raised."""
        self._thread.join()
        if isinstance(self._problem, MemoryError):
            raise InfrastructureError(f"{self._path}: py7zr could not unpack it on this machine: not enough memory")
        problem = f"{type(self._problem).__name__} {self._problem}"
        if isinstance(self._problem, self._wrong_crc):
            raise broken(self._path, f"py7zr says: {problem}")
        if self._problem is not None:  # its errors do not distinguish damage from unsupported methods
            raise UsageError(
                f"{self._path}: py7zr cannot unpack it ({problem}): install 7-Zip, which unpacks all kinds of 7z; if that "
                "cannot either, it is broken: get the archive again"
            )

    def close(self) -> None:
        """Closing the pipe ends the thread at its next write."""
        self._data.close()
        self._thread.join()
