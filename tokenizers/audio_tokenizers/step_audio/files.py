"""The files of a Step-Audio-Tokenizer: their places, their completeness, and the network that their configs describe.

Nothing here imports torch: a run can be planned on a login node. The directory is that of
stepfun-ai/Step-Audio-Tokenizer: `linguistic_tokenizer.npy` (the centres of vq02), `speech_tokenizer_v1.onnx` (vq06), and a
subdirectory with a streaming Paraformer of FunASR, whose encoder is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.config_reader import ConfigReader
from audio_tokenizers.shared.model_files import find_model, read_yaml, require_files
from audio_tokenizers.shared.s3_onnx import read_variant

__all__ = [
    "CLUSTERS",
    "FEATURES",
    "VQ06_CODES",
    "Checkpoint",
    "open_checkpoint",
    "read_centres",
    "read_cmvn",
]

CENTRES = "linguistic_tokenizer.npy"
ONNX = "speech_tokenizer_v1.onnx"
FUNASR = "dengcunqin/speech_paraformer-large_asr_nat-zh-cantonese-en-16k-vocab8501-online"
WEIGHTS, CMVN, CONFIG = (f"{FUNASR}/{name}" for name in ("model.pt", "am.mvn", "config.yaml"))
FILES = (CENTRES, ONNX, WEIGHTS, CMVN, CONFIG)
LAYOUT = f"stepfun-ai/Step-Audio-Tokenizer, with {CENTRES}, {ONNX} and {FUNASR}/"

CLUSTERS = 1024
"""Number of codes of vq02, and the offset of vq06's codes in merged tokens."""
VQ06_CODES = 4096
FEATURES = 560
"""Width of the encoder's input: 7 frames of 80 mels."""

Matrix = npt.NDArray[np.float32]

# With other values FunASR's SANMEncoderChunkOpt, WavFrontendOnline and their driver compute something else.
ENCODER_FIXED: Mapping[str, object] = {
    "input_layer": "pe_online",
    "normalize_before": True,
    "concat_after": False,
    "positionwise_layer_type": "linear",
    "selfattention_layer_type": "sanm",
    "sanm_shfit": 0,
    "interctc_layer_idx": [],
    "interctc_use_conditioning": False,
}
ENCODER_DEFAULTS: Mapping[str, object] = {"input_layer": "conv2d"}
"""Defaults of SANMEncoderChunkOpt that differ from the supported value."""
ENCODER_SIZES: Mapping[str, int] = {
    "output_size": 256,
    "attention_heads": 4,
    "linear_units": 2048,
    "num_blocks": 6,
    "kernel_size": 11,
}
"""Those that may vary, with the defaults of SANMEncoderChunkOpt."""
ENCODER_UNUSED = {
    *("dropout_rate", "positional_dropout_rate", "attention_dropout_rate", "pos_enc_class", "padding_idx"),
    *("positionwise_conv_kernel_size", "chunk_size", "stride", "pad_left"),
    *("encoder_att_look_back_factor", "decoder_att_look_back_factor"),
    *("tf2torch_tensor_name_prefix_torch", "tf2torch_tensor_name_prefix_tf"),
}
"""Training, or input layers of other kinds: the chunks of inference are set by Step-Audio's own code."""
FRONTEND_FIXED: Mapping[str, object] = {
    "fs": 16000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "lfr_m": 7,
    "lfr_n": 6,
}
FRONTEND_DEFAULTS: Mapping[str, object] = {"lfr_m": 1, "lfr_n": 1}
FRONTEND_UNUSED = {"dither", "cmvn_file", "snip_edges", "upsacle_samples", "filter_length_min", "filter_length_max"}
"""`dither` is an option of the backend; WavFrontendOnline accepts the others, except the path, and ignores them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory with supported configs and apparently complete files; no weights of the network have been read."""

    directory: Path
    config: Mapping[str, Any]
    """The parsed `config.yaml`."""
    width: int
    heads: int
    feed_forward: int
    layers: int
    kernel: int
    """Kernel size of the FSMN memory, a convolution over time in each layer."""

    @property
    def config_path(self) -> Path:
        """The file that `config` was read from."""
        return self.directory / CONFIG

    @property
    def weights(self) -> Path:
        """FunASR's model.pt."""
        return self.directory / WEIGHTS

    @property
    def cmvn(self) -> Path:
        """FunASR's am.mvn: the normalisation of the features."""
        return self.directory / CMVN

    @property
    def centres(self) -> Path:
        """The cluster centres of vq02."""
        return self.directory / CENTRES

    @property
    def onnx(self) -> Path:
        """The tokenizer of vq06."""
        return self.directory / ONNX

    @property
    def tensors(self) -> tuple[Path, ...]:
        """All files whose values affect tokens, in the order in which they are hashed."""
        return self.weights, self.cmvn, self.centres, self.onnx


def open_checkpoint(model_path: str) -> Checkpoint:
    """Open the checkpoint in a directory or of a hub id, which is downloaded only if it is not in the local cache.

    Raises ModelFilesError for anything that would fail to load later: the check does not need torch.
    """
    return _read_directory(find_model(model_path, lambda _: (), _read_directory, hub_first=FILES, layout=LAYOUT))


def _read_directory(directory: Path) -> Checkpoint:
    require_files(directory, FILES, LAYOUT)
    path = directory / CONFIG
    config = read_yaml(path)
    reader = ConfigReader(path, config, advice="is this Step-Audio-Tokenizer's streaming Paraformer of FunASR 1.0?")
    reader.require("encoder", "SANMEncoderChunkOpt")
    reader.require("frontend", "WavFrontendOnline")
    _require(reader.part("frontend_conf"), FRONTEND_FIXED, FRONTEND_DEFAULTS, FRONTEND_UNUSED)
    encoder = reader.part("encoder_conf")
    _require(encoder, ENCODER_FIXED, ENCODER_DEFAULTS, ENCODER_UNUSED | set(ENCODER_SIZES))
    # Refuse null, which FunASR would use as a size.
    sizes = {key: encoder.positive(key, None if key in encoder.values else size) for key, size in ENCODER_SIZES.items()}
    if sizes["output_size"] % sizes["attention_heads"] or sizes["output_size"] == FEATURES or not sizes["kernel_size"] % 2:
        raise ModelFilesError(
            f"{path}: expected an output_size that is a multiple of attention_heads and not {FEATURES}, and an odd "
            f"kernel_size; found {sizes}"
        )
    checkpoint = Checkpoint(
        directory=directory,
        config=config,
        width=sizes["output_size"],
        heads=sizes["attention_heads"],
        feed_forward=sizes["linear_units"],
        layers=sizes["num_blocks"],
        kernel=sizes["kernel_size"],
    )
    read_cmvn(checkpoint.cmvn)
    read_centres(checkpoint)
    _check_rate(checkpoint.onnx)
    return checkpoint


def _require(
    section: ConfigReader, fixed: Mapping[str, object], defaults: Mapping[str, object], others: Collection[str]
) -> None:
    """Raise ModelFilesError unless each of `fixed` has its value, given or by default, and all other keys are known."""
    for key, expected in fixed.items():
        section.require(key, expected, default=defaults.get(key, expected))
    section.only(*fixed, *others, what="settings of FunASR's 1.0 classes")


def _check_rate(path: Path) -> None:
    """Reject CosyVoice-300M's tokenizer, which has the same name and layout, but twice the rate."""
    variant = read_variant(path)
    if (variant.version, variant.rate, variant.codebook_size) != ("v1", 25, VQ06_CODES):
        raise ModelFilesError(
            f"{path}: expected Step-Audio's S3 tokenizer (v1, 25 Hz, {VQ06_CODES} codes), found {variant.version}, "
            f"{variant.rate} Hz, {variant.codebook_size} codes: CosyVoice's file of the same name? Take the one of "
            "stepfun-ai/Step-Audio-Tokenizer"
        )


def read_cmvn(path: Path) -> tuple[Matrix, Matrix]:
    """(shift, scale), float32 [560] each, from am.mvn, a network of <AddShift> and <Rescale> in Kaldi's text format."""
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFilesError(
            f"{path}: expected text with <AddShift> and <Rescale>, found something else ({error})"
        ) from None
    return _row(path, words, "<AddShift>"), _row(path, words, "<Rescale>")


def _row(path: Path, words: list[str], tag: str) -> Matrix:
    """The numbers in brackets after `tag`."""
    try:
        start = words.index("[", words.index(tag))
        row = np.array(words[start + 1 : words.index("]", start)]).astype(np.float32)
    except ValueError:
        raise ModelFilesError(f"{path}: expected numbers in brackets after {tag}, found none: is the file cut?") from None
    if row.shape != (FEATURES,) or not np.isfinite(row).all():
        raise ModelFilesError(f"{path}: expected {FEATURES} finite numbers after {tag}, found {row.size}")
    return row


def read_centres(checkpoint: Checkpoint) -> Matrix:
    """float32 [1024, width]: the cluster centres of vq02."""
    path = checkpoint.centres
    try:
        centres = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelFilesError(
            f"{path}: expected a file of numpy.save, found something else or a cut file ({error})"
        ) from None
    shape = (CLUSTERS, checkpoint.width)
    if not isinstance(centres, np.ndarray) or centres.shape != shape or centres.dtype != np.float32:
        found = f"{centres.dtype} {list(centres.shape)}" if isinstance(centres, np.ndarray) else "an archive"
        raise ModelFilesError(f"{path}: expected float32 {list(shape)}, found {found}")
    return centres
