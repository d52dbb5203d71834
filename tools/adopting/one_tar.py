"""One tar of a run: its clips by key, and the adoption of its lines, in a process of its own."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from audio_tokenizers.errors import ClaimLostError, InfrastructureError, UsageError
from jobs.clip_group import Clip
from jobs.commands import writing_to
from jobs.ledger import Ledger
from jobs.manifest import Findings
from jobs.records import ErrorRecord, decode_record, encode_record
from jobs.scratch import scratch_file, scratch_trouble
from jobs.spec import TokenizeSpec
from jobs.subset import Subset
from jobs.tar_findings import findings_of
from jobs.tar_format import TarDamage
from jobs.tar_paths import TarPaths
from jobs.tar_reader import TarReader
from jobs.tar_source import TarSource, tar_source
from jobs.tar_task import InputIdentity
from tools.adopting.judging import Adopted, MadeAgain, Reason, judge_clip
from tools.adopting.line_index import Key, LineIndex, Place, key_of
from tools.adopting.old_lines import OldLine, UnfitError, member_names, read_old_line
from tools.common.process_pool import Tell
from tools.merging.shapes import Shape

__all__ = ["TarAdoption", "TarToAdopt", "adopt_tar", "keys_of_tar"]

TO_BE_MADE = "to be made by the next run"
OTHER_PARTIAL = "its partial in the run is of other clips: left to the run"
AMBIGUOUS: Mapping[Shape, str] = {
    "higgs": "its name, without folders, is in the tar more than once",
    "bicodec": "several clips of these tars have its text",
    "text_audio_pairs": "several clips of these tars have its path",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TarToAdopt:
    """One tar, and what is known of the old output."""

    number: int
    """In the list."""
    tar: str
    name: str
    """Of its output."""
    output_dir: Path
    spec: TokenizeSpec
    kind: Shape
    index: Path
    dry_run: bool = False


@dataclass(slots=True)
class TarAdoption:
    """What became of one tar."""

    committed: bool = False
    adopted: int = 0
    adopted_seconds: float = 0.0
    there: int = 0
    """Clips that had a line in the run already."""
    made_again: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, str] = field(default_factory=dict)
    """The first of each kind."""
    used: list[int] = field(default_factory=list)
    """Lines that name clips of the tar."""
    problem: str = ""
    """Why the tar was left to the run."""


def _keys(clip: Clip, task: TarToAdopt) -> tuple[Key, ...]:
    """The keys of old lines that may mean the clip."""
    if task.kind == "higgs":
        return tuple(key_of(task.number, name) for name in member_names(clip.name))
    if task.kind == "bicodec":
        return (key_of(None, (clip.annotations.text or "").strip()),)
    metadata = clip.annotations.metadata or {}
    source = metadata.get("source")
    audio = source.get("audio") if isinstance(source, dict) else None
    name = audio if isinstance(audio, str) and audio else clip.name
    return (key_of(None, member_names(name)[0]),)


class _TarTroubleError(Exception):
    """The tar cannot be read."""


@contextmanager
def _reading(source: TarSource) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _TarTroubleError(f"{source}: cannot be read: {error.strerror or error}") from error


def _open(task: TarToAdopt, source: TarSource, *, skip_clips: int, subset: Subset | None) -> TarReader:
    spec = task.spec
    with _reading(source):
        return TarReader(
            source, spec.extensions, skip_clips=skip_clips, sniff=spec.sniff, texts=spec.text_rules, subset=subset
        )


def keys_of_tar(task: TarToAdopt, _tell: Tell) -> list[Key]:
    """The keys of all clips of a tar, also of those outside of the run's share, up to where the tar is damaged, if it is."""
    found: list[Key] = []
    with (
        suppress(TarDamage, OSError, UsageError, _TarTroubleError),
        _open(task, tar_source(task.tar), skip_clips=sys.maxsize, subset=None) as reader,
    ):
        for clip in reader:
            found += _keys(clip, task)
    return found


def adopt_tar(task: TarToAdopt, tell: Tell) -> TarAdoption:
    """Adopt what the old output has of a tar: commit the tar if that is all of it, or else leave a partial.

    What keeps the tar from being read, and its claim, become a `problem`. Raises InfrastructureError if results cannot be
    written.
    """
    found = TarAdoption()
    try:
        with closing(LineIndex(task.index)) as index:
            _Adoption(task, found, index, tell).run()
    except (TarDamage, UsageError, ClaimLostError, _TarTroubleError) as error:
        found.problem = str(error)
    return found


class _Adoption:
    """The work on one tar."""

    def __init__(self, task: TarToAdopt, found: TarAdoption, index: LineIndex, tell: Tell) -> None:
        self._task = task
        self._found = found
        self._index = index
        self._tell = tell
        self._source = tar_source(task.tar)
        self._gap = False
        """A clip without a line was met: lines after it are left for the next attempt."""
        self._left = 0
        """How many these are."""

    def run(self) -> None:
        """Adopt the lines."""
        if self._task.dry_run:
            with self._clips_of_run(skip_clips=0) as reader:
                for clip in self._clips(reader):
                    with closing(clip):
                        self._judge(clip)
            return
        identity = self._look()
        with writing_to(self._task.output_dir):
            paths, spec = TarPaths(self._task.output_dir, self._task.name), self._task.spec
            ledger = Ledger.take(paths, identity, spec.fingerprint, spec.fields)
        try:
            self._fill(ledger, identity)
        except BaseException:
            ledger.abandon()
            raise

    def _clips_of_run(self, *, skip_clips: int) -> TarReader:
        subset = Subset.of(self._task.spec.subset_ratio, self._source)
        return _open(self._task, self._source, skip_clips=skip_clips, subset=subset)

    def _look(self) -> InputIdentity:
        with _reading(self._source):
            return InputIdentity.opened(self._source)

    def _clips(self, reader: TarReader) -> Iterator[Clip]:
        read = 0
        clips = iter(reader)
        while True:
            with _reading(self._source):
                clip = next(clips, None)
            if clip is None:
                return
            self._tell(reader.bytes_consumed - read)
            read = reader.bytes_consumed
            yield clip

    def _fill(self, ledger: Ledger, identity: InputIdentity) -> None:
        damage: TarDamage | None = None
        clips = 0
        with scratch_file() as left, self._clips_of_run(skip_clips=len(ledger.done)) as reader:
            try:
                for clip in self._clips(reader):
                    clips += 1
                    with closing(clip):
                        self._take(clip, ledger, left)
            except TarDamage as error:
                damage = error
                self._found.problem = str(error)
            if damage is None and clips < len(ledger.done):
                raise UsageError(f"{self._source}: {OTHER_PARTIAL}")
            with writing_to(self._task.output_dir):
                self._end(ledger, identity, left, findings_of(reader, damage))

    def _take(self, clip: Clip, ledger: Ledger, left: IO[bytes]) -> None:
        """Append the clip's line to the partial, or keep it for the next attempt, if clips before it have none."""
        line = b""
        if clip.index < len(ledger.done):
            if ledger.done[clip.index] != clip.name:
                raise UsageError(f"{self._source}: {OTHER_PARTIAL}")
            self._count_there(clip)
        else:
            kept = ledger.reusable_line(clip.index, clip.name)
            if kept is not None:
                line = kept
                self._count_there(clip)
            elif isinstance(judged := self._judge(clip), Adopted):
                line = judged.line
            self._gap = self._gap or not line
            if not self._gap:
                with writing_to(self._task.output_dir):
                    ledger.append(decode_record(line), (line,), kept=True)  # no device of this run made it
                line = b""
            self._left += bool(line)
        nothing = ErrorRecord(tar_file=self._task.tar, audio_file=clip.name, error=TO_BE_MADE, error_kind="backend")
        with scratch_trouble():
            left.write((line or encode_record(nothing)) + b"\n")

    def _end(self, ledger: Ledger, identity: InputIdentity, left: IO[bytes], findings: Findings) -> None:
        found = self._found
        if identity.written_to(self._look()):
            found.adopted, found.adopted_seconds, found.problem = 0, 0.0, f"{self._source}: it was written to meanwhile"
            ledger.start_over()
        elif not ledger.tally.clips and not self._left:
            ledger.start_over()
        elif not self._gap and not found.problem:
            ledger.commit(findings)
            found.committed = True
        else:
            if self._left:
                left.seek(0)
                ledger.leave_for_next(left)
            ledger.release(findings)

    def _count_there(self, clip: Clip) -> None:
        """The run has a line of the clip, and needs none of the old output."""
        self._found.there += 1
        self._found.used += [place.id for key in _keys(clip, self._task) for place in self._index.places(key)]

    def _judge(self, clip: Clip) -> Adopted | MadeAgain:
        judged = self._judge_by_lines(clip)
        if isinstance(judged, Adopted):
            self._found.adopted += 1
            self._found.adopted_seconds += judged.seconds
        else:
            self._found.made_again[judged.reason] += 1
            self._found.examples.setdefault(judged.reason, f"{clip.name} of {self._task.tar}: {judged.words}")
        return judged

    def _judge_by_lines(self, clip: Clip) -> Adopted | MadeAgain:
        places: list[Place] = []
        shared = False
        for key in _keys(clip, self._task):  # a whole name says more than its last part
            found = self._index.places(key)
            self._found.used += [place.id for place in found]
            if found and not places:
                shared = self._index.clips(key) != 1
                places = [] if shared else found
        if shared and not places:
            return MadeAgain("ambiguous", "its line may be another clip's: " + AMBIGUOUS[self._task.kind])
        return judge_clip(clip, [self._read(place) for place in places], self._task.spec, self._task.tar)

    def _read(self, place: Place) -> OldLine | UnfitError:
        path = self._index.file(place.file)
        try:
            with path.open("rb") as file:
                file.seek(place.start)
                return read_old_line(file.read(place.size))
        except UnfitError as error:
            return error
        except OSError as error:
            raise InfrastructureError(f"{path}: cannot be read: {error.strerror or error}") from error
