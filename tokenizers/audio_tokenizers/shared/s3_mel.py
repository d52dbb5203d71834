"""The log-mel of openai-whisper, on any device, without the copies from the host that its own function makes each time.

The formula is that of whisper/audio.py (github.com/openai/whisper), with the filters from its file: on a CPU the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from audio_tokenizers.shared.s3_onnx import MEL_HOP, MELS

if TYPE_CHECKING:
    import torch

__all__ = ["LogMel"]

WINDOW = 400
FLOOR = 1e-10
RANGE = 8.0
"""What is more than 80 dB below the loudest bin of a piece is raised to that."""


class LogMel:
    """Window and filters on one device."""

    def __init__(self, device: str) -> None:
        import torch
        from whisper.audio import mel_filters

        self._window = torch.hann_window(WINDOW).to(device)
        self._filters: torch.Tensor = mel_filters("cpu", MELS).to(device)

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """float32 [samples] or [1, samples] at 16 kHz, over 200 of them -> float32 [128, frames] or [1, 128, frames].

        With an axis of a batch, a product may round otherwise than without.
        """
        import torch

        spectrum = torch.stft(wave, WINDOW, MEL_HOP, window=self._window, return_complex=True)
        mel = self._filters @ (spectrum[..., :-1].abs() ** 2)
        logarithm = torch.clamp(mel, min=FLOOR).log10()
        logarithm = torch.maximum(logarithm, logarithm.max() - RANGE)
        return (logarithm + 4.0) / 4.0
