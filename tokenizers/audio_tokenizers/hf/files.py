"""The files of a codec built into transformers: where they are, which codec it is, whether they are whole.

Nothing here imports torch or transformers, so that a run can be planned on a login node. A directory holds `config.json`
and `model.safetensors` (or shards and an index), as `save_pretrained` writes them. The rules by which transformers derives
numbers of codebooks and hops from a config are written out for each codec; loading compares them with the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.shared.config_reader import ConfigReader, read_config
from audio_tokenizers.shared.model_files import (
    CONFIG,
    SAVED_WEIGHTS,
    WEIGHTS,
    SavedModel,
    find_model,
    require_saved_weights,
)
from audio_tokenizers.shared.wording import shown

__all__ = ["CODECS", "Checkpoint", "open_checkpoint"]

LAYOUT = f"a directory with {CONFIG} and {WEIGHTS}, as save_pretrained writes them"
ELSEWHERE = {
    "higgs_audio_v2_tokenizer": "take --backend higgs",
    "xcodec2": "its encoder needs mel features beside the waveform",
    "neucodec": "its encoder needs mel features beside the waveform",
}
"""Advice for codecs of transformers that this backend does not support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(SavedModel):
    """A codec that transformers has saved."""

    model_type: str
    """`mimi`, `dac`, `encodec` or `xcodec`."""
    sample_rate: int
    hop_length: int
    """Samples per token frame."""
    codebook_size: int
    codebooks: int
    """All that the model has."""
    fewest_codebooks: int
    """The fewest it can encode with."""
    bandwidths: Mapping[float, int]
    """kbit/s -> codebooks, of a codec that is asked for a bandwidth; else empty."""
    default_bandwidth: float | None
    """The default of the model's own `encode`."""
    whole_hops: bool
    """Whether a clip is followed by zeros up to a multiple of the hop before the model sees it."""

    def choose_codebooks(self, num_quantizers: object, bandwidth: object) -> tuple[int, float | None]:
        """(codebooks, bandwidth in kbit/s or None) for the backend's options. Raises UsageError where they do not fit."""
        if self.bandwidths:
            if num_quantizers is not None:
                raise UsageError(f"num_quantizers: {self.model_type} is asked for a bandwidth instead: {self._choices()}")
            chosen = self.default_bandwidth if bandwidth is None else bandwidth
            if isinstance(chosen, bool) or not isinstance(chosen, int | float) or chosen not in self.bandwidths:
                raise UsageError(f"bandwidth: expected one of {self._choices()}, found {shown(bandwidth, 'null')}")
            return self.bandwidths[chosen], float(chosen)
        if bandwidth is not None:
            raise UsageError(f"bandwidth: {self.model_type} is asked for num_quantizers instead")
        if num_quantizers is None:
            return self.codebooks, None
        if type(num_quantizers) is not int or not self.fewest_codebooks <= num_quantizers <= self.codebooks:
            allowed = f"null or {self.fewest_codebooks} to {self.codebooks}"
            raise UsageError(f"num_quantizers: expected {allowed}, found {shown(num_quantizers, 'null')}")
        return num_quantizers, None

    def _choices(self) -> str:
        return ", ".join(f"{bandwidth:g}" for bandwidth in self.bandwidths) + " kbit/s"


def open_checkpoint(model_path: str) -> Checkpoint:
    """The checkpoint in a directory, or of a hub id, which is downloaded only if the local cache does not have it.

    Raises ModelFilesError on anything that could not be loaded later: it costs no torch to find that out now.
    """
    return _read_directory(find_model(model_path, lambda _: SAVED_WEIGHTS, _read_directory, layout=LAYOUT))


def _read_directory(directory: Path) -> Checkpoint:
    reader = read_config(directory, LAYOUT)
    config = reader.values
    model_type = str(config.get("model_type", "none"))
    if model_type not in CODECS:
        hint = f": {ELSEWHERE[model_type]}" if model_type in ELSEWHERE else ""
        raise ModelFilesError(
            f"{reader.path}: expected a model_type that this backend knows ({', '.join(CODECS)}), "
            f"found {shown(model_type) if 'model_type' in config else 'none'}{hint}"
        )
    shape = CODECS[model_type](reader)
    reader.check_codebook(shape.codebook_size)
    if shape.codebooks < 1:
        raise reader.error("at least one codebook", shape.codebooks)
    return Checkpoint(
        directory=directory,
        model_type=model_type,
        config=config,
        weights=require_saved_weights(directory, LAYOUT),
        sample_rate=shape.sample_rate,
        hop_length=shape.hop_length,
        codebook_size=shape.codebook_size,
        codebooks=shape.codebooks,
        fewest_codebooks=shape.fewest_codebooks,
        bandwidths=shape.bandwidths,
        default_bandwidth=shape.default_bandwidth,
        whole_hops=shape.whole_hops,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What a config says of the grid of codes; see Checkpoint."""

    sample_rate: int
    hop_length: int
    codebook_size: int
    codebooks: int
    fewest_codebooks: int = 1
    bandwidths: Mapping[float, int]
    default_bandwidth: float | None = None
    whole_hops: bool


def _mimi(reader: ConfigReader) -> _Shape:
    reader.require("audio_channels", 1, default=1, why="clips are mono")
    rate = reader.positive("sampling_rate", 24000)
    hop = math.prod(reader.positives("upsampling_ratios", (8, 6, 5, 4)))
    # transformers writes `_frame_rate: null`, the published file has `frame_rate: 12.5`.
    frame_rate = reader.values.get("frame_rate") or reader.values.get("_frame_rate") or rate / (2 * hop)
    if type(frame_rate) not in (int, float) or not 0 < frame_rate <= rate / hop:
        raise reader.error("a 'frame_rate' of at most that of the convolutions", frame_rate)
    return _Shape(
        sample_rate=rate,
        hop_length=hop * int(math.ceil(rate / hop) / frame_rate),
        codebook_size=reader.positive("codebook_size", 2048),
        codebooks=reader.positive("num_quantizers", 32),
        fewest_codebooks=reader.positive("num_semantic_quantizers", 1),
        bandwidths={},
        whole_hops=False,
    )


def _dac(reader: ConfigReader) -> _Shape:
    return _Shape(
        sample_rate=reader.positive("sampling_rate", 16000),
        # Not `hop_length`: the published files of 16 and 24 kHz may have that of 44.1 kHz there.
        hop_length=math.prod(reader.positives("downsampling_ratios", (2, 4, 8, 8))),
        codebook_size=reader.positive("codebook_size", 1024),
        codebooks=reader.positive("n_codebooks", 9),
        bandwidths={},
        whole_hops=True,
    )


def _encodec(reader: ConfigReader) -> _Shape:
    # encodec_48khz: its decoder needs a scale for each chunk beside the codes.
    reader.require("audio_channels", 1, default=1, why="clips are mono")
    reader.require("normalize", False, default=False, why="a record has no place for scales")
    reader.require("chunk_length_s", None, why="a record has no place for chunks")
    bandwidths = reader.positive_numbers("target_bandwidths", (1.5, 3.0, 6.0, 12.0, 24.0))
    rate, size = reader.positive("sampling_rate", 24000), reader.positive("codebook_size", 1024)
    hop = math.prod(reader.positives("upsampling_ratios", (8, 5, 4, 2)))
    frame_rate = math.ceil(rate / hop)
    codebooks = int(1000 * bandwidths[-1] // (frame_rate * math.ceil(math.log2(size))))
    bits = math.log2(size) * frame_rate
    return _Shape(
        sample_rate=rate,
        hop_length=hop,
        codebook_size=size,
        codebooks=codebooks,
        bandwidths={kbps: min(codebooks, max(1, math.floor(kbps * 1000 / bits))) for kbps in bandwidths},
        default_bandwidth=bandwidths[0],
        whole_hops=False,
    )


def _xcodec(reader: ConfigReader) -> _Shape:
    acoustic, semantic = reader.part("acoustic_model_config", {}), reader.part("semantic_model_config", {})
    acoustic.require("model_type", "dac", default="dac")
    semantic.require("model_type", "hubert", "wavlm", default="hubert")
    rate, size = reader.positive("sample_rate", 16000), reader.positive("codebook_size", 1024)
    bandwidths = reader.positive_numbers("target_bandwidths", (0.5, 1, 1.5, 2, 4))
    hop = math.prod(acoustic.positives("downsampling_ratios", (8, 5, 4, 2)))
    heard = math.prod(semantic.positives("conv_stride", (5, 2, 2, 2, 2, 2, 2))) * math.prod(
        reader.positives("strides", (1, 1))
    )
    if heard != hop:
        raise reader.error(f"strides of the semantic branch whose product is the hop of {hop}", heard)
    frame_rate = math.ceil(rate / hop)
    codebooks = int(1000 * bandwidths[-1] // (frame_rate * math.ceil(math.log2(size))))
    kbps_each = math.log2(size) * frame_rate / 1000
    return _Shape(
        sample_rate=rate,
        hop_length=hop,
        codebook_size=size,
        codebooks=codebooks,
        bandwidths={kbps: min(codebooks, max(1, math.floor(kbps / kbps_each))) for kbps in bandwidths},
        default_bandwidth=bandwidths[-1],
        whole_hops=True,
    )


CODECS: Mapping[str, Callable[[ConfigReader], _Shape]] = {"mimi": _mimi, "dac": _dac, "encodec": _encodec, "xcodec": _xcodec}
"""model_type -> how its config is read."""
