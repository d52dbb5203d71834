"""One recording with several clips: it is decoded once, and the parts take their samples one after the other.

Parts come in any order and may overlap. Decoded audio that later parts need, because parts overlap or their list is not
sorted, is kept: a little in memory, more in a temporary file.

If audio is missing in the middle, what follows comes earlier than its stated time. How much is missing is known only at the
end. Therefore the rest from that place on is decoded once in advance, before any of it is returned. If the places and
lengths of all gaps are then known, parts are taken from their true places.
"""

from __future__ import annotations

import io
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO, cast

import numpy as np

from audio_tokenizers.errors import ClipError
from jobs.activities import Step
from jobs.audio import decode_channels
from jobs.channels import Block
from jobs.damage import judge_place, own_share
from jobs.losses import UNNOTICED_SECONDS, Losses
from jobs.sample_window import SampleWindow
from jobs.timeline import Timeline

__all__ = ["Cut", "Part", "Recording"]

MOST_MISSING_SECONDS, MOST_MISSING = 0.5, 0.5
"""How much of a segment may lie beyond the end of the audio, in seconds and as a share: transcribers round or guess ends."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The bounds and channel of a part of a recording."""

    start: float = 0.0
    """Seconds."""
    end: float | None = None
    """Seconds; None: to the end of the recording."""
    channel: int | None = None
    """None: mixed like all clips of the run."""

    @property
    def is_all(self) -> bool:
        """Whether it is the whole recording, whose place cannot be wrong."""
        return self.end is None and self.start == 0.0


class Recording:
    """The audio of several parts. Its owner calls `release` after the last `part`."""

    def __init__(
        self,
        audio: IO[bytes],
        *,
        channels: int | None = None,
        max_seconds: float | None = None,
        max_damage: float = 0.0,
    ) -> None:
        """`channels`: the number that the audio must have. Audio beyond `max_seconds` is not decoded. `max_damage` is the
        share of a clip that may be missing.
        """
        self.size = len(audio.getbuffer()) if isinstance(audio, io.BytesIO) else 0
        """Bytes of the undecoded audio in memory."""
        self.audio = audio
        self._channels = channels
        self._max_seconds = max_seconds
        self._max_damage = max_damage
        self._begin()
        self._sound: int | None = None
        """Samples before the first place, other than the end, at which audio is missing."""
        self._counting = False
        """The rest is being decoded only to learn how much is missing."""
        self._missing: Losses | None = None
        """All losses of the recording, once they are known."""
        self._timeline: Timeline | None = None
        """Maps stated to decoded positions, once all losses are known, if all gaps have a place."""
        self._again = 0
        """Samples still to skip in a second decoding: they were kept in the first."""
        self._kept = SampleWindow()
        self._rate = 0
        self._end: BaseException | None = None
        """The exception that ended decoding: StopIteration where it went well."""
        self._turn = threading.Condition()
        self._parts: deque[Part] = deque()
        """Parts that are not closed, in order."""
        self._held = True

    def _begin(self) -> None:
        """Start to decode from the beginning."""
        self._losses = Losses()
        source = decode_channels(self.audio, max_seconds=self._max_seconds, losses=self._losses)
        self._source = cast("Generator[tuple[Block, int]]", source)

    def part(self, cut: Cut, needed_from: float = math.inf) -> Part:
        """Add the next part. Parts may be read and closed in any thread, but all must be. Later parts need the recording
        from the second `needed_from` on.
        """
        part = Part(self, cut, needed_from)
        with self._turn:
            self._parts.append(part)
        return part

    def release(self) -> None:
        """Note that no more parts come."""
        with self._turn:
            self._held = False
            self._close_if_done()

    def close_part(self, part: Part) -> None:
        """Close a part that is complete or no longer wanted."""
        with self._turn:
            if part in self._parts:
                self._parts.remove(part)
                self._turn.notify_all()
                self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._held and not self._parts:
            self._source.close()
            self._kept.close()
            self.audio.close()

    def blocks(
        self,
        part: Part,
        step: Step | None,
        max_seconds: float | None,
        wanted: Callable[[], bool],
        losses: Losses,
    ) -> Iterator[tuple[Block, int]]:
        """The part's samples, in the form of `decode_channels`; waits until all parts before it are closed. Ends early once
        `wanted` returns False: decoding up to a part may take long. For a part that extends to the recording's end, or
        beyond a place where audio is missing, `losses` gets the recording's losses, or only the part's own if all gaps have
        a place.

        Raises ClipError: `too_long` (over `max_seconds`), `segment` where the recording ends long before the part does or
        lacks too much before the part's end, and any error that decoding ends in before.
        """
        with step.waiting() if step is not None else nullcontext(), self._turn:
            self._turn.wait_for(lambda: self._parts[0] is part)
        cut = part.cut
        at, last = first, _ = stated = self._span(cut, step, max_seconds)
        placed = False
        while last is None or at < last:
            if not placed and self._missing is not None and self._is_beyond(first, last):
                placed = True
                losses.take(self._judged_place())
                at, first, last = self._place(at), self._place(first), None if last is None else self._place(last)
                continue
            self._kept.drop_before(self._needed(at, part.needed_from))
            if at < self._kept.end:
                piece = self._kept.read(at, self._kept.end if last is None else min(last, self._kept.end))
                at += len(piece)
                if last is None and max_seconds is not None and at - first > max_seconds * self._rate:
                    raise _too_long(max_seconds)
                yield piece, self._rate
            elif not (wanted() and self._decode_more(step, cut)):
                if self._end is not None and not placed:
                    losses.take(self._losses)
                break
        if wanted():
            self._refuse_if_missing(stated, first, at, last)
            if placed:
                losses.take(self._own_losses(stated, (first, at, last)))
        if at == first:
            yield np.empty((0, self._channels or 1), np.float32), self._rate

    def _span(self, cut: Cut, step: Step | None, max_seconds: float | None) -> tuple[int, int | None]:
        """(first, last) sample of a part, the last one exclusive; None: to the end."""
        if cut.end is not None and max_seconds is not None and cut.end - cut.start > max_seconds:
            raise _too_long(max_seconds)
        while not self._rate and self._decode_more(step, cut):
            pass
        first = _frames(cut.start, self._rate)
        return first, None if cut.end is None else max(first, _frames(cut.end, self._rate))

    def _is_beyond(self, first: int, last: int | None) -> bool:
        """Whether audio is missing before the end of this span. A span up to the recording's end has its end there whatever
        is missing inside it: only losses before its beginning count.
        """
        return self._sound is not None and (first > self._sound if last is None else last > self._sound)

    def _place(self, sample: int) -> int:
        """The position in the decoded audio of a sample of the recording."""
        return sample if self._timeline is None else self._timeline.place(sample)

    def _needed(self, at: int, needed_from: float) -> int:
        """The first decoded sample that this part, now at `at`, or later parts need."""
        if math.isinf(needed_from):
            return at
        later = self._place(_frames(needed_from, self._rate))
        if self._sound is not None and self._missing is None:
            later = min(later, self._sound)  # how far they shift is not known yet
        return min(at, later)

    def _own_losses(self, stated: tuple[int, int | None], found: tuple[int, int, int | None]) -> Losses:
        """The losses of a part with known gaps. `stated` is its span in the recording; `found` holds its first decoded
        sample, the end of the samples returned, and the end of its decoded span.
        """
        timeline = self._timeline
        if self._missing is None or timeline is None:
            return Losses()
        (start, stop), (first, at, last) = stated, found
        at_end = max(self._missing.seconds - timeline.missing / self._rate, 0.0)
        if stop is None or last is None:
            inside = timeline.missing - (start - first)
        else:
            inside, at_end = stop - start - (last - first), min(at_end, (last - at) / self._rate)
        return own_share(self._missing, inside / self._rate, at_end)

    def _judged_place(self) -> Losses:
        """Losses of a part behind missing audio, where the places of its ends are unknown. Raises ClipError."""
        assert self._missing is not None
        if self._timeline is not None:
            return Losses()
        found = judge_place(self._missing, self._max_damage)
        if isinstance(found, ClipError):
            raise found
        return found

    def _decode_more(self, step: Step | None, cut: Cut) -> bool:
        """Decode another block for this part, and keep it if it is new and its place is settled. False: the recording is at
        its end. Raises the error that decoding ended in, if any.
        """
        if self._end is None:
            try:
                self._take_block(cut)
            except StopIteration as end:
                self._missing = self._losses
                self._timeline = self._placed(self._losses)
                if not self._counting:
                    self._end = end
                else:
                    self._counting, self._again = False, self._kept.end
                    self._begin()
                    return True
            except BaseException as error:  # noqa: BLE001 (every part raises it)
                self._end = error
            else:
                if step is not None:
                    step.sign()
                return True
        if isinstance(self._end, ClipError):
            raise ClipError(self._end.kind, str(self._end))
        if not isinstance(self._end, StopIteration):
            raise self._end
        return False

    def _placed(self, losses: Losses) -> Timeline | None:
        """The recording's timeline, if the places of all gaps are known. None if it puts gaps of more than UNNOTICED_SECONDS
        into audio already returned as sound.
        """
        if self._sound is None or not losses.are_placed:
            return None
        early = sum(missing for at, missing in losses.gaps if _frames(at, self._rate) < self._sound)
        if early > UNNOTICED_SECONDS:
            return None
        return Timeline([(max(_frames(at, self._rate), self._sound), _frames(gap, self._rate)) for at, gap in losses.gaps])

    def _take_block(self, cut: Cut) -> None:
        block, self._rate = next(self._source)
        if self._channels not in (None, block.shape[1]):
            raise ClipError("decode", f"its header states {self._channels} channels, {block.shape[1]} are decoded")
        if self._losses.shifted and self._sound is None:
            self._sound = self._kept.end
        self._counting = self._counting or (self._sound is not None and self._missing is None and not cut.is_all)
        known = min(self._again, len(block))
        self._again -= known
        if not self._counting and known < len(block):
            self._kept.append(block[known:])

    def _refuse_if_missing(self, stated: tuple[int, int | None], first: int, at: int, last: int | None) -> None:
        if last is None or at >= last:
            return
        missing = (last - at) / self._rate
        begin, end = (sample / self._rate for sample in stated if sample is not None)
        gone = 0 if self._timeline is None else self._timeline.missing
        if missing > min(MOST_MISSING_SECONDS, MOST_MISSING * (last - first) / self._rate):
            raise ClipError(
                "segment",
                f"the segment is from {begin:.3f} to {end:.3f} s, and the audio ends at "
                f"{(self._kept.end + gone) / self._rate:.3f} s",
            )


class Part:
    """One clip of a recording."""

    def __init__(self, recording: Recording, cut: Cut, needed_from: float) -> None:
        self.cut = cut
        self.needed_from = needed_from
        """Seconds: the earliest begin of the parts after this one."""
        self._recording = recording

    @property
    def audio(self) -> IO[bytes]:
        """The recording's bytes. The decoder reads them: other readers must restore the file position."""
        return self._recording.audio

    @property
    def undecoded_size(self) -> int:
        """Bytes of the recording in memory."""
        return self._recording.size

    def blocks(
        self,
        step: Step | None = None,
        max_seconds: float | None = None,
        wanted: Callable[[], bool] = lambda: True,
        losses: Losses | None = None,
    ) -> Iterator[tuple[Block, int]]:
        """Like `Recording.blocks`."""
        return self._recording.blocks(self, step, max_seconds, wanted, Losses() if losses is None else losses)

    def close(self) -> None:
        """Let the next part continue."""
        self._recording.close_part(self)


def _frames(seconds: float, rate: int) -> int:
    return math.floor(seconds * rate + 0.5)


def _too_long(max_seconds: float) -> ClipError:
    return ClipError("too_long", f"longer than {max_seconds:g} s")
