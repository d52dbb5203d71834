"""Count the tokens of one key of a tar's records: how often each id occurs, how often it repeats, and for how long.

Everything is counted with a few array operations over the codes of many clips side by side, of which each begins anew. Which
codes are counted together changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Codes, Field
from jobs.packed_counts import Counts

__all__ = ["STILL_SECONDS", "SequenceCounter", "Stretch", "still_items"]

STILL_SECONDS = 0.5
"""How long all codebooks must keep their tokens for their frames to count as still: several times what a phone lasts."""
TOKENS_AT_ONCE = 1 << 16
CACHED_TOKENS = 1 << 14
"""Tokens whose int64 stay in the cache, and in memory that the heap has already."""

Flags = npt.NDArray[np.bool_]


class Stretch(NamedTuple):
    """A stretch of a clip in which a codebook keeps one token."""

    items: int
    """Frames."""
    token: int
    clip: int
    """Number of the clip in the tar, from 0."""
    name: str
    """Of the clip."""


@dataclass(slots=True)
class _Open:
    """The end of the codes so far of a clip of which more is to come."""

    last: Codes
    """The latest frame: [codebooks]."""
    runs: Counts
    """How long each codebook has kept its token: [codebooks]."""
    still: Counts
    """How long all have: [1]."""


def still_items(field: Field, sample_rate: int) -> int | None:
    """Frames in STILL_SECONDS, at least two; None if the field has no rate."""
    if not field.samples_per_item:
        return None
    return max(round(STILL_SECONDS * sample_rate / field.samples_per_item), 2)


class SequenceCounter:
    """Counts the codes of one Field with integers, clip by clip in tar order. Call `finish` before you read its counts."""

    def __init__(self, field: Field, sample_rate: int) -> None:
        """`sample_rate`: the run's, in Hz."""
        self.field = field
        self.codebooks = field.width if field.form == "codes" else 1
        self.clips = 0
        self.items = 0
        """Frames, which is tokens per codebook."""
        self.repeated = np.zeros(self.codebooks, np.int64)
        """Tokens that equal the one before them in their clip, by codebook."""
        self.still = 0
        """Frames in stretches of at least STILL_SECONDS in which no codebook changes."""
        self.still_clips = 0
        """Clips of at least STILL_SECONDS in which no codebook ever changes."""
        self.longest: list[Stretch | None] = [None] * self.codebooks
        """The longest stretch of each codebook, the first of these; None without tokens."""
        self._counts: Counts | None = None
        self._still_items = still_items(field, sample_rate)
        self._held: list[Codes] = []
        self._held_clips: list[tuple[int, str]] = []
        self._held_tokens = 0
        self._open: _Open | None = None

    @property
    def counts(self) -> Counts:
        """How often each id occurs: [codebooks, codebook_size]."""
        if self._counts is None:
            self._counts = np.zeros((self.codebooks, self.field.codebook_size), np.int64)
        return self._counts

    def add(self, codes: Codes, clip: int, name: str) -> None:
        """Count the codes [codebooks, frames] of a whole clip. The array is kept for a while, and must not change."""
        self._held.append(codes)
        self._held_clips.append((clip, name))
        self._held_tokens += codes.size
        if self._held_tokens >= TOKENS_AT_ONCE:
            self.finish()

    def extend(self, codes: Codes) -> None:
        """Count the next frames of a clip whose codes come in parts. Such a counter has this one clip: see `absorb`."""
        if not codes.size:
            return
        self._count_ids(codes)
        before = self._open
        if before is not None:
            codes = np.concatenate((before.last[:, np.newaxis], codes), axis=1)
        same = _same(codes, np.zeros(1, np.int64))
        self.repeated += [np.count_nonzero(row) for row in same]  # with `axis` it takes ten times as long
        runs = _Runs(same)
        still = runs if self.codebooks == 1 else _Runs(cast("Flags", same.all(axis=0, keepdims=True)))
        if before is not None:
            runs.lengthen(before.runs)
            if still is not runs:
                still.lengthen(before.still)
            if not still.goes_on[0]:
                self._count_still(before.still)
        self._note_longest(codes, runs, np.zeros(1, np.int64), [(0, "")])
        self._open = _Open(codes[:, -1].copy(), runs.at_end(), still.at_end())
        self._count_still(still.lengths if self._open.still[0] == 1 else still.lengths[:-1])

    def absorb(self, parts: SequenceCounter, clip: int, name: str) -> None:
        """Count the clip that `parts` was extended with."""
        self.finish()
        if parts._open is not None:
            still = parts._open.still
            parts._count_still(still)
            parts.still_clips = int(self._still_items is not None and still[0] == parts.items >= self._still_items)
            parts._open = None
        self._counts = self.counts + parts.counts
        self.clips += 1
        self.items += parts.items
        self.repeated += parts.repeated
        self.still += parts.still
        self.still_clips += parts.still_clips
        for k, found in enumerate(parts.longest):
            known = self.longest[k]
            if found is not None and (known is None or found.items > known.items):
                self.longest[k] = found._replace(clip=clip, name=name)

    def finish(self) -> None:
        """Count the clips that are held back."""
        if not self._held:
            return
        self.clips += len(self._held)
        lengths = np.array([codes.shape[1] for codes in self._held])
        starts: Counts = np.concatenate(([0], lengths.cumsum()[:-1]))
        codes = self._held[0] if len(self._held) == 1 else np.concatenate(self._held, axis=1)
        self._count_ids(codes)
        same = _same(codes, starts)
        self.repeated += [np.count_nonzero(row) for row in same]  # with `axis` it takes ten times as long
        runs = _Runs(same)
        still = runs if self.codebooks == 1 else _Runs(cast("Flags", same.all(axis=0, keepdims=True)))
        self._note_longest(codes, runs, starts, self._held_clips)
        self._count_still(still.lengths)
        if self._still_items is not None:
            clip_of = starts.searchsorted(still.starts, "right") - 1
            whole = (still.lengths == lengths[clip_of]) & (still.lengths >= self._still_items)
            self.still_clips += int(np.count_nonzero(whole))
        self._held, self._held_clips, self._held_tokens = [], [], 0

    def _count_ids(self, codes: Codes) -> None:
        size, ids = self.field.codebook_size, self.codebooks * self.field.codebook_size
        offsets = (np.arange(self.codebooks) * size - self.field.lowest)[:, np.newaxis]
        counts = self.counts
        width = max(CACHED_TOKENS, ids) // self.codebooks
        for at in range(0, codes.shape[1], width):
            flat = codes[:, at : at + width].astype(np.int64)
            flat += offsets
            counts += np.bincount(flat.ravel(), minlength=ids).reshape(counts.shape)
        self.items += codes.shape[1]

    def _note_longest(self, codes: Codes, runs: _Runs, starts: Counts, clips: Sequence[tuple[int, str]]) -> None:
        """Keep each codebook's longest stretch of `codes`, in which the `clips` begin at `starts`."""
        for k, known in enumerate(self.longest):
            of_row = slice(runs.bounds[k], runs.bounds[k + 1])
            lengths = runs.lengths[of_row]
            longest = int(lengths.max()) if len(lengths) else 1
            if known is None or longest > known.items:
                place = int(runs.starts[of_row][lengths.argmax()]) - k * codes.shape[1] if len(lengths) else 0
                clip, name = clips[int(starts.searchsorted(place, "right")) - 1]
                self.longest[k] = Stretch(longest, int(codes[k, place]), clip, name)

    def _count_still(self, lengths: Counts) -> None:
        if self._still_items is not None:
            self.still += int(lengths[lengths >= self._still_items].sum())


def _same(codes: Codes, starts: Counts) -> Flags:
    """Where a token equals the one before it in its clip: [codebooks, frames]."""
    same: Flags = np.zeros(codes.shape, np.bool_)
    np.equal(codes[:, 1:], codes[:, :-1], out=same[:, 1:])
    same[:, starts] = False
    return same


class _Runs:
    """Stretches of two frames and more without a change, row after row."""

    def __init__(self, same: Flags) -> None:
        """`same`: [rows, frames], false at the start of each row."""
        places = same.ravel().nonzero()[0]
        ends = (np.diff(places) > 1).nonzero()[0]
        self.starts: Counts = places[np.concatenate(([0], ends + 1))] - 1 if len(places) else places
        """The first frame of each stretch, counted over all rows."""
        self.ends: Counts = places[np.concatenate((ends, [-1]))] if len(places) else places
        """The last."""
        self.lengths: Counts = self.ends - self.starts + 1
        rows = np.arange(len(same) + 1) * same.shape[1]
        self.bounds: Counts = self.starts.searchsorted(rows)
        """The stretches of row k are those from bounds[k] to bounds[k + 1]."""
        self._last = rows[1:] - 1
        self.goes_on = cast("Flags", same[:, 1:2].any(axis=1))
        """Whether a stretch begins at a row's first frame."""

    def lengthen(self, before: Counts) -> None:
        """Each row's first frame ends a stretch of so many frames: add them to the one that begins there, if any."""
        rows = self.goes_on.nonzero()[0]
        self.lengths[self.bounds[rows]] += before[rows] - 1

    def at_end(self) -> Counts:
        """Per row, how long its last frame has been the same."""
        found = np.ones(len(self._last), np.int64)
        for k, end in enumerate(self._last):
            final = self.bounds[k + 1] - 1
            if final >= self.bounds[k] and self.ends[final] == end:
                found[k] = self.lengths[final]
        return found
