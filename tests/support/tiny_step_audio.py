"""A small random Step-Audio-Tokenizer on disk, in the real layout. Nothing is downloaded; FunASR's code is not needed.

Widths are the published ones (512, 4 heads, kernel 11), in 2 layers instead of 50, and with a narrower feed-forward of 512.
numpy's PCG64 makes the weights the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from support.tiny_s3 import build_s3_onnx

__all__ = ["FUNASR_DIRECTORY", "build_step_audio", "config", "weights_digest"]

FUNASR_DIRECTORY = "dengcunqin/speech_paraformer-large_asr_nat-zh-cantonese-en-16k-vocab8501-online"
VOCABULARY = ["<blank>", "<s>", "</s>", *map(chr, range(ord("a"), ord("z") + 1)), "<unk>"]
FEATURES = 560
WIDTH = 512


def config(layers: int = 2, feed_forward: int = 512) -> dict[str, Any]:
    """FunASR's template of this model, with fewer layers, and `dither` 0 for upstream, whose default is 1."""
    return {
        "model": "ParaformerStreaming",
        "model_conf": {
            "ctc_weight": 0.0,
            "lsm_weight": 0.1,
            "length_normalized_loss": True,
            "predictor_weight": 1.0,
            "predictor_bias": 1,
            "sampling_ratio": 0.75,
        },
        "encoder": "SANMEncoderChunkOpt",
        "encoder_conf": {
            "output_size": WIDTH,
            "attention_heads": 4,
            "linear_units": feed_forward,
            "num_blocks": layers,
            "dropout_rate": 0.1,
            "positional_dropout_rate": 0.1,
            "attention_dropout_rate": 0.1,
            "input_layer": "pe_online",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "kernel_size": 11,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
            "chunk_size": [12, 15],
            "stride": [8, 10],
            "pad_left": [0, 0],
            "encoder_att_look_back_factor": [4, 4],
            "decoder_att_look_back_factor": [1, 1],
        },
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {
            "attention_heads": 4,
            "linear_units": 64,
            "num_blocks": 1,
            "dropout_rate": 0.1,
            "positional_dropout_rate": 0.1,
            "self_attention_dropout_rate": 0.1,
            "src_attention_dropout_rate": 0.1,
            "att_layer_num": 1,
            "kernel_size": 11,
            "sanm_shfit": 5,
        },
        "predictor": "CifPredictorV2",
        "predictor_conf": {"idim": WIDTH, "threshold": 1.0, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
        "frontend": "WavFrontendOnline",
        "frontend_conf": {
            "fs": 16000,
            "window": "hamming",
            "n_mels": 80,
            "frame_length": 25,
            "frame_shift": 10,
            "lfr_m": 7,
            "lfr_n": 6,
            "dither": 0.0,
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }


class _Weights:
    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, npt.NDArray[np.float32]] = {}
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def normal(self, name: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> npt.NDArray[np.float32]:
        values = self._generator.standard_normal(shape, dtype=np.float32) * np.float32(scale) + np.float32(mean)
        self.tensors[name] = values
        return values

    def signs(self, *shape: int) -> npt.NDArray[np.float32]:
        return self._generator.integers(0, 2, shape).astype(np.float32) * 2 - 1

    def linear(self, name: str, outputs: int, inputs: int) -> None:
        self.normal(f"{name}.weight", outputs, inputs, scale=inputs**-0.5)
        self.normal(f"{name}.bias", outputs, scale=0.1)

    def norm(self, name: str, width: int) -> None:
        self.normal(f"{name}.weight", width, scale=0.1, mean=1.0)
        self.normal(f"{name}.bias", width, scale=0.1)

    def layer(self, name: str, inputs: int, feed_forward: int) -> None:
        self.linear(f"{name}.self_attn.linear_out", WIDTH, WIDTH)
        self.linear(f"{name}.self_attn.linear_q_k_v", 3 * WIDTH, inputs)
        self.normal(f"{name}.self_attn.fsmn_block.weight", WIDTH, 1, 11, scale=11**-0.5)
        self.linear(f"{name}.feed_forward.w_1", feed_forward, WIDTH)
        self.linear(f"{name}.feed_forward.w_2", WIDTH, feed_forward)
        self.norm(f"{name}.norm1", inputs)
        self.norm(f"{name}.norm2", WIDTH)


def _matrix_file(shift: npt.NDArray[np.float32], scale: npt.NDArray[np.float32]) -> str:
    """Kaldi's text form of am.mvn."""
    rows = [" ".join(f"{value:.6f}" for value in values) for values in (shift, scale)]
    size = f"{FEATURES} {FEATURES}"
    return (
        f"<Nnet> \n<Splice> {size}\n[ 0 ]\n<AddShift> {size} \n<LearnRateCoef> 0 [ {rows[0]} ]\n"
        f"<Rescale> {size} \n<LearnRateCoef> 0 [ {rows[1]} ]\n</Nnet> \n"
    )


def build_step_audio(directory: Path, seed: int = 0, *, layers: int = 2, feed_forward: int = 512) -> Path:
    """Write the directory of stepfun-ai/Step-Audio-Tokenizer: 18 MB as it is; 0.6 GB with 50 layers and 2048."""
    import torch

    funasr = directory / FUNASR_DIRECTORY
    funasr.mkdir(parents=True, exist_ok=True)
    weights = _Weights(seed)
    weights.layer("encoder.encoders0.0", FEATURES, feed_forward)
    for layer in range(layers - 1):
        weights.layer(f"encoder.encoders.{layer}", WIDTH, feed_forward)
    weights.norm("encoder.after_norm", WIDTH)
    # A little of the recogniser, which has no part in tokens.
    weights.normal("decoder.embed.0.weight", len(VOCABULARY), WIDTH)
    weights.linear("decoder.output_layer", len(VOCABULARY), WIDTH)
    weights.linear("predictor.cif_output", 1, WIDTH)
    torch.save({name: torch.from_numpy(values) for name, values in weights.tensors.items()}, funasr / "model.pt")
    shift = weights.normal("shift", FEATURES, scale=1.0, mean=-12.0)
    scale = np.abs(weights.normal("scale", FEATURES, scale=0.02, mean=0.25))
    (funasr / "am.mvn").write_text(_matrix_file(shift, scale))
    (funasr / "config.yaml").write_text(yaml.safe_dump(config(layers, feed_forward)))
    (funasr / "tokens.json").write_text(json.dumps(VOCABULARY))
    paths = {
        "init_param": "model.pt",
        "config": "config.yaml",
        "tokenizer_conf": {"token_list": "tokens.json"},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    }
    (funasr / "configuration.json").write_text(json.dumps({"framework": "pytorch", "file_path_metas": paths}))
    # Corners of a cube: of one length, or the shortest few centres would be nearest to everything.
    np.save(directory / "linguistic_tokenizer.npy", weights.signs(1024, WIDTH))
    build_s3_onnx(directory / "speech_tokenizer_v1.onnx", version="v1", rate=25, seed=seed)
    return directory


def weights_digest(directory: Path) -> str:
    """Hex SHA-256 of all weights' values, whatever way a version of torch or onnx has of writing them."""
    import onnx
    import torch

    digest = hashlib.sha256()
    state = torch.load(directory / FUNASR_DIRECTORY / "model.pt", weights_only=True)
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    digest.update((directory / FUNASR_DIRECTORY / "am.mvn").read_bytes())
    digest.update(np.load(directory / "linguistic_tokenizer.npy").tobytes())
    graph = onnx.load(directory / "speech_tokenizer_v1.onnx").graph
    for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name):
        digest.update(tensor.name.encode() + onnx.numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()
