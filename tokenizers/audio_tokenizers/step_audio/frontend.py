"""From a waveform at 16 kHz to the input of vq02's encoder, and Step-Audio's preprocessing of clips.

FunASR's WavFrontendOnline computes its features chunk by chunk, carrying samples and frames over. The result is a plain
function of the whole clip: 80 mel bins every 10 ms (torchaudio's Kaldi fbank), and every 60 ms a normalised stack of the 7
surrounding frames. Only the end of a clip shows the chunks: a rest of under 880 samples after a multiple of 3840 is dropped.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from audio_tokenizers.base import Waveform

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CHUNK_SAMPLES",
    "CONTEXT_SAMPLES",
    "PIECE_SAMPLES",
    "SAMPLE_RATE",
    "SHORTEST_PIECE",
    "SHORTEST_REST",
    "Frontend",
    "frame_count",
    "normalize_energy",
    "pieces_of",
    "seed_of",
    "trim_silence",
]

SAMPLE_RATE = 16000
HOP = 160
WINDOW = 400
STACKED = 7
STRIDE = 6
"""Mel frames per feature frame."""
CHUNK_SAMPLES = 3840
"""A step of the encoder: 4 feature frames."""
CHUNK_FRAMES = 4
SHORTEST_REST = 880
"""Least number of samples after the last whole chunk that FunASR makes frames of."""
QUIETEST_PEAK = 0.01
"""Peak below which amplification no longer grows."""
PIECE_SAMPLES = 480_000
SHORTEST_PIECE = 480
"""vq06: a shorter rest of a clip after its last whole 30 s is dropped."""
CONTEXT_SAMPLES = HOP * (STACKED // 2)
"""Samples before a chunk that its features need."""


def frame_count(samples: int) -> int:
    """Feature frames, and thus vq02 codes, of a whole clip: 16.67 per second, minus those dropped at the end."""
    chunks, rest = divmod(samples, CHUNK_SAMPLES)
    return CHUNK_FRAMES * chunks + (1 + (rest - WINDOW) // (HOP * STRIDE) if rest >= SHORTEST_REST else 0)


def pieces_of(wave: Waveform) -> list[Waveform]:
    """The pieces of a clip that vq06 encodes one by one."""
    pieces = [wave[start : start + PIECE_SAMPLES] for start in range(0, len(wave), PIECE_SAMPLES)]
    return [piece for piece in pieces if len(piece) >= SHORTEST_PIECE]


class Frontend:
    """Kaldi fbank, stacking (low frame rate), and normalisation by am.mvn."""

    def __init__(self, shift: Waveform, scale: Waveform, dither: float) -> None:
        """`shift`, `scale`: float32 [560]. `dither`: amplitude of the noise per sample of a frame, of 32768."""
        import torch

        self._shift = torch.from_numpy(shift)
        self._scale = torch.from_numpy(scale)
        self._dither = dither

    def features(self, wave: Waveform) -> Tensor:
        """Features of a whole clip: float32 [samples] at 16 kHz -> float32 [frame_count(samples), 560]."""
        if not (frames := frame_count(len(wave))):
            return self._shift.new_zeros(0, len(self._shift))
        return self._stack(self._fbank(wave, seed_of(wave)), 0, frames)

    def features_of_piece(self, samples: Waveform, *, first: bool) -> Tensor:
        """Features of a clip's next chunks. `samples` begin CONTEXT_SAMPLES before them, except for the `first` piece.

        They end with a whole chunk, except for the last piece.
        """
        context = 0 if first else CONTEXT_SAMPLES
        if not (frames := frame_count(len(samples) - context)):
            return self._shift.new_zeros(0, len(self._shift))
        fbank = self._fbank(samples, 0)
        return self._stack(fbank, context // HOP, frames)

    def _stack(self, fbank: Tensor, offset: int, frames: int) -> Tensor:
        """Feature frame t holds the mel frames 6 t - 3 to 6 t + 3, counted from `offset`.

        `fbank` is extended by repeating its first and last frame.
        """
        import torch

        index = STRIDE * torch.arange(frames)[:, None] + torch.arange(STACKED) + (offset - STACKED // 2)
        stacked = fbank[index.clamp(0, len(fbank) - 1)].reshape(frames, -1)
        return (stacked + self._shift) * self._scale

    def _fbank(self, wave: Waveform, seed: int) -> Tensor:
        """float32 [samples] -> float32 [1 + (samples - 400) // 160, 80]: log mel energies."""
        import torch
        import torchaudio.compliance.kaldi

        frames = 1 + (len(wave) - WINDOW) // HOP
        # The product with the mel filters may round differently for few rows than for many (encoder.ROWS).
        samples = WINDOW + HOP * (16 * math.ceil(frames / 16) - 1)
        wave = np.pad(wave, (0, max(0, samples - len(wave))))[:samples]
        # Kaldi's noise comes from the global generator: seed it for this clip, then restore its state.
        with torch.random.fork_rng(devices=[], enabled=bool(self._dither)):
            if self._dither:
                torch.default_generator.manual_seed(seed)
            fbank: Tensor = torchaudio.compliance.kaldi.fbank(
                torch.from_numpy(wave)[None] * 32768,
                num_mel_bins=80,
                frame_length=25,
                frame_shift=10,
                dither=self._dither,
                energy_floor=0.0,
                window_type="hamming",
                sample_frequency=SAMPLE_RATE,
            )
        return fbank[:frames]


def seed_of(wave: Waveform) -> int:
    """The seed of a clip's dither, from its samples: neither order nor batching changes its tokens."""
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(wave).tobytes()).digest()[:8], "little", signed=True)


def normalize_energy(wave: Waveform) -> Waveform:
    """Scale to a peak of 0.999, amplifying at most 99.9 times (upstream's energy_norm_fn)."""
    import torch

    samples = torch.from_numpy(wave)
    peak = samples.abs().max()
    # Upstream's order of operations and types, which determine the last bit.
    loud = bool(peak > QUIETEST_PEAK)
    normalized: Waveform = (samples / (peak if loud else QUIETEST_PEAK) * 0.999).numpy()
    return normalized


def trim_silence(wave: Waveform) -> Waveform:
    """Trim both ends below -20 dB of the maximum; keep or pad 50 ms before, and about 220 ms after.

    The length becomes 4320 samples and a multiple of 240. Upstream's trim_silence, with librosa's trim.
    """
    import librosa

    _, (start, end) = librosa.effects.trim(wave, top_db=20, frame_length=512, hop_length=128)
    samples = 240 * math.ceil((end - start) / 240) + 4320
    start -= 800
    cut = wave[max(start, 0) :]
    cut = np.pad(cut, (max(-start, 0), 0))[:samples]
    return np.pad(cut, (0, samples - len(cut)))
