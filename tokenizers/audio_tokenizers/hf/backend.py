"""Codecs built into transformers, as one backend: Mimi, DAC, EnCodec and X-codec.

The reference is transformers as documented: the feature extractor, then `model.encode`, in float32 and for one clip. For
Mimi and EnCodec that is the bare model, whose convolutions pad their own ends. DAC and X-codec get zeros after the clip, up
to a whole number of hops, as DacFeatureExtractor adds them; always of the model's own hop, as in descript's DAC.preprocess
(the extractors published for 16 and 24 kHz kept the hop of 44.1 kHz).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from audio_tokenizers.base import BackendInfo, Batching, Codes, Decoder, LaneShape, Options, Waveform
from audio_tokenizers.errors import ClipError
from audio_tokenizers.hf.files import Checkpoint, open_checkpoint
from audio_tokenizers.hf.lanes import HfLanes
from audio_tokenizers.hf.model import ATTENTION, compute_in_bfloat16, decode_codes, encode_batch, load_model
from audio_tokenizers.shared.device_calls import DeviceCalls
from audio_tokenizers.shared.factory import ModelFactory, code_grid
from audio_tokenizers.shared.file_hashes import files_sha256
from audio_tokenizers.shared.options import LANES_OPTIONS, ModelChoices, OptionTable
from audio_tokenizers.shared.recipe import config_sha256, recipe_tail
from audio_tokenizers.shared.torch_device import fix_arithmetic, loaded, on_device, package_versions

if TYPE_CHECKING:
    import torch

__all__ = ["FACTORY", "HfCodec", "HfDecoder", "HfFactory"]

PACKAGES = ("torch", "transformers")
FRAGMENT_SECONDS, OVERLAP_SECONDS = 30, 1


class HfCodec:
    """The encoder of a loaded codec on one device. `encode_lanes` is for where `info.batching` is LANES."""

    def __init__(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> None:
        self.info = info
        self._checkpoint = checkpoint
        self._device = device
        narrow = compute_in_bfloat16 if "precision" in info.recipe else None
        self._model = loaded(device, lambda: load_model(checkpoint, device, "encode"), narrow)
        bandwidth = info.recipe["bandwidth"]
        self._bandwidth = float(bandwidth) if bandwidth is not None else None
        if info.batching is Batching.LANES:
            self._lanes = on_device(device, lambda: HfLanes(self._model, info.fields[0].width))
            self._calls = DeviceCalls(device, info.max_batch)

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        """One int16 array [codebooks, frames] per waveform."""
        return [self._encode(wave) for wave in waves]

    def encode_lanes(self, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], list[Codes]]:
        """One int16 array [codebooks, frames] per waveform; see LanesOfWaves."""
        lengths = [len(wave) + self._padding(wave) for wave in waves]
        lengths += [shape.samples] * (shape.lanes - len(waves))

        def encode(batch: torch.Tensor) -> tuple[torch.Tensor, Sequence[int]]:
            fix_arithmetic(tf32=bool(self.info.recipe["tf32"]))
            return self._lanes.encode(batch, lengths, self._bandwidth)

        return self._calls.begin_codes(waves, shape, encode)

    def _padding(self, wave: Waveform) -> int:
        """Zeros that the codec needs after the clip. Raises ClipError where it is too short."""
        if len(wave) < self.info.min_samples:
            raise ClipError("too_short", f"{len(wave)} samples, {self._checkpoint.model_type} needs {self.info.min_samples}")
        return -len(wave) % self.info.hop_length if self._checkpoint.whole_hops else 0

    def _encode(self, wave: Waveform) -> Codes:
        padding = self._padding(wave)
        return on_device(self._device, lambda: self._codes(np.pad(wave, (0, padding)) if padding else wave))

    def _codes(self, wave: Waveform) -> Codes:
        import torch

        fix_arithmetic(tf32=bool(self.info.recipe["tf32"]))
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(wave)).to(self._device)[None, None]
            codes = encode_batch(self._model, batch, self.info.fields[0].width, self._bandwidth)
            found: Codes = codes[0].to(torch.int16).cpu().numpy()
        return found


class HfDecoder:
    """The decoder of a loaded codec on one device."""

    def __init__(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> None:
        self._info = info
        self._device = device
        self._model = loaded(device, lambda: load_model(checkpoint, device, "decode"))

    def decode(self, codes: Codes) -> Waveform:
        """Codes [codebooks, frames] of a whole clip -> float32 [samples] at the codec's rate."""
        return on_device(self._device, lambda: self._decode(codes))

    def _decode(self, codes: Codes) -> Waveform:
        import torch

        fix_arithmetic(tf32=bool(self._info.recipe["tf32"]))
        with torch.inference_mode():
            grid = torch.from_numpy(np.ascontiguousarray(codes, dtype=np.int64)).to(self._device)
            wave: Waveform = decode_codes(self._model, grid).cpu().numpy()
        return wave


class HfFactory(ModelFactory[Checkpoint, HfCodec]):
    """Describes and loads whatever codec `model_path` holds."""

    name = "hf"
    options: ClassVar[OptionTable] = {
        "model_path": ("kyutai/mimi", "directory of a Mimi, DAC, EnCodec or X-codec in transformers' layout, or hub id"),
        "num_quantizers": (None, "Mimi and DAC: how many codebooks, from the first; null for all"),
        "bandwidth": (
            None,
            "EnCodec and X-codec: kbit/s; null is EnCodec's lowest, X-codec's highest, as in transformers",
        ),
        **LANES_OPTIONS,
    }

    def _load(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> HfCodec:
        return HfCodec(info, checkpoint, device)

    def load_decoder(self, options: Options, device: str) -> Decoder:
        """The decoder on `device`. Raises as `load` does."""
        info, checkpoint = self._describe(options, device)
        return HfDecoder(info, checkpoint, device)

    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, Checkpoint]:
        choices = ModelChoices.of(options, device)
        checkpoint = open_checkpoint(choices.model_path)
        codebooks, bandwidth = checkpoint.choose_codebooks(options["num_quantizers"], options["bandwidth"])
        frame_rate = checkpoint.sample_rate / checkpoint.hop_length
        info = BackendInfo(
            name=self.name,
            sample_rate=checkpoint.sample_rate,
            hop_length=checkpoint.hop_length,
            fields=code_grid(codebooks, checkpoint.codebook_size, checkpoint.hop_length),
            mono="mean",
            min_samples=1,
            kind="frames",
            max_tokens_per_fragment=math.ceil(FRAGMENT_SECONDS * frame_rate),
            num_tokens_overlap=math.ceil(OVERLAP_SECONDS * frame_rate),
            # Not EQUAL_LENGTH: a batch of another size may take another kernel, and round otherwise. Lanes do not vary.
            batching=choices.batching,
            max_batch=choices.max_batch,
            recipe={
                "codec": checkpoint.model_type,
                "weights_sha256": files_sha256(checkpoint.weights),
                "config_sha256": config_sha256(checkpoint.config),
                "num_quantizers": codebooks,
                "bandwidth": bandwidth,
                "padding": "zeros to a whole hop" if checkpoint.whole_hops else "none",
                "dtype": choices.dtype,
                "attention": _attention(checkpoint),
                **recipe_tail(device, choices.precision, package_versions(PACKAGES, self.name), lanes=choices.lanes),
            },
        )
        return info, checkpoint


def _attention(checkpoint: Checkpoint) -> str | None:
    """Of the codec, or of its semantic part; None where the network has no choice."""
    semantic = checkpoint.config.get("semantic_model_config")
    attending = semantic.get("model_type", "hubert") if isinstance(semantic, dict) else checkpoint.model_type
    return ATTENTION.get(attending)


FACTORY = HfFactory()
