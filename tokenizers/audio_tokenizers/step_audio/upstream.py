"""engine=upstream of step_audio: FunASR's own frontend and encoder for vq02, one clip at a time.

FunASR's classes (github.com/modelscope/FunASR) are driven here as by infer_encoder in StepFun's copy of FunASR, which PyPI's
lacks. Chunks of 240 ms go through both with a cache; a rest of under 880 samples yields no frame.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from audio_tokenizers.base import Waveform
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import install_words, require_packages
from audio_tokenizers.step_audio.files import FEATURES, Checkpoint
from audio_tokenizers.step_audio.frontend import CHUNK_SAMPLES, SHORTEST_REST, seed_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["FunAsr", "funasr_classes", "require_funasr"]

EXTRA = "step_audio_upstream"
CHUNK_SIZE = (0, 4, 5)
LOOK_BACK = 4


def require_funasr() -> None:
    """Raise UsageError unless FunASR is installed. Does not import it."""
    require_packages(["funasr"], EXTRA)


def funasr_classes() -> tuple[Any, Any]:
    """FunASR's WavFrontendOnline and SANMEncoderChunkOpt. Raises UsageError if they cannot be imported.

    On import FunASR prints to standard output, where our commands have their results, which optional packages it lacks.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            from funasr.frontends.wav_frontend import WavFrontendOnline
            from funasr.models.scama.encoder import SANMEncoderChunkOpt
    except ImportError as error:
        raise UsageError(f"engine=upstream of step_audio cannot import funasr ({error}): {install_words(EXTRA)}") from error
    return WavFrontendOnline, SANMEncoderChunkOpt


class FunAsr:
    """FunASR's two classes on one device, as the checkpoint's config.yaml sets them."""

    def __init__(self, checkpoint: Checkpoint, device: str, dither: float, fill: Callable[[Module], None]) -> None:
        """`fill` loads weights into a module whose `encoder` is FunASR's. Raises UsageError if importing FunASR fails."""
        import torch

        frontend_class, encoder_class = funasr_classes()
        frontend = {**_part(checkpoint, "frontend_conf"), "cmvn_file": str(checkpoint.cmvn), "dither": dither}
        self._frontend: Any = frontend_class(**frontend)
        network: Any = torch.nn.Module()
        network.encoder = encoder_class(input_size=FEATURES, **_part(checkpoint, "encoder_conf"))
        fill(network)
        self._encoder = network.encoder.to(device)
        self._device = device
        self._dither = dither

    def encode(self, wave: Waveform) -> Tensor:
        """float32 [samples] at 16 kHz -> float32 [frames, width] on the CPU."""
        import torch

        # Noise is seeded per clip, as in our engine; upstream's depends on all earlier clips.
        with torch.random.fork_rng(devices=[], enabled=bool(self._dither)):
            if self._dither:
                torch.default_generator.manual_seed(seed_of(wave))
            return self._encode(torch.from_numpy(np.ascontiguousarray(wave)))

    def _encode(self, wave: Tensor) -> Tensor:
        import torch

        heard: dict[str, Any] = {}
        encoded: dict[str, Any] = {
            "start_idx": 0,
            "chunk_size": list(CHUNK_SIZE),
            "encoder_chunk_look_back": LOOK_BACK,
            "opt": None,
            "feats": torch.zeros(1, CHUNK_SIZE[0] + CHUNK_SIZE[2], FEATURES, device=self._device),
            "tail_chunk": False,
        }
        outputs = [torch.zeros(0, self._encoder.output_size())]
        for start in range(0, len(wave) + 1, CHUNK_SAMPLES):
            chunk = wave[start : start + CHUNK_SAMPLES]
            last = start + CHUNK_SAMPLES > len(wave)
            if last and len(chunk) < SHORTEST_REST:
                break
            features, lengths = self._frontend(chunk[None], torch.tensor([len(chunk)]), cache=heard, is_final=last)
            output, _, _ = self._encoder.forward_chunk(features.to(self._device), lengths, cache=encoded, is_final=last)
            outputs.append(output[0, -int(lengths[0]) :].cpu())
        return torch.cat(outputs)


def _part(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    part: Mapping[str, Any] = checkpoint.config.get(key) or {}
    return dict(part)
