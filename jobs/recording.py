"""One audio with several clips in it: it is decoded once, and the parts take their samples one after the other.

Parts come in any order and may overlap. Decoded audio that later parts need is kept, because two parts overlap or their list
is not sorted: a little of it in memory, more in a temporary file.

If something is missing in the middle, what follows stands earlier than its time. How much is missing is known only at the
end, so the rest from that place on is decoded once in advance, before any of it is given out. If the place and length of all
gaps are known, parts are then taken from their true places.
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
"""How much of a segment may lie beyond the end of its audio, which transcribers round or guess: seconds, and share."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The piece of a recording that is a part."""

    start: float = 0.0
    """Seconds."""
    end: float | None = None
    """None: to the end of the recording."""
    channel: int | None = None
    """None: as for all clips of the run."""

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
        """`channels`: how many it has to have. It is decoded as far as `max_seconds`. `max_damage` is the share of a clip
        that may be missing.
        """
        self.size = len(audio.getbuffer()) if isinstance(audio, io.BytesIO) else 0
        """Bytes of the undecoded audio in memory."""
        self.audio = audio
        self._channels = channels
        self._max_seconds = max_seconds
        self._max_damage = max_damage
        self._begin()
        self._sound: int | None = None
        """Samples before the first place at which something is missing that is not its end."""
        self._counting = False
        """The rest is being decoded only to count it."""
        self._missing: Losses | None = None
        """All of the recording, once they are known."""
        self._timeline: Timeline | None = None
        """Once they are known, if all of them have a place."""
        self._again = 0
        """Samples that are decoded again, and were kept the first time."""
        self._kept = SampleWindow()
        self._rate = 0
        self._end: BaseException | None = None
        """In what its decoding has ended: StopIteration where it went well."""
        self._turn = threading.Condition()
        self._parts: deque[Part] = deque()
        """Those that are not closed, in their order."""
        self._held = True

    def _begin(self) -> None:
        """Decode from the beginning."""
        self._losses = Losses()
        source = decode_channels(self.audio, max_seconds=self._max_seconds, losses=self._losses)
        self._source = cast("Generator[tuple[Block, int]]", source)

    def part(self, cut: Cut, needed_from: float = math.inf) -> Part:
        """The next one, of which all are taken and closed in any thread; later ones need the recording from the second
        `needed_from` on.
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
        """Close a part that is complete, or no longer wanted."""
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
        """The part's samples, as `decode_channels` gives them; waits until all parts before it are closed. Ends early once
        it is not `wanted` any more: the way to a part may be long. A part that goes to the recording's end, or beyond where
        something is missing, is told what is missing of the recording; of itself alone, where it is known where that is.

        Raises ClipError: `too_long` (over `max_seconds`), `segment` where the recording ends long before the part does or
        lacks too much before its end, and whatever decoding ends in before.
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
        """Samples from which and up to which a part goes."""
        if cut.end is not None and max_seconds is not None and cut.end - cut.start > max_seconds:
            raise _too_long(max_seconds)
        while not self._rate and self._decode_more(step, cut):
            pass
        first = _frames(cut.start, self._rate)
        return first, None if cut.end is None else max(first, _frames(cut.end, self._rate))

    def _is_beyond(self, first: int, last: int | None) -> bool:
        """Whether something is missing before the end of what stands there. What goes to the recording's end ends there
        whatever is missing in it.
        """
        return self._sound is not None and (first > self._sound if last is None else last > self._sound)

    def _place(self, sample: int) -> int:
        """The position of a sample of the recording in what was decoded."""
        return sample if self._timeline is None else self._timeline.place(sample)

    def _needed(self, at: int, needed_from: float) -> int:
        """The first sample that this part, which is at `at`, or later ones need."""
        if math.isinf(needed_from):
            return at
        later = self._place(_frames(needed_from, self._rate))
        if self._sound is not None and self._missing is None:
            later = min(later, self._sound)  # nobody knows by how much
        return min(at, later)

    def _own_losses(self, stated: tuple[int, int | None], found: tuple[int, int, int | None]) -> Losses:
        """What is missing of a part that goes, as `stated`, from one sample of the recording to another, and in what was
        decoded from the first one `found` to the last; it was given up to the second.
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
        """What such a part has to know of, where the places of its ends are not known."""
        assert self._missing is not None
        if self._timeline is not None:
            return Losses()
        found = judge_place(self._missing, self._max_damage)
        if isinstance(found, ClipError):
            raise found
        return found

    def _decode_more(self, step: Step | None, cut: Cut) -> bool:
        """Decode another block for this part, and keep it if it is the next one and all is known about its place. False: the
        recording is at its end. Raises what decoding ends in otherwise.
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
            except BaseException as error:  # noqa: BLE001 (each part is told)
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
        """Times of the recording, if it is known where it lacks something: nowhere before what was given out as sound."""
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
    """One clip's share in a recording."""

    def __init__(self, recording: Recording, cut: Cut, needed_from: float) -> None:
        self.cut = cut
        self.needed_from = needed_from
        """Seconds: where the parts after it begin, at the earliest."""
        self._recording = recording

    @property
    def audio(self) -> IO[bytes]:
        """The recording's bytes. Its decoder reads them, so other readers must keep the file position."""
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
        """As `Recording.blocks`."""
        return self._recording.blocks(self, step, max_seconds, wanted, Losses() if losses is None else losses)

    def close(self) -> None:
        """Give the turn to the next part."""
        self._recording.close_part(self)


def _frames(seconds: float, rate: int) -> int:
    return math.floor(seconds * rate + 0.5)


def _too_long(max_seconds: float) -> ClipError:
    return ClipError("too_long", f"longer than {max_seconds:g} s")
