"""Codecs of transformers, loaded strictly, and the one call that each has for each direction.

transformers renames what its older versions called otherwise (weight norms, Mimi's halves), and then only warns of a
missing tensor, which stays random. Here each tensor that the direction needs must be there, with its shape, and none may
be left over.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.hf_files import Checkpoint

if TYPE_CHECKING:
    import torch

__all__ = ["ATTENTION", "decode_codes", "encode_batch", "load_model"]

ATTENTION: Mapping[str, str] = {"mimi": "sdpa", "hubert": "sdpa"}
"""model_type -> the attention implementation, of the networks that have a choice; named, because transformers' default has
changed before."""

CLASSES = {"mimi": "MimiModel", "dac": "DacModel", "encodec": "EncodecModel", "xcodec": "XcodecModel"}
Direction = Literal["encode", "decode"]
# Names of transformers' models, and of Mimi's before 5.2x too. A training mask counts as unneeded both ways.
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
PARTS: Mapping[Direction, tuple[str, ...]] = {
    "encode": ("decoder", "decoder_transformer", "upsample", "acoustic_decoder", "decoder_semantic", "fc1", "fc2"),
    "decode": (
        *("encoder", "encoder_transformer", "downsample", "acoustic_encoder", "encoder_semantic", "semantic_model"),
        *("decoder_semantic", "fc", "fc1"),
    ),
}
"""Modules that the direction does not need, and that need no memory therefore."""
SILENCED = "_keys_to_ignore_on_load_unexpected"
CODEBOOK = re.compile(r"\.codebook\.(embed|embed_sum|weight)$")
UNTRAINED_FLAG = re.compile(r"\.codebook\.(inited|initialized)$")


def load_model(checkpoint: Checkpoint, device: str, direction: Direction) -> Any:  # noqa: ANN401 - its modules have no types
    """The model in float32 on `device`, without the half that `direction` does not need, ready for inference.

    Raises ModelFilesError on whatever does not fit.
    """
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from torch.nn.utils import parametrize

    base: Any = getattr(transformers, CLASSES[checkpoint.model_type])
    # MimiModel tells the loader not to mention surplus tensors of its halves.
    model_class: Any = type(
        base.__name__, (base,), {"_keys_to_ignore_on_load_unexpected": None, "__module__": base.__module__}
    )
    try:
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
    except (StrictDataclassError, SafetensorError, TypeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ModelFilesError(f"{checkpoint.config_path}: transformers cannot load this ({reason})") from None
    _check_report(checkpoint, report, re.compile(UNNEEDED[direction][checkpoint.model_type]))
    _check_codebooks(checkpoint, model)
    for part in PARTS[direction]:
        if part in model._modules:  # noqa: SLF001 - Mimi has deprecated properties of such names
            setattr(model, part, None)
    for module in model.modules():
        # Else each call would compute the weights of EnCodec and of HuBERT's position convolution anew, to the same values.
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        if type(module).__name__ == "Snake1d":
            module.forward = functools.partial(_snake, module)
    return model.to(device).eval().requires_grad_(requires_grad=False)


def _snake(module: Any, hidden: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - transformers has no types
    """Snake, x + sin(a x)^2 / a, in the operations of DAC's Snake1d, but with no copy for each."""
    wave: torch.Tensor = module.alpha * hidden
    wave.sin_().pow_(2).mul_((module.alpha + 1e-9).reciprocal())
    return wave.add_(hidden)


@contextlib.contextmanager
def _no_chatter() -> Iterator[None]:
    """No progress bar in a worker's log, and no table of tensors beside our own message."""
    from transformers.utils import logging as theirs

    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _no_silence(model_class: type) -> Iterator[None]:
    """The loader of Mimi would keep silent about all surplus tensors of its halves."""
    classes = [item for item in vars(sys.modules[model_class.__module__]).values() if isinstance(item, type)]
    silent = {item: vars(item)[SILENCED] for item in classes if vars(item).get(SILENCED)}
    for item in silent:
        setattr(item, SILENCED, None)
    try:
        yield
    finally:
        for item, patterns in silent.items():
            setattr(item, SILENCED, patterns)


def _check_report(checkpoint: Checkpoint, report: Mapping[str, Any], unneeded: re.Pattern[str]) -> None:
    """Raise ModelFilesError if from_pretrained's `report` names a tensor that is not `unneeded`."""
    misshapen = {name: f" {list(found)} instead of {list(wanted)}" for name, found, wanted in report["mismatched_keys"]}
    problems = list(report.get("error_msgs") or [])
    for kind, names in (
        ("missing", set(report["missing_keys"]) - misshapen.keys()),
        ("unknown", set(report["unexpected_keys"])),
        ("of another shape", misshapen.keys()),
    ):
        if found := sorted(name + misshapen.get(name, "") for name in names if not unneeded.match(name)):
            problems.append(f"{len(found)} {kind}: {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}")
    if problems:
        raise _misfit(checkpoint, "; ".join(problems))


def _misfit(checkpoint: Checkpoint, problem: str) -> ModelFilesError:
    file = checkpoint.weights[0] if len(checkpoint.weights) == 1 else checkpoint.directory
    return ModelFilesError(f"{file}: does not fit {checkpoint.config_path} as a {checkpoint.model_type}: {problem}")


def _check_codebooks(checkpoint: Checkpoint, model: Any) -> None:  # noqa: ANN401 - its modules have no types
    """A codebook that was never trained is all zeros, and would make each code 0."""
    untrained, grids = [], 0
    for name, tensor in model.state_dict().items():
        if CODEBOOK.search(name):
            grids += 1
            if tensor.shape[0] != checkpoint.codebook_size:
                raise _misfit(checkpoint, f"{name} {list(tensor.shape)} for a codebook size of {checkpoint.codebook_size}")
            if bool((tensor == tensor[:1]).all()):
                untrained.append(name)
        elif UNTRAINED_FLAG.search(name) and not bool(tensor.all()):
            untrained.append(name)
    if grids != checkpoint.codebooks:
        raise _misfit(checkpoint, f"{grids} codebooks instead of {checkpoint.codebooks}")
    if untrained:
        raise _misfit(checkpoint, f"{len(untrained)} untrained codebooks: {', '.join(sorted(untrained)[:5])}")


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
