"""A run directory: the one class that knows every path in it, and its growing list of tars."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from hpc.by_hand import tars_by_hand
from hpc.launch import Launch
from hpc.lock import locked
from hpc.submissions import Submission, read_submissions
from hpc.tar_list import name_tars
from jobs.addresses import is_address
from jobs.any_json import decode_json
from jobs.fileops import FileOps, write_atomically
from jobs.spec import spec_path
from jobs.tar_paths import TarPaths
from jobs.tar_task import TarTask
from jobs.taste.training import Training
from jobs.trust import Trust, check_files, owned

__all__ = ["ListedTar", "Run", "RunState", "as_task"]

STATE_FILE = "run.json"


class ListedTar(msgspec.Struct, frozen=True):
    """A tar of the run and the name of its output."""

    tar: str
    name: str


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """What people's commands have decided about the run. The controller only reads it."""

    run_id: str = ""
    """Random; part of its jobs' names."""
    launch: Launch | None = None
    amnesty: int = 0
    """The number of a submission: what happened up to it no longer counts against anything."""
    retry: dict[str, str] = {}
    """Output name -> the attempt that made its committed file, whose error clips are to be tried again."""
    training: Training | None = None
    """What this run trains, if it makes no tokens."""
    cancelled: bool = False
    """hpc.cancel was called: nothing is submitted until hpc.submit."""


@dataclass(frozen=True)
class Run:
    """One output directory, with one frozen spec and one growing list of tars."""

    output_dir: Path
    trust: Trust | None = None
    """Whose files a command trusts if it acts on the run's state; None for tools that only look."""

    @property
    def folder(self) -> Path:
        """The folder of everything but the results."""
        return self.output_dir / ".run"

    @property
    def spec_file(self) -> Path:
        """The frozen spec."""
        return spec_path(self.output_dir)

    @property
    def list_file(self) -> Path:
        """The normalised list of tars: TAR<tab>NAME per line, NAME being that of the output."""
        return self.folder / "tars.txt"

    def paths(self, name: str) -> TarPaths:
        """The paths of one tar's output."""
        return TarPaths(self.output_dir, name)

    @property
    def submissions_folder(self) -> Path:
        """One folder per submission, numbered from 0001."""
        return self.folder / "submissions"

    @property
    def claims_folder(self) -> Path:
        """One file per tar being worked on."""
        return self.folder / "claims"

    @property
    def history_file(self) -> Path:
        """What the controller decided and why, one JSON object per line. For people and reports; no decision needs it."""
        return self.folder / "history.jsonl"

    @property
    def report_file(self) -> Path:
        """The report that the controller keeps fresh (hpc/fresh_report.py)."""
        return self.folder / "report.html"

    @property
    def events_file(self) -> Path:
        """What has happened, one event per line (docs/monitoring.md)."""
        return self.folder / "events.jsonl"

    @property
    def metrics_file(self) -> Path:
        """The figures after the last round, in OpenMetrics."""
        return self.folder / "metrics.prom"

    @property
    def lists_file(self) -> Path:
        """The lists that tools have written for people, with their hashes: these may be overwritten."""
        return self.folder / "lists.json"

    @property
    def sizes_file(self) -> Path:
        """The sizes of remote tars (hpc/remote_list.py)."""
        return self.folder / "remote_sizes.json"

    def new_submission(self) -> Submission:
        """Create the folder of a new submission."""
        number = max([known.number for known in self.submissions()], default=0) + 1
        while True:
            folder = self.submissions_folder / f"{number:04}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return Submission(folder)

    def submissions(self) -> list[Submission]:
        """All submissions, oldest first."""
        return read_submissions(self.submissions_folder)

    def read_state(self) -> RunState:
        """The state of the run as a whole. Raises UsageError if the file is not trusted or not readable."""
        try:
            with (self.folder / STATE_FILE).open("rb") as file:
                if self.trust is not None:  # each time: another run may have been put in its place
                    check_files([owned(self.folder / STATE_FILE, os.fstat(file.fileno()))], self.trust)
                return decode_json(file.read(), RunState)
        except FileNotFoundError:
            return RunState()
        except msgspec.DecodeError as error:
            raise UsageError(f"{self.folder / STATE_FILE}: not a file of this version of tar2tokens: {error}") from None

    def write_state(self, state: RunState) -> None:
        """Write the state of the run as a whole."""
        write_atomically(FileOps(), self.folder / STATE_FILE, msgspec.json.format(msgspec.json.encode(state)))

    def listed(self) -> list[ListedTar]:
        """The run's tars in the order in which they were added; without a list, those that were tokenized by hand."""
        listed = self._read_list()
        if listed is None:
            return [ListedTar(tar, name) for tar, name in tars_by_hand(self.folder).items()]
        return listed

    def _read_list(self) -> list[ListedTar] | None:
        try:
            text = self.list_file.read_bytes().decode()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError:
            raise UsageError(f"{self.list_file}: expected TAR<tab>NAME lines in UTF-8, found something else") from None
        found = []
        *lines, rest = text.split("\n")
        if rest or not lines:  # it is written atomically: without the missing tars the run would seem finished
            raise UsageError(f"{self.list_file}: expected TAR<tab>NAME lines to its end, found a list that is cut or empty")
        for line in lines:  # not splitlines: a name may contain what Unicode counts as a line end
            tar, tab, name = line.partition("\t")
            if not tab or name.count("\r") > tar.count("\r"):  # an editor has changed the line ends
                raise UsageError(f"{self.list_file}: expected TAR<tab>NAME, found {line!r}")
            if {"", ".."} & set(name.split("/")):  # such an output would lie outside the run
                raise UsageError(f"{self.list_file}: expected the name of an output below the run, found {name!r}")
            found.append(ListedTar(tar, name))
        for words in ([tar.name for tar in found], [tar.tar for tar in found]):
            if len(set(words)) < len(words):
                twice = Counter(words).most_common(1)[0][0]
                raise UsageError(f"{self.list_file}: expected a tar, and an output's name, once each, found {twice!r} twice")
        return found

    def add_to_list(self, tars: Sequence[str], *, keep_dirs: bool, dry_run: bool = False) -> list[ListedTar]:
        """Add tars to the run's list; returns those given, with names. Raises UsageError if two would share a name."""
        known = self._with_new(tars, keep_dirs=keep_dirs)
        if not dry_run and known.keys() - {tar.tar for tar in self._read_list() or ()}:  # by name: others add, too
            with locked(self.folder / "tars.lock"):  # or two commands at once would each drop the other's tars
                known = self._with_new(tars, keep_dirs=keep_dirs)
                text = "".join(f"{tar.tar}\t{tar.name}\n" for tar in known.values())
                write_atomically(FileOps(), self.list_file, text.encode())
        return [known[tar] for tar in tars]

    def _with_new(self, tars: Sequence[str], *, keep_dirs: bool) -> dict[str, ListedTar]:
        listed = self._read_list()
        known = {tar.tar: tar for tar in listed or ()}
        by_hand = {tar.tar: tar for tar in self.listed()} if listed is None else {}
        named = known | {tar: by_hand[tar] for tar in tars if tar in by_hand}
        taken = {tar.name: tar.tar for tar in named.values()}
        new = [tar for tar in tars if tar not in named]
        named |= {tar: ListedTar(tar, name) for tar, name in name_tars(new, keep_dirs=keep_dirs, taken=taken).items()}
        found = known | {tar: named[tar] for tar in tars}
        # Outputs made by hand stay in the run, except those of a tar that has moved and was added by its new path, and those
        # whose tar is not known.
        names = {tar.name for tar in found.values()}
        rest = (tar for tar in by_hand.values() if tar.tar not in found and tar.name not in names and tar.tar != tar.name)
        return found | {tar.tar: tar for tar in rest}


def as_task(tar: ListedTar, sizes: Mapping[str, int]) -> TarTask:
    """The tar as a task of a plan. `sizes`: tar -> bytes, for remote tars. An unknown size, or that of a missing tar, is 0;
    its worker reports a missing tar.
    """
    if is_address(tar.tar):
        return TarTask(tar.tar, tar.name, sizes.get(tar.tar, 0))
    try:
        size = Path(tar.tar).stat().st_size
    except OSError:
        size = 0
    return TarTask(tar.tar, tar.name, size)
