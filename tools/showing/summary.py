"""Summary of a file's lines, in one pass, and a clip with its floats."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from audio_tokenizers.errors import UsageError
from hpc.progress import TarState
from jobs.features import StoredFeatures
from jobs.line_file import good_lines
from jobs.record_fields import feature_refs
from jobs.records import ErrorRecord, Record
from jobs.spec import TokenizeSpec
from tools.common.byte_progress import ByteProgress

if TYPE_CHECKING:
    from audio_tokenizers.base import Features
    from tools.showing.text import Clip, Summary
from tools.showing.histograms import CodeCounter
from tools.showing.text import Clip, Summary

__all__ = ["summarize", "with_floats"]

CLIPS_LISTED = 10
LONG_BYTES = 64 << 20
"""Files of this size take long enough for a progress bar."""


def summarize(lines: IO[bytes], state: TarState, spec: TokenizeSpec) -> Summary:
    """Count a file's good lines, in one pass."""
    found = Summary(state=state, path=Path(lines.name))
    features = [field.name for field in spec.fields if field.form == "features"]
    counters = {field.name: CodeCounter(field) for field in spec.fields if field.form != "features"}
    for _, record in good_lines(_watched(lines, state.name), spec.fields):
        found.tally.add(record)
        if len(found.first) < CLIPS_LISTED:
            found.first.append(record)
        if isinstance(record, ErrorRecord):
            continue
        seconds = record.num_samples / record.sample_rate
        found.shortest = min(found.shortest or seconds, seconds)
        found.longest = max(found.longest, seconds)
        for counter in counters.values():
            counter.add(record.values)
        for name, ref in zip(features, feature_refs(spec.fields, record.values), strict=True):
            found.items[name] += ref.shape[0]
    for name, counter in counters.items():
        found.counts[name] = counter.counts()
        found.items[name] = int(found.counts[name][0].sum())
    return found


def _watched(lines: IO[bytes], what: str) -> Iterator[bytes]:
    size = os.fstat(lines.fileno()).st_size
    progress = ByteProgress(what, size)
    with progress.on_terminal() if size >= LONG_BYTES else nullcontext():
        for line in lines:
            progress(len(line))
            yield line


def with_floats(name: str, index: int, record: Record, spec: TokenizeSpec, features: Path | None) -> Clip:
    """The record with its arrays of NAME.safetensors, which there is once the file is committed."""
    fields = [field for field in spec.fields if field.form == "features"]
    floats: dict[str, Features | str] = {}
    if fields and not isinstance(record, ErrorRecord):
        floats = dict.fromkeys((field.name for field in fields), "its values can be read when the file is committed")
        if features is not None:
            try:
                with closing(StoredFeatures(features)) as stored:
                    for field, ref in zip(fields, feature_refs(spec.fields, record.values), strict=True):
                        floats[field.name] = stored.read(ref)
            except (UsageError, OSError) as error:
                floats = dict.fromkeys(floats, f"its values cannot be read: {error}")
    return Clip(name=name, index=index, record=record, floats=floats)
