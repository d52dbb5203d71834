"""Small random Higgs checkpoints on disk, in both real layouts. Nothing is downloaded, and boson is not needed.

The strides are the published ones ([8, 5, 4, 2, 3], hop 960), so that each rule about lengths is the published one too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from audio_tokenizers.base import Options
    from audio_tokenizers.higgs.backend import Higgs

__all__ = [
    "FULL",
    "NARROW",
    "RATIOS",
    "Widths",
    "build_hubert_cache",
    "build_original_layout",
    "build_transformers_layout",
    "load_higgs",
    "speech_like",
    "weights_digest",
]

RATIOS = [8, 5, 4, 2, 3]
CODEBOOKS = 8
HUBERT_KERNELS = [10, 3, 3, 3, 3, 2, 2]


@dataclass(frozen=True)
class Widths:
    """How wide each part is."""

    dac: int
    acoustic: int
    semantic: int
    hubert_convolutions: int
    intermediate: int
    positions: int
    position_groups: int
    codebook: int
    decoder: int


NARROW = Widths(4, 32, 64, 16, 64, 16, 4, 16, 32)
# What boson's code has hard-wired (64, 768, 1024), and HuBERT as small as it lets it be.
FULL = Widths(64, 256, 768, 32, 256, 128, 16, 64, 1024)


class _State:
    """Collects random tensors under boson's names, with variances that keep activations near one."""

    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        # Not torch's generator, which has another way to normals for each instruction set.
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def normal(self, name: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> torch.Tensor:
        import torch

        values = self._generator.standard_normal(shape, dtype=np.float32)
        values *= np.float32(scale)
        values += np.float32(mean)
        self.tensors[name] = torch.from_numpy(values)
        return self.tensors[name]

    def linear(self, name: str, outputs: int, inputs: int) -> None:
        self.normal(f"{name}.weight", outputs, inputs, scale=inputs**-0.5)
        self.normal(f"{name}.bias", outputs, scale=0.1)

    def norm(self, name: str, width: int) -> None:
        self.normal(f"{name}.weight", width, scale=0.1, mean=1.0)
        self.normal(f"{name}.bias", width, scale=0.1)

    def conv(self, name: str, outputs: int, inputs: int, kernel: int, *, bias: bool = True) -> None:
        self.normal(f"{name}.weight", outputs, inputs, kernel, scale=(inputs * kernel) ** -0.5)
        if bias:
            self.normal(f"{name}.bias", outputs, scale=0.1)

    def snake(self, name: str, width: int) -> None:
        self.normal(f"{name}.alpha", 1, width, 1, scale=0.1, mean=1.0)

    def normed_conv(self, name: str, outputs: int, inputs: int, kernel: int, *, axis: int = 0, gain: float = 1.0) -> None:
        """Weight norm over all but `axis`; spelt as boson's DAC does for axis 0, as HuBERT's new one does for axis 2."""
        norm, direction = (
            ("weight_g", "weight_v")
            if axis == 0
            else ("parametrizations.weight.original0", "parametrizations.weight.original1")
        )
        self.normal(f"{name}.{direction}", outputs, inputs, kernel, scale=(inputs * kernel) ** -0.5)
        shape = [size if i == axis else 1 for i, size in enumerate((outputs, inputs, kernel))]
        # What it is on average: a sum of the squares would round otherwise on another machine.
        size = (outputs / shape[0] * inputs / shape[1] * kernel / shape[2] / (inputs * kernel)) ** 0.5
        self.normal(f"{name}.{norm}", *shape, scale=0.1 * gain * size, mean=gain * size)
        self.normal(f"{name}.bias", outputs, scale=0.1)

    def unused(self, name: str, *shape: int) -> None:
        """One value seen through `shape`: torch.save keeps one element, loaders see a tensor of the real shape."""
        import torch

        self.tensors[name] = torch.ones(1).expand(shape)


def _add_residual_unit(state: _State, name: str, width: int) -> None:
    state.snake(f"{name}.block.0", width)
    state.normed_conv(f"{name}.block.1", width, width, 7)
    state.snake(f"{name}.block.2", width)
    state.normed_conv(f"{name}.block.3", width, width, 1, gain=0.3)


def _add_acoustic_encoder(state: _State, widths: Widths) -> None:
    width = widths.dac
    state.normed_conv("encoder.block.0", width, 1, 7)
    for number, stride in enumerate(RATIOS, 1):
        for unit in range(3):
            _add_residual_unit(state, f"encoder.block.{number}.block.{unit}", width)
        state.snake(f"encoder.block.{number}.block.3", width)
        state.normed_conv(f"encoder.block.{number}.block.4", 2 * width, width, 2 * stride)
        width *= 2
    state.snake(f"encoder.block.{len(RATIOS) + 1}", width)
    state.normed_conv(f"encoder.block.{len(RATIOS) + 2}", widths.acoustic, width, 3, gain=1.5)


def _add_hubert(state: _State, widths: Widths) -> None:
    hidden = widths.semantic
    state.normal("semantic_model.masked_spec_embed", hidden)
    for layer, kernel in enumerate(HUBERT_KERNELS):
        inputs = widths.hubert_convolutions if layer else 1
        name = f"semantic_model.feature_extractor.conv_layers.{layer}"
        state.conv(f"{name}.conv", widths.hubert_convolutions, inputs, kernel, bias=False)
    state.norm("semantic_model.feature_extractor.conv_layers.0.layer_norm", widths.hubert_convolutions)
    state.norm("semantic_model.feature_projection.layer_norm", widths.hubert_convolutions)
    state.linear("semantic_model.feature_projection.projection", hidden, widths.hubert_convolutions)
    positional = "semantic_model.encoder.pos_conv_embed.conv"
    state.normed_conv(positional, hidden, hidden // widths.position_groups, widths.positions, axis=2)
    state.norm("semantic_model.encoder.layer_norm", hidden)
    for layer in range(2):
        name = f"semantic_model.encoder.layers.{layer}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            state.linear(f"{name}.attention.{part}", hidden, hidden)
        state.norm(f"{name}.layer_norm", hidden)
        state.linear(f"{name}.feed_forward.intermediate_dense", widths.intermediate, hidden)
        state.linear(f"{name}.feed_forward.output_dense", hidden, widths.intermediate)
        state.norm(f"{name}.final_layer_norm", hidden)


def _add_semantic_encoder(state: _State, width: int) -> None:
    state.conv("encoder_semantic.conv.conv", width, width, 3, bias=False)
    for block in range(2):
        for unit in range(2):
            name = f"encoder_semantic.conv_blocks.{block}.res_units.{unit}"
            state.conv(f"{name}.conv1.conv", width, width, 3, bias=False)
            state.conv(f"{name}.conv2", width, width, 1, bias=False)
        state.conv(f"encoder_semantic.conv_blocks.{block}.conv.conv", width, width, 3)


def _add_quantizer(state: _State, width: int, codebook_dim: int) -> None:
    import torch

    state.linear("fc_prior", width, width)
    for layer in range(CODEBOOKS):
        name = f"quantizer.vq.layers.{layer}"
        state.linear(f"{name}.project_in", codebook_dim, width)
        state.linear(f"{name}.project_out", width, codebook_dim)
        embed = state.normal(f"{name}._codebook.embed", 1024, codebook_dim, scale=1.5)
        state.tensors[f"{name}._codebook.embed_avg"] = embed.clone()
        state.tensors[f"{name}._codebook.cluster_size"] = torch.ones(1024)
        state.tensors[f"{name}._codebook.inited"] = torch.ones(1)


def _add_decoder(state: _State, widths: Widths) -> None:
    """The half of the file that encoding does not use."""

    def normed(name: str, first: int, second: int, kernel: int, bias: int) -> None:
        state.unused(f"{name}.weight_v", first, second, kernel)
        state.unused(f"{name}.weight_g", first, 1, 1)
        state.unused(f"{name}.bias", bias)

    width = widths.decoder
    normed("decoder_2.model.0", width, widths.acoustic, 7, width)
    for number, stride in enumerate(RATIOS, 1):
        name = f"decoder_2.model.{number}.block"
        state.unused(f"{name}.0.alpha", 1, width, 1)
        normed(f"{name}.1", width, width // 2, 2 * stride, width // 2)
        width //= 2
        for unit in (2, 3, 4):
            state.unused(f"{name}.{unit}.block.0.alpha", 1, width, 1)
            normed(f"{name}.{unit}.block.1", width, width, 7, width)
            state.unused(f"{name}.{unit}.block.2.alpha", 1, width, 1)
            normed(f"{name}.{unit}.block.3", width, width, 1, width)
    state.unused(f"decoder_2.model.{len(RATIOS) + 1}.alpha", 1, width, 1)
    normed(f"decoder_2.model.{len(RATIOS) + 2}", 1, width, 7, 1)
    semantic = widths.semantic
    state.unused("decoder_semantic.conv1.conv.weight", semantic, semantic, 3)
    state.unused("decoder_semantic.conv2.conv.weight", semantic, semantic, 3)
    for block in range(2):
        name = f"decoder_semantic.conv_blocks.{block}"
        state.unused(f"{name}.conv.conv.weight", semantic, semantic, 3)
        state.unused(f"{name}.conv.conv.bias", semantic)
        for unit in range(2):
            state.unused(f"{name}.res_units.{unit}.conv1.conv.weight", semantic, semantic, 3)
            state.unused(f"{name}.res_units.{unit}.conv2.weight", semantic, semantic, 1)
    both = widths.acoustic + semantic
    for name, outputs in (("fc_post1", semantic), ("fc_post2", widths.acoustic)):
        state.unused(f"{name}.weight", outputs, both)
        state.unused(f"{name}.bias", outputs)


def build_original_layout(directory: Path, seed: int = 0, *, full_width: bool = False) -> Path:
    """Write config.json and model.pth, under the names that boson's class has, decoder included.

    `full_width`: the widths that boson's code fixes (300 MB), so that it can load the file strictly; else 3 MB.
    """
    import torch

    widths = FULL if full_width else NARROW
    state = _State(seed)
    _add_acoustic_encoder(state, widths)
    _add_hubert(state, widths)
    _add_semantic_encoder(state, widths.semantic)
    _add_quantizer(state, widths.acoustic + widths.semantic, widths.codebook)
    _add_decoder(state, widths)
    config: dict[str, Any] = {
        "n_filters": 32,
        "D": widths.acoustic,
        "target_bandwidths": [0.5, 1, 1.5, 2],
        "ratios": RATIOS,
        "sample_rate": 24000,
        "bins": 1024,
        "n_q": CODEBOOKS,
        "codebook_dim": widths.codebook,
        "semantic_techer": "hubert_base_general",
        "last_layer_semantic": True,
        "downsample_mode": "step_down",
        "vq_scale": 1,
        "semantic_sample_rate": 16000,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    torch.save(state.tensors, directory / "model.pth")
    return directory


def build_transformers_layout(directory: Path, seed: int = 0) -> Path:
    """Write config.json and model.safetensors (3 MB) with transformers' own save_pretrained.

    Beside the published strides and bandwidths only widths are set; all else is the default of the config's class.
    """
    import torch
    from transformers import DacConfig, HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel, HubertConfig

    acoustic: dict[str, Any] = {
        "encoder_hidden_size": 4,
        "downsampling_ratios": RATIOS,
        "decoder_hidden_size": 64,
        "hidden_size": 32,
    }
    semantic = HubertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=[16] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    config = HiggsAudioV2TokenizerConfig(
        target_bandwidths=[0.5, 1, 1.5, 2],
        codebook_dim=16,
        acoustic_model_config=DacConfig(**acoustic).to_dict(),
        semantic_model_config=semantic.to_dict(),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = HiggsAudioV2TokenizerModel(config)
        # Codebooks start as zeros, which would make each code 0.
        for number, quantizer in enumerate(model.quantizer.quantizers):
            quantizer.codebook.embed.normal_(std=0.2 * 0.7**number)
    model.save_pretrained(directory)
    return directory


def build_hubert_cache(hf_home: Path, widths: Widths = FULL) -> Path:
    """A Hugging Face cache with the `bosonai/hubert_base` that boson's constructor asks for, all zeros."""
    import torch
    from transformers import HubertConfig, HubertModel

    commit = "0" * 40
    repository = hf_home / "hub" / "models--bosonai--hubert_base"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    config = HubertConfig(
        hidden_size=widths.semantic,
        num_hidden_layers=2,
        num_attention_heads=widths.semantic // 64,
        intermediate_size=widths.intermediate,
        conv_dim=[widths.hubert_convolutions] * len(HUBERT_KERNELS),
        num_conv_pos_embeddings=widths.positions,
        num_conv_pos_embedding_groups=widths.position_groups,
    )
    with torch.device("meta"):  # which draws no random numbers
        model = HubertModel(config)
    model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.zero_()
    model.save_pretrained(repository / "snapshots" / commit)
    return hf_home


def weights_digest(directory: Path) -> str:
    """Hex SHA-256 of the tensors of model.pth that encoding uses, by name and value: torch.save's bytes differ between
    versions.
    """
    import torch

    state = torch.load(directory / "model.pth", weights_only=True)
    digest = hashlib.sha256()
    for name in sorted(name for name in state if not name.startswith(("decoder_", "fc_post"))):
        digest.update(name.encode())
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()


def speech_like(samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """float32 [samples] at 24 kHz: gliding harmonics under a syllable envelope, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 24000
    phase = 2 * np.pi * (120 * time + 15 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6)))
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 12))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6))
    made: npt.NDArray[np.float64] = 0.2 * envelope * voice + 0.02 * rng.standard_normal(samples)
    return made.astype(np.float32)


def load_higgs(options: Options, device: str) -> Higgs:
    """The backend with its own networks, not engine=upstream."""
    from audio_tokenizers.higgs import FACTORY
    from audio_tokenizers.higgs.backend import Higgs

    loaded = FACTORY.load(options, device)
    assert isinstance(loaded, Higgs)
    return loaded
