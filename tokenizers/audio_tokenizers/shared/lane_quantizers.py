"""Quantizers of lanes: the codes that the networks' own give, with one product of matrices for each codebook.

The nearest code to x is that with the largest x.e - |e|^2 / 2, so that neither |x|^2 nor a square root is needed, and the
terms of the codes alone are computed once, as is what a code is decoded to. What is nearest by more than rounding stays so.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audio_tokenizers.shared.torch_device import in_float64

__all__ = ["LaneQuantizer"]

Projection = tuple[Tensor, Tensor | None]
"""Weight [outputs, inputs] and bias [outputs] of a linear layer or of a convolution of kernel 1."""


class _Codebook(nn.Module):
    """Rows [rows, width] -> int64 [rows], the nearest codes."""

    def __init__(
        self,
        codes: Tensor,
        decoded: Tensor | None = None,
        projection: Projection | None = None,
        *,
        by_angle: bool = False,
        squares: float = -0.5,
    ) -> None:
        """`codes` [size, dim]; `decoded` [size, width] is what a code stands for, if not itself.

        `by_angle`: rows are scaled to a length of 1, as `codes` are. `squares` times |e|^2 is added to x.e.
        """
        super().__init__()
        self.codes: Tensor
        self.offsets: Tensor
        self.other_decoded: Tensor | None
        self.register_buffer("codes", codes, persistent=False)
        offsets = (squares * in_float64(codes).pow(2).sum(1)).to(codes)  # its dtype and device
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("other_decoded", decoded, persistent=False)
        self.project = _Linear(projection)
        self.by_angle = by_angle

    def forward(self, rows: Tensor) -> Tensor:
        latents = self.project(rows)
        if self.by_angle:
            latents = functional.normalize(latents)
        return torch.addmm(self.offsets, latents, self.codes.t()).argmax(dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """int64 [rows] -> [rows, width]."""
        return functional.embedding(codes, self.codes if self.other_decoded is None else self.other_decoded)


class _Linear(nn.Module):
    """Nothing, or a linear layer of such weights."""

    def __init__(self, projection: Projection | None) -> None:
        super().__init__()
        weight, bias = projection or (None, None)
        self.weight: Tensor | None
        self.bias: Tensor | None
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        return rows if self.weight is None else functional.linear(rows, self.weight, self.bias)


class _Chain(nn.Module):
    """Codebooks of which each quantizes what the ones before have left."""

    def __init__(self, codebooks: Sequence[_Codebook], projection: Projection | None = None) -> None:
        super().__init__()
        self.codebooks = nn.ModuleList(codebooks)
        self.project = _Linear(projection)

    def forward(self, rows: Tensor) -> list[Tensor]:
        """[rows, width] -> for each codebook int64 [rows]."""
        rows = self.project(rows)
        found: list[Tensor] = []
        before: Any = None
        for codebook in self.codebooks:
            if before is not None:
                rows = rows - before.decode(found[-1])
            found.append(codebook(rows))
            before = codebook
        return found


class LaneQuantizer(nn.Module):
    """The first codebooks of a loaded model's quantizer. Its tensors are below the model's, and move with it."""

    def __init__(self, model: Any, codebooks: int) -> None:  # noqa: ANN401 - its modules have no types
        """`model`: one of `hf`, of `higgs`, or the encoder of `bicodec`, in float32 or float64."""
        super().__init__()
        kind = model.config.model_type if hasattr(model, "config") else "bicodec"
        self.chains = nn.ModuleList(CHAINS[kind](model.quantizer, codebooks))
        self.eval().requires_grad_(requires_grad=False)
        self._within = _Within()
        name = "forward" if kind in ("dac", "bicodec") else "encode"
        self._take_place(model.quantizer, name, RESULTS.get(kind, lambda codes, _: codes))

    def forward(self, embedding: Tensor) -> Tensor:
        """[lanes, width, frames] -> int64 [codebooks, lanes, frames]."""
        lanes, width, frames = embedding.shape
        rows = embedding.transpose(1, 2).reshape(-1, width)
        return torch.stack([codes for chain in self.chains for codes in chain(rows)]).view(-1, lanes, frames)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this block, in this thread, the model quantizes with this."""
        self._within.block = True
        try:
            yield
        finally:
            self._within.block = False

    def _take_place(self, quantizer: Any, name: str, result: Callable[[Tensor, Tensor], Any]) -> None:  # noqa: ANN401 - as above
        plain = getattr(quantizer, name)

        def quantize(embedding: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the model's own
            if not self._within.block:
                return plain(embedding, *args, **kwargs)
            return result(self(embedding), embedding)

        setattr(quantizer, name, quantize)
        quantizer.for_lanes = self


class _Within(threading.local):
    block = False


def _of_mimi(quantizer: Any, codebooks: int) -> list[_Chain]:  # noqa: ANN401 - its modules have no types
    semantic, acoustic = quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer
    first = len(semantic.layers)

    def chain(part: Any, count: int) -> _Chain:  # noqa: ANN401 - as above
        books = [layer.codebook for layer in part.layers[:count]]
        # As their property `embed` has it, which would keep a copy that moves to no other device.
        codes = [book.embed_sum / book.cluster_usage.clamp(min=book.epsilon)[:, None] for book in books]
        return _Chain([_Codebook(item) for item in codes], part.input_proj and _weights(part.input_proj))

    return [chain(semantic, first), *([chain(acoustic, codebooks - first)] if codebooks > first else [])]


def _of_dac(quantizer: Any, codebooks: int) -> list[_Chain]:  # noqa: ANN401 - as above
    def codebook(part: Any) -> _Codebook:  # noqa: ANN401 - as above
        codes = part.codebook.weight
        decoded = functional.linear(codes, *_weights(part.out_proj))
        # Descript's formula has |e|^2 with the sign of x.e. Here all codes are 1 long, except for rounding.
        return _Codebook(functional.normalize(codes), decoded, _weights(part.in_proj), by_angle=True, squares=0.5)

    return [_Chain([codebook(part) for part in quantizer.quantizers[:codebooks]])]


def _of_encodec(quantizer: Any, codebooks: int) -> list[_Chain]:  # noqa: ANN401 - as above
    return [_Chain([_Codebook(layer.codebook.embed) for layer in quantizer.layers[:codebooks]])]


def _of_xcodec(quantizer: Any, codebooks: int) -> list[_Chain]:  # noqa: ANN401 - as above
    return [_Chain([_Codebook(part.codebook.embed) for part in quantizer.quantizers[:codebooks]])]


def _of_higgs(quantizer: Any, codebooks: int) -> list[_Chain]:  # noqa: ANN401 - as above
    def codebook(part: Any) -> _Codebook:  # noqa: ANN401 - as above
        codes = part.codebook.embed
        return _Codebook(codes, functional.linear(codes, *_weights(part.project_out)), _weights(part.project_in))

    return [_Chain([codebook(part) for part in quantizer.quantizers[:codebooks]])]


def _of_bicodec(quantizer: Any, _: int) -> list[_Chain]:  # noqa: ANN401 - as above
    codes = functional.normalize(quantizer.codebook.weight)
    return [_Chain([_Codebook(codes, projection=_weights(quantizer.in_project), by_angle=True)])]


def _weights(layer: Any) -> Projection:  # noqa: ANN401 - as above
    return layer.weight.reshape(layer.weight.shape[0], -1), layer.bias


CHAINS: dict[str, Callable[[Any, int], list[_Chain]]] = {
    "mimi": _of_mimi,
    "dac": _of_dac,
    "encodec": _of_encodec,
    "xcodec": _of_xcodec,
    "higgs_audio_v2_tokenizer": _of_higgs,
    "bicodec": _of_bicodec,
}
"""model_type -> its quantizer's codebooks, the first so many."""
RESULTS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    # The latter are for training: DacModel adds the losses up, and no one reads them.
    "dac": lambda codes, embedding: (embedding, codes.transpose(0, 1), embedding, 0.0, 0.0),
    "bicodec": lambda codes, _: codes[0],
}
"""What the model's own quantizer returns, where that is more than codes, or in another order."""
