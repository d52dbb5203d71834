"""The encoder of vq02 for a GPU: all steps of all clips at once, layer by layer.

ChunkEncoder goes step by step, like the stream that the network was made for: 50 layers per step, too little work for a GPU.
But a layer's output for a step depends only on the layer below: on its window of 9 frames, and on the keys and values of the
4 windows before. The windows of all clips are therefore concatenated and go through each layer in tiles of a fixed size; the
last 4 windows of a tile pass their keys and values on to the next. Masks hide positions before and after a clip.

The nearest centres are found on the GPU, too, in float64: a single copy returns the codes of a whole batch. MPS has no
float64; there the host finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from audio_tokenizers.shared.torch_device import in_float64
from audio_tokenizers.step_audio.encoder import CHUNK, LOOK_BACK, OVERLAP
from audio_tokenizers.step_audio.options import WINDOWS

if TYPE_CHECKING:
    from torch import Tensor

    from audio_tokenizers.step_audio.encoder import Network

__all__ = ["WindowEncoder"]

FRAMES = OVERLAP + CHUNK
BEFORE = LOOK_BACK // CHUNK
"""Earlier windows whose keys and values a window sees: of each the first CHUNK frames, which are not recomputed."""

Codes = npt.NDArray[np.int16]
"""int16 [codes]."""


class WindowEncoder:
    """Network and centres on one device."""

    def __init__(self, network: Network, centres: Tensor, device: str, windows: int = WINDOWS) -> None:
        """`centres`: float32 [codes, width]."""
        self._encoder = network.encoder
        self._centres = in_float64(centres.to(device))
        self._device = device
        self._on_cuda = device.startswith("cuda")
        self._windows = windows

    def begin(self, clips: Sequence[Tensor]) -> Callable[[], list[Codes]]:
        """Embedded features of each clip, float32 [frames, inputs] on the host -> codes, as many as frames.

        Returns before the GPU has finished; the returned function waits for the codes.
        """
        tiles = [self.nearest(hidden) for hidden in self.hidden_states(clips)]
        found = torch.cat(tiles) if tiles else None

        def codes() -> list[Codes]:
            flat = np.zeros(0, np.int16) if found is None else found.cpu().numpy()
            steps = [-(-len(clip) // CHUNK) * CHUNK for clip in clips]
            starts = np.cumsum([0, *steps])
            return [flat[start : start + len(clip)].copy() for start, clip in zip(starts, clips, strict=False)]

        return codes

    def hidden_states(self, clips: Sequence[Tensor]) -> Iterator[Tensor]:
        """Encoder outputs, tile by tile: [windows, CHUNK, width] on the device. The end of the last tile is padding."""
        layers = (*self._encoder.encoders0, *self._encoder.encoders)
        width = self._encoder.after_norm.weight.shape[0]
        nothing = self._encoder.after_norm.weight.new_zeros(BEFORE, CHUNK, width)
        kept = [(nothing, nothing) for _ in layers]
        for windows, mask in self._tiles(clips):
            # On MPS a copy that nothing waits for may read memory that is already reused.
            x = windows.to(self._device, non_blocking=self._on_cuda)
            seen = mask.to(self._device, non_blocking=self._on_cuda)
            for number, layer in enumerate(layers):
                x, kept[number] = _layer(layer, x, seen, kept[number])
            yield self._encoder.after_norm(x[:, OVERLAP:])

    def nearest(self, hidden: Tensor) -> Tensor:
        """[windows, CHUNK, width] -> int16 [windows * CHUNK]: the index of the nearest centre."""
        return torch.cdist(in_float64(hidden.flatten(0, 1)), self._centres).argmin(dim=1).to(torch.int16)

    def _tiles(self, clips: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows [windows, FRAMES, inputs] and their masks, bool [windows, LOOK_BACK + FRAMES], in host memory.

        Unused positions are zeros that attend to themselves.
        """
        place = self._windows
        tile = seen = torch.empty(0)
        for clip in clips:
            steps = -(-len(clip) // CHUNK)
            padded = nn.functional.pad(clip, (0, 0, OVERLAP, steps * CHUNK - len(clip)))
            start = 0
            while start < steps:
                if place == self._windows:
                    if len(tile):
                        yield tile, seen
                    tile, seen, place = *self._empty(clip), 0
                count = min(steps - start, self._windows - place)
                windows = padded[start * CHUNK :].unfold(0, FRAMES, CHUNK)[:count]
                tile[place : place + count] = windows.transpose(1, 2)
                for step in range(start, min(start + count, BEFORE)):
                    seen[place + step - start, : (BEFORE - step) * CHUNK] = False
                place, start = place + count, start + count
            if rest := len(clip) % CHUNK:
                seen[place - 1, LOOK_BACK + OVERLAP + rest :] = False
        if len(tile):
            tile[place:] = 0
            seen[place:, :LOOK_BACK] = False
            yield tile, seen

    def _empty(self, like: Tensor) -> tuple[Tensor, Tensor]:
        tile = torch.empty(self._windows, FRAMES, like.shape[1], dtype=like.dtype, pin_memory=self._on_cuda)
        seen = torch.ones(self._windows, LOOK_BACK + FRAMES, dtype=torch.bool, pin_memory=self._on_cuda)
        return tile, seen


def _layer(
    layer: Any,  # noqa: ANN401 - ModuleList knows no types of its own
    x: Tensor,
    seen: Tensor,
    kept: tuple[Tensor, Tensor],
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """[windows, FRAMES, inputs] -> [windows, FRAMES, width], and the keys and values for the next tile."""
    attention = layer.self_attn
    query, key, value = attention.linear_q_k_v(layer.norm1(x)).chunk(3, dim=-1)
    keys, kept_keys = _with_before(key, kept[0])
    values, kept_values = _with_before(value, kept[1])
    # After its end a clip has no values, as if the window ended there.
    own = value * seen[:, LOOK_BACK:, None]
    memory = attention.fsmn_block(nn.functional.pad(own.transpose(1, 2), (attention.padding, attention.padding)))
    heard = attention.linear_out(_attend(query, keys, values, seen, attention.heads)) + (memory.transpose(1, 2) + own)
    # The first layer changes the width: no residual around its attention.
    x = x + heard if x.shape == heard.shape else heard
    return x + layer.feed_forward(layer.norm2(x)), (kept_keys, kept_values)


def _with_before(own: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """[windows, FRAMES, width] -> [windows, LOOK_BACK + FRAMES, width], preceded by earlier windows; and the last BEFORE."""
    stored = torch.cat((kept, own[:, :CHUNK]))
    before = stored.unfold(0, BEFORE, 1)[: len(own)].permute(0, 3, 1, 2).flatten(1, 2)
    return torch.cat((before, own), dim=1), stored[-BEFORE:]


def _attend(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor, heads: int) -> Tensor:
    """Explicit attention, as in the stepwise encoder.

    Queries, keys and values [windows, frames, width] -> [windows, FRAMES, width].
    """
    query, keys, values = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, keys, values))
    similar = (query * query.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    weights = torch.softmax(similar.masked_fill(~seen[:, None, None], -torch.inf), dim=-1)
    return (weights @ values).transpose(1, 2).flatten(2)
