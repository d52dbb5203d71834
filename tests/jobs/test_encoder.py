"""jobs/encoder.py: both kinds of backend behind one call, and whose fault an exception is."""

from __future__ import annotations

import dataclasses
import errno
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from support.envelope import Envelope

from audio_tokenizers.base import Audio, Batching, Codes, LaneShape, Utterance, Values, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError, ModelFilesError
from audio_tokenizers.mulaw import FACTORY, MuLaw, mu_law_codes
from jobs.encoder import MOST_TRACEBACKS, Encoder

BAD = -1.0
WAVE = np.linspace(-1, 1, 40, dtype=np.float32)


def test_a_frame_backend_gets_waveforms() -> None:
    """Codes of each waveform."""
    (codes,) = Encoder(FACTORY.load({}, "cpu")).begin([WAVE], None)()
    assert isinstance(codes, np.ndarray)
    assert codes.shape == (1, 40)


def test_a_clip_backend_gets_whole_clips() -> None:
    """Its own resampling first, then an utterance with its text."""
    backend = Envelope()
    encoder = Encoder(backend)
    heard = encoder.hear(WAVE, 16000, "words")
    assert len(heard.wave) == 20
    (values,) = encoder.begin([heard], None)()
    assert isinstance(values, dict)
    assert list(values) == ["tokens", "levels", "envelope", "sum"]
    assert backend.batches == [["words"]]


class Failing(Envelope):
    """Raises on demand."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        raise self._error

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        raise self._error


def following(error: Exception, cause: Exception) -> Exception:
    """As `raise error from cause` leaves it."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("odd shape"), ClipError),
        (RuntimeError("CUDA error: an illegal memory access"), InfrastructureError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), InfrastructureError),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), InfrastructureError),
        (NotImplementedError("The operator is not implemented for the MPS device."), InfrastructureError),
        (MemoryError(), MemoryError),
        (ConnectionResetError("gone"), InfrastructureError),
        (ModelFilesError("no such file"), InfrastructureError),
        (RuntimeError("std::bad_alloc"), InfrastructureError),
        (RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"), InfrastructureError),
        (RuntimeError("[Errno 24] Too many open files: 'kernel.so'"), InfrastructureError),
        (following(ValueError("cannot encode this"), MemoryError()), InfrastructureError),
        (following(ValueError("cannot encode this"), OSError(errno.EMFILE, "Too many")), InfrastructureError),
        (following(ClipError("backend", "cannot encode this"), MemoryError()), InfrastructureError),
        (following(ValueError("odd shape"), FileNotFoundError(errno.ENOENT, "no cache")), ClipError),
        (ClipError("too_short", "3 samples"), ClipError),
    ],
)
def test_whose_fault_it_is(error: Exception, kind: type[Exception]) -> None:
    """What the device or the disk does ends the attempt; anything else is the clip's, in resampling as in encoding."""
    encoder = Encoder(Failing(error))
    with pytest.raises(kind) as caught:
        encoder.hear(WAVE, 8000)
    if kind is ClipError:
        (outcome,) = encoder.begin([Utterance(WAVE)], None)()
        assert isinstance(outcome, ClipError)
        assert (
            str(outcome) == str(caught.value) == ("3 samples" if isinstance(error, ClipError) else "ValueError: odd shape")
        )
    else:
        with pytest.raises(kind):
            encoder.begin([Utterance(WAVE)], None)()


def test_a_backend_that_loses_results_is_a_bug() -> None:
    """One result per clip, or nothing is written."""

    class Losing(Envelope):
        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            return []

    with pytest.raises(InfrastructureError, match="0 results for 1"):
        Encoder(Losing()).begin([Utterance(WAVE)], None)()


class Lanes(MuLaw):
    """Refuses a waveform that begins with BAD, when its call begins or when it ends."""

    def __init__(self, *, refuses_late: bool) -> None:
        super().__init__(dataclasses.replace(FACTORY.describe({}, "cpu"), batching=Batching.LANES))
        self.calls: list[tuple[list[int], LaneShape]] = []
        self._refuses_late = refuses_late

    def encode_lanes(self, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], list[Codes]]:
        self.calls.append(([len(wave) for wave in waves], shape))

        def codes() -> list[Codes]:
            if any(wave[0] == BAD for wave in waves):
                raise ClipError("backend", "bad wave")
            return self.encode(waves)

        if self._refuses_late:
            return codes
        found = codes()
        return lambda: found


@pytest.mark.parametrize("late", [False, True])
def test_a_bad_clip_is_found_in_its_batch(*, late: bool) -> None:
    """It alone has the error; its neighbours are encoded again without it, in calls of the same shape."""
    backend = Lanes(refuses_late=late)
    waves = [np.full(length, value, np.float32) for length, value in ((3, 0.5), (2, BAD), (4, 0.25))]
    shape = LaneShape(4, 10)
    outcomes = Encoder(backend).begin(waves, shape)()
    assert [isinstance(outcome, ClipError) for outcome in outcomes] == [False, True, False]
    assert [np.asarray(outcomes[n]).tolist() for n in (0, 2)] == [mu_law_codes(waves[n])[None].tolist() for n in (0, 2)]
    assert backend.calls == [(lengths, shape) for lengths in ([3, 2, 4], [3], [2], [4])]


def test_a_call_with_lanes_is_not_waited_for() -> None:
    """The device works on it while the next one is prepared; trouble shows when the codes are asked for."""

    class Lost(Lanes):
        def encode_lanes(self, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], list[Codes]]:
            def codes() -> list[Codes]:
                raise RuntimeError("CUDA error: unspecified launch failure")

            return codes

    finish = Encoder(Lost(refuses_late=True)).begin([WAVE], LaneShape(4, 40))
    with pytest.raises(InfrastructureError, match="CUDA error"):
        finish()


def test_first_calls_are_alone() -> None:
    """They import what they need, which in two threads at once may go wrong; later ones wait for nobody."""
    alone: list[tuple[str, bool]] = []

    class Noting(Envelope):
        def resample(self, wave: Waveform, sample_rate: int) -> Audio:
            alone.append(("resample", encoder._turns._alone))
            return super().resample(wave, sample_rate)

        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            alone.append(("encode", encoder._turns._alone))
            return super().encode_clips(clips)

    encoder = Encoder(Noting())
    for _ in range(2):
        encoder.begin([encoder.hear(WAVE, 8000)], None)()
    assert alone == [("resample", True), ("encode", True), ("resample", False), ("encode", False)]


class Stumbling(Envelope):
    """Raises these errors one after the other, then none."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self._errors = list(errors)
        self.calls = 0

    def _stumble(self) -> None:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        self._stumble()
        return super().resample(wave, sample_rate)

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        self._stumble()
        return super().encode_clips(clips)


DEADLOCK = "deadlock detected by _ModuleLock('torchaudio.compliance') at 140"


def test_what_goes_well_alone_is_no_fault_of_the_clip(caplog: pytest.LogCaptureFixture) -> None:
    """An import in two threads at once, say, or whatever else comes of company: the clip has its tokens, and the log tells
    what happened and where.
    """
    expected = Envelope().encode_clips([Utterance(WAVE)])[0]
    backend = Stumbling(RuntimeError(DEADLOCK))
    np.testing.assert_array_equal(Encoder(backend).hear(WAVE, 8000).wave, WAVE)
    assert backend.calls == 2
    backend = Stumbling(RuntimeError(DEADLOCK))
    (values,) = Encoder(backend).begin([Utterance(WAVE)], None)()
    assert isinstance(values, dict)
    assert all(np.array_equal(values[key], expected[key]) for key in expected)
    assert backend.calls == 2
    assert len(caplog.records) == 2
    assert caplog.text.count("not alone: its tokens count") == caplog.text.count(DEADLOCK) == 2
    assert caplog.text.count("in _stumble") == 2


def test_a_lane_that_stumbles_late_is_tried_again() -> None:
    """Where the exception comes with the codes, too, and in a call of the same shape."""

    class Late(Lanes):
        def encode_lanes(self, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], list[Codes]]:
            self.calls.append(([len(wave) for wave in waves], shape))
            number = len(self.calls)

            def codes() -> list[Codes]:
                if number == 1:
                    raise RuntimeError(DEADLOCK)
                return self.encode(waves)

            return codes

    backend, shape = Late(refuses_late=True), LaneShape(4, 40)
    (codes,) = Encoder(backend).begin([WAVE], shape)()
    assert np.array_equal(np.asarray(codes), mu_law_codes(WAVE)[None])
    assert backend.calls == [([40], shape)] * 2


def test_the_second_try_is_alone() -> None:
    """It waits, and is seen to wait, until no other thread is in the backend."""
    begun, waits, go_on = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    class Shared(Stumbling):
        def resample(self, wave: Waveform, sample_rate: int) -> Audio:
            if threading.current_thread() is decoder:
                begun.set()
                go_on.wait()
                order.append("resampled")
            return wave

        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            order.append("encode")
            return super().encode_clips(clips)

    @contextmanager
    def waiting() -> Iterator[None]:
        waits.set()
        yield

    backend = Shared(RuntimeError(DEADLOCK))
    encoder = Encoder(backend, waiting)
    encoder._called |= {"resample", "encode"}
    decoder = threading.Thread(target=encoder.hear, args=(WAVE, 8000))
    decoder.start()
    begun.wait()
    found: list[object] = []
    device = threading.Thread(target=lambda: found.extend(encoder.begin([Utterance(WAVE)], None)()))
    device.start()
    waits.wait()
    go_on.set()
    device.join()
    decoder.join()
    assert order == ["encode", "resampled", "encode"]
    assert isinstance(found[0], dict)


def test_what_fails_again_alone_is_the_clips(caplog: pytest.LogCaptureFixture) -> None:
    """It has a record in the words of the second try, its neighbours have tokens, and a person can find out why: the first
    tracebacks are in the log.
    """

    class Choosy(Envelope):
        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            if any(clip.text == "odd" for clip in clips):
                raise ValueError(f"odd shape {len(clips)}")
            return super().encode_clips(clips)

    encoder = Encoder(Choosy())
    outcomes = encoder.begin([Utterance(WAVE, text) for text in ("one", "odd", "two")], None)()
    assert [isinstance(outcome, ClipError) for outcome in outcomes] == [False, True, False]
    assert str(outcomes[1]) == "ValueError: odd shape 1"
    assert "twice, which gets a record of kind backend" in caplog.text
    assert "in encode_clips" in caplog.text
    for _ in range(MOST_TRACEBACKS):
        encoder.begin([Utterance(WAVE, "odd")], None)()
    assert len(caplog.records) == MOST_TRACEBACKS
    assert "the next ones are not logged" in caplog.text


@pytest.mark.parametrize("second", [TypeError("no shape"), ClipError("backend", "no clip of ours")])
def test_what_ends_otherwise_each_time_is_the_machines(second: Exception) -> None:
    """A clip's fault is the same one again."""
    with pytest.raises(InfrastructureError, match="otherwise"):
        Encoder(Stumbling(ValueError("odd shape"), second)).hear(WAVE, 8000)
    with pytest.raises(InfrastructureError, match="otherwise"):
        Encoder(Stumbling(ValueError("odd shape"), second)).begin([Utterance(WAVE)], None)()


def test_the_second_try_may_have_the_memory_of_the_first() -> None:
    """What was computed until the exception is gone by then: a device may have room for it only once."""
    alive: list[bool] = []

    class Large(Envelope):
        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            alive.append(bool(alive) and kept[0]() is not None)
            activations = np.zeros(1000)
            kept.append(weakref.ref(activations))
            raise ValueError(f"odd shape {activations.shape}")

    kept: list[weakref.ref[object]] = []
    Encoder(Large()).begin([Utterance(WAVE)], None)()
    assert alive == [False, False]


def test_a_full_disk_keeps_its_name() -> None:
    """Whoever writes the lines tells of it, as of any other full disk."""
    with pytest.raises(OSError, match="No space left") as caught:
        Encoder(Failing(OSError(errno.ENOSPC, "No space left on device"))).begin([Utterance(WAVE)], None)()
    assert caught.value.errno == errno.ENOSPC
