"""How much of the device's work is padding and empty lanes: the real batcher, grid and feed, in virtual time.

Clips are log-normal around 6 s. One worker reads tars as jobs/tokenize.py does: the next one begins when those before it
have been read to their ends, and at most three are in hand. `--decode` and `--device` are seconds of audio per second.

    python -m benchmarks.fill [--lanes 16] [--decode 4000] [--device 1000]
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from audio_tokenizers.base import Batching, LaneShape
from jobs.audio import FragmentCutter
from jobs.batcher import Batcher
from jobs.commands import command_parser
from jobs.conveyor import CLIPS_READ_AHEAD, DEFAULT_BUFFER_BYTES, LANE_BATCHES_IN_FLIGHT
from jobs.feed import GATHER_SECONDS, Feed, Share
from jobs.lane_grid import LaneGrid
from jobs.tokenize import MOST_TARS

__all__ = ["Outcome", "Setting", "clip_lengths", "simulate"]

SAMPLE_RATE, HOP = 24000, 960
FRAGMENT_FRAMES, OVERLAP_FRAMES, SHORTEST = 750, 25, 632
"""Those of higgs."""
SAMPLE_BYTES = 4


@dataclass(frozen=True)
class Setting:
    """Speeds and bounds of one worker."""

    lanes: int = 16
    decode_rate: float = 4000.0
    """Seconds of audio per second, by all decode threads together."""
    device_rate: float = 1000.0
    """Seconds of lanes per second, real audio or not."""
    decode_threads: int = 8
    buffer_bytes: int = DEFAULT_BUFFER_BYTES


@dataclass
class Outcome:
    """What the device did."""

    real: float = 0.0
    """Samples of clips, overlaps of fragments among them."""
    padded: float = 0.0
    """Samples behind clips in lanes that are in use."""
    empty: float = 0.0
    """Samples of lanes that are not."""
    calls: int = 0
    seconds: float = 0.0
    """Virtual ones, until the last line was written."""

    @property
    def wasted(self) -> float:
        """Share of the device's work that is neither."""
        return (self.padded + self.empty) / (self.real + self.padded + self.empty)


@dataclass(eq=False)
class _Tar:
    """Clips of one tar, by samples."""

    clips: deque[int]
    unread: int
    pending: int = 0
    """Clips whose line is not written."""


@dataclass(eq=False)
class _Clip:
    tar: _Tar
    portions: int
    share: Share = field(default_factory=Share)


@dataclass(frozen=True, eq=False)
class _Portion:
    clip: _Clip
    samples: int

    @property
    def share(self) -> Share:
        return self.clip.share

    @property
    def size(self) -> int:
        return SAMPLE_BYTES * self.samples


class _VirtualFeed(Feed[_Portion]):
    """The feed without blocking: a caller that would wait for room asks first, and says that it is waiting."""

    def admits(self, portion: _Portion) -> bool:
        """Whether `reserve` would return at once."""
        return self._admits(portion.share, portion.size)

    def say_blocked(self, *, blocked: bool) -> None:
        """What `reserve` notes while it waits."""
        self._blocked = int(blocked)

    def next_flush(self) -> float | None:
        """When the group that waits longest has waited long enough."""
        since = self._batcher.oldest_since()
        return None if since is None else since + GATHER_SECONDS + 1e-6


def fragments(samples: int) -> list[int]:
    """Lengths of what a clip is cut into."""
    cutter = FragmentCutter(FRAGMENT_FRAMES, OVERLAP_FRAMES, HOP, SHORTEST)
    return [len(fragment.wave) for fragment in cutter.cut(iter([np.zeros(samples, np.float32)]))]


class _Worker:
    """One worker: a decoder, a device with calls in flight, tars in hand. Events in order of their time."""

    def __init__(self, tars: Sequence[Sequence[int]], setting: Setting) -> None:
        self.now = 0.0
        self.outcome = Outcome()
        self._setting = setting
        grid = LaneGrid(lanes=setting.lanes, sample_rate=SAMPLE_RATE, hop_length=HOP, fragment_frames=FRAGMENT_FRAMES)
        batcher: Batcher[_Portion] = Batcher(
            Batching.LANES,
            setting.lanes,
            max_samples=0,
            samples=lambda portion: portion.samples,
            order=lambda _: (0,),
            grid=grid,
        )
        self._feed = _VirtualFeed(
            batcher,
            most_bytes=setting.buffer_bytes,
            most_items=None,
            most_undecoded=10**9,
            max_batch=setting.lanes,
            clock=lambda: self.now,
        )
        self._left = deque(_Tar(deque(clips), len(clips)) for clips in tars if clips)
        self._in_hand: list[_Tar] = []
        self._announced: deque[_Clip] = deque()
        """Read, and not decoded yet."""
        self._decoding: deque[_Portion] = deque()
        self._lines: deque[_Clip] = deque()
        """In the order of their lines."""
        self._decoded_at: float | None = None
        self._flying: deque[tuple[float, list[_Portion], Callable[[], None]]] = deque()
        self._device_free = 0.0
        self._lengths: dict[int, int] = {}

    def run(self) -> Outcome:
        """Until all lines are written."""
        self._advance()
        while self._left or self._in_hand:
            moments = list(self._moments())
            if not moments:
                raise RuntimeError("nothing will ever happen again: a bug in the simulation")
            self.now = max(self.now, min(moments))
            self._advance()
        self.outcome.seconds = self.now
        return self.outcome

    def _moments(self) -> Iterator[float]:
        if self._decoded_at is not None and self._feed.admits(self._decoding[0]):
            yield self._decoded_at
        if self._flying:
            yield self._flying[0][0]
        if len(self._flying) < LANE_BATCHES_IN_FLIGHT and (flush := self._feed.next_flush()) is not None:
            yield flush

    def _advance(self) -> None:
        moved = True
        while moved:
            moved = self._land() or self._write() or self._read() or self._decode() or self._begin()

    def _land(self) -> bool:
        if not self._flying or self._flying[0][0] > self.now:
            return False
        _, portions, encoded = self._flying.popleft()
        encoded()
        for portion in portions:
            portion.clip.portions -= 1
        return True

    def _write(self) -> bool:
        if not self._lines:
            return False
        clip = self._lines[0]
        if clip.portions:
            if not clip.share.due:
                self._feed.lead(clip.share)
                return True
            return False
        self._lines.popleft()
        self._feed.drop(clip.share)
        clip.tar.pending -= 1
        if not clip.tar.pending and not clip.tar.unread:
            self._in_hand.remove(clip.tar)
        return True

    def _read(self) -> bool:
        reading = next((tar for tar in self._in_hand if tar.unread), None)
        if reading is None and self._left and len(self._in_hand) < MOST_TARS:
            reading = self._left.popleft()
            reading.pending = reading.unread
            self._in_hand.append(reading)
        self._feed.expect(more=reading is not None)
        if reading is None or len(self._announced) >= self._setting.decode_threads + CLIPS_READ_AHEAD:
            return False
        reading.unread -= 1
        samples = reading.clips.popleft()
        lengths = fragments(samples) if samples > FRAGMENT_FRAMES * HOP else [samples]
        clip = _Clip(reading, len(lengths))
        self._lines.append(clip)
        self._announced.append(clip)
        self._feed.announce(clip.share)
        self._decoding.extend(_Portion(clip, length) for length in lengths)
        if self._decoded_at is None:
            self._decoded_at = self.now + self._decode_seconds()
        return True

    def _decode_seconds(self) -> float:
        return self._decoding[0].samples / SAMPLE_RATE / self._setting.decode_rate

    def _decode(self) -> bool:
        if self._decoded_at is None or self._decoded_at > self.now:
            return False
        portion = self._decoding[0]
        if not self._feed.admits(portion):
            self._feed.say_blocked(blocked=True)
            return False
        self._feed.say_blocked(blocked=False)
        self._feed.reserve(portion.share, portion.size)
        self._feed.put(portion)
        self._decoding.popleft()
        if not self._decoding or self._decoding[0].clip is not portion.clip:
            self._announced.remove(portion.clip)
            self._feed.decoded(portion.share)
        self._decoded_at = self.now + self._decode_seconds() if self._decoding else None
        return True

    def _begin(self) -> bool:
        if len(self._flying) >= LANE_BATCHES_IN_FLIGHT:
            return False
        batch = self._feed.take(wait=False)
        if batch is None:
            return False
        assert batch.shape is not None, "of LANES"
        self._count(batch.items, batch.shape)
        work = batch.shape.lanes * batch.shape.samples / SAMPLE_RATE / self._setting.device_rate
        self._device_free = max(self._device_free, self.now) + work
        self._flying.append((self._device_free, batch.items, lambda: self._feed.encoded(batch)))
        return True

    def _count(self, portions: Sequence[_Portion], shape: LaneShape) -> None:
        real = sum(portion.samples for portion in portions)
        self.outcome.calls += 1
        self.outcome.real += real
        self.outcome.padded += len(portions) * shape.samples - real
        self.outcome.empty += (shape.lanes - len(portions)) * shape.samples


def clip_lengths(count: int, median: float = 6.0, *, sigma: float = 0.6, shortest: float = 0.5, seed: int = 0) -> list[int]:
    """Samples of clips, log-normal, none under `shortest` seconds."""
    rng = np.random.default_rng(seed)
    found: list[int] = []
    while len(found) < count:
        seconds = rng.lognormal(np.log(median), sigma, count)
        found += [int(length * SAMPLE_RATE) for length in seconds if length >= shortest]
    return found[:count]


def simulate(tars: Sequence[Sequence[int]], setting: Setting = Setting()) -> Outcome:
    """One worker over these tars, by samples of their clips."""
    return _Worker(tars, setting).run()


def workloads() -> dict[str, tuple[list[list[int]], float]]:
    """Name -> (tars, the most that may be wasted)."""
    small = clip_lengths(6000, seed=1)
    long = clip_lengths(1000, 90.0, shortest=30.0, seed=2)
    return {
        "tars of 10,000 clips": ([clip_lengths(10_000)], 0.15),
        "20 tars of 300 clips": ([small[start : start + 300] for start in range(0, 6000, 300)], 0.20),
        "clips over 30 s": ([long], 0.05),
    }


def main() -> int:
    parser = command_parser(__doc__)
    plain = Setting()
    parser.add_argument("--lanes", type=int, default=plain.lanes)
    parser.add_argument("--decode", type=float, default=plain.decode_rate)
    parser.add_argument("--device", type=float, default=plain.device_rate)
    asked = parser.parse_args()
    setting = Setting(lanes=asked.lanes, decode_rate=asked.decode, device_rate=asked.device)
    met = True
    for name, (tars, most) in workloads().items():
        found = simulate(tars, setting)
        whole = found.real + found.padded + found.empty
        met = met and found.wasted <= most
        print(
            f"{name}: {found.wasted:.1%} of the device's work wasted ({found.padded / whole:.1%} padding, "
            f"{found.empty / whole:.1%} empty lanes, {found.calls} calls; goal {most:.0%}) "
            f"{'ok' if found.wasted <= most else 'BELOW GOAL'}",
            flush=True,
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
