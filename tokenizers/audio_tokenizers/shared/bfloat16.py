"""Makes networks compute in bfloat16, except where its eight bits of mantissa would change too many tokens.

Layer by layer, because the types that torch's autocast chooses differ between devices and versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["use_bfloat16"]


def use_bfloat16(roots: Iterable[nn.Module], last: Collection[nn.Module], first: Collection[nn.Module] = ()) -> None:
    """Compute `roots` in bfloat16: their parameters, and what flows from layer to layer.

    These stay in float32: layers that take samples (convolutions of one channel, and `first`), because a waveform in
    bfloat16 has noise at -55 dB; normalisation over time; recurrent layers; and `last`, modules below `roots` whose outputs
    are used in float32. Buffers keep their types: some hold frequencies.
    """
    plain = {module for root in last for module in root.modules()}
    for root in last:
        _take(root, torch.float32)
    for module in (module for root in roots for module in root.modules()):
        if module in plain:
            continue
        if module in first or _is_delicate(module):
            _take(module, torch.float32)
            module.register_forward_hook(lambda _, _inputs, output: _as(output, torch.bfloat16))
        else:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(torch.bfloat16)


def _is_delicate(module: nn.Module) -> bool:
    hears = isinstance(module, nn.Conv1d) and module.in_channels == 1
    return hears or isinstance(module, (nn.GroupNorm, nn.RNNBase))


def _take(module: nn.Module, dtype: torch.dtype) -> None:
    module.register_forward_pre_hook(
        lambda _, args, kwargs: (_as(args, dtype), {name: _as(value, dtype) for name, value in kwargs.items()}),
        with_kwargs=True,
    )


def _as(value: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401 - whatever a layer takes or gives
    """With all floats in `dtype`, those in a tuple too."""
    if isinstance(value, tuple):
        return tuple(_as(item, dtype) for item in value)
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
