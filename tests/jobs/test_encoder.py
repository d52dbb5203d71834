"""jobs/encoder.py: both kinds of backend behind one call, and whose fault an exception is."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from support.envelope import Envelope

from audio_tokenizers.base import Audio, Codes, LaneShape, Utterance, Values, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError, ModelFilesError
from audio_tokenizers.mulaw import FACTORY, MuLaw, mu_law_codes
from jobs.encoder import Encoder

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
    wave = encoder.resample(WAVE, 16000)
    assert len(wave) == 20
    (values,) = encoder.begin([Utterance(wave, "words")], None)()
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
        encoder.resample(WAVE, 8000)
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
        super().__init__(FACTORY.describe({}, "cpu"))
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
    locked: list[tuple[str, bool]] = []

    class Noting(Envelope):
        def resample(self, wave: Waveform, sample_rate: int) -> Audio:
            locked.append(("resample", encoder._first.locked()))
            return super().resample(wave, sample_rate)

        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            locked.append(("encode", encoder._first.locked()))
            return super().encode_clips(clips)

    encoder = Encoder(Noting())
    for _ in range(2):
        wave = encoder.resample(WAVE, 8000)
        encoder.begin([Utterance(wave)], None)()
    assert locked == [("resample", True), ("encode", True), ("resample", False), ("encode", False)]


def test_a_full_disk_keeps_its_name() -> None:
    """Whoever writes the lines tells of it, as of any other full disk."""
    with pytest.raises(OSError, match="No space left") as caught:
        Encoder(Failing(OSError(errno.ENOSPC, "No space left on device"))).begin([Utterance(WAVE)], None)()
    assert caught.value.errno == errno.ENOSPC
