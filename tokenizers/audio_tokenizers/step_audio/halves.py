"""Both halves of step_audio on a GPU: the host prepares features while the device works, and waits only for the codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from audio_tokenizers.base import Waveform
from audio_tokenizers.shared.torch_device import fix_arithmetic
from audio_tokenizers.step_audio.frontend import pieces_of

if TYPE_CHECKING:
    from torch import Tensor

    from audio_tokenizers.shared.s3_torch import TorchEncoder
    from audio_tokenizers.step_audio.windows import WindowEncoder

__all__ = ["Halves"]

Vq = npt.NDArray[np.int16]
"""int16 [codes]."""


class Halves:
    """vq02 and vq06 of whole clips. One batch at a time."""

    def __init__(
        self,
        windows: WindowEncoder,
        features: Callable[[Waveform], Tensor],
        vq06: TorchEncoder | Callable[[Waveform], Vq],
        pool: Executor,
        *,
        in_turn: bool,
        tf32: bool,
    ) -> None:
        """`features`: a clip -> its embedded frames on the host; called in threads of `pool`, or one by one with `in_turn`.

        `vq06`: if torch cannot read its file, a function to be called in threads of `pool`.
        """
        self._windows = windows
        self._features = features
        self._vq06 = vq06
        self._pool = pool
        self._in_turn = in_turn
        self._tf32 = tf32

    def codes(self, waves: Sequence[Waveform]) -> list[tuple[Vq, Vq]]:
        """float32 [samples] at 16 kHz of each clip -> (vq02, vq06)."""
        fix_arithmetic(tf32=self._tf32)  # before the threads of the pool compute
        features = [] if self._in_turn else [self._pool.submit(self._features, wave) for wave in waves]
        acoustic = self._begin_vq06(waves)
        with torch.inference_mode():
            frames = [found.result() for found in features] or [self._features(wave) for wave in waves]
            linguistic = self._windows.begin(frames)
        return list(zip(linguistic(), acoustic(), strict=True))

    def _begin_vq06(self, waves: Sequence[Waveform]) -> Callable[[], list[Vq]]:
        if callable(self._vq06):
            vq06 = self._vq06
            found = [self._pool.submit(vq06, wave) for wave in waves]
            return lambda: [codes.result() for codes in found]
        pieces = [pieces_of(wave) for wave in waves]
        finish = self._vq06.begin([piece for clip in pieces for piece in clip])

        def codes() -> list[Vq]:
            tokens = (part.astype(np.int16) for part in finish())
            nothing = np.zeros(0, np.int16)
            return [np.concatenate([nothing, *(next(tokens) for _ in clip)]) for clip in pieces]

        return codes
