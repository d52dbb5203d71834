"""Clips of several runs over the same tars as one: the keys of all, by identity, and counts of what is missing where.

    from tools.joined_runs import join_runs

    runs = join_runs("text", "whisper", "units")
    for clip in runs:
        clip.arrays["mid"], clip.arrays["tokens"]
    runs.counts.missing                        # {"text": 3, "whisper": 0, "units": 1}

A clip is identified by its tar, its whole name in the tar, and its position among the members of that name, never by its
base name. The run of a combined backend (`--backend a+b`) needs no joining: read it with tools.reader.read_run.
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
from jobs.spec import preset_name
from tools.common.run_files import CommittedFile, committed_files, read_lines, spec_of
from tools.reader import TokenizedClip, read_clips

__all__ = ["JoinCounts", "JoinedRuns", "join_runs"]

log = logging.getLogger("tar2tokens")

Key = tuple[str, int]
"""A clip of a tar: its `audio_file`, and the number of lines with that name before its own."""


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


class JoinedRuns:
    """Iterates over the clips that all runs have, in the order of the first run. `counts` describes the last pass."""

    def __init__(self, runs: Sequence[_Run], *, partial_ok: bool, damaged: bool, part: int, parts: int) -> None:
        self._runs = runs
        self._partial_ok = partial_ok
        self._damaged = damaged
        self._part, self._parts = part, parts
        self.counts = JoinCounts()

    def __iter__(self) -> Iterator[TokenizedClip]:
        """Memory holds the clip names of one tar and the arrays of one clip. Raises UsageError if two runs have different
        tars of one name, and what read_run raises.
        """
        zeros = {run.name: 0 for run in self._runs}
        self.counts = JoinCounts(missing=dict(zeros), missing_tars=dict(zeros))
        for files in _same_tars(self._runs, partial_ok=self._partial_ok):
            yield from self._tar(files)
        for name, clips in self.counts.missing.items():
            if clips:
                tars = self.counts.missing_tars[name]
                why = f", in part because it lacks {counted(tars, 'tar')}" if tars else ""
                log.warning("%s lacks %s that others have%s", name, counted(clips, "clip"), why)

    def _tar(self, files: Sequence[CommittedFile | None]) -> Iterator[TokenizedClip]:
        """The joined clips of one tar; `files` has the file of each run, None where it has none."""
        found = [_keys(file) if file is not None else {} for file in files]
        there = dict.fromkeys(key for keys in found for key in keys)
        for run, file, keys in zip(self._runs, files, found, strict=True):
            self.counts.missing[run.name] += len(there) - len(keys)
            self.counts.missing_tars[run.name] += file is None
        wanted = set()
        for key in (key for key in found[0] if all(key in keys for keys in found)):
            if not self._damaged and any(keys[key] is not None for keys in found):
                self.counts.damaged += 1
                continue
            if self.counts.joined % self._parts == self._part:
                wanted.add(key)
            self.counts.joined += 1
        if wanted:
            streams = [_clips(file, wanted) for file in files if file is not None]
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
    """For each tar that any run has committed, the file of each run: first the tars of the first run, in its order.

    Two tars are the same if they have the same path, or else the same name in the runs' folders, and the same size.
    """
    left = [{file.name: file for file in committed_files(run.path, partial_ok=partial_ok)} for run in runs]
    by_path = [{file.manifest.tar_file: file.name for file in files.values()} for files in left]
    for number in range(len(runs)):
        for file in list(left[number].values()):
            row: list[CommittedFile | None] = [None] * number
            for other in range(number, len(runs)):
                match = left[other].pop(_name_in(by_path[other], file, left[other], by_path[number]), None)
                if match is not None and match.manifest.input_bytes != file.manifest.input_bytes:
                    raise UsageError(
                        f"{file.name}: {runs[number].path} is of a tar of {counted(file.manifest.input_bytes, 'byte')}, "
                        f"{runs[other].path} of one of {match.manifest.input_bytes:,}: expected runs over the same tars"
                    )
                row.append(match)
            yield row


def _name_in(
    names: Mapping[str, str], file: CommittedFile, there: Mapping[str, CommittedFile], ours: Mapping[str, str]
) -> str:
    """The name of the tar of `file` in another run, whose `names` are by path. A tar that both runs have under its own path
    is never matched by name.
    """
    if (name := names.get(file.manifest.tar_file)) is not None:
        return name
    namesake = there.get(file.name)
    return file.name if namesake is None or namesake.manifest.tar_file not in ours else ""


def _keys(file: CommittedFile) -> dict[Key, Damage | None]:
    """The clips with tokens, in the order of their lines, and their damage."""
    count: Counter[str] = Counter()
    found: dict[Key, Damage | None] = {}
    decode = msgspec.json.Decoder(_Named).decode
    with file.path.open("rb") as lines:
        for line in lines:
            try:
                named = decode(line)
            except msgspec.DecodeError as error:
                raise UsageError(f"{file.path}: expected records as a run has them: {error}") from None
            if named.error is None:
                found[named.audio_file, count[named.audio_file]] = named.damage
            count[named.audio_file] += 1
    return found


def _clips(file: CommittedFile, wanted: set[Key]) -> Iterator[TokenizedClip]:
    """The `wanted` clips of a file."""
    count: Counter[str] = Counter()

    def asked(record: Record) -> bool:
        key = record.audio_file, count[record.audio_file]
        count[record.audio_file] += 1
        return key in wanted

    return read_clips(read_lines(file), str(file.path), file.path.with_suffix(".safetensors"), asked)
