"""The decoder of the Higgs audio v2 tokenizer, from the original layout or from transformers' own.

The reference is boson-multimodal's HiggsAudioTokenizer.decode: the codes' vectors, the projection of their acoustic half,
and a DAC decoder without its last tanh. The network is the port in transformers, of which only these parts are loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from audio_tokenizers.base import Codes, Waveform
from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.higgs.files import Checkpoint, Layout
from audio_tokenizers.shared.torch_device import fix_arithmetic, loaded, on_device
from audio_tokenizers.shared.transformers_models import without_storage
from audio_tokenizers.shared.weights import Naming, Weights

__all__ = ["HiggsDecoder"]

PARTS: dict[Layout, tuple[str, ...]] = {
    "original": ("quantizer", "fc_post2", "decoder_2"),
    "transformers": ("quantizer", "fc2", "acoustic_decoder"),
}
UNNEEDED: dict[Layout, str] = {
    "original": r"(encoder|encoder_semantic|decoder_semantic|semantic_model|fc_prior|fc_post1|fc1)\.",
    "transformers": r"(acoustic_encoder|encoder_semantic|decoder_semantic|semantic_model|fc|fc1)\.",
}


class HiggsDecoder:
    """The loaded decoder on one device."""

    def __init__(self, checkpoint: Checkpoint, device: str, *, tf32: bool) -> None:
        self._device = device
        self._tf32 = tf32
        self._parts = loaded(device, lambda: _load(checkpoint, device))

    def decode(self, codes: Codes) -> Waveform:
        """Codes [codebooks, frames] of a whole clip -> float32 [frames * hop] at 24 kHz."""
        return on_device(self._device, lambda: self._decode(codes))

    def _decode(self, codes: Codes) -> Waveform:
        import torch

        fix_arithmetic(tf32=self._tf32)
        with torch.inference_mode():
            grid = torch.from_numpy(np.ascontiguousarray(codes, dtype=np.int64)).to(self._device)
            vectors = self._parts["quantizer"].decode(grid[:, None])
            acoustic = self._parts["fc2"](vectors.transpose(1, 2)).transpose(1, 2)
            wave: Waveform = self._parts["acoustic_decoder"](acoustic).reshape(-1).cpu().numpy()
        return wave


def _original_modules(blocks: int, codebooks: int) -> Iterator[tuple[str, str]]:
    """(name in model.pth, name in transformers) of each module of the decode part."""
    unit = ("snake1", "conv1", "snake2", "conv2")
    yield "decoder_2.model.0", "acoustic_decoder.conv1"
    for block in range(blocks):
        theirs, ours = f"decoder_2.model.{block + 1}.block", f"acoustic_decoder.block.{block}"
        yield f"{theirs}.0", f"{ours}.snake1"
        yield f"{theirs}.1", f"{ours}.conv_t1"
        for number in range(3):
            yield from ((f"{theirs}.{number + 2}.block.{i}", f"{ours}.res_unit{number + 1}.{unit[i]}") for i in range(4))
    yield f"decoder_2.model.{blocks + 1}", "acoustic_decoder.snake1"
    yield f"decoder_2.model.{blocks + 2}", "acoustic_decoder.conv2"
    yield "fc_post2", "fc2"
    for layer in range(codebooks):
        for part in ("project_in", "project_out"):
            yield f"quantizer.vq.layers.{layer}.{part}", f"quantizer.quantizers.{layer}.{part}"
        yield f"quantizer.vq.layers.{layer}._codebook", f"quantizer.quantizers.{layer}.codebook"


def _read(checkpoint: Checkpoint, device: str) -> Weights:
    """Tensors of the decode part on `device`, by transformers' names, weight norms merged."""
    layout = checkpoint.layout
    naming = Naming(parts=PARTS[layout], unneeded=UNNEEDED[layout])
    if layout == "original":
        modules = dict(_original_modules(len(checkpoint.strides), checkpoint.codebooks))
        back = {ours: theirs for theirs, ours in modules.items()}
        naming = dataclasses.replace(
            naming, ours=lambda name: _renamed(name, modules), theirs=lambda name: _renamed(name, back) or name
        )
    return Weights(checkpoint.weights, naming, f"{checkpoint.config_path} as the {layout} layout").read(device)


def _renamed(name: str, modules: Mapping[str, str]) -> str | None:
    head = next((head for head in modules if name.startswith(f"{head}.")), None)
    return None if head is None else modules[head] + name.removeprefix(head)


def _model_config(checkpoint: Checkpoint, weights: Weights) -> Any:  # noqa: ANN401 - transformers has no types
    """A config of transformers' model that is right for its decode part."""
    from transformers import DacConfig, HiggsAudioV2TokenizerConfig, HubertConfig

    if checkpoint.layout == "transformers":
        return HiggsAudioV2TokenizerConfig.from_dict(dict(checkpoint.config))
    first, projection = (weights.tensors.get(name) for name in ("acoustic_decoder.conv1.weight", "fc2.weight"))
    if first is None or projection is None:
        raise ModelFilesError(
            f"{checkpoint.weights[0]}: expected the weights of a decoder too, found no decoder_2.model.0 and fc_post2: it "
            "can only encode; download the whole file"
        )
    acoustic_width = checkpoint.config["D"]
    acoustic: dict[str, Any] = {
        "downsampling_ratios": list(checkpoint.strides),
        "upsampling_ratios": list(checkpoint.strides),  # boson's decoder takes them in the encoder's order
        "decoder_hidden_size": first.shape[0],
        "hidden_size": acoustic_width,
    }
    semantic_width = projection.shape[1] - acoustic_width
    config = HiggsAudioV2TokenizerConfig(
        sample_rate=checkpoint.sample_rate,
        codebook_size=checkpoint.codebook_size,
        codebook_dim=checkpoint.config["codebook_dim"],
        acoustic_model_config=DacConfig(**acoustic).to_dict(),
        semantic_model_config=HubertConfig(hidden_size=max(semantic_width, 1), num_attention_heads=1).to_dict(),
    )
    # transformers derives the number of codebooks from this; the half keeps its division on the right side.
    config.target_bandwidths = [(checkpoint.codebooks + 0.5) * config.frame_rate * config.codebook_nbits / 1000]
    return config


def _load(checkpoint: Checkpoint, device: str) -> Any:  # noqa: ANN401 - transformers has no types
    """The parts that decode, as a ModuleDict in float32 on `device`. Raises ModelFilesError on whatever does not fit."""
    import torch
    from transformers import HiggsAudioV2TokenizerModel

    weights = _read(checkpoint, device)
    model = without_storage(checkpoint.config_path, lambda: HiggsAudioV2TokenizerModel(_model_config(checkpoint, weights)))
    parts = torch.nn.ModuleDict({name: getattr(model, name) for name in ("quantizer", "fc2", "acoustic_decoder")})
    weights.fill(parts)
    return parts
