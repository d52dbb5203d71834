"""The files of a Higgs audio v2 tokenizer: where they are, which of two layouts they have, whether they are whole.

Nothing here imports torch, so that a run can be planned on a login node. The layouts are

- original: the `config.json` + `model.pth` that boson-multimodal reads; the keys of `config.json` are the arguments of
  its `HiggsAudioTokenizer`;
- transformers: the `config.json` + `model.safetensors` (or shards and an index) of `HiggsAudioV2TokenizerModel`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audio_tokenizers.shared.config_reader import ConfigReader, read_config
from audio_tokenizers.shared.file_hashes import files_sha256
from audio_tokenizers.shared.model_files import (
    SAVED_WEIGHTS,
    SavedModel,
    find_model,
    require_files,
    require_saved_weights,
)

__all__ = ["Checkpoint", "Layout", "acoustic_frames", "open_checkpoint", "shortest_clip", "weights_sha256"]

Layout = Literal["original", "transformers"]

LAYOUT = "a directory with config.json and model.pth (or model.safetensors)"
HUBERT_HOP = 320
"""Samples per HuBERT frame, the product of its convolution strides."""
HUBERT_PAD = 160
"""Zeros that both implementations put on each side of what HuBERT hears."""
HUB_PATTERNS: Mapping[Layout, Sequence[str]] = {
    "original": ("model.pth",),
    "transformers": SAVED_WEIGHTS,
}
MODEL_TYPE = "higgs_audio_v2_tokenizer"
ORIGINAL_KEYS = {
    *(
        "n_filters",
        "D",
        "target_bandwidths",
        "ratios",
        "sample_rate",
        "bins",
        "n_q",
        "codebook_dim",
        "normalize",
        "causal",
    ),
    *("semantic_techer", "last_layer_semantic", "merge_mode", "downsample_mode", "semantic_mode", "vq_scale"),
    "semantic_sample_rate",
}
"""Arguments of boson's class, except for `device`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(SavedModel):
    """A Higgs audio v2 tokenizer, in either layout."""

    layout: Layout
    strides: tuple[int, ...]
    """Of the acoustic encoder; their product is the hop."""
    sample_rate: int
    semantic_sample_rate: int
    """Hz of what HuBERT hears."""
    codebooks: int
    codebook_size: int

    @property
    def hop_length(self) -> int:
        """Samples per token frame."""
        return math.prod(self.strides)

    @property
    def semantic_stride(self) -> int:
        """HuBERT frames per token frame: 2 with the published weights."""
        return self.hop_length * self.semantic_sample_rate // (self.sample_rate * HUBERT_HOP)

    @property
    def shift_padding(self) -> int:
        """Samples that boson puts on each side of a clip whose two branches differ in frames: 320 as published."""
        return HUBERT_PAD * self.semantic_stride


def acoustic_frames(samples: int, strides: Sequence[int]) -> int:
    """Frames that the acoustic encoder makes of `samples`: a stride s comes with kernel 2s and padding ceil(s/2)."""
    for stride in strides:
        samples = (samples + 2 * math.ceil(stride / 2) - 2 * stride) // stride + 1
    return samples


def shortest_clip(checkpoint: Checkpoint) -> int:
    """The fewest samples that boson's own code encodes, 632 with the published strides.

    It runs the acoustic encoder on the bare clip before it looks whether to pad, and a convolution wants at least one
    full kernel; counted back from one frame. HuBERT is content with a quarter of a hop.
    """
    samples = 1
    for stride in reversed(checkpoint.strides):
        samples = (samples + 1) * stride - 2 * math.ceil(stride / 2)
    return samples


def open_checkpoint(model_path: str) -> Checkpoint:
    """The checkpoint in a directory, or of a hub id, which is downloaded only if the local cache does not have it.

    Raises ModelFilesError on anything that could not be loaded later: it costs no torch to find that out now.
    """
    return _read_directory(find_model(model_path, _hub_patterns, _read_directory, layout=LAYOUT))


def _hub_patterns(directory: Path) -> Sequence[str]:
    """Which weights to ask for, once the config is there: a repository may hold both layouts."""
    return HUB_PATTERNS[_layout(read_config(directory, LAYOUT))]


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Hex SHA-256 of the bytes of the weights file, or of all shards in order; read once per process and version."""
    return files_sha256(checkpoint.weights)


def _layout(reader: ConfigReader) -> Layout:
    return "transformers" if "model_type" in reader.values else "original"


def _read_directory(directory: Path) -> Checkpoint:
    reader = read_config(directory, LAYOUT, "is this a Higgs audio v2 tokenizer?")
    layout = _layout(reader)
    strides, codebooks, codebook_size = (_transformers_shape if layout == "transformers" else _original_shape)(reader)
    reader.check_codebook(codebook_size)
    checkpoint = Checkpoint(
        directory=directory,
        layout=layout,
        config=reader.values,
        weights=_find_weights(directory, layout),
        strides=strides,
        sample_rate=reader.positive("sample_rate"),
        semantic_sample_rate=reader.positive("semantic_sample_rate", 16000),
        codebooks=codebooks,
        codebook_size=codebook_size,
    )
    heard = checkpoint.hop_length * checkpoint.semantic_sample_rate
    if heard % (checkpoint.sample_rate * HUBERT_HOP) or not checkpoint.semantic_stride:
        raise reader.error("strides that make a token frame a whole number of HuBERT frames", list(strides))
    return checkpoint


def _original_shape(reader: ConfigReader) -> tuple[tuple[int, ...], int, int]:
    strides = reader.positives("ratios")
    # An argument that boson's class does not have is one that boson's loader refuses too.
    reader.only(*ORIGINAL_KEYS, what="arguments of boson's HiggsAudioTokenizer")
    reader.positive("D")
    reader.positive("codebook_dim")
    # What has these otherwise is another network, not another size of this one. Both teachers are HuBERT base; the third
    # that boson knows, WavLM, is not.
    reader.require("semantic_techer", "hubert_base_general", "hubert_base", default="hubert_base_general")
    reader.require("downsample_mode", "step_down", default="step_down")
    reader.require("vq_scale", 1, default=1)
    return strides, reader.positive("n_q"), reader.positive("bins")


def _transformers_shape(reader: ConfigReader) -> tuple[tuple[int, ...], int, int]:
    reader.require("model_type", MODEL_TYPE)
    acoustic, semantic = reader.part("acoustic_model_config"), reader.part("semantic_model_config")
    acoustic.require("model_type", "dac", default="dac")
    semantic.require("model_type", "hubert", default="hubert")
    strides = acoustic.positives("downsampling_ratios")
    bandwidths = reader.positive_numbers("target_bandwidths")
    # The rule by which transformers derives the number of codebooks; no key states it.
    codebook_size = reader.positive("codebook_size")
    bits = math.ceil(math.log2(codebook_size))
    frame_rate = math.ceil(reader.positive("sample_rate") / math.prod(strides))
    codebooks = int(1000 * bandwidths[-1] // (frame_rate * bits)) if bits else 0
    if codebooks < 1:
        raise reader.error("a last target bandwidth (kbit/s) of at least one codebook", bandwidths[-1])
    return strides, codebooks, codebook_size


def _find_weights(directory: Path, layout: Layout) -> tuple[Path, ...]:
    wanted = f"the weights of the {layout} layout, which config.json is of"
    if layout == "original":
        return tuple(require_files(directory, ["model.pth"], wanted))
    return require_saved_weights(directory, wanted)
