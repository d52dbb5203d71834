"""Random weights that behave like trained ones where it matters here: activations neither die nor explode, and tokens vary.

What a call's shape does to tokens shows only where tokens depend on the audio. With the random start that the classes have,
a codec of full size gives one code for all frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["enliven"]

NOISE = 0.5
"""Of a codebook's rows, in standard deviations: rows of like frames would else be near ties, which flip for nothing."""


def enliven(model: Any, hear: Callable[[], object], seed: int = 0) -> None:  # noqa: ANN401 - its modules have no types
    """Scale layers and fill codebooks by what they see while `hear` runs the model over some audio, in place.

    Each convolution and linear layer then has outputs of unit variance (layer-sequential unit variance, Mishkin and Matas
    2016), and each codebook rows that are frames of its own input plus noise.
    """
    import torch

    filler = _Filler(seed)
    with contextlib.ExitStack() as stack, torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.Linear):
                stack.callback(module.register_forward_hook(_ScaleOnce()).remove)
        for module in model.modules():
            filler.listen(module, stack)
        hear()


class _ScaleOnce:
    """A forward hook that brings a layer's first output, and so its weights, to unit variance."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self, module: Any, _: object, output: Tensor) -> Tensor | None:  # noqa: ANN401 - as above
        import torch

        if self._done:
            return None
        self._done = True
        factor = 1 / output.std().clamp(min=1e-6)
        if torch.nn.utils.parametrize.is_parametrized(module, "weight"):
            module.weight = module.weight * factor
        else:
            module.weight.mul_(factor)
        if module.bias is not None:
            module.bias.mul_(factor)
        return output * factor


class _Filler:
    """Fills codebooks of two kinds, when they are first asked."""

    def __init__(self, seed: int) -> None:
        import torch

        self._generator = torch.Generator().manual_seed(seed)

    def listen(self, module: Any, stack: contextlib.ExitStack) -> None:  # noqa: ANN401 - as above
        """Have the module filled, if it is a codebook, until the stack is left."""
        entrance = getattr(module, "in_proj", getattr(module, "in_project", None))
        if entrance is not None and hasattr(module, "codebook"):  # DAC's, BiCodec's: an embedding behind a projection

            def fill(_: object, __: object, latents: Tensor) -> None:
                weight = module.codebook.weight
                weight.copy_(self._rows(weight.shape[0], latents.transpose(1, 2).flatten(0, 1)))

            stack.callback(entrance.register_forward_hook(fill).remove)
        elif all(hasattr(module, name) for name in ("quantize", "codebook_size", "embed")):  # transformers' Euclidean ones
            quantize = module.quantize

            def fill_and_quantize(frames: Tensor) -> Tensor:
                _set_rows(module, self._rows(module.codebook_size, frames))
                found: Tensor = quantize(frames)
                return found

            module.quantize = fill_and_quantize
            stack.callback(delattr, module, "quantize")

    def _rows(self, count: int, frames: Tensor) -> Tensor:
        """[count, width] out of [frames, width]: frames of the first half, as large as those of the second are.

        The first half's own rests are small behind codebooks that are made of it, and rows as small would be near ties.
        """
        import torch

        known, others = frames.tensor_split(2)
        chosen = torch.randint(known.shape[0], (count,), generator=self._generator).to(frames.device)
        noise = torch.randn((count, frames.shape[1]), generator=self._generator).to(frames)
        spread = others.std(dim=0)
        return known[chosen] * (others.std() / known.std().clamp(min=1e-9)) + NOISE * spread * noise


def _set_rows(codebook: Any, values: Tensor) -> None:  # noqa: ANN401 - as above
    if hasattr(codebook, "embed_sum"):  # Mimi's rows are sums over what they were used for
        codebook.cluster_usage.fill_(1.0)
        codebook.embed_sum.copy_(values)
        codebook._embed = None  # noqa: SLF001 - what it has computed from the sums before
        return
    codebook.embed.copy_(values)
    if hasattr(codebook, "embed_avg"):
        codebook.embed_avg.copy_(values)
