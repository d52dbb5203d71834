"""A clip on its way to a line: what became of its portions, put together again in their order."""

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
"""What a clip without sidecars takes, in objects of Python, measured."""
AUDIO_FACTOR = 2
"""Of what a tar has of a clip: a decoder may need a copy of it."""


@dataclass(slots=True, eq=False)
class Pending:
    """One clip. But for `clip` and `share` it belongs to the thread that writes lines."""

    clip: Clip
    sink: TokenSink
    """What its fragments became."""
    tar_bytes: int = 0
    """Bytes of the tar that had been used when it was read."""
    tar: str = ""
    """Output name of its tar."""
    kept_line: bytes | None = None
    """The line from before --retry-errors."""
    share: Share = field(default_factory=Share)
    turn: int = 0
    """Position among the clips of all tars that were read: lines leave in this order."""
    values: Values | None = None
    """What the whole clip became, of a ClipBackend."""
    samples: int = 0
    damage: Damage | None = None
    """What is missing of its audio."""
    notes: tuple[str, ...] = ()
    error: ClipError | None = None
    """Why it has no tokens."""
    trouble: BaseException | None = None
    """What kept the machine from decoding it."""
    resumed_at: int = 0
    """Fragments of which an earlier attempt has left the codes."""
    kept: int = 0
    """Fragments of which the next one would find them."""
    member: MemberSum | None = None
    """What is known of its bytes, once it is long enough for a journal."""
    told_seconds: float = 0.0
    """Of its audio, what has been told as encoded, by this attempt or an earlier one."""
    read_share: float = 0.0
    """Of its member's bytes, those that its decoder had read when the last fragment that came back was cut."""
    _portions: int | None = None
    """How many it has, once its last one is there."""
    _encoded: int = 0
    _early: dict[int, Codes] = field(default_factory=dict)
    """Codes that came before those of an earlier fragment."""
    _next: int = 0
    _refused: dict[int, ClipError] = field(default_factory=dict)
    """Portions that the backend did not take."""

    @property
    def size(self) -> int:
        """Bytes that it takes until it is written, beside its audio and what becomes of it."""
        return CLIP_BYTES + self.clip.annotations.size + len(self.kept_line or b"") + self.sink.bytes_in_memory

    @property
    def undecoded_size(self) -> int:
        """Bytes that its audio takes until it is decoded. A large one lies in a file."""
        audio = self.clip.audio
        if self.clip.part is not None:
            return AUDIO_FACTOR * self.clip.part.undecoded_size
        return AUDIO_FACTOR * audio.getbuffer().nbytes if isinstance(audio, io.BytesIO) and not audio.closed else 0

    @property
    def finished(self) -> bool:
        """Whether its line can be written, or never will be."""
        settled = self.kept_line is not None or self.error is not None or self.trouble is not None
        return settled or self._encoded == self._portions

    @property
    def refused(self) -> bool:
        """Whether the backend has refused a fragment. All before it have been handed over by then."""
        return bool(self._refused)

    @property
    def taken(self) -> int:
        """Fragments whose codes are in the sink, without a gap."""
        return self._next

    def resume(self, fragments: int, member: MemberSum) -> None:
        """The sink has the codes of the first `fragments`: they are not encoded again."""
        self.member = member
        self.resumed_at = self.kept = self._next = self._encoded = fragments

    def refuse(self, error: ClipError) -> None:
        """It has no tokens."""
        self.error = told(error)

    def encoded(self, portion: Portion, outcome: Result | ClipError, fields: tuple[Field, ...], backend: str) -> int:
        """Take what a portion became; returns by how many bytes this clip's memory has grown.

        Raises InfrastructureError if that is not what the backend has declared.
        """
        before = self.sink.bytes_in_memory
        grown = 0
        if isinstance(outcome, ClipError):
            self._refused[portion.number] = told(outcome)
        elif self.error is None and not self._refused:
            grown = self._take(portion, outcome, fields, backend)
        self.member = portion.member or self.member
        self.read_share = max(self.read_share, portion.read_share)
        self._encoded += 1  # not before: a clip of which something could not be taken is never finished
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
            self.sink.add(ready, may_spill=self.share.due)  # of all clips that wait, only one has files
            self._next += 1
        return grown

    def _judge(self) -> None:
        """Of several portions that were refused the first one speaks, whichever came back first."""
        if self.error is None and self._refused and self._encoded == self._portions:
            self.error = self._refused[min(self._refused)]


def told(error: ClipError) -> ClipError:
    """What it says, and not where it was raised: a traceback keeps the clip's audio until its line is written."""
    return ClipError(error.kind, str(error))


@dataclass(frozen=True, slots=True)
class Portion:
    """What is encoded in one piece: a fragment, or a whole clip."""

    pending: Pending
    item: Item
    size: int
    """Bytes of its audio."""
    samples: int
    number: int = 0
    """Position among the clip's fragments."""
    drop_head: int = 0
    drop_tail: int = 0
    """Frames that belong to its neighbours."""
    clip_samples: int | None = None
    """Of the last one: samples of the whole clip, after resampling."""
    damage: Damage | None = None
    """Of the last one: what is missing of the clip."""
    notes: tuple[str, ...] = ()
    """Of the last one: what its record says of the mixing."""
    member: MemberSum | None = None
    """Of a long clip: what is known of its bytes."""
    read_share: float = 0.0
    """Of its member's bytes, those that have been read."""

    @property
    def share(self) -> Share:
        """That of its clip."""
        return self.pending.share

    @property
    def order(self) -> tuple[int, int]:
        """By clips, then by portions."""
        return self.pending.turn, self.number
