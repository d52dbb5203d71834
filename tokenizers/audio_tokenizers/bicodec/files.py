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

import yaml

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.model_files import CONFIG, find_model, read_json, require_files
from audio_tokenizers.shared.wording import shown
from audio_tokenizers.shared.yaml_loading import describe_yaml_error, load_yaml

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
    root = _Fields(root_path, _read_yaml(root_path))
    tokenizer = _Fields(bicodec_path, _read_yaml(bicodec_path)).part("audio_tokenizer")
    wav2vec2 = _Fields(wav2vec2_path, read_json(wav2vec2_path))
    preprocessor = _Fields(preprocessor_path, read_json(preprocessor_path))

    root.only("sample_rate", WAV2VEC2_RATE)
    root.only("latent_hop_length", math.prod(_strides(wav2vec2)))
    hop = root.positive("latent_hop_length")
    preprocessor.only("sampling_rate", WAV2VEC2_RATE)
    preprocessor.only("do_normalize", True)
    # What has these otherwise is another network, not another size of this one.
    wav2vec2.only("model_type", "wav2vec2")
    wav2vec2.only("do_stable_layer_norm", True)
    wav2vec2.only("feat_extract_norm", "layer")
    layers = wav2vec2.positive("num_hidden_layers")
    if layers <= MIXED_LAYERS[-1]:
        # The hidden state after a model's last layer has passed one more normalisation.
        raise wav2vec2.error(f"'num_hidden_layers' above {MIXED_LAYERS[-1]}", layers)

    mel, speaker = _mel(tokenizer.part("mel_params")), _speaker(tokenizer.part("speaker_encoder"))
    tokenizer.part("mel_params").only("num_mels", speaker.bands)
    encoder = _encoder(tokenizer.part("encoder"))
    tokenizer.part("encoder").only("input_channels", wav2vec2.positive("hidden_size"))
    quantizer = tokenizer.part("quantizer")
    quantizer.only("input_dim", encoder.outputs)
    codebook_size = quantizer.positive("codebook_size")
    for part, size in ((quantizer, codebook_size), (tokenizer.part("speaker_encoder"), math.prod(speaker.levels))):
        if not 2 <= size <= 1 << 15:
            raise part.error("a codebook of 2..32768, which int16 tokens can hold", size)
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


def _mel(fields: _Fields) -> MelShape:
    fields.only("sample_rate", WAV2VEC2_RATE)
    return MelShape(
        sample_rate=WAV2VEC2_RATE,
        n_fft=fields.positive("n_fft"),
        win_length=fields.positive("win_length"),
        hop_length=fields.positive("hop_length"),
        fmin=fields.number("mel_fmin"),
        fmax=None if fields.values.get("mel_fmax") is None else fields.number("mel_fmax"),
        bands=fields.positive("num_mels"),
    )


def _encoder(fields: _Fields) -> VocosShape:
    ratios = fields.positives("sample_ratios")
    if set(ratios) != {1}:
        raise fields.error("'sample_ratios' of 1, as published", list(ratios))
    return VocosShape(
        inputs=fields.positive("input_channels"),
        dim=fields.positive("vocos_dim"),
        intermediate_dim=fields.positive("vocos_intermediate_dim"),
        layers=fields.positive("vocos_num_layers"),
        blocks=len(ratios),
        outputs=fields.positive("out_channels"),
    )


def _speaker(fields: _Fields) -> SpeakerShape:
    fields.only("fsq_num_quantizers", 1)
    return SpeakerShape(
        bands=fields.positive("input_dim"),
        latent_dim=fields.positive("latent_dim"),
        tokens=fields.positive("token_num"),
        levels=fields.positives("fsq_levels"),
    )


def _kernels(wav2vec2: _Fields) -> tuple[int, ...]:
    return wav2vec2.positives("conv_kernel") if "conv_kernel" in wav2vec2.values else DEFAULT_KERNELS


def _strides(wav2vec2: _Fields) -> tuple[int, ...]:
    return wav2vec2.positives("conv_stride") if "conv_stride" in wav2vec2.values else DEFAULT_STRIDES


def _receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that one frame sees: counted back from it through the unpadded convolutions."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=False):
        samples = (samples - 1) * stride + kernel
    return samples


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else " ".join(str(error).split())
        raise ModelFilesError(f"{path}: expected YAML, found something else or a cut file ({reason})") from None
    if not isinstance(value, dict):
        raise ModelFilesError(f"{path}: expected a YAML mapping, found {type(value).__name__}")
    if value.get("base_config") is not None:
        # Upstream would merge the file that it names into this one.
        raise ModelFilesError(f"{path}: expected a config that stands alone, found base_config {value['base_config']!r}")
    return value


@dataclass(frozen=True, slots=True)
class _Fields:
    """Checked access to a config."""

    path: Path
    values: Mapping[str, Any]
    inside: str = ""
    """Dotted keys that lead to `values` in the file."""

    def error(self, expected: str, found: object) -> ModelFilesError:
        where = f" in {self.inside}" if self.inside else ""
        return ModelFilesError(f"{self.path}: expected {expected}{where}, found {shown(found)}: is this Spark-TTS-0.5B?")

    def part(self, key: str) -> _Fields:
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.error(f"a mapping {key!r}", f"no {key!r}" if value is None else value)
        return _Fields(self.path, value, f"{self.inside}.{key}" if self.inside else key)

    def positive(self, key: str) -> int:
        value = self.values.get(key)
        if type(value) is not int or value < 1:
            raise self.error(f"a positive integer {key!r}", f"no {key!r}" if value is None else value)
        return value

    def positives(self, key: str) -> tuple[int, ...]:
        value = self.values.get(key)
        if not isinstance(value, list) or not value or not all(type(item) is int and item > 0 for item in value):
            raise self.error(f"a list of positive integers {key!r}", f"no {key!r}" if value is None else value)
        return tuple(value)

    def number(self, key: str) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(f"a number {key!r}", f"no {key!r}" if value is None else value)
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key)
        if not isinstance(value, bool):
            raise self.error(f"true or false as {key!r}", f"no {key!r}" if value is None else value)
        return value

    def only(self, key: str, expected: object) -> None:
        found = self.values.get(key)
        if found != expected:
            raise self.error(f"{key!r} to be {expected!r}", f"no {key!r}" if found is None else found)
