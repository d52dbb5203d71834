"""BiCodec of Spark-TTS: 32 global tokens for the voice of a clip, and 50 semantic tokens per second, from 16 kHz.

The reference is BiCodecTokenizer.tokenize (github.com/SparkAudio/Spark-TTS, sparktts/models/audio_tokenizer.py), which
computes wav2vec2 with gradients, all of its layers and hidden states kept. Here are only those that the tokens need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from audio_tokenizers.base import (
    Audio,
    BackendInfo,
    Batching,
    Field,
    LaneShape,
    Options,
    Utterance,
    Values,
    Waveform,
)
from audio_tokenizers.bicodec.audio import normalize_volume, reference_clip, standardize
from audio_tokenizers.bicodec.files import ATTENTION, BiCodecCheckpoint, open_bicodec
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.shared.device_calls import DeviceCalls
from audio_tokenizers.shared.factory import ModelFactory
from audio_tokenizers.shared.file_hashes import files_sha256
from audio_tokenizers.shared.lanes import Branch
from audio_tokenizers.shared.options import LANES_OPTIONS, ModelChoices, OptionTable, switch
from audio_tokenizers.shared.recipe import recipe_tail
from audio_tokenizers.shared.resampling import soxr_resample
from audio_tokenizers.shared.torch_device import fix_arithmetic, loaded, on_device, package_versions

if TYPE_CHECKING:
    import torch

__all__ = ["FACTORY", "BiCodec", "BiCodecFactory"]

PACKAGES = ("torch", "torchaudio", "transformers", "numpy")
RESAMPLER = "soxr VHQ float64"


class BiCodec:
    """The loaded codec on one device. `encode_lanes` is for where `info.batching` is LANES."""

    def __init__(self, info: BackendInfo, checkpoint: BiCodecCheckpoint, device: str) -> None:
        self.info = info
        self._checkpoint = checkpoint
        self._device = device
        from audio_tokenizers.bicodec.weights import compute_in_bfloat16, load_networks

        narrow = compute_in_bfloat16 if "precision" in info.recipe else None
        networks = loaded(device, lambda: load_networks(checkpoint, device), narrow)
        self._encoder, self._mel, self._wav2vec2 = networks.bicodec, networks.mel, networks.wav2vec2
        if info.batching is Batching.LANES:
            from audio_tokenizers.shared.lane_quantizers import LaneQuantizer

            self._semantic = Branch(self._wav2vec2, self._encoder.encoder)
            self._quantizer = on_device(device, lambda: LaneQuantizer(self._encoder, 1))
            self._calls = DeviceCalls(device, info.max_batch)

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """float32 [samples] at `sample_rate` Hz -> float32 [samples] at 16 kHz, brought to one volume if the recipe says so.

        All in float64, as upstream; the volume here, since it sorts the whole clip while a device would wait.
        """
        heard = soxr_resample(wave.astype(np.float64), sample_rate, self.info.sample_rate, "VHQ")
        if self.info.recipe["volume_normalize"] and len(heard):
            heard = normalize_volume(heard)
        return heard.astype(np.float32)

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        """For each clip, as `resample` gave it, `global_tokens` [32] and `semantic_tokens` [frames], both int16."""
        self._check_lengths(clips)
        return on_device(self._device, lambda: [self._tokens(clip.wave) for clip in clips])

    def encode_lanes(self, clips: Sequence[Utterance], shape: LaneShape) -> Callable[[], list[Values]]:
        """For each clip what `encode_clips` gives; see LanesOfClips."""
        self._check_lengths(clips)
        heard = [clip.wave.astype(np.float32, copy=False) for clip in clips]
        lengths = [*map(len, heard), *[shape.samples] * (shape.lanes - len(heard))]
        length = self._checkpoint.reference_samples
        references = self._calls.stack([reference_clip(wave, length) for wave in heard], (shape.lanes, length))
        waves = self._calls.waves([standardize(wave) for wave in heard], shape)
        frames: list[int] = []

        def work(references: torch.Tensor, waves: torch.Tensor) -> Sequence[torch.Tensor]:
            import torch

            fix_arithmetic(tf32=bool(self.info.recipe["tf32"]))
            semantic_tokens, found = self._semantic_lanes(waves, lengths)
            frames.extend(found[: len(heard)])
            return [
                tokens.to(torch.int16) for tokens in (self._encoder.global_tokens(self._mel(references)), semantic_tokens)
            ]

        finish = self._calls.begin([references, waves], work)
        voice, words = (field.name for field in self.info.fields)

        def values() -> list[Values]:
            rows = zip(*finish(), frames, strict=False)
            return [{voice: one.copy(), words: other[:count].copy()} for one, other, count in rows]

        return values

    def _semantic_lanes(self, waves: torch.Tensor, lengths: Sequence[int]) -> tuple[torch.Tensor, Sequence[int]]:
        """float32 [lanes, samples], zeros behind `lengths` -> int64 [lanes, frames], and each lane's frames."""
        from audio_tokenizers.bicodec.model import mixed_features

        with self._semantic.scope({waves.shape[1]: lengths}) as table, self._quantizer.in_place():
            tokens = self._encoder.semantic_tokens(mixed_features(self._wav2vec2, waves))
        return tokens, table.at(tokens.shape[1])

    def _check_lengths(self, clips: Sequence[Utterance]) -> None:
        shortest = min((len(clip.wave) for clip in clips), default=self.info.min_samples)
        if shortest < self.info.min_samples:
            raise ClipError("too_short", f"{shortest} samples, wav2vec2 needs {self.info.min_samples}")

    def _tokens(self, wave: Audio) -> Values:
        import torch

        from audio_tokenizers.bicodec.model import mixed_features

        fix_arithmetic(tf32=bool(self.info.recipe["tf32"]))
        heard = wave.astype(np.float32, copy=False)
        with torch.inference_mode():
            reference = self._batch(reference_clip(heard, self._checkpoint.reference_samples))
            global_tokens = self._encoder.global_tokens(self._mel(reference))
            features = mixed_features(self._wav2vec2, self._batch(standardize(heard)))
            semantic_tokens = self._encoder.semantic_tokens(features)
        fields = zip(self.info.fields, (global_tokens, semantic_tokens), strict=True)
        return {field.name: tokens[0].to(torch.int16).cpu().numpy() for field, tokens in fields}

    def _batch(self, wave: Waveform) -> torch.Tensor:
        import torch

        return torch.from_numpy(wave).to(self._device).unsqueeze(0)


class BiCodecFactory(ModelFactory[BiCodecCheckpoint, BiCodec]):
    """Describes and loads BiCodec."""

    name = "bicodec"
    options: ClassVar[OptionTable] = {
        "model_path": ("SparkAudio/Spark-TTS-0.5B", "directory of Spark-TTS-0.5B, of which LLM/ is not needed, or hub id"),
        "volume_normalize": (True, "bring clips to one volume first, as Spark-TTS does and RWKVTTS does not"),
        **LANES_OPTIONS,
    }

    def _load(self, info: BackendInfo, checkpoint: BiCodecCheckpoint, device: str) -> BiCodec:
        return BiCodec(info, checkpoint, device)

    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, BiCodecCheckpoint]:
        choices, volume_normalize = ModelChoices.of(options, device), switch(options, "volume_normalize")
        checkpoint = open_bicodec(choices.model_path)
        if volume_normalize and not checkpoint.volume_normalize:
            raise UsageError(f"{checkpoint.configs[0]} says volume_normalize: false: add --set volume_normalize=false")
        info = BackendInfo(
            name=self.name,
            sample_rate=checkpoint.sample_rate,
            hop_length=checkpoint.hop_length,
            fields=(
                Field(
                    name="global_tokens",
                    form="list",
                    codebook_size=checkpoint.global_codebook_size,
                    items=checkpoint.speaker.tokens,
                ),
                Field(
                    name="semantic_tokens",
                    form="list",
                    codebook_size=checkpoint.codebook_size,
                    samples_per_item=checkpoint.hop_length,
                ),
            ),
            mono="first",
            min_samples=checkpoint.min_samples,
            kind="clips",
            max_tokens_per_fragment=None,
            # Not EQUAL_LENGTH: in a batch of four both networks round otherwise than for one clip, on a CPU already, so that
            # equal tokens are likely but not certain. Lanes round always alike.
            batching=choices.batching,
            max_batch=choices.max_batch,
            recipe={
                "weights_sha256": files_sha256(checkpoint.weights),
                "config_sha256": files_sha256(checkpoint.configs),
                "dtype": choices.dtype,
                "attention": ATTENTION,
                "resampler": RESAMPLER,
                "volume_normalize": volume_normalize,
                "reference_samples": checkpoint.reference_samples,
                **recipe_tail(device, choices.precision, package_versions(PACKAGES, self.name), lanes=choices.lanes),
            },
        )
        return info, checkpoint


FACTORY = BiCodecFactory()
