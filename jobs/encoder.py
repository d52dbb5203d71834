"""A backend of either kind behind one call, with every exception sorted into the clip's fault or the machine's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from audio_tokenizers.base import Audio, Backend, ClipBackend, Codes, FrameBackend, Utterance, Values, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError, Tar2TokensError

__all__ = ["Encoder"]

DEVICE_ERRORS = {"OutOfMemoryError", "AcceleratorError"}
DEVICE_WORDS = ("CUDA", "cuDNN", "CUBLAS", "NCCL", "out of memory", "can't allocate memory")
T = TypeVar("T")


class Encoder:
    """What the batcher calls."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """A whole clip at a ClipBackend's rate."""
        backend = cast("ClipBackend", self._backend)
        return _sorted(lambda: backend.resample(wave, sample_rate))

    def encode(self, items: Sequence[Waveform | Utterance]) -> list[Codes | Values]:
        """Codes of waveforms, or values of whole clips: one per item."""
        results: list[Codes | Values]
        if self._backend.info.max_tokens_per_fragment is None:
            clips = cast("ClipBackend", self._backend)
            results = list(_sorted(lambda: clips.encode_clips(cast("Sequence[Utterance]", items))))
        else:
            frames = cast("FrameBackend", self._backend)
            results = list(_sorted(lambda: frames.encode(cast("Sequence[Waveform]", items))))
        if len(results) != len(items):
            raise InfrastructureError(f"the backend gave {len(results)} results for {len(items)} waveforms: a bug in it")
        return results


def _sorted(work: Callable[[], T]) -> T:
    try:
        return work()
    except (Tar2TokensError, MemoryError, OSError, ImportError):
        raise
    except Exception as error:
        known = {cls.__name__ for cls in type(error).__mro__} & DEVICE_ERRORS
        if known or any(word in str(error) for word in DEVICE_WORDS):
            raise InfrastructureError(f"the device failed: {type(error).__name__}: {error}") from error
        raise ClipError("backend", f"{type(error).__name__}: {error}") from error
