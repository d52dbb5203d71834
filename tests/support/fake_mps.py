"""A GPU of a Mac for machines without one: tensors that claim to be on `mps`, and refuse what MPS refuses.

Within `fake_mps()`, a tensor that is moved to or made on `mps` is an `OnMps`, which holds its values in host memory. As on a
Mac, float64 raises TypeError, and so does a mixture of host and device. A copy back to the host is explicit. The arithmetic
is the CPU's, so this proves where tensors are and of which type, and nothing about the rounding of a real GPU. Operations
that torch makes of others are one step here, as the dispatcher shows them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["OnMps", "fake_mps"]

ANSWERS = {"aten._has_compatible_shallow_copy_type.default": False, "aten._fused_sdp_choice.default": 0}
"""Questions about tensors on the device. Attention is the one that is written out."""
MAY_MIX = ("aten.copy_", "aten._to_copy", "aten.to.", "aten.index", "aten.masked_fill")


class OnMps(torch.Tensor):
    """A tensor on the device; `inner` has its values."""

    inner: torch.Tensor  # type: ignore[assignment] # sparse tensors have a method of that name
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: type[OnMps], inner: torch.Tensor) -> OnMps:
        made: OnMps = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("mps"),
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})

    def __getitem__(self, index: Any) -> OnMps:  # of this and the next ones, torch's own ask for the device
        return OnMps(self.inner[tree_map(_inner, index)])

    def contiguous(self, *_: Any, **__: Any) -> OnMps:
        return self if self.inner.is_contiguous() else OnMps(self.inner.contiguous())

    def copy_(self, source: torch.Tensor, *_: Any) -> OnMps:
        torch.ops.aten.copy_.default(self, source)
        return self

    def __invert__(self) -> OnMps:
        return OnMps(~self.inner)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.inner[tree_map(_inner, index)] = _inner(value)


class _Mode(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    name = str(func)
    tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
    there = [item for item in tensors if isinstance(item, OnMps)]
    if there and name in ANSWERS:
        return ANSWERS[name]
    if there and not name.startswith(MAY_MIX) and any(item.dim() for item in tensors if not isinstance(item, OnMps)):
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found at least two, mps:0 and cpu!")
    if name.startswith("aten._scaled_dot_product_attention_math_for_mps"):
        func = torch.ops.aten._scaled_dot_product_attention_math.default
    result = func(*tree_map(_inner, args), **{key: tree_map(_inner, value) for key, value in kwargs.items()})
    known = {id(item.inner): item for item in there}
    on_mps = _is_on_mps(name, args, kwargs, there=bool(there))

    def placed(item: Any) -> Any:
        if not isinstance(item, torch.Tensor):
            return item
        if not on_mps:
            return item.clone() if id(item) in known else item
        if id(item) in known:
            return known[id(item)]
        if item.dtype in (torch.float64, torch.complex128):
            raise TypeError(
                f"{name}: Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
                "Please use float32 instead."
            )
        return OnMps(item.clone() if any(item is given for given in tensors) else item)

    return tree_map(placed, result)


def _is_on_mps(name: str, args: Any, kwargs: dict[str, Any], *, there: bool) -> bool:
    """Where the result of an operation is; `there`: whether one of its inputs is on the device."""
    if name.startswith("aten.copy_"):
        return isinstance(args[0], OnMps)
    wanted = args[1] if name.startswith("aten.to.device") and len(args) > 1 else kwargs.get("device")
    return there if wanted is None else torch.device(wanted).type == "mps"


def _inner(item: Any) -> Any:
    if isinstance(item, OnMps):
        return item.inner
    return torch.device("cpu") if item == "mps" or (isinstance(item, torch.device) and item.type == "mps") else item


@contextlib.contextmanager
def fake_mps() -> Iterator[None]:
    """Within this block, in this thread, torch has a GPU of a Mac."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    available = mock.patch.multiple(torch.backends.mps, is_built=lambda: True, is_available=lambda: True)
    try:
        # In inference mode, because autograd asks for the device, which this build of torch does not have.
        with available, mock.patch.object(torch.mps, "empty_cache"), _Mode(), torch.inference_mode():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
