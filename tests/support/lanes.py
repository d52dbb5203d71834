"""What the tests of all backends with lanes ask: no neighbour and no place changes a token, and nobody waits for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["NoWaiting", "check_company", "embeddings"]

Encode = Callable[[Sequence[Any]], Sequence[Mapping[str, np.ndarray]]]


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


class NoWaiting(TorchDispatchMode):
    """Within this mode, networks on the meta device fail where they would wait for a GPU.

    There no tensor has values, so that whatever asks for one fails of itself; a copy from the host's memory is told here.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_) and result.device.type == "meta":
            source = args[1] if func.overloadpacket is torch.ops.aten.copy_ else args[0]
            assert source.device.type == "meta", "a copy of values that were made on the host"
        return result


def embeddings(quantizer: Any, name: str, monkeypatch: Any) -> list[torch.Tensor]:
    """What `quantizer.name` is called with from now on, copied, in order."""
    seen: list[torch.Tensor] = []
    plain = getattr(quantizer, name)

    def listen(embedding: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(embedding.clone())
        return plain(embedding, *args, **kwargs)

    monkeypatch.setattr(quantizer, name, listen)
    return seen
