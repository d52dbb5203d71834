"""A run directory: the one class that knows every path in it, and the list of tars that grows in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from hpc.tar_list import name_tars
from jobs.fileops import FileOps, write_atomically
from jobs.outputs import TarPaths, TarTask
from jobs.spec import spec_path

__all__ = ["Run"]


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
            lines = self.list_file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            tar, tab, name = line.partition("\t")
            if not tab:
                raise UsageError(f"{self.list_file}: expected TAR<tab>NAME, found {line!r}")
            found.append(ListedTar(tar, name))
        return found

    def add_to_list(self, tars: Sequence[str], *, keep_dirs: bool, dry_run: bool = False) -> list[ListedTar]:
        """Add tars to the run's list, and return those given, named. Raises UsageError where two would share a name."""
        known = {tar.tar: tar for tar in self.listed()}
        taken = {tar.name: tar.tar for tar in known.values()}
        new = [tar for tar in tars if tar not in known]
        for tar, name in name_tars(new, keep_dirs=keep_dirs, taken=taken).items():
            known[tar] = ListedTar(tar, name)
        if new and not dry_run:
            text = "".join(f"{tar.tar}\t{tar.name}\n" for tar in known.values())
            write_atomically(FileOps(), self.list_file, text.encode("utf-8", "surrogateescape"))
        return [known[tar] for tar in tars]


def as_task(tar: ListedTar) -> TarTask:
    """What a worker needs to know. A tar that is not there counts 0 bytes; its worker says so."""
    try:
        size = Path(tar.tar).stat().st_size
    except OSError:
        size = 0
    return TarTask(tar.tar, tar.name, size)
