"""Pure: a file and a clip as text for tools.show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size

from audio_tokenizers.base import Features, Field
from audio_tokenizers.shared.wording import counted
from hpc.progress import TarState
from jobs.channels import describe_note
from jobs.console import clock_time
from jobs.plain_text import plain
from jobs.record_fields import feature_refs
from jobs.records import ErrorRecord, Record, Tally, TokenRecord
from tools.showing.histograms import Counts, Style, count_codes, read_rows, usage_lines

__all__ = ["Clip", "Summary", "render_clip", "render_file"]

CODEBOOKS_LISTED = 8
"""Number of codebooks whose first tokens are shown."""
INDENT = "    "
STATES = {"partial": "partial, not finished yet"}
UNITS = {"codes": "token", "features": "row", "list": "token", "audio_string": "token"}


@dataclass(kw_only=True)
class Summary:
    """Counts over the valid lines of one file."""

    state: TarState
    path: Path
    tally: Tally = field(default_factory=Tally)
    shortest: float = 0.0
    longest: float = 0.0
    """Seconds, of clips with tokens."""
    items: Counter[str] = field(default_factory=Counter)
    """Frames, rows or tokens by key."""
    counts: dict[str, Counts] = field(default_factory=dict)
    """By key: how often each code occurs; features have none."""
    first: list[Record] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One record."""

    name: str
    """Of its file."""
    index: int
    """Among the clips of its tar, from 0."""
    record: Record
    floats: Mapping[str, Features | str] = field(default_factory=dict)
    """By key of features: the array, or an error message."""


def render_file(found: Summary, fields: Sequence[Field], style: Style) -> str:
    """A file as text."""
    state, tally = found.state, found.tally
    errors = sum(tally.errors.values())
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in sorted(tally.errors.items()))
    lines = [f"{plain(state.name)}: {STATES.get(state.state, state.state)}"]
    if state.problem is not None:
        lines += _row("problem", state.problem)
    lines += _row("tar", state.tar)
    lines += _row("file", str(found.path))
    lines += _row("clips", f"{tally.clips:,}, {counted(errors, 'error')} among them{f' ({kinds})' if kinds else ''}")
    if tally.clips < state.clips:
        lines += _row("damaged", f"line {tally.clips + 1:,} is no valid record; it and what follows are not counted")
    if tally.damaged_clips:
        lines += _row("missing", f"{tally.damaged_seconds:,.3f} s of {counted(tally.damaged_clips, 'damaged clip')}, kept")
    if tally.clips > errors:
        span = f"clips of {found.shortest:,.3f} to {found.longest:,.3f} s"
        lines += _row("audio", f"{clock_time(tally.audio_seconds)} ({tally.audio_seconds:,.1f} s) became tokens, {span}")
        for key in fields:
            lines += ["", f"{key.name}: {_layout(key)}, {_rate(key, found.items[key.name], tally.audio_seconds)}"]
            if key.form != "features":
                lines += usage_lines(found.counts[key.name], key.lowest, style)
    if found.first:
        lines += ["", "first clips" if len(found.first) < tally.clips else "clips"]
        lines += _listed(found.first, style)
    return "\n".join(lines)


def _listed(records: Sequence[Record], style: Style) -> Iterator[str]:
    """A line per record: index, duration, name, and as much of the transcript as fits."""
    names = [plain(record.audio_file) for record in records]
    widest = max(map(cell_len, names))
    for index, (name, record) in enumerate(zip(names, records, strict=True)):
        if isinstance(record, ErrorRecord):
            seconds, words = "error", f"{record.error_kind}: {plain(record.error)}"
        else:
            seconds, words = f"{record.num_samples / record.sample_rate:,.3f} s", plain(record.text or "")
            if record.damage is not None:
                words = f"({record.damage.seconds:,.3f} s missing) {words}"
        line = f"{index:>5}  {seconds:>11}  {set_cell_size(name, widest)}  {words}".rstrip()
        yield line if cell_len(line) <= style.width else set_cell_size(line, style.width - len("...")) + "..."


def render_clip(clip: Clip, fields: Sequence[Field], style: Style) -> str:
    """A record as text."""
    record = clip.record
    lines = [f"{plain(clip.name)}: clip {clip.index}"]
    lines += _row("tar", record.tar_file)
    lines += _row("member", record.audio_file)
    if isinstance(record, ErrorRecord):
        return "\n".join([*lines, *_row("error", f"{record.error_kind}: {record.error}")])
    seconds = record.num_samples / record.sample_rate
    lines += _row("duration", f"{seconds:,.3f} s, {counted(record.num_samples, 'sample')} at {record.sample_rate:,} Hz")
    if record.damage is not None:
        lines += _row("missing", f"{record.damage.seconds:,.3f} s: {record.damage.what}")
    if record.notes:
        lines += _row("note", *(f"a clip {describe_note(note)}" for note in record.notes))
    lines += _row("language", record.language or "not stated")
    lines += _row("text", "none" if record.text is None else record.text)
    metadata = record.metadata or {}
    lines += _row("metadata", *(f"{key}: {_json(value)}" for key, value in metadata.items()))
    refs = iter(feature_refs(fields, record.values))
    for key in fields:
        lines.append("")
        if key.form == "features":
            lines += _features_lines(key, next(refs).shape[0], clip.floats[key.name], seconds)
        else:
            lines += _codes_lines(key, record, seconds, style)
    return "\n".join(lines)


def _codes_lines(key: Field, record: TokenRecord, seconds: float, style: Style) -> list[str]:
    rows = read_rows(key, [record.values])
    items = rows.shape[1]
    shape = f"[{rows.shape[0]}, {items:,}]" if key.form == "codes" else f"[{items:,}]"
    lines = [f"{key.name}: {shape}, {_layout(key)}, {_rate(key, items, seconds)}"]
    shown = min(len(rows), CODEBOOKS_LISTED)
    for number in range(shown):
        label = f"first of codebook {number}: " if len(rows) > 1 else "first: "
        lines.append(_numbers(INDENT + label, rows[number], style))
    if shown < len(rows):
        lines.append(f"{INDENT}and so on for {counted(len(rows) - shown, 'more codebook')}")
    return lines + usage_lines(count_codes(rows, key), key.lowest, style)


def _numbers(label: str, row: npt.NDArray[np.int64], style: Style) -> str:
    """The first numbers of a row that fit into a line."""
    line = label + " ".join(map(str, row[: style.width].tolist()))
    if len(line) <= style.width:
        return line
    return line[: style.width - len(" ...")].rpartition(" ")[0] + " ..."


def _features_lines(key: Field, rows: int, floats: Features | str, seconds: float) -> list[str]:
    lines = [f"{key.name}: [{rows:,}, {key.width:,}], {_layout(key)}, {_rate(key, rows, seconds)}"]
    if isinstance(floats, str):
        return [*lines, f"{INDENT}{plain(floats)}"]
    values = floats.astype(np.float64)
    return [*lines, f"{INDENT}minimum {values.min():.4g}, mean {values.mean():.4g}, maximum {values.max():.4g}"]


def _layout(key: Field) -> str:
    if key.form == "features":
        return f"{key.dtype}, {counted(key.width, 'column')}"
    if key.form == "codes":
        return f"{key.width} codebook{'s' * (key.width != 1)}"
    return "a list" if key.form == "list" else "a string of <audio_N>"


def _rate(key: Field, items: int, seconds: float) -> str:
    """Items per clip, if that is fixed, else per second."""
    several = key.form == "codes" and key.width > 1
    unit = "frame" if several else UNITS[key.form]
    if key.items is not None:
        return f"{key.items:,} {unit}{'s' * (key.items != 1)} per clip"
    words = f"{items / seconds:,.1f} {unit}s per second"
    return f"{words}, {key.width * items / seconds:,.1f} tokens per second" if several else words


def _row(label: str, *words: str) -> list[str]:
    return [f"  {label if number == 0 else '':<8}  {plain(word)}" for number, word in enumerate(words or ("none",))]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
