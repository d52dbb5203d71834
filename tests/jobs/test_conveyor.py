"""jobs/conveyor.py: its stages work at the same time, memory stays bounded, and what happens reaches the writing thread."""

from __future__ import annotations

import gc
import io
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import pytest
from support.mulaw_lanes import LanesMuLaw
from support.small_run import mulaw_spec, wav
from support.waiting import PATIENCE_SECONDS, until

from audio_tokenizers.base import Backend, Codes, Waveform
from audio_tokenizers.errors import ClipError
from audio_tokenizers.mulaw import FACTORY, MuLaw
from jobs.activities import allowed_seconds
from jobs.clip_group import Clip
from jobs.conveyor import Conveyor, Feeding
from jobs.pending import Pending
from jobs.sidecars import Annotations
from jobs.token_sink import TokenSink


def a_clip(number: int = 0, samples: int = 40, data: bytes | None = None) -> Pending:
    audio = io.BytesIO(wav(samples, seed=number) if data is None else data)
    return Pending(Clip(number, f"{number}.wav", audio), TokenSink(1))


@contextmanager
def a_conveyor(backend: Backend | None = None, feeding: Feeding = Feeding(), **spec: Any) -> Iterator[Conveyor]:
    conveyor = Conveyor(mulaw_spec(**spec), backend or FACTORY.load({}, "cpu"), feeding)
    try:
        yield conveyor
    finally:
        conveyor.close()


def finish(conveyor: Conveyor, clips: Sequence[Pending]) -> None:
    """Step until all clips are finished, as the writing thread does."""
    for _ in range(10_000):
        if all(clip.finished for clip in clips):
            return
        conveyor.step(1.0)
    raise AssertionError("never finished")


class Gated(MuLaw):
    """Each call waits for `gate`."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__(FACTORY.describe({}, "cpu"))
        self.entered = threading.Event()
        self.encoded = 0
        self._gate = gate

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        self.entered.set()
        assert self._gate.wait(PATIENCE_SECONDS)
        self.encoded += len(waves)
        return super().encode(waves)


def test_clips_become_codes() -> None:
    """In the device's own thread, with the audio closed when it has been decoded."""
    clips = [a_clip(n) for n in range(5)]
    with a_conveyor(feeding=Feeding(decode_threads=2)) as conveyor:
        for clip in clips:
            conveyor.offer(clip)
        finish(conveyor, clips)
        assert [clip.sink.frames for clip in clips] == [40] * 5
        until(lambda: all(clip.clip.audio.closed for clip in clips if clip.clip.audio))
        assert {thread.name for thread in threading.enumerate()} >= {"device", "decoder-0", "decoder-1"}
    assert not {thread.name for thread in threading.enumerate()} & {"device", "decoder-0", "decoder-1"}


def test_decoding_goes_on_while_the_device_works() -> None:
    """The device holds the first clip; those behind it are decoded meanwhile, and no more of them than are of use."""
    gate = threading.Event()
    backend = Gated(gate)
    clips = [a_clip(n) for n in range(5)]
    with a_conveyor(backend) as conveyor:
        for clip in clips:
            conveyor.offer(clip)
        assert backend.entered.wait(PATIENCE_SECONDS)
        until(lambda: all(clip.clip.audio.closed for clip in clips if clip.clip.audio))
        assert backend.encoded == 0
        gate.set()
        finish(conveyor, clips)


def test_two_calls_with_lanes_are_in_flight() -> None:
    """The device gets the second call before the codes of the first are asked for."""
    order: list[str] = []

    class Noting(LanesMuLaw):
        def encode_lanes(self, waves: Sequence[Waveform], shape: Any) -> Any:
            number = len(self.calls)
            order.append(f"begin {number}")
            finish_call = super().encode_lanes(waves, shape)

            def codes() -> list[Codes]:
                order.append(f"end {number}")
                return finish_call()

            return codes

    ready = threading.Event()
    backend = Noting(lanes=1, gate=lambda: ready.wait(PATIENCE_SECONDS))
    clips = [a_clip(n, 100) for n in range(3)]
    with a_conveyor(backend) as conveyor:
        for clip in clips:
            conveyor.offer(clip)
        until(lambda: conveyor._feed._batcher.waiting == 2)
        ready.set()
        finish(conveyor, clips)
    assert order == ["begin 0", "begin 1", "end 0", "begin 2", "end 1", "end 2"]


@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_bounded_in_bytes(threads: int) -> None:
    """A long clip among short ones streams through a buffer that is a fraction of it, and all are finished."""
    clips = [a_clip(0, 400), a_clip(1, 20_000), *[a_clip(n, 300) for n in range(2, 8)]]
    most = 0

    class Watching(LanesMuLaw):
        def encode_lanes(self, waves: Sequence[Waveform], shape: Any) -> Any:
            nonlocal most
            most = max(most, conveyor._feed._held)
            return super().encode_lanes(waves, shape)

    feeding = Feeding(threads, buffer_bytes=20_000)
    with a_conveyor(Watching(lanes=2), feeding, max_tokens_per_fragment=200) as conveyor:
        reader = threading.Thread(target=lambda: list(map(conveyor.offer, clips)), daemon=True)
        reader.start()
        conveyor.expect(more=False)
        for clip in clips:
            conveyor.lead(clip.share)
            finish(conveyor, [clip])
            conveyor.drop(clip.share)
        reader.join()
    assert [clip.samples for clip in clips] == [400, 20_000, *[300] * 6]
    of_the_clip_that_is_due = 20_000 + 2 * 40_044  # codes, and its file
    assert most <= 20_000 + 2 * 200 * 4 + of_the_clip_that_is_due


def test_memory_is_bounded_while_nobody_writes() -> None:
    """The writing thread waits for its disk: what has been encoded meanwhile counts, and the device comes to rest."""
    gate = threading.Event()
    gate.set()
    backend = Gated(gate)
    clips = [a_clip(n, 1000) for n in range(30)]
    with a_conveyor(backend, Feeding(buffer_bytes=40_000)) as conveyor:
        reader = threading.Thread(target=lambda: list(map(conveyor.offer, clips)), daemon=True)
        reader.start()
        feed = conveyor._feed
        until(lambda: feed._blocked and feed._work._waiters)  # type: ignore[attr-defined]
        assert 1 <= backend.encoded <= 10
        for clip in clips:
            finish(conveyor, [clip])
            conveyor.drop(clip.share)
        reader.join()


@pytest.mark.parametrize("kind", ["tiny", "bad", "known"])
def test_clips_that_wait_for_their_lines_are_bounded(kind: str) -> None:
    """Behind a long clip: each takes memory, be it a few samples, an error or a line from before with its texts."""
    clips = [a_clip(n, data=b"no audio" if kind == "bad" else None) for n in range(100)]
    for clip in clips:
        clip.kept_line = b"{}" if kind == "known" else None
        clip.clip.annotations = Annotations(text="a" * 3000)
    with a_conveyor(feeding=Feeding(2, buffer_bytes=50_000)) as conveyor:
        reader = threading.Thread(target=lambda: list(map(conveyor.offer, clips)), daemon=True)
        reader.start()
        feed = conveyor._feed
        while not feed._blocked:
            conveyor.step(0.01)
        assert 1 <= sum(clip.share.bytes > 0 for clip in clips) <= 10
        for clip in clips:
            conveyor.lead(clip.share)
            finish(conveyor, [clip])
            conveyor.drop(clip.share)
        reader.join()


def test_files_read_ahead_are_bounded_in_bytes() -> None:
    """Many decode threads read far ahead, but of large files no further than --buffer-memory allows."""
    gate = threading.Event()
    clips = [a_clip(n, 5000) for n in range(40)]  # 10 kB each, of which a decoder may make a copy
    with a_conveyor(Gated(gate), Feeding(64, buffer_bytes=100_000)) as conveyor:
        reader = threading.Thread(target=lambda: list(map(conveyor.offer, clips)), daemon=True)
        reader.start()
        feed = conveyor._feed
        until(lambda: feed._blocked or feed._turn._waiters)  # type: ignore[attr-defined]
        assert feed._held <= 100_000
        assert sum(clip.share.bytes > 0 for clip in clips) <= 5
        gate.set()
        for clip in clips:
            conveyor.lead(clip.share)
            finish(conveyor, [clip])
            conveyor.drop(clip.share)
        reader.join()
    assert [clip.samples for clip in clips] == [5000] * 40
    assert (feed._held, feed._undecoded_bytes) == (0, 0)


def test_a_bad_clip_says_why() -> None:
    """It is that clip's error; trouble with the machine is kept apart from it."""
    bad = a_clip(data=b"no audio")
    broken = a_clip(1)
    assert broken.clip.audio is not None
    broken.clip.audio = _Failing()
    with a_conveyor() as conveyor:
        conveyor.offer(bad)
        conveyor.offer(broken)
        finish(conveyor, [bad, broken])
    assert bad.error is not None
    assert bad.error.kind == "decode"
    assert isinstance(broken.trouble, MemoryError)


@pytest.mark.slow
def test_a_bad_clip_keeps_none_of_its_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error may wait long for its line, with many others: neither those of decoding nor the backend's hold samples."""
    seen = []

    class Refusing(MuLaw):
        def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
            kept = waves[0].copy()
            seen.append(weakref.ref(kept))
            raise ValueError("odd")

    def damaged(file: IO[bytes], **_: Any) -> Iterator[tuple[Waveform, int]]:
        kept = np.zeros(40, np.float32)
        seen.append(weakref.ref(kept))
        yield kept, 8000
        raise ClipError("decode", "cut short")

    clips = [a_clip(0), a_clip(1)]
    with a_conveyor(Refusing(FACTORY.describe({}, "cpu"))) as conveyor:
        conveyor.offer(clips[0])
        finish(conveyor, clips[:1])
        monkeypatch.setattr("jobs.clip_decoder.decode", damaged)
        conveyor.offer(clips[1])
        until(lambda: len(seen) == 3 and conveyor.idle)  # and nobody has heard of the error yet
        gc.collect()
        assert seen[2]() is None
        finish(conveyor, clips[1:])
    gc.collect()
    assert [str(clip.error) for clip in clips] == ["ValueError: odd", "cut short"]
    assert [array() for array in seen] == [None] * 3  # the backend has tried its clip twice


class _Failing(io.BytesIO):
    def seek(self, *_: int) -> int:
        raise MemoryError


def test_a_clip_that_cannot_be_closed() -> None:
    """Trouble with the machine, like any other; whoever decoded it decodes the next one."""

    class Stuck(io.BytesIO):
        def close(self) -> None:
            raise OSError("stale file handle")

    clips = [a_clip(0), a_clip(1)]
    assert clips[0].clip.audio is not None
    clips[0].clip.audio = Stuck(clips[0].clip.audio.read())
    with a_conveyor() as conveyor:
        for clip in clips:
            conveyor.offer(clip)
        finish(conveyor, clips)
        until(lambda: conveyor._feed._undecoded == 0)
    assert isinstance(clips[0].trouble, OSError)
    assert clips[1].sink.frames == 40


def test_trouble_with_the_device_is_raised_in_step() -> None:
    """What was encoded before it is told first; whoever decodes for it is sent away."""

    class Lost(MuLaw):
        def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
            if len(waves[0]) == 50:
                raise MemoryError("lost")
            return super().encode(waves)

    clips = [a_clip(0), a_clip(1, 50), a_clip(2)]
    with a_conveyor(Lost(FACTORY.describe({}, "cpu"))) as conveyor:
        for clip in clips:
            conveyor.offer(clip)
        with pytest.raises(MemoryError, match="lost"):
            finish(conveyor, clips)
        assert [clip.finished for clip in clips] == [True, False, False]


def test_a_halt_ends_what_is_in_hand_and_drops_the_rest() -> None:
    """The call that the device works on counts; what is only decoded does not."""
    gate = threading.Event()
    backend = Gated(gate)
    clips = [a_clip(n) for n in range(4)]
    with a_conveyor(backend) as conveyor:
        for clip in clips:
            conveyor.offer(clip)
        assert backend.entered.wait(PATIENCE_SECONDS)
        halting = threading.Thread(target=conveyor.halt)
        halting.start()
        until(lambda: conveyor._feed._closed)
        gate.set()
        halting.join()
        conveyor.finish_calls()
        assert [clip.finished for clip in clips] == [True, False, False, False]
    assert backend.encoded == 1


def test_what_the_device_waited_for_adds_up() -> None:
    """Busy while it encodes, waiting for audio before; counted by the time that the clips are done."""
    clips = [a_clip(n) for n in range(3)]
    with a_conveyor() as conveyor:
        for clip in clips:
            conveyor.offer(clip)
        finish(conveyor, clips)
        assert conveyor.device_time.busy > 0
        assert conveyor.device_time.audio > 0
        assert conveyor.device_time.writer == 0


def test_a_call_of_the_device_is_seen() -> None:
    """With the clips that it has, and a time that fits their audio; afterwards there is nothing to see."""
    gate = threading.Event()
    backend = Gated(gate)
    with a_conveyor(backend) as conveyor:
        clip = a_clip(7, samples=8000)
        clip.tar = "000012"
        conveyor.offer(clip)
        assert backend.entered.wait(PATIENCE_SECONDS)
        (seen,) = [one for one in conveyor.activities.seen() if one.what == "encode"]
        gate.set()
        finish(conveyor, [clip])
        until(lambda: not conveyor.activities.seen())
    assert str(seen) == "encoding clip 7 of 000012"
    assert seen.allowed == allowed_seconds("encode", 1.0, None)
