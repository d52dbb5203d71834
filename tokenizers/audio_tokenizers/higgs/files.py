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
from typing import Any, Literal

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.file_hashes import files_sha256
from audio_tokenizers.shared.model_files import (
    CONFIG,
    INDEX,
    SHARDS,
    WEIGHTS,
    check_whole,
    find_model,
    read_json,
    weights_names,
)
from audio_tokenizers.shared.wording import shown

__all__ = ["Checkpoint", "Layout", "acoustic_frames", "open_checkpoint", "shortest_clip", "weights_sha256"]

Layout = Literal["original", "transformers"]

HUBERT_HOP = 320
"""Samples per HuBERT frame, the product of its convolution strides."""
HUBERT_PAD = 160
"""Zeros that both implementations put on each side of what HuBERT hears."""
HUB_PATTERNS: Mapping[Layout, Sequence[str]] = {
    "original": ("model.pth",),
    "transformers": (WEIGHTS, INDEX, SHARDS),
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
"""Arguments of boson's class, but for `device`."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory whose config was understood and whose weights files look whole; no tensor has been read."""

    directory: Path
    layout: Layout
    config: Mapping[str, Any]
    """The parsed `config.json`."""
    weights: tuple[Path, ...]
    """The weights file, or the shards in the order of their names."""
    strides: tuple[int, ...]
    """Of the acoustic encoder; their product is the hop."""
    sample_rate: int
    semantic_sample_rate: int
    """Hz of what HuBERT hears."""
    codebooks: int
    codebook_size: int

    @property
    def config_path(self) -> Path:
        """The file that `config` was read from."""
        return self.directory / CONFIG

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
    return _read_directory(find_model(model_path, _hub_patterns, _read_directory))


def _hub_patterns(directory: Path) -> Sequence[str]:
    """Which weights to ask for, once the config is there: a repository may hold both layouts."""
    return HUB_PATTERNS[_layout(read_json(directory / CONFIG))]


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Hex SHA-256 of the bytes of the weights file, or of all shards in order; read once per process and version."""
    return files_sha256(checkpoint.weights)


def _layout(config: Mapping[str, Any]) -> Layout:
    return "transformers" if "model_type" in config else "original"


def _read_directory(directory: Path) -> Checkpoint:
    path = directory / CONFIG
    config = read_json(path)
    layout = _layout(config)
    fields = _Fields(path, config)
    strides, codebooks, codebook_size = (_transformers_shape if layout == "transformers" else _original_shape)(fields)
    if not 2 <= codebook_size <= 1 << 15:
        raise fields.error("a codebook size of 2..32768, which int16 tokens can hold", codebook_size)
    checkpoint = Checkpoint(
        directory=directory,
        layout=layout,
        config=config,
        weights=_find_weights(directory, layout),
        strides=strides,
        sample_rate=fields.positive("sample_rate"),
        semantic_sample_rate=fields.positive("semantic_sample_rate", 16000),
        codebooks=codebooks,
        codebook_size=codebook_size,
    )
    heard = checkpoint.hop_length * checkpoint.semantic_sample_rate
    if heard % (checkpoint.sample_rate * HUBERT_HOP) or not checkpoint.semantic_stride:
        raise fields.error("strides that make a token frame a whole number of HuBERT frames", list(strides))
    return checkpoint


@dataclass(frozen=True, slots=True)
class _Fields:
    """Checked access to a config."""

    path: Path
    config: Mapping[str, Any]

    def error(self, expected: str, found: object) -> ModelFilesError:
        return ModelFilesError(
            f"{self.path}: expected {expected}, found {shown(found)}: is this a Higgs audio v2 tokenizer?"
        )

    def positive(self, key: str, default: int | None = None) -> int:
        value = self.config.get(key)
        if value is None:
            value = default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(f"a positive integer {key!r}", self.config.get(key, f"no {key!r}"))
        return value

    def strides(self, key: str) -> tuple[int, ...]:
        value = self.config.get(key, f"no {key!r}")
        if not isinstance(value, list) or not value or not all(type(item) is int and item > 0 for item in value):
            raise self.error(f"a list of positive integers {key!r}", value)
        return tuple(value)

    def choice(self, key: str, allowed: Sequence[object]) -> None:
        """The first of `allowed` is what an absent key means."""
        if self.config.get(key, allowed[0]) not in allowed:
            raise self.error(f"{key!r} to be {' or '.join(map(repr, allowed))}", self.config[key])


def _original_shape(fields: _Fields) -> tuple[tuple[int, ...], int, int]:
    strides = fields.strides("ratios")
    # An argument that boson's class does not have is one that boson's loader refuses too.
    if unknown := sorted(set(fields.config) - ORIGINAL_KEYS):
        raise fields.error("only arguments of boson's HiggsAudioTokenizer", unknown[:5])
    fields.positive("D")
    fields.positive("codebook_dim")
    # What has these otherwise is another network, not another size of this one. Both teachers are HuBERT base; the third
    # that boson knows, WavLM, is not.
    fields.choice("semantic_techer", ("hubert_base_general", "hubert_base"))
    fields.choice("downsample_mode", ("step_down",))
    fields.choice("vq_scale", (1,))
    return strides, fields.positive("n_q"), fields.positive("bins")


def _transformers_shape(fields: _Fields) -> tuple[tuple[int, ...], int, int]:
    fields.choice("model_type", (MODEL_TYPE,))
    parts = {}
    for key, model_type in (("acoustic_model_config", "dac"), ("semantic_model_config", "hubert")):
        part = fields.config.get(key)
        if not isinstance(part, dict):
            raise fields.error(f"an object {key!r}", part)
        parts[key] = _Fields(fields.path, part)
        parts[key].choice("model_type", (model_type,))
    strides = parts["acoustic_model_config"].strides("downsampling_ratios")
    bandwidths = fields.config.get("target_bandwidths")
    if not isinstance(bandwidths, list) or not bandwidths or not all(isinstance(item, (int, float)) for item in bandwidths):
        raise fields.error("a list of numbers 'target_bandwidths'", bandwidths)
    # The rule by which transformers derives the number of codebooks; no key states it.
    codebook_size = fields.positive("codebook_size")
    bits = math.ceil(math.log2(codebook_size))
    frame_rate = math.ceil(fields.positive("sample_rate") / math.prod(strides))
    codebooks = int(1000 * bandwidths[-1] // (frame_rate * bits)) if bits else 0
    if codebooks < 1:
        raise fields.error("a last target bandwidth (kbit/s) of at least one codebook", bandwidths[-1])
    return strides, codebooks, codebook_size


def _find_weights(directory: Path, layout: Layout) -> tuple[Path, ...]:
    names = ["model.pth"] if layout == "original" else weights_names(directory)
    for name in names:
        if not (directory / name).is_file():
            found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:5])
            raise ModelFilesError(f"{directory / name}: missing: config.json is of the {layout} layout; found {found}")
        check_whole(directory / name)
    return tuple(directory / name for name in names)
