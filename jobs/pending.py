"""A clip that waits for its line: collects the results of its portions, in order."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np

from audio_tokenizers.base import Codes, Field, Values
from audio_tokenizers.errors import ClipError, InfrastructureError
from jobs.clip_group import Clip
from jobs.clip_journal import MemberSum
from jobs.damage import Damage
from jobs.encoder import Item, Result
from jobs.feed import Share
from jobs.record_fields import array_fault
from jobs.token_sink import TokenSink

__all__ = ["Pending", "Portion", "told"]

CLIP_BYTES = 2000
"""Memory of a clip without sidecars, in Python objects, measured."""
AUDIO_FACTOR = 2
"""Factor for a clip's bytes in memory: a decoder may need a copy."""


@dataclass(slots=True, eq=False)
class Pending:
    """One clip. Only the writing thread uses it, except for `clip` and `share`."""

    clip: Clip
    sink: TokenSink
    """The codes of its fragments."""
    tar_bytes: int = 0
    """Bytes of the tar that had been used when the clip was read."""
    tar: str = ""
    """Output name of its tar."""
    kept_line: bytes | None = None
    """The line from before --retry-errors."""
    share: Share = field(default_factory=Share)
    turn: int = 0
    """Position among the clips of all tars read: the order of lines."""
    values: Values | None = None
    """The arrays of the whole clip, from a ClipBackend."""
    samples: int = 0
    damage: Damage | None = None
    """What is missing of the clip's audio."""
    notes: tuple[str, ...] = ()
    error: ClipError | None = None
    """Why the clip has no tokens."""
    trouble: BaseException | None = None
    """An error of the machine while the clip was decoded."""
    resumed_at: int = 0
    """Fragments whose codes an earlier attempt left in the journal."""
    kept: int = 0
    """Fragments whose codes are in the journal now."""
    member: MemberSum | None = None
    """Identifies the member's bytes, if the clip is long enough for a journal."""
    told_seconds: float = 0.0
    """Seconds of audio reported as encoded, by this attempt or an earlier one."""
    read_share: float = 0.0
    """Share of the member's bytes that the decoder had read when the latest encoded fragment was cut."""
    _portions: int | None = None
    """Number of fragments, once the last one is known."""
    _encoded: int = 0
    _early: dict[int, Codes] = field(default_factory=dict)
    """Codes that arrived before those of an earlier fragment."""
    _next: int = 0
    _refused: dict[int, ClipError] = field(default_factory=dict)
    """Portions that the backend refused."""

    @property
    def size(self) -> int:
        """Bytes in memory until the line is written, without the audio and `values`."""
        return CLIP_BYTES + self.clip.annotations.size + len(self.kept_line or b"") + self.sink.bytes_in_memory

    @property
    def undecoded_size(self) -> int:
        """Bytes of undecoded audio in memory. Large audio is in a file."""
        audio = self.clip.audio
        if self.clip.part is not None:
            return AUDIO_FACTOR * self.clip.part.undecoded_size
        return AUDIO_FACTOR * audio.getbuffer().nbytes if isinstance(audio, io.BytesIO) and not audio.closed else 0

    @property
    def finished(self) -> bool:
        """Whether nothing more is to come: the line can be written, or `trouble` raised."""
        settled = self.kept_line is not None or self.error is not None or self.trouble is not None
        return settled or self._encoded == self._portions

    @property
    def refused(self) -> bool:
        """Whether the backend refused a fragment. By then, all fragments before it were handed over."""
        return bool(self._refused)

    @property
    def taken(self) -> int:
        """Fragments whose codes are in the sink, without a gap."""
        return self._next

    def resume(self, fragments: int, member: MemberSum) -> None:
        """Note that the sink already has the codes of the first `fragments`: they are not encoded again."""
        self.member = member
        self.resumed_at = self.kept = self._next = self._encoded = fragments

    def refuse(self, error: ClipError) -> None:
        """Note that the clip has no tokens."""
        self.error = told(error)

    def encoded(self, portion: Portion, outcome: Result | ClipError, fields: tuple[Field, ...], backend: str) -> int:
        """Take the result of a portion; return the additional bytes of memory that the clip needs.

        Raises InfrastructureError if the result is not what the backend declared.
        """
        before = self.sink.bytes_in_memory
        grown = 0
        if isinstance(outcome, ClipError):
            self._refused[portion.number] = told(outcome)
        elif self.error is None and not self._refused:
            grown = self._take(portion, outcome, fields, backend)
        self.member = portion.member or self.member
        self.read_share = max(self.read_share, portion.read_share)
        self._encoded += 1  # only now: a clip whose result could not be taken must never count as finished
        if portion.clip_samples is not None:
            self._portions, self.samples = portion.number + 1, portion.clip_samples
            self.damage = portion.damage
            self.notes = portion.notes
        self._judge()
        return grown + self.sink.bytes_in_memory - before

    def _take(self, portion: Portion, result: Result, fields: tuple[Field, ...], backend: str) -> int:
        values = {"tokens": result} if isinstance(result, np.ndarray) else result
        fault = array_fault(fields, values)
        if fault is not None:
            raise InfrastructureError(f"backend {backend} gave {fault}; this is a bug in the backend")
        if not isinstance(result, np.ndarray):
            self.values = result
            return sum(array.nbytes for array in result.values())
        codes = result[:, portion.drop_head : result.shape[1] - portion.drop_tail]
        self._early[portion.number] = codes
        grown = codes.nbytes
        while (ready := self._early.pop(self._next, None)) is not None:
            grown -= ready.nbytes
            self.sink.add(ready, may_spill=self.share.due)  # of all waiting clips, only one has files
            self._next += 1
        return grown

    def _judge(self) -> None:
        """Set the clip's error; of several refused portions, the first by position gives it."""
        if self.error is None and self._refused and self._encoded == self._portions:
            self.error = self._refused[min(self._refused)]


def told(error: ClipError) -> ClipError:
    """The same error without its traceback, which would keep the clip's audio in memory until its line is written."""
    return ClipError(error.kind, str(error))


@dataclass(frozen=True, slots=True)
class Portion:
    """Audio encoded in one piece: a fragment or a whole clip."""

    pending: Pending
    item: Item
    size: int
    """Bytes of the portion's audio."""
    samples: int
    number: int = 0
    """Position among the clip's fragments."""
    drop_head: int = 0
    drop_tail: int = 0
    """Frames at both ends that belong to the neighbours."""
    clip_samples: int | None = None
    """For the last portion: samples of the whole clip, after resampling."""
    damage: Damage | None = None
    """For the last portion: what is missing of the clip."""
    notes: tuple[str, ...] = ()
    """For the last portion: the record's notes about mixing."""
    member: MemberSum | None = None
    """For a long clip: identifies the member's bytes."""
    read_share: float = 0.0
    """Share of the member's bytes read so far."""

    @property
    def share(self) -> Share:
        """The clip's share."""
        return self.pending.share

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: by clip, then by portion."""
        return self.pending.turn, self.number
