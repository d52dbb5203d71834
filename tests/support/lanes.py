"""What the tests of all backends with lanes ask: no neighbour and no place changes a token, and nobody waits for a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["NoWaiting", "begun_without_waiting", "check_company", "check_ready", "embeddings"]

Encode = Callable[[Sequence[Any]], Sequence[Mapping[str, npt.NDArray[Any]]]]


def begun_without_waiting(
    begin: Callable[[Sequence[Any]], Callable[[], Any]], clips: Sequence[Any], others: Sequence[Any]
) -> Any:
    """What a call of `clips` finds that begins on a GPU before a call of `others` does, and ends after it.

    Torch is in the mode meanwhile in which it fails where the host would wait for the device.
    """
    torch.cuda.set_sync_debug_mode("error")
    try:
        finishes = [begin(batch) for batch in (clips, others)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    finishes[1]()
    return finishes[0]()


def check_company(encode: Encode, clips: Sequence[Any], others: Sequence[Any]) -> None:
    """Each clip has the same bits in another order, another lane, with other neighbours, in a call of its own.

    `encode` encodes up to `len(clips)` clips in one call of a fixed shape; so many are `clips` and `others`.
    """
    expected = encode(clips)
    backwards = list(encode(clips[::-1]))[::-1]
    for number, clip in enumerate(clips):
        company = list(others)
        company[(number + 1) % len(clips)] = clip
        found = [backwards[number], encode([clip])[0], encode(company)[(number + 1) % len(clips)]]
        for values in found:
            assert values.keys() == expected[number].keys()
            for name, value in expected[number].items():
                assert value.dtype == values[name].dtype
                assert np.array_equal(value, values[name]), (number, name)


def check_ready(*networks: Any) -> None:
    """Loaded networks compute nothing that is the same in each call, and keep nothing for a gradient."""
    for module in (module for network in networks for module in network.modules()):
        assert not module.training
        assert not hasattr(module, "parametrizations"), f"{type(module).__name__} makes its weight anew in each call"
        assert not {"weight_g", "weight_v"} & set(dict(module.named_parameters(recurse=False)))
        assert not any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        attending = type(module).__name__.endswith("Attention") and getattr(module, "config", None)
        assert not attending or attending._attn_implementation == "sdpa"


class NoWaiting(contextlib.ExitStack):
    """Within this context, networks on the meta device fail where they would wait for a GPU.

    There no tensor has values, so that whatever asks for one fails of itself. A copy of values that were made on the host
    waits too, unless they are in pinned memory; it is told here.
    """

    def __enter__(self) -> NoWaiting:
        super().__enter__()
        self.enter_context(_NoCopies())  # type: ignore[no-untyped-call]
        self.enter_context(_NoNewTensors())
        return self


class _NoCopies(TorchDispatchMode):
    """Scalars of Python become arguments of a kernel; tensors on the host, be they of one value, are copied."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        _check(func, args, result)
        return result


class _NoNewTensors(TorchFunctionMode):
    """`torch.tensor` makes its tensor on the host, without a word to _NoCopies."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor):
            assert result.device.type == "cpu", "values that were made on the host"
        return result


def _check(func: Any, args: Sequence[Any], result: Any) -> None:
    if isinstance(result, torch.Tensor) and result.device.type == "meta":
        tensors = [item for item in args if isinstance(item, torch.Tensor) and item.numel()]
        assert all(item.device.type == "meta" for item in tensors), f"{func} of a tensor on the host"


def embeddings(quantizer: Any, name: str, monkeypatch: Any) -> list[torch.Tensor]:
    """What `quantizer.name` is called with from now on, copied, in order."""
    seen: list[torch.Tensor] = []
    plain = getattr(quantizer, name)

    def listen(embedding: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(embedding.clone())
        return plain(embedding, *args, **kwargs)

    monkeypatch.setattr(quantizer, name, listen)
    return seen
