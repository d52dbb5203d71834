"""The files of a Spark-TTS checkpoint that BiCodec's encoder needs: where they are, what they say, whether they are whole.

Nothing here imports torch, so that a run can be planned on a login node. The layout is that of SparkAudio/Spark-TTS-0.5B:
`config.yaml`, `BiCodec/config.yaml` and `BiCodec/model.safetensors`, and `wav2vec2-large-xlsr-53/` with `config.json`,
`preprocessor_config.json` and `pytorch_model.bin` (or `model.safetensors`). `LLM/` is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.config_reader import ConfigReader
from audio_tokenizers.shared.model_files import CONFIG, find_model, read_json, read_yaml, require_files

__all__ = ["ATTENTION", "MIXED_LAYERS", "BiCodecCheckpoint", "MelShape", "SpeakerShape", "VocosShape", "open_bicodec"]

ATTENTION = "sdpa"
"""The attention implementation of wav2vec2; named, because transformers' default has changed before."""
MIXED_LAYERS = (11, 14, 16)
"""The wav2vec2 hidden states whose mean is BiCodec's input; 0 is what enters the first layer."""
ROOT_CONFIG, BICODEC, WAV2VEC2 = "config.yaml", "BiCodec", "wav2vec2-large-xlsr-53"
BICODEC_CONFIG = f"{BICODEC}/config.yaml"
BICODEC_WEIGHTS = f"{BICODEC}/model.safetensors"
WAV2VEC2_CONFIG = f"{WAV2VEC2}/{CONFIG}"
PREPROCESSOR_CONFIG = f"{WAV2VEC2}/preprocessor_config.json"
CONFIGS = (ROOT_CONFIG, BICODEC_CONFIG, WAV2VEC2_CONFIG, PREPROCESSOR_CONFIG)
WAV2VEC2_WEIGHTS = (f"{WAV2VEC2}/model.safetensors", f"{WAV2VEC2}/pytorch_model.bin")
"""In the order in which transformers looks for them."""
LAYOUT = "the files of Spark-TTS-0.5B (config.yaml, BiCodec/, wav2vec2-large-xlsr-53/)"
ADVICE = "is this Spark-TTS-0.5B?"
WAV2VEC2_RATE = 16000
DEFAULT_KERNELS, DEFAULT_STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""What a wav2vec2 config means that does not state them."""


@dataclass(frozen=True, slots=True)
class MelShape:
    """Of the spectrogram that the speaker encoder sees."""

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    fmin: float
    fmax: float | None
    bands: int


@dataclass(frozen=True, slots=True)
class VocosShape:
    """Of the semantic encoder."""

    inputs: int
    dim: int
    intermediate_dim: int
    layers: int
    blocks: int
    """Pairs of a sampling block and a backbone of two layers."""
    outputs: int


@dataclass(frozen=True, slots=True)
class SpeakerShape:
    """Of the speaker encoder."""

    bands: int
    latent_dim: int
    tokens: int
    levels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BiCodecCheckpoint:
    """A directory whose configs were understood and whose weights files look whole; no tensor has been read."""

    directory: Path
    sample_rate: int
    hop_length: int
    """Samples per semantic token."""
    reference_samples: int
    """Samples that the global tokens are made from: 6 s."""
    min_samples: int
    """The fewest that wav2vec2's convolutions make a frame of: 400."""
    volume_normalize: bool
    """What config.yaml says of it."""
    mel: MelShape
    encoder: VocosShape
    codebook_size: int
    codebook_dim: int
    speaker: SpeakerShape
    wav2vec2: Mapping[str, Any]
    """Its parsed `config.json`."""
    wav2vec2_layers: int
    """How many the file has, of which the last of MIXED_LAYERS are used."""
    bicodec_weights: Path
    wav2vec2_weights: Path

    @property
    def configs(self) -> tuple[Path, ...]:
        """The four files that decide the network's shape."""
        return tuple(self.directory / name for name in CONFIGS)

    @property
    def weights(self) -> tuple[Path, ...]:
        """Both weights files."""
        return (self.bicodec_weights, self.wav2vec2_weights)

    @property
    def global_codebook_size(self) -> int:
        """4096 as published: six levels of four."""
        return math.prod(self.speaker.levels)


def open_bicodec(model_path: str) -> BiCodecCheckpoint:
    """The checkpoint in a directory, or of a hub id, which is downloaded only if the local cache does not have it.

    Raises ModelFilesError on anything that could not be loaded later: it costs no torch to find that out now.
    """
    patterns = (BICODEC_WEIGHTS, *WAV2VEC2_WEIGHTS)
    return _read_directory(find_model(model_path, lambda _: patterns, _read_directory, hub_first=CONFIGS, layout=LAYOUT))


def _read_directory(directory: Path) -> BiCodecCheckpoint:
    root_path, bicodec_path, wav2vec2_path, preprocessor_path = require_files(directory, CONFIGS, LAYOUT)
    root = _read_yaml(root_path)
    tokenizer = _read_yaml(bicodec_path).part("audio_tokenizer")
    wav2vec2 = ConfigReader(wav2vec2_path, read_json(wav2vec2_path), advice=ADVICE)
    preprocessor = ConfigReader(preprocessor_path, read_json(preprocessor_path), advice=ADVICE)

    root.require("sample_rate", WAV2VEC2_RATE)
    root.require("latent_hop_length", math.prod(_strides(wav2vec2)))
    hop = root.positive("latent_hop_length")
    preprocessor.require("sampling_rate", WAV2VEC2_RATE)
    preprocessor.require("do_normalize", True)
    # What has these otherwise is another network, not another size of this one.
    wav2vec2.require("model_type", "wav2vec2")
    wav2vec2.require("do_stable_layer_norm", True)
    wav2vec2.require("feat_extract_norm", "layer")
    layers = wav2vec2.positive("num_hidden_layers")
    if layers <= MIXED_LAYERS[-1]:
        # The hidden state after a model's last layer has passed one more normalisation.
        raise wav2vec2.error(f"'num_hidden_layers' above {MIXED_LAYERS[-1]}", layers)

    mel, speaker = _mel(tokenizer.part("mel_params")), _speaker(tokenizer.part("speaker_encoder"))
    tokenizer.part("mel_params").require("num_mels", speaker.bands)
    encoder = _encoder(tokenizer.part("encoder"))
    tokenizer.part("encoder").require("input_channels", wav2vec2.positive("hidden_size"))
    quantizer = tokenizer.part("quantizer")
    quantizer.require("input_dim", encoder.outputs)
    codebook_size = quantizer.positive("codebook_size")
    for part, size in ((quantizer, codebook_size), (tokenizer.part("speaker_encoder"), math.prod(speaker.levels))):
        part.check_codebook(size)
    present = [name for name in WAV2VEC2_WEIGHTS if (directory / name).is_file()]
    weights = require_files(directory, [BICODEC_WEIGHTS, present[0] if present else WAV2VEC2_WEIGHTS[-1]], LAYOUT)
    seconds = root.number("ref_segment_duration")
    return BiCodecCheckpoint(
        directory=directory,
        sample_rate=WAV2VEC2_RATE,
        hop_length=hop,
        reference_samples=int(WAV2VEC2_RATE * seconds) // hop * hop,
        min_samples=_receptive_field(_kernels(wav2vec2), _strides(wav2vec2)),
        volume_normalize=root.flag("volume_normalize"),
        mel=mel,
        encoder=encoder,
        codebook_size=codebook_size,
        codebook_dim=quantizer.positive("codebook_dim"),
        speaker=speaker,
        wav2vec2=wav2vec2.values,
        wav2vec2_layers=layers,
        bicodec_weights=weights[0],
        wav2vec2_weights=weights[1],
    )


def _read_yaml(path: Path) -> ConfigReader:
    values = read_yaml(path)
    if values.get("base_config") is not None:
        # Upstream would merge the file that it names into this one.
        raise ModelFilesError(f"{path}: expected a config that stands alone, found base_config {values['base_config']!r}")
    return ConfigReader(path, values, advice=ADVICE)


def _mel(reader: ConfigReader) -> MelShape:
    reader.require("sample_rate", WAV2VEC2_RATE)
    return MelShape(
        sample_rate=WAV2VEC2_RATE,
        n_fft=reader.positive("n_fft"),
        win_length=reader.positive("win_length"),
        hop_length=reader.positive("hop_length"),
        fmin=reader.number("mel_fmin"),
        fmax=None if reader.values.get("mel_fmax") is None else reader.number("mel_fmax"),
        bands=reader.positive("num_mels"),
    )


def _encoder(reader: ConfigReader) -> VocosShape:
    ratios = reader.positives("sample_ratios")
    if set(ratios) != {1}:
        raise reader.error("'sample_ratios' of 1, as published", list(ratios))
    return VocosShape(
        inputs=reader.positive("input_channels"),
        dim=reader.positive("vocos_dim"),
        intermediate_dim=reader.positive("vocos_intermediate_dim"),
        layers=reader.positive("vocos_num_layers"),
        blocks=len(ratios),
        outputs=reader.positive("out_channels"),
    )


def _speaker(reader: ConfigReader) -> SpeakerShape:
    reader.require("fsq_num_quantizers", 1)
    return SpeakerShape(
        bands=reader.positive("input_dim"),
        latent_dim=reader.positive("latent_dim"),
        tokens=reader.positive("token_num"),
        levels=reader.positives("fsq_levels"),
    )


def _kernels(wav2vec2: ConfigReader) -> tuple[int, ...]:
    return wav2vec2.positives("conv_kernel") if "conv_kernel" in wav2vec2.values else DEFAULT_KERNELS


def _strides(wav2vec2: ConfigReader) -> tuple[int, ...]:
    return wav2vec2.positives("conv_stride") if "conv_stride" in wav2vec2.values else DEFAULT_STRIDES


def _receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that one frame sees: counted back from it through the unpadded convolutions."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=False):
        samples = (samples - 1) * stride + kernel
    return samples
