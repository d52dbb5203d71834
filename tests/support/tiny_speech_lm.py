"""A tiny random speech language model of CosyVoice 1 in the published layout: the whole llm.pt and its cosyvoice.yaml.

Each tensor has a NumPy stream of its own, so that the same sizes give the same bytes with any version of torch.
"""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

__all__ = ["TINY", "UNEQUAL", "Sizes", "build_speech_lm", "state_dict", "yaml_text"]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the published files have other numbers for."""

    text_rows: int = 60
    text_width: int = 8
    inputs: int = 16
    width: int = 16
    heads: int = 2
    inner: int = 24
    blocks: int = 2
    units: int = 32
    rate: int = 50


TINY = Sizes()
UNEQUAL = Sizes(text_rows=41, text_width=10, inputs=14, width=18, heads=3, inner=22, blocks=3, units=29)
"""Every width another one, and three heads."""

YAML = """\
__set_seed1: !apply:random.seed [1986]
sample_rate: 22050
text_encoder_input_size: {text_width}
llm_input_size: {inputs}
llm_output_size: {width}
spk_embed_dim: 192

llm: !new:cosyvoice.llm.llm.TransformerLM
    text_encoder_input_size: !ref <text_encoder_input_size>
    llm_input_size: !ref <llm_input_size>
    llm_output_size: !ref <llm_output_size>
    text_token_size: {text_rows}
    speech_token_size: {units}
    length_normalized_loss: True
    lsm_weight: 0
    spk_embed_dim: !ref <spk_embed_dim>
    text_encoder: !new:cosyvoice.transformer.encoder.ConformerEncoder
        input_size: !ref <text_encoder_input_size>
        output_size: 12
        attention_heads: 2
        linear_units: 20
        num_blocks: 1
        dropout_rate: 0.1
        positional_dropout_rate: 0.1
        attention_dropout_rate: 0.0
        normalize_before: True
        input_layer: 'linear'
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'rel_selfattn'
        use_cnn_module: False
        macaron_style: False
        use_dynamic_chunk: False
        use_dynamic_left_chunk: False
        static_chunk_size: 1
    llm: !new:cosyvoice.transformer.encoder.TransformerEncoder
        input_size: !ref <llm_input_size>
        output_size: !ref <llm_output_size>
        attention_heads: {heads}
        linear_units: {inner}
        num_blocks: {blocks}
        dropout_rate: 0.1
        positional_dropout_rate: 0.1
        attention_dropout_rate: 0.0
        input_layer: 'linear_legacy'
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'rel_selfattn'
        static_chunk_size: 1
    sampling: !name:cosyvoice.utils.common.ras_sampling
        top_p: 0.8
        top_k: 25
        win_size: 10
        tau_r: 0.1

flow: !new:cosyvoice.flow.flow.MaskedDiffWithXvec
    input_frame_rate: {rate}

get_tokenizer: !name:whisper.tokenizer.get_tokenizer
    multilingual: True
    num_languages: 100
    language: 'en'
    task: 'transcribe'
allowed_special: 'all'
"""


def yaml_text(sizes: Sizes = TINY) -> str:
    """cosyvoice.yaml."""
    return YAML.format(**dataclasses.asdict(sizes))


def _encoder(
    name: str, inputs: int, width: int, heads: int, inner: int, blocks: int, norms: tuple[str, str]
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.embed.out.0.weight": (width, inputs),
        f"{name}.embed.out.0.bias": (width,),
        f"{name}.embed.out.1.weight": (width,),
        f"{name}.embed.out.1.bias": (width,),
        f"{name}.after_norm.weight": (width,),
        f"{name}.after_norm.bias": (width,),
    }
    for number in range(blocks):
        block = f"{name}.encoders.{number}"
        for linear in ("linear_q", "linear_k", "linear_v", "linear_out"):
            shapes[f"{block}.self_attn.{linear}.weight"] = (width, width)
            shapes[f"{block}.self_attn.{linear}.bias"] = (width,)
        shapes[f"{block}.self_attn.linear_pos.weight"] = (width, width)
        shapes[f"{block}.self_attn.pos_bias_u"] = (heads, width // heads)
        shapes[f"{block}.self_attn.pos_bias_v"] = (heads, width // heads)
        shapes[f"{block}.feed_forward.w_1.weight"] = (inner, width)
        shapes[f"{block}.feed_forward.w_1.bias"] = (inner,)
        shapes[f"{block}.feed_forward.w_2.weight"] = (width, inner)
        shapes[f"{block}.feed_forward.w_2.bias"] = (width,)
        for norm in norms:
            shapes[f"{block}.{norm}.weight"] = (width,)
            shapes[f"{block}.{norm}.bias"] = (width,)
    return shapes


def state_dict(sizes: Sizes = TINY, seed: int = 0) -> dict[str, torch.Tensor]:
    """What llm.pt holds, under the names that upstream's TransformerLM has."""
    import torch

    shapes = {
        "text_embedding.weight": (sizes.text_rows, sizes.text_width),
        **_encoder("text_encoder", sizes.text_width, 12, 2, 20, 1, ("norm_mha", "norm_ff")),
        "text_encoder_affine_layer.weight": (sizes.inputs, 12),
        "text_encoder_affine_layer.bias": (sizes.inputs,),
        "llm_embedding.weight": (2, sizes.inputs),
        **_encoder("llm", sizes.inputs, sizes.width, sizes.heads, sizes.inner, sizes.blocks, ("norm1", "norm2")),
        "llm_decoder.weight": (sizes.units + 1, sizes.width),
        "llm_decoder.bias": (sizes.units + 1,),
        "speech_embedding.weight": (sizes.units, sizes.inputs),
        "spk_embed_affine_layer.weight": (sizes.inputs, 192),
        "spk_embed_affine_layer.bias": (sizes.inputs,),
    }
    return {name: torch.from_numpy(_drawn(name, shape, seed)) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[Any]:
    """Attention is drawn wide, or it would be flat and mistakes in its position term would not show."""
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    values = generator.standard_normal(shape)
    if "norm" in name or ".out.1." in name:
        values = 0.1 * values + (1 if name.endswith("weight") else 0)
    elif "pos_bias" in name:
        values *= 0.5
    elif "embedding" not in name and len(shape) == 2:
        values *= (1.8 if any(key in name for key in ("linear_q", "linear_k", "linear_pos")) else 1.0) / shape[1] ** 0.5
    elif len(shape) == 1:
        values *= 0.1
    return values.astype(np.float32)


def build_speech_lm(directory: Path, sizes: Sizes = TINY, seed: int = 0) -> Path:
    """Write cosyvoice.yaml and llm.pt."""
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cosyvoice.yaml").write_text(yaml_text(sizes))
    torch.save(state_dict(sizes, seed), directory / "llm.pt")
    return directory
