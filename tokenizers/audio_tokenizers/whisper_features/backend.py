"""Features of Whisper's encoder: one layer's states and the final states, 50 per second over the length of the clip.

The reference is transformers: WhisperFeatureExtractor, and WhisperModel.encoder with output_hidden_states=True. It pads
each clip to 30 s and returns all 1500 states; here the padding's states are cut off, and clips may be longer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from audio_tokenizers.base import (
    Audio,
    BackendInfo,
    Batching,
    Features,
    Field,
    LaneShape,
    Options,
    Scalar,
    Utterance,
    Values,
    Waveform,
)
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.shared.device_calls import DeviceCalls, check_fit
from audio_tokenizers.shared.factory import ModelFactory
from audio_tokenizers.shared.file_hashes import files_sha256
from audio_tokenizers.shared.options import LANES_OPTIONS, ModelChoices, OptionTable
from audio_tokenizers.shared.recipe import config_sha256, recipe_tail
from audio_tokenizers.shared.resampling import soxr_resample
from audio_tokenizers.shared.torch_device import fix_arithmetic, loaded, on_device, package_versions
from audio_tokenizers.shared.wording import shown
from audio_tokenizers.whisper_features.files import HOP, SAMPLE_RATE, Checkpoint, open_checkpoint
from audio_tokenizers.whisper_features.model import ATTENTION, WhisperEncoder

if TYPE_CHECKING:
    import torch

__all__ = ["FACTORY", "WhisperFeatures", "WhisperFeaturesFactory", "rows_of"]

PACKAGES = ("torch", "transformers", "numpy", "soxr")


def rows_of(samples: int) -> int:
    """Number of states of a clip of `samples`: those whose centre, at 320 times their index, is in the clip."""
    return math.ceil(samples / HOP)


class WhisperFeatures:
    """The loaded encoder on one device. `encode_lanes` is used if `info.batching` is LANES."""

    resampler = "soxr HQ"
    """Parts of a combination with the same `resampler` share the resampled audio."""

    def __init__(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> None:
        self.info = info
        self._window = checkpoint.window
        self._device = device
        narrow = WhisperEncoder.compute_in_bfloat16 if "precision" in info.recipe else None
        self._encoder = loaded(device, lambda: WhisperEncoder(checkpoint, device), narrow)
        if info.batching is Batching.LANES:
            self._calls = DeviceCalls(device, info.max_batch)

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """Resample to 16 kHz with soxr's HQ filter."""
        return soxr_resample(wave, sample_rate, SAMPLE_RATE, "HQ")

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        """For each clip `mid` (unless `layer` is null) and `final`, [rows_of(samples), width] in the option's dtype.

        A clip is cut into windows of 30 s, with a shorter last one; each is encoded alone.
        """
        return [self._encode_clip(clip.wave) for clip in clips]

    def encode_lanes(self, clips: Sequence[Utterance], shape: LaneShape) -> Callable[[], list[Values]]:
        """The same values as `encode_clips`; see LanesOfClips. One window per lane is encoded at a time."""
        waves = [clip.wave for clip in clips]
        check_fit(waves, shape)
        for wave in waves:
            self._check_length(wave)
        pieces = [piece for wave in waves for piece in self._pieces(wave)]
        rows = rows_of(min(shape.samples, self._window))

        def work(mel: torch.Tensor) -> Sequence[torch.Tensor]:
            return [state[:, :rows].contiguous() for state in self._states(mel)]

        finishes = []
        for first in range(0, len(pieces), shape.lanes):
            # Not in `resample`: a mel takes 1.5 MB even for a short clip, and would wait in memory for the device.
            mels = [self._encoder.mel(piece) for piece in pieces[first : first + shape.lanes]]
            finishes.append(self._calls.begin([self._calls.stack(mels, (shape.lanes, *mels[0].shape))], work))

        def values() -> list[Values]:
            windows = (window for finish in finishes for window in zip(*finish(), strict=True))
            return [self._join(wave, windows) for wave in waves]

        return values

    def _encode_clip(self, wave: Audio) -> Values:
        self._check_length(wave)
        pieces = self._pieces(wave)
        return self._join(wave, (on_device(self._device, functools.partial(self._encode_window, piece)) for piece in pieces))

    def _check_length(self, wave: Audio) -> None:
        if wave.shape[0] < self.info.min_samples:
            raise ClipError("too_short", f"{wave.shape[0]} samples, Whisper's encoder needs {self.info.min_samples}")

    def _pieces(self, wave: Audio) -> list[Audio]:
        """Cut into windows; the last may be shorter."""
        return [wave[start : start + self._window] for start in range(0, wave.shape[0], self._window)]

    def _encode_window(self, piece: Audio) -> list[Features]:
        """[samples], at most a window, -> its states [positions, width] in the order of the fields."""
        import torch

        with torch.inference_mode():
            mel = torch.from_numpy(self._encoder.mel(piece)).to(self._device)[None]
            return [state[0, : rows_of(piece.shape[0])].cpu().numpy() for state in self._states(mel)]

    def _states(self, mel: torch.Tensor) -> list[torch.Tensor]:
        """float32 [batch, mel_bins, frames] on the device -> [batch, positions, width], as stored, in the fields' order."""
        import torch

        recipe = self.info.recipe
        fix_arithmetic(tf32=bool(recipe["tf32"]))
        layer = recipe["layer"]
        dtype = torch.float16 if recipe["stored_dtype"] == "float16" else torch.float32
        return [state.to(dtype) for state in self._encoder.states(mel, layer if isinstance(layer, int) else None)]

    def _join(self, wave: Audio, windows: Iterator[Sequence[Features]]) -> Values:
        """Join a clip's states from its `windows`: each has arrays [at least its rows, width] in the fields' order."""
        rows = rows_of(wave.shape[0])
        values: dict[str, Features] = {field.name: np.empty((rows, field.width), field.dtype) for field in self.info.fields}
        for start in range(0, rows, self._window // HOP):
            for array, states in zip(values.values(), next(windows), strict=True):
                room = array[start : start + self._window // HOP]
                room[:] = states[: len(room)]
        for name, array in values.items():
            if not np.isfinite(array).all():
                raise ClipError("backend", f"{name} is beyond {array.dtype}: set dtype=float32 for such clips")
        return values


class WhisperFeaturesFactory(ModelFactory[Checkpoint, WhisperFeatures]):
    """Describes and loads Whisper's encoder."""

    name = "whisper_features"
    options: ClassVar[OptionTable] = {
        "model_path": ("openai/whisper-large-v3", "directory of a transformers Whisper model, or hub id"),
        "layer": (16, "which hidden state is `mid`: 0 is the embedding, N what layer N has made; null for none"),
        "dtype": ("float16", "how features are stored, float16 or float32; `precision` is what they are computed in"),
        **LANES_OPTIONS,
    }

    def _load(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> WhisperFeatures:
        return WhisperFeatures(info, checkpoint, device)

    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, Checkpoint]:
        choices, dtype = ModelChoices.of(options, device), _dtype(options["dtype"])
        checkpoint = open_checkpoint(choices.model_path)
        layer = _layer(options["layer"], checkpoint)
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
            kind="clips",
            max_tokens_per_fragment=None,
            # Not ANY: every window has 1500 states, and a batch only makes large products larger. On a CPU, batches of 2 to
            # 4 windows gave the same bytes at the same speed; on a GPU, lanes of a fixed number are used.
            batching=choices.batching,
            max_batch=choices.max_batch,
            recipe={
                "weights_sha256": files_sha256(checkpoint.weights),
                "config_sha256": config_sha256(checkpoint.config),
                "layer": layer,
                "dtype": choices.dtype,
                "stored_dtype": dtype,
                "attention": ATTENTION,
                "resampler": "soxr HQ",
                "mel": "transformers WhisperFeatureExtractor on the CPU",
                "pieces": f"{checkpoint.window} samples, each alone, zeros behind the last",
                "rows": f"ceil(samples / {HOP})",
                **recipe_tail(device, choices.precision, package_versions(PACKAGES, self.name), lanes=choices.lanes),
            },
        )
        return info, checkpoint


def _dtype(value: Scalar) -> Literal["float16", "float32"]:
    if value == "float16":
        return "float16"
    if value == "float32":
        return "float32"
    raise UsageError(f"dtype: expected float16 or float32, found {shown(value, 'null')}")


def _layer(value: Scalar, checkpoint: Checkpoint) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < checkpoint.layers:
        raise UsageError(
            f"layer: expected null or 0..{checkpoint.layers - 1} for {checkpoint.config_path}, found "
            f"{shown(value, 'null')}; what its {checkpoint.layers} layers have made is `final`, behind the layer norm"
        )
    return value


FACTORY = WhisperFeaturesFactory()
