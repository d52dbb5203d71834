"""Weights of a Higgs audio v2 tokenizer, in either layout, into the encode part of transformers' model.

boson's loader ignores missing and surplus keys, so a checkpoint that does not fit silently gives tokens of random weights.
Here shared/weights.py decides whether it fits.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from audio_tokenizers.higgs.files import HUBERT_HOP, Checkpoint, Layout
from audio_tokenizers.shared.snake import save_copies
from audio_tokenizers.shared.transformers_models import merge_parametrizations, without_storage
from audio_tokenizers.shared.weights import Naming, Weights, counted

if TYPE_CHECKING:
    import torch

__all__ = ["ATTENTION", "load_encoder"]

ATTENTION = "sdpa"
"""The attention implementation; named, because transformers' default has changed before."""

HUBERT_STRIDES = (5, 2, 2, 2, 2, 2, 2)
HUBERT_HEAD_SIZE = 64
PARTS: Mapping[Layout, Collection[str]] = {
    "original": ("encoder", "encoder_semantic", "semantic_model", "fc_prior", "quantizer"),
    "transformers": ("acoustic_encoder", "encoder_semantic", "semantic_model", "fc", "quantizer"),
}
UNNEEDED: Mapping[Layout, str] = {
    # The decoder and the two projections in front of it; a training mask; `fc1` because transformers' converter of the
    # published file skips that name.
    "original": r"(decoder_2|decoder_semantic|fc_post1|fc_post2|fc1)\.|semantic_model\.masked_spec_embed$",
    "transformers": r"(acoustic_decoder|decoder_semantic|fc1|fc2)\.|semantic_model\.masked_spec_embed$",
}
DECODER_PARTS = ("acoustic_decoder", "decoder_semantic", "fc1", "fc2")
POSITIONAL_CONVOLUTION = "semantic_model.encoder.pos_conv_embed.conv"


class _Names:
    """Module names of one layout, to transformers' names and back."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.layout == "transformers":
            self._ours = {part: part for part in PARTS["transformers"]}
        else:
            self._ours = dict(_original_modules(len(checkpoint.strides), checkpoint.codebooks))
        self._theirs = {ours: theirs for theirs, ours in self._ours.items()}

    def ours(self, name: str) -> str | None:
        """The name in transformers of a tensor in the file, None if the file should not have it."""
        renamed = _rename(name, self._ours)
        # Renaming back must give the same name: a file that mixes two spellings fits neither.
        return renamed if renamed is not None and self.theirs(renamed) == name else None

    def theirs(self, name: str) -> str:
        """The file's name of a tensor of transformers' model."""
        return _rename(name, self._theirs) or name


def _rename(name: str, modules: Mapping[str, str]) -> str | None:
    """`name` with its longest known module prefix replaced."""
    head = name
    while head:
        if head in modules:
            return modules[head] + name[len(head) :]
        head = head.rpartition(".")[0]
    return None


def _original_modules(blocks: int, codebooks: int) -> Iterator[tuple[str, str]]:
    """(name in model.pth, name in transformers) of each module that is called differently, and of each part."""
    unit = ("snake1", "conv1", "snake2", "conv2")
    yield "encoder.block.0", "acoustic_encoder.conv1"
    for block in range(blocks):
        theirs, ours = f"encoder.block.{block + 1}.block", f"acoustic_encoder.block.{block}"
        for number in range(3):
            yield from ((f"{theirs}.{number}.block.{i}", f"{ours}.res_unit{number + 1}.{unit[i]}") for i in range(4))
        yield f"{theirs}.3", f"{ours}.snake1"
        yield f"{theirs}.4", f"{ours}.conv1"
    yield f"encoder.block.{blocks + 1}", "acoustic_encoder.snake1"
    yield f"encoder.block.{blocks + 2}", "acoustic_encoder.conv2"
    # boson wraps all its semantic convolutions but those of kernel 1.
    yield "encoder_semantic", "encoder_semantic"
    yield "encoder_semantic.conv.conv", "encoder_semantic.conv"
    for block in range(2):
        part = f"encoder_semantic.conv_blocks.{block}"
        yield f"{part}.conv.conv", f"{part}.conv"
        yield from ((f"{part}.res_units.{i}.conv1.conv", f"{part}.res_units.{i}.conv1") for i in range(2))
    yield "semantic_model", "semantic_model"
    yield "fc_prior", "fc"
    for layer in range(codebooks):
        yield f"quantizer.vq.layers.{layer}", f"quantizer.quantizers.{layer}"
        yield f"quantizer.vq.layers.{layer}._codebook", f"quantizer.quantizers.{layer}.codebook"


def _read(checkpoint: Checkpoint, names: _Names, device: str) -> Weights:
    """Tensors of the encode part on `device`, by transformers' names, weight norms merged."""
    layout = checkpoint.layout
    naming = Naming(
        parts=PARTS[layout],
        unneeded=UNNEEDED[layout],
        ours=names.ours,
        theirs=names.theirs,
        # HuBERT normalises over all but the kernel axis, DAC over all but the output channels.
        norm_axes={POSITIONAL_CONVOLUTION: 2},
    )
    return Weights(checkpoint.weights, naming, f"{checkpoint.config_path} as the {layout} layout").read(device)


def _hubert_settings(weights: Weights, names: _Names) -> dict[str, Any]:
    """Arguments of HubertConfig, from the shapes of the weights.

    The original layout does not carry them: boson fetches the repository bosonai/hubert_base for its config, and then
    overwrites the weights that came with it.
    """

    def shape(name: str) -> torch.Size:
        if not has(name):
            raise weights.misfit(f"1 missing: {names.theirs(f'semantic_model.{name}')}")
        return weights.tensors[f"semantic_model.{name}"].shape

    def has(name: str) -> bool:
        return f"semantic_model.{name}" in weights.tensors

    convolutions = [shape(f"feature_extractor.conv_layers.{i}.conv.weight") for i in range(len(HUBERT_STRIDES))]
    hidden = shape("feature_projection.projection.weight")[0]
    positional = shape("encoder.pos_conv_embed.conv.weight")
    layers = 0
    while has(f"encoder.layers.{layers}.layer_norm.weight"):
        layers += 1
    if has("feature_extractor.conv_layers.1.layer_norm.weight"):
        # Such a model (HuBERT large) comes with pre- or post-norm layers, and no shape tells which.
        raise weights.misfit("semantic_model.feature_extractor.conv_layers.1.layer_norm, which HuBERT base does not have")
    if hidden % HUBERT_HEAD_SIZE or hidden % positional[1]:
        raise weights.misfit(f"semantic_model.feature_projection has a width of {hidden}, no multiple of 64")
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // HUBERT_HEAD_SIZE,
        "intermediate_size": shape("encoder.layers.0.feed_forward.intermediate_dense.weight")[0],
        "feat_proj_layer_norm": has("feature_projection.layer_norm.weight"),
        "feat_extract_norm": "group",
        "do_stable_layer_norm": False,
        "conv_dim": [size[0] for size in convolutions],
        "conv_kernel": [size[2] for size in convolutions],
        "conv_stride": list(HUBERT_STRIDES),
        "conv_bias": has("feature_extractor.conv_layers.0.conv.bias"),
        "num_conv_pos_embeddings": positional[2],
        "num_conv_pos_embedding_groups": hidden // positional[1],
    }


def _model_config(checkpoint: Checkpoint, names: _Names, weights: Weights) -> Any:  # noqa: ANN401 - its modules have no types
    """The config of the model."""
    from transformers import DacConfig, HiggsAudioV2TokenizerConfig, HubertConfig

    if checkpoint.layout == "transformers":
        return HiggsAudioV2TokenizerConfig.from_dict(dict(checkpoint.config))
    first = "acoustic_encoder.conv1.weight"
    if first not in weights.tensors:
        raise weights.misfit(f"1 missing: {names.theirs(first)}")
    frame_rate = math.ceil(checkpoint.sample_rate / checkpoint.hop_length)
    bits = math.ceil(math.log2(checkpoint.codebook_size))
    acoustic: dict[str, Any] = {
        "encoder_hidden_size": weights.tensors[first].shape[0],
        "downsampling_ratios": list(checkpoint.strides),
        "hidden_size": checkpoint.config["D"],
    }
    semantic = HubertConfig(**_hubert_settings(weights, names))
    return HiggsAudioV2TokenizerConfig(
        # transformers derives the number of codebooks from this; the half keeps its division on the right side.
        target_bandwidths=[(checkpoint.codebooks + 0.5) * frame_rate * bits / 1000],
        sample_rate=checkpoint.sample_rate,
        semantic_sample_rate=checkpoint.semantic_sample_rate,
        downsample_factor=HUBERT_HOP,
        codebook_size=checkpoint.codebook_size,
        codebook_dim=checkpoint.config["codebook_dim"],
        acoustic_model_config=DacConfig(**acoustic).to_dict(),
        semantic_model_config=semantic.to_dict(),
    )


def _model(checkpoint: Checkpoint, names: _Names, weights: Weights) -> Any:  # noqa: ANN401 - its modules have no types
    from transformers import HiggsAudioV2TokenizerModel

    config = _model_config(checkpoint, names, weights)
    config.semantic_model_config._attn_implementation = ATTENTION  # noqa: SLF001 - from_config takes it from here
    return HiggsAudioV2TokenizerModel(config)


def load_encoder(checkpoint: Checkpoint, device: str) -> Any:  # noqa: ANN401 - its modules have no types
    """A HiggsAudioV2TokenizerModel of transformers in float32 on `device`, without its decoder, ready for inference.

    The model takes the tensors as they are. Raises ModelFilesError on whatever does not fit.
    """
    names = _Names(checkpoint)
    weights = _read(checkpoint, names, device)
    model = without_storage(checkpoint.config_path, lambda: _model(checkpoint, names, weights))
    for part in DECODER_PARTS:
        setattr(model, part, None)
    # What masks spans in training; only a config with a mask_time_prob has it.
    model.semantic_model.masked_spec_embed = None
    merge_parametrizations(model)
    weights.fill(model)
    save_copies(model.acoustic_encoder)
    untrained = [
        name for name, flag in weights.tensors.items() if name.endswith(".codebook.inited") and not bool(flag.all())
    ]
    if untrained:
        # boson would run k-means on the first clip that it sees, from random vectors, and go on with that.
        raise weights.misfit(counted("untrained codebooks, whose flag is 0", [names.theirs(name) for name in untrained]))
    return model
