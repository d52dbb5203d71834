"""Hides padding from a network: clips of any lengths side by side, each computed as if it were alone.

A call has a fixed number of lanes of a fixed width; zeros follow shorter clips. Before each layer, the padding that a
clip's last frames can see becomes what they would see alone: zeros where a convolution pads with zeros, reflected or
repeated values where EnCodec and Mimi pad with those. GroupNorm counts a lane's own frames only, and attention masks its
keys. So the tokens depend on the clip and the shape of the call, never on the neighbours.

A table gives each lane's length by the width of a layer's input. It starts with the width of the samples, and each
convolution adds its output's width, computed by the same formula as the lengths. This needs no knowledge of the model:
within one branch, two layers of equal width have equal lengths, and the table raises an error if they do not.

A lane's own frames never read beyond the next convolution's reach, so padding is written in place, and only that far.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from audio_tokenizers.errors import ClipError, InfrastructureError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Branch", "LaneTable"]

PADDED = ("EncodecConv1d", "MimiConv1d")
"""Wrappers in transformers that pad by themselves and then call a Conv1d without padding."""
ATTENTION_4D, ATTENTION_2D = ("HubertAttention", "Wav2Vec2Attention"), ("WavLMAttention",)
"""Attention over all keys: with a mask for scaled_dot_product_attention, or over [lanes, keys]."""
CAUSAL, CAUSAL_PARTS = "MimiTransformerModel", ("MimiAttention",)
"""Its frames look back only and see no padding; but its own mask asks the device whether its positions are consecutive."""


class LaneTable:
    """How many positions of each lane are the clip's, by the width of a layer's input, in one branch for one call."""

    def __init__(self, lengths: Mapping[int, Sequence[int]]) -> None:
        self._lengths: dict[int, tuple[int, ...]] = {}
        self._masks: dict[int, Tensor] = {}
        for width, found in lengths.items():
            self.enter(width, found)

    def at(self, width: int) -> tuple[int, ...]:
        """The length of each lane where the whole is `width`. Raises InfrastructureError if that is not known."""
        found = self._lengths.get(width)
        if found is None:
            raise InfrastructureError(f"lanes: {width} is none of the widths {sorted(self._lengths)}: a bug in the backend")
        return found

    def enter(self, width: int, lengths: Sequence[int]) -> None:
        """Say how long the lanes are at `width`. Raises InfrastructureError if it cannot be or was said otherwise before."""
        if min(lengths) < 1:
            raise ClipError("too_short", f"a clip with no frame where the longest that fits has {width}")
        if max(lengths) > width:
            raise InfrastructureError(f"lanes: a clip of {max(lengths)} in a width of {width}: a shape of broken hops?")
        if self._lengths.setdefault(width, tuple(lengths)) != tuple(lengths):
            raise InfrastructureError(f"lanes: two lengths of one lane at width {width}: a bug in the backend")

    def step(self, width: int, frames: Callable[[int], int]) -> None:
        """A layer makes `frames(n)` of n, for widths and lengths alike."""
        self.enter(frames(width), [frames(length) for length in self.at(width)])

    def keys(self, width: int, device: torch.device) -> Tensor:
        """A mask, bool [lanes, width], true where a clip is; the same tensor each time."""
        import torch

        if width not in self._masks:
            lengths = self.at(width)
            mask = self._masks[width] = torch.zeros((len(lengths), width), dtype=torch.bool, device=device)
            for lane, length in enumerate(lengths):
                mask[lane, :length].fill_(value=True)
        return self._masks[width]


class _Context(threading.local):
    """The table of this thread's current call."""

    table: LaneTable | None = None


class Branch:
    """The layers on one path from the samples, with hooks that do nothing outside a scope.

    Two paths with equal widths but different lengths are two branches. Raises UsageError on an unknown attention.
    """

    def __init__(self, *roots: nn.Module) -> None:
        self._context = _Context()
        inner: set[nn.Module] = set()
        for module in (module for root in roots for module in root.modules()):
            if type(module).__name__ in PADDED:
                inner.add(module.get_submodule("conv"))
            if module not in inner:
                self._install(module)

    @contextlib.contextmanager
    def scope(self, lengths: Mapping[int, Sequence[int]]) -> Iterator[LaneTable]:
        """Within this block, in this thread, the lanes of an input of such a width have such lengths, each at least 1."""
        self._context.table = LaneTable(lengths)
        try:
            yield self._context.table
        finally:
            self._context.table = None

    def _install(self, module: nn.Module) -> None:
        import torch

        name = type(module).__name__
        if name in PADDED:
            self._replace(module, _convolve_padded)
        elif isinstance(module, torch.nn.Conv1d):
            self._before(module, _clear_band)
        elif isinstance(module, torch.nn.GroupNorm):
            self._replace(module, _normalise)
        elif name in ATTENTION_4D or name in ATTENTION_2D:
            self._before(module, _hide_keys)
        elif name == CAUSAL:
            self._before(module, _look_back)
        elif name.endswith("Attention") and name not in CAUSAL_PARTS:
            # A layer that hears all of its input, under a name of another version.
            raise UsageError(f"lanes: {name} is not known here: take --set lanes=0, or transformers 5.23")

    def _before(self, module: nn.Module, prepare: Callable[[Any, LaneTable, Tensor], Mapping[str, Any]]) -> None:
        """Have `prepare` see the module's input, within a scope, and give it keyword arguments."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
            table = self._context.table
            return None if table is None else (args, {**kwargs, **prepare(module, table, args[0])})

        module.register_forward_pre_hook(hook, with_kwargs=True)

    def _replace(self, module: nn.Module, run: Callable[[Any, Any, LaneTable, Tensor], Tensor]) -> None:
        """Have `run` do the module's work within a scope, from (module, its own forward, table, input)."""
        plain = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the module's own
            table = self._context.table
            return plain(*args, **kwargs) if table is None else run(module, plain, table, args[0])

        module.forward = forward


def _clear_band(module: nn.Conv1d, table: LaneTable, hidden: Tensor) -> Mapping[str, Any]:
    """[lanes, channels, width]: zeros behind each lane's end, as many as the convolution pads with."""
    (kernel,), (stride,), (dilation,) = module.kernel_size, module.stride, module.dilation
    padding, width = int(module.padding[0]), hidden.shape[2]
    for lane, length in enumerate(table.at(width)):
        if padding and length < width:
            hidden[lane, :, length : length + padding].zero_()
    table.step(width, lambda length: (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
    return {}


def _normalise(_: nn.GroupNorm, plain: Callable[[Tensor], Tensor], table: LaneTable, hidden: Tensor) -> Tensor:
    """[lanes, channels, width]: each lane by the statistics of its own frames, in place; the rest stays as it is."""
    for lane, length in enumerate(table.at(hidden.shape[2])):
        own = hidden[lane : lane + 1, :, :length]
        own.copy_(plain(own))
    return hidden


def _hide_keys(module: nn.Module, table: LaneTable, hidden: Tensor) -> Mapping[str, Any]:
    """[lanes, width, channels]: a mask also where no lane is short: without one, another kernel might round otherwise."""
    keys = table.keys(hidden.shape[1], hidden.device)
    return {"attention_mask": keys if type(module).__name__ in ATTENTION_2D else keys[:, None, None]}


def _look_back(module: Any, _: LaneTable, hidden: Tensor) -> Mapping[str, Any]:  # noqa: ANN401 - a module of transformers
    """[lanes, width, channels]: a mask of as many frames as Mimi looks back, the frame itself among them."""
    import torch

    frames = torch.arange(hidden.shape[1], device=hidden.device)
    back = frames[:, None] - frames[None, :]
    return {"attention_mask": ((back >= 0) & (back < module.config.sliding_window))[None, None]}


def _convolve_padded(module: Any, _: object, table: LaneTable, hidden: Tensor) -> Tensor:  # noqa: ANN401 - as above
    """[lanes, channels, width]: what EncodecConv1d and MimiConv1d do, with each lane's own padding.

    They fill up the last step of a stride, so that n become ceil(n / stride). The modules compute that with tensors on the
    device, in float32; here it is integers.
    """
    import torch

    conv = module.conv
    kernel, stride, dilation = int(conv.kernel_size[0]), int(conv.stride[0]), int(conv.dilation[0])
    total = dilation * (kernel - 1) + 1 - stride
    right = 0 if module.causal else total // 2
    left, width = total - right, hidden.shape[2]

    def frames(length: int) -> int:
        return -(-length // stride)

    def behind(length: int) -> int:
        return right + frames(length) * stride - length

    lengths = table.at(width)
    table.step(width, frames)
    if total or stride > 1:
        # At least what a reflection on the left reads, of a call that is narrower than that.
        padded = torch.nn.functional.pad(hidden, (left, max(behind(width), left + 1 - width)))
        for lane, length in enumerate(lengths):
            _pad_lane(padded[lane, :, left:], length, left, behind(length), module.pad_mode)
        if module.pad_mode == "replicate":
            padded[:, :, :left].copy_(padded[:, :, left : left + 1])
        elif module.pad_mode == "reflect":
            padded[:, :, :left].copy_(padded[:, :, left + 1 : 2 * left + 1].flip(2))
        hidden = padded[:, :, : left + width + behind(width)]
    convolved: Tensor = conv(hidden)
    return module.norm(convolved) if getattr(module, "norm_type", "") == "time_group_norm" else convolved


def _pad_lane(own: Tensor, length: int, left: int, right: int, mode: str) -> None:
    """[channels, more than `length` + `right`]: write what the layer pads a clip of `length` with, `right` values.

    Behind a clip that is no longer than its padding, a reflection reads zeros (see `_pad1d` in transformers).
    """
    if mode == "replicate":
        own[:, length : length + right].copy_(own[:, length - 1 : length])
        return
    longest = max(left, right)
    own[:, length : length + (longest if mode == "reflect" else right)].zero_()
    if mode == "reflect":
        end = max(length, longest + 1)
        mirrored = right - (end - length)
        if mirrored > 0:
            own[:, end : end + mirrored].copy_(own[:, end - 1 - mirrored : end - 1].flip(1))
