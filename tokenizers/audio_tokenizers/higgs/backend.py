"""Higgs audio v2 tokenizer: 8 codebooks of 1024 at 25 frames per second from 24 kHz, DAC and HuBERT fused.

The reference is boson-multimodal's HiggsAudioTokenizer.encode (github.com/boson-ai/higgs-audio). The network here is
the port in transformers, loaded from the original layout or from transformers' own. The forward pass is written out,
because the port's differs where the two branches disagree in frames: it pads by 480 samples, boson by 320.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from audio_tokenizers.base import BackendInfo, Batching, Codes, LaneShape, Options, Waveform
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.higgs.decoder import HiggsDecoder
from audio_tokenizers.higgs.files import Checkpoint, acoustic_frames, open_checkpoint, shortest_clip, weights_sha256
from audio_tokenizers.higgs.lanes import HiggsLanes
from audio_tokenizers.higgs.model import compute_in_bfloat16, hear, hubert_features, quantize
from audio_tokenizers.higgs.upstream import BOSON, HiggsUpstream, require_boson
from audio_tokenizers.higgs.weights import ATTENTION, load_encoder
from audio_tokenizers.shared.device_calls import DeviceCalls
from audio_tokenizers.shared.factory import ModelFactory, code_grid
from audio_tokenizers.shared.options import LANES_OPTIONS, ModelChoices, OptionTable, is_upstream, refuse_mps
from audio_tokenizers.shared.recipe import config_sha256, recipe_tail
from audio_tokenizers.shared.torch_device import fix_arithmetic, loaded, on_device, package_versions

if TYPE_CHECKING:
    import torch

__all__ = ["FACTORY", "Higgs", "HiggsFactory"]

PACKAGES = ("torch", "torchaudio", "transformers")


class Higgs:
    """The loaded codec on one device. `encode_lanes` is for where `info.batching` is LANES."""

    def __init__(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> None:
        self.info = info
        self._checkpoint = checkpoint
        self._device = device
        narrow = compute_in_bfloat16 if "precision" in info.recipe else None
        self._model = loaded(device, lambda: load_encoder(checkpoint, device), narrow)
        if info.batching is Batching.LANES:
            self._lanes = on_device(device, lambda: HiggsLanes(self._model, checkpoint))
            self._calls = DeviceCalls(device, info.max_batch)

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        """One int16 array [codebooks, frames] per waveform; all waveforms of one call have the same length."""
        self._check_length(waves[0])
        return on_device(self._device, lambda: self._encode(np.stack(waves)))

    def encode_lanes(self, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], list[Codes]]:
        """One int16 array [codebooks, frames] per waveform; see LanesOfWaves."""
        for wave in waves:
            self._check_length(wave)
        lengths = [*map(len, waves), *[shape.samples] * (shape.lanes - len(waves))]

        def encode(batch: torch.Tensor) -> tuple[torch.Tensor, Sequence[int]]:
            fix_arithmetic(tf32=bool(self.info.recipe["tf32"]))
            return self._lanes.encode(batch, lengths)

        return self._calls.begin_codes(waves, shape, encode)

    def _check_length(self, wave: Waveform) -> None:
        if len(wave) < self.info.min_samples:
            raise ClipError("too_short", f"{len(wave)} samples, the Higgs tokenizer needs {self.info.min_samples}")

    def _encode(self, waves: np.ndarray[Any, np.dtype[np.float32]]) -> list[Codes]:
        """float32 [batch, samples] -> int16 [codebooks, frames] per item."""
        import torch

        fix_arithmetic(tf32=bool(self.info.recipe["tf32"]))
        with torch.inference_mode():
            batch = torch.from_numpy(waves).to(self._device)
            codes = self._codes(batch).to(torch.int16).cpu().numpy()
        return list(codes)

    def _codes(self, batch: torch.Tensor) -> torch.Tensor:
        """float32 [batch, samples] -> int64 [batch, codebooks, frames]."""
        import torch

        model, checkpoint = self._model, self._checkpoint
        features = hubert_features(model, hear(checkpoint, batch))[:, :: checkpoint.semantic_stride]
        semantic = model.encoder_semantic(features.transpose(1, 2))
        # Where boson's branches disagree, for 513 of 960 lengths, it shifts the clip for the acoustic one. The frames
        # are counted instead of computed, which saves boson's first pass; a rest of disagreement is cut, as there.
        if acoustic_frames(batch.shape[1], checkpoint.strides) != semantic.shape[2]:
            batch = torch.nn.functional.pad(batch, (checkpoint.shift_padding, checkpoint.shift_padding))
        return quantize(model, model.acoustic_encoder(batch.unsqueeze(1)), semantic)


class HiggsFactory(ModelFactory[Checkpoint, Higgs | HiggsUpstream]):
    """Describes and loads Higgs."""

    name = "higgs"
    options: ClassVar[OptionTable] = {
        "model_path": (
            "bosonai/higgs-audio-v2-tokenizer",
            "directory of the weights, original or transformers layout, or hub id",
        ),
        "engine": ("own", "own, or upstream: boson-multimodal's own code, one clip at a time"),
        **LANES_OPTIONS,
    }

    def _load(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> Higgs | HiggsUpstream:
        return HiggsUpstream(info, checkpoint, device) if "engine" in info.recipe else Higgs(info, checkpoint, device)

    def load_decoder(self, options: Options, device: str) -> HiggsDecoder:
        """The decoder on `device`. Raises as `load` does, and if the file holds the encoder's weights only."""
        info, checkpoint = self._describe(options, device)
        return HiggsDecoder(checkpoint, device, tf32=bool(info.recipe["tf32"]))

    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, Checkpoint]:
        upstream = is_upstream(options)
        choices = ModelChoices.of({**options, "lanes": options.get("lanes") or 0} if upstream else options, device)
        if upstream and (choices.lanes or choices.precision == "bf16"):
            raise UsageError("engine=upstream computes one clip at a time, in fp32 or tf32: expected no lanes and no bf16")
        checkpoint = open_checkpoint(choices.model_path)
        if upstream:
            refuse_mps(device, "engine=upstream runs on cpu and cuda: take engine=own")
            require_boson(checkpoint)
        packages = (*PACKAGES, BOSON) if upstream else PACKAGES
        info = BackendInfo(
            name=self.name,
            sample_rate=checkpoint.sample_rate,
            hop_length=checkpoint.hop_length,
            fields=code_grid(checkpoint.codebooks, checkpoint.codebook_size, checkpoint.hop_length),
            mono="mean",
            min_samples=shortest_clip(checkpoint),
            kind="frames",
            max_tokens_per_fragment=750,
            num_tokens_overlap=25,
            # Not EQUAL_LENGTH: on a CPU batches gave the same tokens but no speed (benchmarks/higgs_batching.py: 1.33 down
            # to 0.57 times, the more audio the slower), and on a GPU a batch of another size may take another kernel, and
            # round otherwise. Lanes do not vary.
            batching=choices.batching,
            max_batch=choices.max_batch,
            recipe={
                "weights_sha256": weights_sha256(checkpoint),
                "config_sha256": config_sha256(checkpoint.config),
                "dtype": choices.dtype,
                **({"engine": "upstream"} if upstream else {"attention": ATTENTION}),
                "shift_padding": checkpoint.shift_padding,
                **recipe_tail(device, choices.precision, package_versions(packages, self.name), lanes=choices.lanes),
            },
        )
        return info, checkpoint


FACTORY = HiggsFactory()
