"""A run directory: the one class that knows every path in it, and the list of tars that grows in it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from hpc.tar_list import name_tars
from jobs.claims import Claim, held_by_other, read_claim
from jobs.fileops import FileOps, write_atomically, write_if_absent
from jobs.outputs import TarPaths, TarTask
from jobs.spec import spec_path

__all__ = ["ListedTar", "Run", "as_task"]

LOCK_PAUSE_SECONDS = 0.02
LOCK_PATIENCE_SECONDS = 10.0
"""The lock is held for the time of writing one file."""


class ListedTar(msgspec.Struct, frozen=True):
    """A tar of the run, and the name of its output."""

    tar: str
    name: str


@dataclass(frozen=True)
class Run:
    """One output directory: one frozen spec, one growing list of tars."""

    output_dir: Path

    @property
    def folder(self) -> Path:
        """Where everything but the results lives."""
        return self.output_dir / ".run"

    @property
    def spec_file(self) -> Path:
        """The frozen spec."""
        return spec_path(self.output_dir)

    @property
    def list_file(self) -> Path:
        """The list of tars, normalised: a tar, a tab and its output's name per line."""
        return self.folder / "tars.txt"

    def paths(self, name: str) -> TarPaths:
        """Where one tar's output lives."""
        return TarPaths(self.output_dir, name)

    def submission(self, number: int) -> Path:
        """The folder of one submission: plan.json, logs, progress."""
        return self.folder / "submissions" / f"{number:04}"

    def next_submission(self) -> Path:
        """Make the folder of a new submission."""
        number = 1
        while True:
            folder = self.submission(number)
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return folder

    def listed(self) -> list[ListedTar]:
        """The run's tars so far, in the order in which they came."""
        try:
            text = self.list_file.read_bytes().decode()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except UnicodeDecodeError:
            raise UsageError(f"{self.list_file}: expected TAR<tab>NAME lines in UTF-8, found something else") from None
        found = []
        for line in text.split("\n")[:-1]:  # not splitlines: a name may hold what Unicode takes for the end of a line
            tar, tab, name = line.partition("\t")
            if not tab:
                raise UsageError(f"{self.list_file}: expected TAR<tab>NAME, found {line!r}")
            found.append(ListedTar(tar, name))
        return found

    def add_to_list(self, tars: Sequence[str], *, keep_dirs: bool, dry_run: bool = False) -> list[ListedTar]:
        """Add tars to the run's list, and return those given, named. Raises UsageError where two would share a name."""
        known = self._with_new(tars, keep_dirs=keep_dirs)
        if not dry_run and len(known) > len(self.listed()):
            with self._list_lock():  # or else two commands that add tars at once would each write a list without the other's
                known = self._with_new(tars, keep_dirs=keep_dirs)
                text = "".join(f"{tar.tar}\t{tar.name}\n" for tar in known.values())
                write_atomically(FileOps(), self.list_file, text.encode())
        return [known[tar] for tar in tars]

    def _with_new(self, tars: Sequence[str], *, keep_dirs: bool) -> dict[str, ListedTar]:
        known = {tar.tar: tar for tar in self.listed()}
        taken = {tar.name: tar.tar for tar in known.values()}
        new = [tar for tar in tars if tar not in known]
        names = name_tars(new, keep_dirs=keep_dirs, taken=taken)
        return known | {tar: ListedTar(tar, name) for tar, name in names.items()}

    @contextmanager
    def _list_lock(self) -> Iterator[None]:
        """Hold the list alone; a lock that a dead process left, or that nobody gives back, is taken over."""
        ops, path = FileOps(), self.folder / "tars.lock"
        mine = Claim.of_this_process(uuid.uuid4().hex)
        patience = time.monotonic() + LOCK_PATIENCE_SECONDS
        while not write_if_absent(ops, path, msgspec.json.encode(mine)):
            holder = read_claim(path)
            gone = holder is not None and holder.host == mine.host and not held_by_other(holder, mine)
            if gone or time.monotonic() > patience:
                write_atomically(ops, path, msgspec.json.encode(mine))
                break
            time.sleep(LOCK_PAUSE_SECONDS)
        try:
            yield
        finally:
            if read_claim(path) == mine:
                ops.unlink(path)


def as_task(tar: ListedTar) -> TarTask:
    """What a worker needs to know. A tar that is not there counts 0 bytes; its worker says so."""
    try:
        size = Path(tar.tar).stat().st_size
    except OSError:
        size = 0
    return TarTask(tar.tar, tar.name, size)
