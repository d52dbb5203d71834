"""Pure: which committed files become which part of an export. The plan is frozen: a rerun resumes the same parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import msgspec

from audio_tokenizers.shared.wording import counted
from tools.common.run_files import CommittedFile

__all__ = ["FORMATS", "PLAN_FILE", "ExportFormat", "Part", "Plan", "Source", "differences", "make_plan"]

ExportFormat = Literal["parquet", "webdataset", "hf", "npz"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
PLAN_FILE = ".export.json"
PART_BYTES = 1_000_000_000
"""Bytes of JSONL and floats; gives Parquet files of some 350 MB."""


class Source(msgspec.Struct, frozen=True):
    """A committed file, as it was at the start of the export."""

    name: str
    sha256: str
    features_sha256: str = ""


class Part(msgspec.Struct, frozen=True):
    """One file, or for npz one folder, of the export."""

    path: str
    """Below the export's folder."""
    sources: tuple[Source, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides an export's bytes, except for library versions."""

    version: int = 1
    to: ExportFormat
    with_audio: bool = False
    notes: bool = False
    """Whether Parquet files have a column of notes; those of older versions do not."""
    fingerprint: str
    """Fingerprint of the run's spec."""
    parts: tuple[Part, ...]


def make_plan(
    files: Sequence[CommittedFile],
    *,
    to: ExportFormat,
    fingerprint: str,
    with_audio: bool = False,
    part_bytes: int = PART_BYTES,
    keeps_damaged: bool = False,
) -> Plan:
    """One part per committed file for webdataset and npz; for Parquet, consecutive files up to `part_bytes`.

    Parquet has a column of notes if a record has some, and for all runs that may keep damaged clips: these are as new as
    notes, and so data sets of one recipe have the same columns.

    The folder for a tar `a` beside a tar `a/b` is `a.clips`: `a` will be there before it is finished.
    """
    groups = list(_grouped(files, part_bytes)) if to in ("parquet", "hf") else [[file] for file in files]
    above = {"/".join(pieces[:end]) for file in files for pieces in [file.name.split("/")] for end in range(1, len(pieces))}
    parts = []
    for number, group in enumerate(groups):
        numbers = f"{number:05}-of-{len(groups):05}"
        path = {
            "parquet": f"part-{numbers}.parquet",
            "hf": f"data/train-{numbers}.parquet",
            "webdataset": f"{group[0].name}.tar",
            "npz": f"{group[0].name}.clips" if group[0].name in above else group[0].name,
        }[to]
        sources = (Source(f.name, f.manifest.output_sha256, f.manifest.features_sha256) for f in group)
        parts.append(Part(path, tuple(sources)))
    notes = to in ("parquet", "hf") and (keeps_damaged or any(file.manifest.notes for file in files))
    return Plan(to=to, with_audio=with_audio, notes=notes, fingerprint=fingerprint, parts=tuple(parts))


def _grouped(files: Sequence[CommittedFile], part_bytes: int) -> Iterator[list[CommittedFile]]:
    group: list[CommittedFile] = []
    size = 0
    for file in files:
        weight = file.manifest.output_bytes + file.manifest.features_bytes
        if group and size + weight > part_bytes:
            yield group
            group, size = [], 0
        group.append(file)
        size += weight
    yield group


def differences(frozen: Plan, asked: Plan) -> list[str]:
    """Messages about differences between the folder's plan and this command's; empty if there are none."""
    found = []
    if frozen.version != asked.version:
        found.append("another version of tar2tokens began it")
    if frozen.to != asked.to:
        found.append(f"it holds --to {frozen.to}, this command says --to {asked.to}")
    if frozen.with_audio != asked.with_audio:
        found.append(f"it was begun {'with' if frozen.with_audio else 'without'} --with-audio")
    if frozen.notes != asked.notes:
        found.append(f"its columns are those of a run {'with' if frozen.notes else 'without'} notes")
    if frozen.fingerprint != asked.fingerprint:
        found.append(f"it holds tokens of the recipe {frozen.fingerprint}, the run has {asked.fingerprint}")
    before = {source.name: source for part in frozen.parts for source in part.sources}
    now = {source.name: source for part in asked.parts for source in part.sources}
    for names, words in (
        ([name for name in now if name not in before], "not in it: {} that the run has"),
        ([name for name in before if name not in now], "in it: {} that the run does not have"),
        ([name for name in now if name in before and now[name] != before[name]], "tokenized again since: {}"),
    ):
        if names:
            found.append(f"{words.format(counted(len(names), 'tar'))}, the first {names[0]}")
    if not found and frozen != asked:
        found.append("its tars stand in another order")
    return found
