"""Clips of several runs over the same tars as one: the keys of all, by identity, and counts of what is missing where.

    from tools.joined_runs import join_runs

    runs = join_runs("text", "whisper", "units")
    for clip in runs:
        clip.arrays["mid"], clip.arrays["tokens"]
    runs.counts.missing                        # {"text": 3, "whisper": 0, "units": 1}

A clip is identified by its tar, its whole name in the tar, and its position among the members of that name, never by its
base name (jobs/same_clips.py). The run of a combined backend (`--backend a+b`) needs no joining: read it with
tools.reader.read_run.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.wording import counted
from jobs.damage import Damage
from jobs.records import Record
from jobs.same_clips import ClipKey, KeyedLines, RunTar, in_all, same_tars
from jobs.spec import preset_name
from tools.common.run_files import CommittedFile, committed_files, read_lines, spec_of
from tools.reader import TokenizedClip, read_clips

__all__ = ["JoinCounts", "JoinedRuns", "join_runs"]

log = logging.getLogger("tar2tokens")


@dataclass(slots=True)
class JoinCounts:
    """Counts of one pass."""

    joined: int = 0
    """Clips that every run has."""
    missing: dict[str, int] = field(default_factory=dict)
    """By run: clips that have tokens in another run and not in this one, because of an error or because it lacks the tar."""
    missing_tars: dict[str, int] = field(default_factory=dict)
    """By run: tars that another run has committed and this one has not. `missing` includes their clips."""
    damaged: int = 0
    """Clips that every run has and `damaged=False` leaves out."""


class _Named(msgspec.Struct, frozen=True):
    """The part of a line that decides whether its clip is joined."""

    audio_file: str
    error: str | None = None
    damage: Damage | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    name: str
    path: Path
    keys: Mapping[str, str]
    """Key of its records -> key of joined clips."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which of the joined clips a pass gives."""

    damaged: bool
    part: int
    parts: int


class JoinedRuns:
    """Iterates over the clips that all runs have, in the order of the first run. `counts` describes the last pass."""

    def __init__(self, runs: Sequence[_Run], *, partial_ok: bool, damaged: bool, part: int, parts: int) -> None:
        self._runs = runs
        self._partial_ok = partial_ok
        self._damaged = damaged
        self._part, self._parts = part, parts
        self.counts = JoinCounts()

    def __iter__(self) -> Iterator[TokenizedClip]:
        """As `clips` without arguments."""
        return self.clips()

    def clips(
        self, *, partial_ok: bool = False, damaged: bool = True, part: int = 0, parts: int = 1
    ) -> Iterator[TokenizedClip]:
        """The clips, or a share of them: over all `part` in 0..parts-1 each comes exactly once.

        `partial_ok` and `damaged=False` are in force if they were given here or to join_runs. Memory holds the clip names
        of one tar and the arrays of one clip. Raises UsageError if two runs have different tars of one name, and what
        read_run raises.
        """
        wanted = _Wanted(self._damaged and damaged, self._part + self._parts * part, self._parts * parts)
        zeros = {run.name: 0 for run in self._runs}
        self.counts = JoinCounts(missing=dict(zeros), missing_tars=dict(zeros))
        for files in _same_tars(self._runs, partial_ok=self._partial_ok or partial_ok):
            yield from self._tar(files, wanted)
        for name, clips in self.counts.missing.items():
            if clips and wanted.part == 0:  # all parts count the same
                tars = self.counts.missing_tars[name]
                why = f", in part because it lacks {counted(tars, 'tar')}" if tars else ""
                log.warning("%s lacks %s that others have%s", name, counted(clips, "clip"), why)

    def _tar(self, files: Sequence[CommittedFile | None], wanted: _Wanted) -> Iterator[TokenizedClip]:
        """The joined clips of one tar; `files` has the file of each run, None where it has none."""
        found = [_keys(file) if file is not None else {} for file in files]
        there = dict.fromkeys(key for keys in found for key in keys)
        for run, file, keys in zip(self._runs, files, found, strict=True):
            self.counts.missing[run.name] += len(there) - len(keys)
            self.counts.missing_tars[run.name] += file is None
        picked = set()
        for key in in_all(found):
            if not wanted.damaged and any(keys[key] is not None for keys in found):
                self.counts.damaged += 1
                continue
            if self.counts.joined % wanted.parts == wanted.part:
                picked.add(key)
            self.counts.joined += 1
        if picked:
            streams = [_clips(file, picked) for file in files if file is not None]
            for clips in zip(*streams, strict=True):
                yield self._joined(clips)

    def _joined(self, clips: Sequence[TokenizedClip]) -> TokenizedClip:
        first = clips[0]
        for run, clip in zip(self._runs, clips, strict=True):
            if clip.audio_file != first.audio_file:
                raise InfrastructureError(
                    f"{first.tar_file}: {self._runs[0].path} has {first.audio_file} where {run.path} has {clip.audio_file}: "
                    "expected the clips of one tar in one order"
                )
        pairs = [
            (run.keys[key], array) for run, clip in zip(self._runs, clips, strict=True) for key, array in clip.arrays.items()
        ]
        return dataclasses.replace(
            first,
            arrays=dict(pairs),
            text=next((clip.text for clip in clips if clip.text is not None), None),
            language=next((clip.language for clip in clips if clip.language is not None), None),
            metadata=next((clip.metadata for clip in clips if clip.metadata is not None), None),
            damage=next((clip.damage for clip in clips if clip.damage is not None), None),
            notes=tuple(dict.fromkeys(note for clip in clips for note in clip.notes)),
        )


def join_runs(
    *sources: str | os.PathLike[str], partial_ok: bool = False, damaged: bool = True, part: int = 0, parts: int = 1
) -> JoinedRuns:
    """The clips that all of these run directories have tokens of, each with the keys of all.

    A key that several runs have gets the name of the run's backend or preset in front, such as `mimi_tokens`. `tar_file`,
    `num_samples` and `sample_rate` are the first run's; text, language, metadata and damage those of the first run that has
    any. The other settings are those of read_run; `parts` divides by clips.

    Raises UsageError if a source is no run directory, or if two runs of one backend give the same key.
    """
    if len(sources) < 2:
        raise UsageError(f"expected two runs or more, found {len(sources)}: read_run reads one")
    if not 0 <= part < parts:
        raise UsageError(f"part {part} of {parts}: expected a number from 0 to {parts - 1}")
    names = [os.fspath(source) for source in sources]
    specs = [spec_of(Path(name)) for name in names]
    having = Counter(each.name for spec in specs for each in spec.fields)
    runs = []
    for name, spec in zip(names, specs, strict=True):
        keys = {
            each.name: each.name if having[each.name] == 1 else f"{preset_name(spec)}_{each.name}" for each in spec.fields
        }
        runs.append(_Run(name, Path(name), keys))
    for key, count in Counter(key for run in runs for key in run.keys.values()).items():
        if count > 1:
            both = [run.name for run in runs if key in run.keys.values()]
            raise UsageError(
                f"{' and '.join(both)} both give {key!r}: join runs of different backends, or of different keys"
            )
    return JoinedRuns(runs, partial_ok=partial_ok, damaged=damaged, part=part, parts=parts)


def _same_tars(runs: Sequence[_Run], *, partial_ok: bool) -> Iterator[list[CommittedFile | None]]:
    """For each tar that any run has committed, the file of each run."""
    files = [{file.name: file for file in committed_files(run.path, partial_ok=partial_ok)} for run in runs]
    tars = [
        [RunTar(file.name, file.manifest.tar_file, file.manifest.input_bytes) for file in there.values()] for there in files
    ]
    for row in same_tars(tars, [run.path for run in runs]):
        yield [None if tar is None else there[tar.name] for there, tar in zip(files, row, strict=True)]


def _keys(file: CommittedFile) -> dict[ClipKey, Damage | None]:
    """The clips with tokens, in the order of their lines, and their damage."""
    keyed = KeyedLines()
    found: dict[ClipKey, Damage | None] = {}
    decode = msgspec.json.Decoder(_Named).decode
    with file.path.open("rb") as lines:
        for line in lines:
            try:
                named = decode(line)
            except msgspec.DecodeError as error:
                raise UsageError(f"{file.path}: expected records as a run has them: {error}") from None
            key = keyed.key(named.audio_file)
            if named.error is None:
                found[key] = named.damage
    return found


def _clips(file: CommittedFile, wanted: set[ClipKey]) -> Iterator[TokenizedClip]:
    """The `wanted` clips of a file."""
    keyed = KeyedLines()

    def asked(record: Record) -> bool:
        return keyed.key(record.audio_file) in wanted

    return read_clips(read_lines(file), str(file.path), file.path.with_suffix(".safetensors"), asked)
