"""Features of Whisper's encoder: the states of one layer and the final ones, 50 per second, as long as the clip.

The reference is transformers: WhisperFeatureExtractor, and WhisperModel.encoder with output_hidden_states=True. It pads
each clip to 30 s and returns all 1500 states; here those of the padding are cut off, and clips may be longer.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from audio_tokenizers.base import Audio, BackendInfo, Batching, Features, Field, Options, Scalar, Utterance, Values, Waveform
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.file_hashes import files_sha256
from audio_tokenizers.options import model_path_of, switch
from audio_tokenizers.resampling import soxr_resample
from audio_tokenizers.torch_device import check_device_name, fix_arithmetic, on_device, package_versions, require_device
from audio_tokenizers.whisper_features_files import HOP, SAMPLE_RATE, Checkpoint, open_checkpoint
from audio_tokenizers.whisper_features_model import ATTENTION, WhisperEncoder

__all__ = ["FACTORY", "WhisperFeatures", "WhisperFeaturesFactory", "rows_of"]

PACKAGES = ("torch", "transformers", "numpy", "soxr")


def rows_of(samples: int) -> int:
    """States of a clip of `samples`: those whose centre, at 320 times their number, is in the clip."""
    return math.ceil(samples / HOP)


class WhisperFeatures:
    """The loaded encoder on one device."""

    def __init__(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> None:
        self.info = info
        self._window = checkpoint.window
        self._device = device
        require_device(device)
        self._encoder = on_device(device, lambda: WhisperEncoder(checkpoint, device))

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """To 16 kHz, with soxr's HQ filter."""
        return soxr_resample(wave, sample_rate, SAMPLE_RATE, "HQ")

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        """For each clip `mid` (unless `layer` is null) and `final`, [rows_of(samples), width] in the option's dtype.

        A clip is cut into windows of 30 s, the last one as short as it happens to be; each is encoded alone.
        """
        return [self._encode_clip(clip.wave) for clip in clips]

    def _encode_clip(self, wave: Audio) -> Values:
        samples = wave.shape[0]
        if samples < self.info.min_samples:
            raise ClipError("too_short", f"{samples} samples, Whisper's encoder needs {self.info.min_samples}")
        values: dict[str, Features] = {
            field.name: np.empty((rows_of(samples), field.width), field.dtype) for field in self.info.fields
        }
        for start in range(0, samples, self._window):
            piece = wave[start : start + self._window]
            states = on_device(self._device, functools.partial(self._encode_window, piece))
            for array, state in zip(values.values(), states, strict=True):
                array[start // HOP :][: state.shape[0]] = state
        for name, array in values.items():
            if not np.isfinite(array).all():
                raise ClipError("backend", f"{name} is beyond {array.dtype}: set dtype=float32 for such clips")
        return values

    def _encode_window(self, piece: Audio) -> list[Features]:
        """[samples], at most a window, -> its states [rows_of(samples), width] in the order of the fields."""
        import torch

        recipe = self.info.recipe
        fix_arithmetic(tf32=bool(recipe["tf32"]))
        layer = recipe["layer"]
        states = self._encoder.states(piece, layer if isinstance(layer, int) else None)
        dtype = torch.float16 if recipe["stored_dtype"] == "float16" else torch.float32
        return [state[: rows_of(piece.shape[0])].to(dtype).cpu().numpy() for state in states]


class WhisperFeaturesFactory:
    """Describes and loads Whisper's encoder."""

    name = "whisper_features"
    options: Mapping[str, tuple[Scalar, str]] = {
        "model_path": ("openai/whisper-large-v3", "directory of a transformers Whisper model, or hub id"),
        "layer": (16, "which hidden state is `mid`: 0 is the embedding, N what layer N has made; null for none"),
        "dtype": ("float16", "how features are stored, float16 or float32; they are computed in float32"),
        "tf32": (False, "let an Ampere or newer GPU round to TF32: faster, other features"),
    }

    def describe(self, options: Options, device: str) -> BackendInfo:
        """Reads config.json and hashes the weights; may download them if model_path is a hub id."""
        return self._describe(options, device)[0]

    def load(self, options: Options, device: str) -> WhisperFeatures:
        """float32 weights on `device`. Raises ModelFilesError, or InfrastructureError if there is no such device."""
        info, checkpoint = self._describe(options, device)
        return WhisperFeatures(info, checkpoint, device)

    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, Checkpoint]:
        model_path, tf32 = model_path_of(options), switch(options, "tf32")
        dtype = _dtype(options["dtype"])
        check_device_name(device)
        checkpoint = open_checkpoint(model_path)
        layer = _layer(options["layer"], checkpoint)
        config = json.dumps(checkpoint.config, sort_keys=True).encode()
        shape: dict[str, Any] = {
            "form": "features",
            "width": checkpoint.width,
            "samples_per_item": HOP,
            "dtype": dtype,
        }
        names = ("final",) if layer is None else ("mid", "final")
        info = BackendInfo(
            name=self.name,
            sample_rate=SAMPLE_RATE,
            hop_length=HOP,
            fields=tuple(Field(name=name, **shape) for name in names),
            mono="mean",
            min_samples=1,
            max_tokens_per_fragment=None,
            # Not ANY: every window has 1500 states, so a batch only makes large products larger. On a CPU batches of 2 to 4
            # windows gave the same bytes at the same speed, and on a GPU nobody has shown that they give the same bytes.
            batching=Batching.SINGLE,
            max_batch=1,
            recipe={
                "weights_sha256": files_sha256(checkpoint.weights),
                "config_sha256": hashlib.sha256(config).hexdigest(),
                "layer": layer,
                "dtype": "float32",
                "stored_dtype": dtype,
                "attention": ATTENTION,
                "resampler": "soxr HQ",
                "mel": "transformers WhisperFeatureExtractor on the CPU",
                "pieces": f"{checkpoint.window} samples, each alone, zeros behind the last",
                "rows": f"ceil(samples / {HOP})",
                "tf32": tf32,
                "device": device.partition(":")[0],
                **package_versions(PACKAGES, "whisper_features"),
            },
        )
        return info, checkpoint


def _dtype(value: Scalar) -> Literal["float16", "float32"]:
    if value == "float16":
        return "float16"
    if value == "float32":
        return "float32"
    raise UsageError(f"dtype: expected float16 or float32, found {value!r}")


def _layer(value: Scalar, checkpoint: Checkpoint) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < checkpoint.layers:
        raise UsageError(
            f"layer: expected null or 0..{checkpoint.layers - 1} for {checkpoint.config_path}, found {value!r}; what its "
            f"{checkpoint.layers} layers have made is `final`, behind the layer norm"
        )
    return value


FACTORY = WhisperFeaturesFactory()
