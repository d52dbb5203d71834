"""Loads codecs of transformers strictly, and calls each in either direction.

transformers renames tensors of older versions (weight norms, Mimi's halves), and then only warns about a missing tensor,
which stays random. Here its report is checked as shared/weights.py checks any file.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from audio_tokenizers.hf.files import Checkpoint
from audio_tokenizers.shared.snake import save_copies
from audio_tokenizers.shared.transformers_models import config_errors, merge_parametrizations
from audio_tokenizers.shared.weights import Naming, Weights, counted

if TYPE_CHECKING:
    import torch

__all__ = ["ATTENTION", "compute_in_bfloat16", "decode_codes", "encode_batch", "load_model"]

ATTENTION: Mapping[str, str] = {"mimi": "sdpa", "hubert": "sdpa"}
"""model_type -> the attention implementation, of the networks that have a choice; named, because transformers' default has
changed before."""

CLASSES = {"mimi": "MimiModel", "dac": "DacModel", "encodec": "EncodecModel", "xcodec": "XcodecModel"}
Direction = Literal["encode", "decode"]
USED: Mapping[Direction, Mapping[str, tuple[str, ...]]] = {
    "encode": {
        "mimi": ("encoder", "encoder_transformer", "downsample", "quantizer"),
        "dac": ("encoder", "quantizer"),
        "encodec": ("encoder", "quantizer"),
        "xcodec": ("acoustic_encoder", "encoder_semantic", "semantic_model", "fc", "quantizer"),
    },
    "decode": {
        "mimi": ("decoder", "decoder_transformer", "upsample", "quantizer"),
        "dac": ("decoder", "quantizer"),
        "encodec": ("decoder", "quantizer"),
        "xcodec": ("acoustic_decoder", "fc2", "quantizer"),
    },
}
"""Modules that the direction needs, by their names in the model, and in files of Mimi, which keep older ones."""
# The other half, and what is below a used module and not needed, such as what masks spans in training.
UNNEEDED: Mapping[Direction, Mapping[str, str]] = {
    "encode": {
        "mimi": r"(decoder|decoder_transformer|upsample)\.|quantizer\.\w+\.output_proj\.",
        "dac": r"decoder\.",
        "encodec": r"decoder\.",
        "xcodec": r"(acoustic_decoder|decoder_semantic|fc1|fc2)\.|semantic_model\.masked_spec_embed$",
    },
    "decode": {
        "mimi": r"(encoder|encoder_transformer|downsample)\.|quantizer\.\w+\.input_proj\.",
        "dac": r"encoder\.|quantizer\.quantizers\.\d+\.in_proj\.",
        "encodec": r"encoder\.",
        "xcodec": r"(acoustic_encoder|encoder_semantic|decoder_semantic|semantic_model|fc|fc1)\.",
    },
}
SILENCED = "_keys_to_ignore_on_load_unexpected"
CODEBOOK = re.compile(r"\.codebook\.(embed|embed_sum|weight)$")
UNTRAINED_FLAG = re.compile(r"\.codebook\.(inited|initialized)$")


def load_model(checkpoint: Checkpoint, device: str, direction: Direction) -> Any:  # noqa: ANN401 - its modules have no types
    """The model in float32 on `device`, without the half that `direction` does not need, ready for inference.

    Raises ModelFilesError on whatever does not fit.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    base: Any = getattr(transformers, CLASSES[checkpoint.model_type])
    # MimiModel tells the loader not to mention surplus tensors of its halves.
    model_class: Any = type(
        base.__name__, (base,), {"_keys_to_ignore_on_load_unexpected": None, "__module__": base.__module__}
    )
    naming = Naming(
        parts=USED[direction][checkpoint.model_type],
        prefixes=(f"{base.base_model_prefix}.",),
        unneeded=UNNEEDED[direction][checkpoint.model_type],
    )
    weights = Weights(checkpoint.weights, naming, f"{checkpoint.config_path} as a {checkpoint.model_type}").read_names()
    with config_errors(checkpoint.config_path, SafetensorError, OSError, what="cannot load this"):
        config = base.config_class.from_pretrained(checkpoint.directory, local_files_only=True)
        for part in (config, getattr(config, "semantic_model_config", None)):
            if part is not None and part.model_type in ATTENTION:
                part._attn_implementation = ATTENTION[part.model_type]  # noqa: SLF001 - from_pretrained's argument reaches no part
        with _no_chatter(), _no_silence(model_class):
            model, report = model_class.from_pretrained(
                checkpoint.directory,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # to report them all, not to go on
                output_loading_info=True,
            )
    _judge(weights, report)
    _check_codebooks(checkpoint, weights, model)
    for part, _ in list(model.named_children()):
        if part not in naming.parts:
            setattr(model, part, None)
    merge_parametrizations(model)
    save_copies(model)
    return model.to(device).eval().requires_grad_(requires_grad=False)


def compute_in_bfloat16(model: Any) -> None:  # noqa: ANN401 - its modules have no types
    """The encoder, but not its last layer, nor what makes codes of its output."""
    from audio_tokenizers.shared.bfloat16 import use_bfloat16

    roots = [part for name, part in model.named_children() if name not in ("quantizer", "fc")]
    last: Mapping[str, Callable[[], list[Any]]] = {
        "mimi": lambda: [part for name, part in model.named_modules() if name.endswith("downsample")],
        "dac": lambda: [model.encoder.conv2],
        "encodec": lambda: [model.encoder.layers[-1]],
        "xcodec": lambda: [model.acoustic_encoder.conv2, model.encoder_semantic.conv_blocks[-1].conv],
    }
    use_bfloat16(roots, last[model.config.model_type]())


@contextlib.contextmanager
def _no_chatter() -> Iterator[None]:
    """No progress bar in a worker's log, and no table of tensors beside our own message."""
    from transformers.utils import logging as theirs

    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()


@contextlib.contextmanager
def _no_silence(model_class: type) -> Iterator[None]:
    """Else the loader of Mimi would not report surplus tensors of its halves."""
    classes = [item for item in vars(sys.modules[model_class.__module__]).values() if isinstance(item, type)]
    silent = {item: vars(item)[SILENCED] for item in classes if vars(item).get(SILENCED)}
    for item in silent:
        setattr(item, SILENCED, None)
    try:
        yield
    finally:
        for item, patterns in silent.items():
            setattr(item, SILENCED, patterns)


def _judge(weights: Weights, report: Mapping[str, Any]) -> None:
    """Raise ModelFilesError if from_pretrained's `report` has a tensor that is used and does not fit."""
    misshapen = {name: f"{list(found)} instead of {list(wanted)}" for name, found, wanted in report["mismatched_keys"]}
    weights.judge(
        missing=[name for name in set(report["missing_keys"]) - misshapen.keys() if weights.place(name) == "used"],
        unknown=[name for name in report["unexpected_keys"] if weights.place(name) in ("used", "unknown")],
        misshapen={name: difference for name, difference in misshapen.items() if weights.place(name) == "used"},
    )
    if errors := list(report.get("error_msgs") or []):
        raise weights.misfit("; ".join(map(str, errors)))
    weights.tell()


def _check_codebooks(checkpoint: Checkpoint, weights: Weights, model: Any) -> None:  # noqa: ANN401 - its modules have no types
    """A codebook that was never trained is all zeros, and would make each code 0."""
    untrained, grids = [], 0
    for name, tensor in model.state_dict().items():
        if CODEBOOK.search(name):
            grids += 1
            if tensor.shape[0] != checkpoint.codebook_size:
                raise weights.misfit(f"{name} {list(tensor.shape)} for a codebook size of {checkpoint.codebook_size}")
            if bool((tensor == tensor[:1]).all()):
                untrained.append(name)
        elif UNTRAINED_FLAG.search(name) and not bool(tensor.all()):
            untrained.append(name)
    if grids != checkpoint.codebooks:
        raise weights.misfit(f"{grids} codebooks instead of {checkpoint.codebooks}")
    if untrained:
        raise weights.misfit(counted("untrained codebooks", untrained))


def encode_batch(model: Any, waves: torch.Tensor, codebooks: int, bandwidth: float | None) -> torch.Tensor:  # noqa: ANN401
    """float32 [batch, 1, samples] -> int64 [batch, codebooks, frames]: what the model's own `encode` gives."""
    arguments: Mapping[str, Mapping[str, Any]] = {
        "mimi": {"num_quantizers": codebooks},
        "dac": {"n_quantizers": codebooks},
        "encodec": {"bandwidth": bandwidth},
        "xcodec": {"bandwidth": bandwidth},
    }
    codes: torch.Tensor = model.encode(waves, **arguments[model.config.model_type]).audio_codes
    return codes[0] if codes.ndim == 4 else codes  # EnCodec: an axis of chunks, of which a whole clip is one


def decode_codes(model: Any, codes: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - its modules have no types
    """int64 [codebooks, frames] -> float32 [samples]: what the model's own `decode` gives."""
    ways: Mapping[str, Callable[[], Any]] = {
        "mimi": lambda: model.decode(codes[None]),
        "dac": lambda: model.decode(audio_codes=codes[None]),
        "encodec": lambda: model.decode(codes[None, None], [None]),
        "xcodec": lambda: model.decode(codes[None]),
    }
    wave: torch.Tensor = ways[model.config.model_type]().audio_values
    return wave.reshape(-1)
