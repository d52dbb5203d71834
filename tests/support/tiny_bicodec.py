"""A small random Spark-TTS-0.5B on disk, in the published layout and under its names. Nothing is downloaded.

What upstream's code fixes has its full width (ECAPA's 512 channels, the perceiver's 8 heads of 64); all else is narrow. The
bytes of the weights depend on the seed alone: numpy's PCG64, and no arithmetic but
scaling.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    import torch

__all__ = ["CODEBOOK_SIZE", "build_spark_tts", "weights_digest"]

CODEBOOK_SIZE = 512
"""Of the semantic tokens: 8192 as published. Fewer codes lie further apart, where another CPU's rounding changes none."""
HIDDEN, INTERMEDIATE, LAYERS, WAV2VEC2_CONVOLUTIONS = 32, 48, 18, 16
"""Of wav2vec2: one layer more than the seventeen that BiCodec's tokens need at least."""
VOCOS, VOCOS_INTERMEDIATE, VOCOS_LAYERS, OUT = 24, 32, 2, 40
MELS, SPEAKER_OUT, LATENT, TOKENS = 128, 16, 32, 32
LEVELS = [4, 4, 4, 4, 4, 4]
ECAPA, ECAPA_OUT, SQUEEZE, SCALE = 512, 1536, 128, 8
HEADS_TIMES_SIZE = 512
BIAS = 0.02
"""Small: what all frames have in common would give them all the same token."""
KERNELS = [10, 3, 3, 3, 3, 2, 2]


class _State:
    """Collects random tensors with variances that keep activations near one."""

    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        # Not torch's generator, which has another way to normals for each instruction set.
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def normal(self, name: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> None:
        import torch

        values = self._generator.standard_normal(shape) * scale + mean
        self.tensors[name] = torch.from_numpy(values.astype(np.float32))

    def linear(self, name: str, outputs: int, inputs: int, *kernel: int, bias: bool = True, gain: float = 1.0) -> None:
        """A linear layer or, with a kernel size, a convolution; `inputs` per group."""
        fan_in = inputs * (kernel[0] if kernel else 1)
        self.normal(f"{name}.weight", outputs, inputs, *kernel, scale=gain * fan_in**-0.5)
        if bias:
            self.normal(f"{name}.bias", outputs, scale=BIAS)

    def norm(self, name: str, width: int) -> None:
        self.normal(f"{name}.weight", width, scale=0.1, mean=1.0)
        self.normal(f"{name}.bias", width, scale=BIAS)

    def batch_norm(self, name: str, width: int) -> None:
        import torch

        self.norm(name, width)
        self.normal(f"{name}.running_mean", width, scale=0.1, mean=0.4)
        self.normal(f"{name}.running_var", width, scale=0.03, mean=0.4)
        self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(1000)

    def normed_conv(
        self, name: str, outputs: int, inputs: int, kernel: int, *, axis: int = 0, bias: int | None = None
    ) -> None:
        """Weight norm over all but `axis`, under the names of torch.nn.utils.weight_norm."""
        self.normal(f"{name}.weight_v", outputs, inputs, kernel, scale=0.3)
        shape = [size if i == axis else 1 for i, size in enumerate((outputs, inputs, kernel))]
        # Not the norm of weight_v: sums round differently from one machine to the next.
        self.normal(f"{name}.weight_g", *shape, scale=0.1, mean=1.0)
        self.normal(f"{name}.bias", outputs if bias is None else bias, scale=BIAS)


def _add_convnext(state: _State, name: str, layers: int) -> None:
    for layer in range(layers):
        block = f"{name}.{layer}"
        state.normal(f"{block}.gamma", VOCOS, scale=0.1, mean=0.5)
        state.linear(f"{block}.dwconv", VOCOS, 1, 7)
        state.norm(f"{block}.norm", VOCOS)
        state.linear(f"{block}.pwconv1", VOCOS_INTERMEDIATE, VOCOS)
        state.linear(f"{block}.pwconv2", VOCOS, VOCOS_INTERMEDIATE)


def _add_vocos(state: _State, name: str, inputs: int, layers: int, condition: int | None = None) -> None:
    state.linear(f"{name}.embed", VOCOS, inputs, 7)
    _add_adaptive_norm(state, f"{name}.norm", condition)
    _add_convnext(state, f"{name}.convnext", layers)
    if condition:
        for layer in range(layers):
            block = f"{name}.convnext.{layer}.norm"
            for leaf in ("weight", "bias"):
                del state.tensors[f"{block}.{leaf}"]
            _add_adaptive_norm(state, block, condition)
    state.norm(f"{name}.final_layer_norm", VOCOS)


def _add_adaptive_norm(state: _State, name: str, condition: int | None) -> None:
    if condition is None:
        state.norm(name, VOCOS)
    else:
        state.linear(f"{name}.scale", VOCOS, condition)
        state.linear(f"{name}.shift", VOCOS, condition)


def _add_semantic_path(state: _State) -> None:
    _add_vocos(state, "encoder.encoder", HIDDEN, VOCOS_LAYERS)
    for block in range(2):
        _add_vocos(state, f"encoder.downsample.{block}.1", VOCOS, 2)
    state.linear("encoder.project", OUT, VOCOS)
    state.normed_conv("quantizer.in_project", 8, OUT, 1)
    state.normed_conv("quantizer.out_project", OUT, 8, 1)
    state.normal("quantizer.codebook.weight", CODEBOOK_SIZE, 8)
    state.normal("quantizer.cluster_size", CODEBOOK_SIZE, scale=0.1, mean=4)


def _add_ecapa(state: _State, name: str) -> None:
    # Mel amplitudes are small numbers; the gain is what makes tokens differ from clip to clip.
    state.linear(f"{name}.layer1.conv", ECAPA, MELS, 5, gain=8)
    state.batch_norm(f"{name}.layer1.bn", ECAPA)
    width = ECAPA // SCALE
    for layer in (2, 3, 4):
        block = f"{name}.layer{layer}.se_res2block"
        for number in (0, 2):
            state.linear(f"{block}.{number}.conv", ECAPA, ECAPA, 1)
            state.batch_norm(f"{block}.{number}.bn", ECAPA)
        for number in range(SCALE - 1):
            state.linear(f"{block}.1.convs.{number}", width, width, 3)
            state.batch_norm(f"{block}.1.bns.{number}", width)
        state.linear(f"{block}.3.linear1", SQUEEZE, ECAPA)
        state.linear(f"{block}.3.linear2", ECAPA, SQUEEZE)
    state.linear(f"{name}.conv", ECAPA_OUT, 3 * ECAPA, 1)
    state.linear(f"{name}.pool.linear1", SQUEEZE, 3 * ECAPA_OUT, 1)
    state.linear(f"{name}.pool.linear2", ECAPA_OUT, SQUEEZE, 1)
    state.batch_norm(f"{name}.bn", 2 * ECAPA_OUT)
    state.linear(f"{name}.linear", SPEAKER_OUT, 2 * ECAPA_OUT)


def _add_global_path(state: _State) -> None:
    _add_ecapa(state, "speaker_encoder.speaker_encoder")
    name = "speaker_encoder.perceiver_sampler"
    state.linear(f"{name}.proj_context", LATENT, ECAPA_OUT)
    state.normal(f"{name}.latents", TOKENS, LATENT)
    inner = int(LATENT * 4 * 2 / 3)
    for layer in range(2):
        state.linear(f"{name}.layers.{layer}.0.to_q", HEADS_TIMES_SIZE, LATENT, bias=False)
        state.linear(f"{name}.layers.{layer}.0.to_kv", 2 * HEADS_TIMES_SIZE, LATENT, bias=False)
        state.linear(f"{name}.layers.{layer}.0.to_out", LATENT, HEADS_TIMES_SIZE, bias=False, gain=3)
        state.linear(f"{name}.layers.{layer}.1.0", 2 * inner, LATENT)
        state.linear(f"{name}.layers.{layer}.1.2", LATENT, inner)
    state.normal(f"{name}.norm.gamma", LATENT, scale=0.1, mean=1.0)
    state.linear("speaker_encoder.quantizer.project_in", len(LEVELS), LATENT)
    state.linear("speaker_encoder.quantizer.project_out", LATENT, len(LEVELS))
    state.linear("speaker_encoder.project", SPEAKER_OUT, LATENT * TOKENS)


def _add_decoder(state: _State) -> None:
    """The part of the file that encoding does not use."""
    for name, condition in (("prenet", SPEAKER_OUT), ("postnet", None)):
        state.linear(f"{name}.linear_pre", VOCOS, OUT if name == "prenet" else SPEAKER_OUT)
        for block in range(2):
            _add_vocos(state, f"{name}.downsample.{block}.1", VOCOS, 2)
        _add_vocos(state, f"{name}.vocos_backbone", VOCOS, 1, condition)
        state.linear(f"{name}.linear", SPEAKER_OUT if name == "prenet" else HIDDEN, VOCOS)
    width = 32
    state.normed_conv("decoder.model.0", width, SPEAKER_OUT, 7)
    for number, kernel in enumerate((16, 11, 8, 4), 1):
        name = f"decoder.model.{number}.block"
        state.normal(f"{name}.0.alpha", 1, width, 1)
        state.normed_conv(f"{name}.1", width, width // 2, kernel, bias=width // 2)
        width //= 2
        for unit in (2, 3, 4):
            for part in (0, 2):
                state.normal(f"{name}.{unit}.block.{part}.alpha", 1, width, 1)
            state.normed_conv(f"{name}.{unit}.block.1", width, width, 7)
            state.normed_conv(f"{name}.{unit}.block.3", width, width, 1)
    state.normal("decoder.model.5.alpha", 1, width, 1)
    state.normed_conv("decoder.model.6", 1, width, 7)


def _add_wav2vec2(state: _State) -> None:
    """As Wav2Vec2ForPreTraining saves it, the pretraining head included."""
    state.normal("wav2vec2.masked_spec_embed", HIDDEN)
    for layer, kernel in enumerate(KERNELS):
        name = f"wav2vec2.feature_extractor.conv_layers.{layer}"
        state.linear(f"{name}.conv", WAV2VEC2_CONVOLUTIONS, WAV2VEC2_CONVOLUTIONS if layer else 1, kernel)
        state.norm(f"{name}.layer_norm", WAV2VEC2_CONVOLUTIONS)
    state.norm("wav2vec2.feature_projection.layer_norm", WAV2VEC2_CONVOLUTIONS)
    state.linear("wav2vec2.feature_projection.projection", HIDDEN, WAV2VEC2_CONVOLUTIONS)
    state.normed_conv("wav2vec2.encoder.pos_conv_embed.conv", HIDDEN, HIDDEN // 4, 16, axis=2)
    state.norm("wav2vec2.encoder.layer_norm", HIDDEN)
    for layer in range(LAYERS):
        name = f"wav2vec2.encoder.layers.{layer}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            state.linear(f"{name}.attention.{part}", HIDDEN, HIDDEN)
        state.norm(f"{name}.layer_norm", HIDDEN)
        state.linear(f"{name}.feed_forward.intermediate_dense", INTERMEDIATE, HIDDEN)
        state.linear(f"{name}.feed_forward.output_dense", HIDDEN, INTERMEDIATE)
        state.norm(f"{name}.final_layer_norm", HIDDEN)
    state.normal("quantizer.codevectors", 1, 8, 4)
    state.linear("quantizer.weight_proj", 8, WAV2VEC2_CONVOLUTIONS)
    state.linear("project_hid", 8, HIDDEN)
    state.linear("project_q", 8, 8)


ROOT_CONFIG: dict[str, Any] = {
    "highpass_cutoff_freq": 40,
    "sample_rate": 16000,
    "segment_duration": 2.4,
    "max_val_duration": 12,
    "latent_hop_length": 320,
    "ref_segment_duration": 6,
    "volume_normalize": True,
}
VOCOS_CONFIG: dict[str, Any] = {
    "vocos_dim": VOCOS,
    "vocos_intermediate_dim": VOCOS_INTERMEDIATE,
    "sample_ratios": [1, 1],
}
BICODEC_CONFIG: dict[str, Any] = {
    "audio_tokenizer": {
        "mel_params": {
            "sample_rate": 16000,
            "n_fft": 1024,
            "win_length": 640,
            "hop_length": 320,
            "mel_fmin": 10,
            "mel_fmax": None,
            "num_mels": MELS,
        },
        "encoder": {**VOCOS_CONFIG, "input_channels": HIDDEN, "vocos_num_layers": VOCOS_LAYERS, "out_channels": OUT},
        "decoder": {
            "input_channel": SPEAKER_OUT,
            "channels": 32,
            "rates": [8, 5, 4, 2],
            "kernel_sizes": [16, 11, 8, 4],
        },
        "quantizer": {
            "input_dim": OUT,
            "codebook_size": CODEBOOK_SIZE,
            "codebook_dim": 8,
            "commitment": 0.25,
            "codebook_loss_weight": 2.0,
            "use_l2_normlize": True,
            "threshold_ema_dead_code": 0.2,
        },
        "speaker_encoder": {
            "input_dim": MELS,
            "out_dim": SPEAKER_OUT,
            "latent_dim": LATENT,
            "token_num": TOKENS,
            "fsq_levels": LEVELS,
            "fsq_num_quantizers": 1,
        },
        "prenet": {
            **VOCOS_CONFIG,
            "input_channels": OUT,
            "vocos_num_layers": 1,
            "out_channels": SPEAKER_OUT,
            "condition_dim": SPEAKER_OUT,
            "use_tanh_at_final": False,
        },
        "postnet": {
            **VOCOS_CONFIG,
            "input_channels": SPEAKER_OUT,
            "vocos_num_layers": 1,
            "out_channels": HIDDEN,
            "use_tanh_at_final": False,
        },
    }
}
WAV2VEC2_SHAPE: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "conv_dim": [WAV2VEC2_CONVOLUTIONS] * len(KERNELS),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    # What makes it XLSR-53, where the defaults of the class are those of the first wav2vec2.
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
PREPROCESSOR_CONFIG: dict[str, Any] = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": True,
    "sampling_rate": 16000,
}


def build_spark_tts(directory: Path, seed: int = 0) -> Path:
    """Write config.yaml, BiCodec/ and wav2vec2-large-xlsr-53/ (26 MB); the LLM/ of the real one is not there."""
    import torch
    from safetensors.torch import save_file
    from transformers import Wav2Vec2Config

    bicodec, wav2vec2 = directory / "BiCodec", directory / "wav2vec2-large-xlsr-53"
    for folder in (bicodec, wav2vec2):
        folder.mkdir(parents=True, exist_ok=True)
    state = _State(seed)
    for add in (_add_semantic_path, _add_global_path, _add_decoder):
        add(state)
    save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, bicodec / "model.safetensors")
    state = _State(seed + 1)
    _add_wav2vec2(state)
    torch.save(state.tensors, wav2vec2 / "pytorch_model.bin")
    (directory / "config.yaml").write_text(yaml.safe_dump(ROOT_CONFIG))
    (bicodec / "config.yaml").write_text(yaml.safe_dump(BICODEC_CONFIG))
    config = Wav2Vec2Config(architectures=["Wav2Vec2ForPreTraining"], **WAV2VEC2_SHAPE)
    (wav2vec2 / "config.json").write_text(json.dumps(config.to_dict(), indent=1))
    (wav2vec2 / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR_CONFIG, indent=1))
    return directory


def weights_digest(directory: Path) -> str:
    """Hex SHA-256 of all tensors by name and value, of both files: torch.save's own bytes differ between versions."""
    import torch
    from safetensors.torch import load_file

    digest = hashlib.sha256()
    states = (
        load_file(directory / "BiCodec" / "model.safetensors"),
        torch.load(directory / "wav2vec2-large-xlsr-53" / "pytorch_model.bin", weights_only=True),
    )
    for state in states:
        for name in sorted(state):
            digest.update(name.encode())
            digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()
