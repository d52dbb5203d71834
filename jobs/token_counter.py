"""Count the tokens of a tar's records: as arrays while they are written, or from the lines of a file.

Both ways lead through the same counters, so a tar that was resumed has the statistics of one that was not, and
`count_file` gives those of a file that was committed before there were any.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from audio_tokenizers.base import Codes, Field
from jobs.record_fields import shape_key
from jobs.records import ErrorRecord, Record, decode_record
from jobs.sequence_counter import SequenceCounter
from jobs.token_arrays import read_codes
from jobs.token_statistics import SequenceStatistics, TokenStatistics

__all__ = ["ClipTokens", "TokenCounter", "count_file", "streams_of"]

TEXT_BYTES = 1 << 17
"""Bytes of JSON that are converted to arrays together."""
VQ02_IDS, VQ06_IDS = 1024, 4096
"""The two streams in Step-Audio's string, two ids of the first and three of the second in turn: as one sequence they would
never repeat.
"""
READ_BYTES = 1 << 20
FAST, ENOUGH, EVERY = 1000.0, 1 << 20, 32
"""Of a key with more than FAST items per second, as mu-law's samples, only one clip in EVERY is counted once ENOUGH items
are: counting all of them would take a tenth of the worker's time.
"""

ClipTokens = Mapping[str, Codes | SequenceCounter]
"""What a clip became, by key: the array of a key with integers, or the counter that got its codes in parts."""


def streams_of(field: Field) -> tuple[Field, ...]:
    """The sequences that are counted of one key: none of floats, two of Step-Audio's string, else one."""
    if field.form == "features":
        return ()
    if field.form != "audio_string" or (field.lowest, field.codebook_size) != (0, VQ02_IDS + VQ06_IDS):
        return (field,)
    rate = field.samples_per_item
    parts = (("vq02", 0, VQ02_IDS, 5 / 2), ("vq06", VQ02_IDS, VQ06_IDS, 5 / 3))
    return tuple(
        dataclasses.replace(
            field, name=f"{field.name}/{name}", lowest=lowest, codebook_size=size, samples_per_item=rate and rate * share
        )
        for name, lowest, size, share in parts
    )


class TokenCounter:
    """Counts the records of one tar, in the order of their lines."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = [field for field in fields if field.form != "features"]
        self._counters: dict[str, list[SequenceCounter]] = {}
        self._items: Counter[str] = Counter()
        """Items of each key that were counted."""
        self._held: list[tuple[int, str, Mapping[str, bytes]]] = []
        self._held_bytes = 0
        self._lines = 0
        self._sample_rate = 0
        self._clips = 0
        self._audio_seconds = 0.0
        self._text_clips = 0
        self._text_characters = 0
        self._text_seconds = 0.0

    def add(self, record: Record, tokens: Callable[[], ClipTokens] | None = None) -> None:
        """Count the next line. `tokens` returns what the clip became; without it the record's own JSON is read, which must
        be valid.
        """
        clip, self._lines = self._lines, self._lines + 1
        if isinstance(record, ErrorRecord):
            return
        seconds = record.num_samples / record.sample_rate
        self._sample_rate = record.sample_rate
        self._clips += 1
        self._audio_seconds += seconds
        if record.text is not None:
            self._text_clips += 1
            self._text_characters += len(record.text)
            self._text_seconds += seconds
        if tokens is None:
            self._hold(clip, record.audio_file, {key: bytes(value) for key, value in record.values.items()})
            return
        self._count_held()
        found = tokens()
        for field in self._fields:
            self._count(field, found[field.name], clip, record.audio_file)

    def statistics(self) -> TokenStatistics:
        """The statistics of all lines so far."""
        self._count_held()
        return TokenStatistics(
            clips=self._clips,
            audio_seconds=round(self._audio_seconds, 3),
            text_clips=self._text_clips,
            text_characters=self._text_characters,
            text_seconds=round(self._text_seconds, 3),
            sequences={
                counter.field.name: SequenceStatistics.of(counter, self._sample_rate)
                for counters in self._counters.values()
                for counter in counters
            },
        )

    def _hold(self, clip: int, name: str, values: Mapping[str, bytes]) -> None:
        """Keep the JSON of a record's codes until there is enough to convert at once."""
        if not self._fields:
            return
        keys = [key for field in self._fields for key in (field.name, shape_key(field.name)) if key in values]
        self._held.append((clip, name, {key: values[key] for key in keys}))
        self._held_bytes += sum(len(values[key]) for key in keys)
        if self._held_bytes >= TEXT_BYTES:
            self._count_held()

    def _count_held(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if not held:
            return
        for field in self._fields:
            arrays = read_codes(field, [values for _, _, values in held])
            for (clip, name, _), codes in zip(held, arrays, strict=True):
                self._count(field, codes, clip, name)

    def _count(self, field: Field, codes: Codes | SequenceCounter, clip: int, name: str) -> None:
        counters = self._counters.get(field.name)
        if counters is None:
            counters = [SequenceCounter(stream, self._sample_rate) for stream in streams_of(field)]
            self._counters[field.name] = counters
        if self._items[field.name] >= ENOUGH and clip % EVERY and self._sample_rate > FAST * (field.samples_per_item or 1e9):
            return
        self._items[field.name] += codes.items if isinstance(codes, SequenceCounter) else codes.shape[-1]
        if isinstance(codes, SequenceCounter):
            counters[0].absorb(codes, clip, name)
            return
        rows = codes if codes.ndim == 2 else codes[np.newaxis]
        for counter in counters:
            lowest, size = counter.field.lowest, counter.field.codebook_size
            counter.add(rows if len(counters) == 1 else rows[:, (rows[0] >= lowest) & (rows[0] < lowest + size)], clip, name)


def count_file(path: Path, fields: Sequence[Field]) -> TokenStatistics:
    """The statistics of a committed file. Raises OSError, and msgspec.DecodeError or ValueError for lines that a run with
    these fields does not write.
    """
    counter = TokenCounter(fields)
    with path.open("rb", buffering=READ_BYTES) as lines:
        for line in lines:
            counter.add(decode_record(line))
    return counter.statistics()
