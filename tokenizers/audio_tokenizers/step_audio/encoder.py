"""The encoder of vq02: FunASR's streaming SAN-M encoder, step by step over a batch of clips.

The network is SANMEncoderChunkOpt (github.com/modelscope/FunASR, models/scama/encoder.py and models/sanm/attention.py;
SCAMA, arxiv.org/abs/2006.01712) as Step-Audio drives it: each step has 4 new frames after the last 5 of the step before, the
keys and values of the 4 steps before that, and no look-ahead. No step depends on other clips, which allows batches of clips
of any lengths; FunASR's own driver takes one clip at a time, and importing it costs seconds and a hundred packages.

A clip gets the same bits in any batch only if the rows of a matrix product do not depend on the number of rows. On a CPU
this holds for a multiple of 4 rows: the last one to three rows, also those of a thread's share, go through another kernel
(MKL 2024.2), so rows are padded with zeros to a multiple of 16. On a GPU the number of rows selects the kernel: there, whole
clips go through windows.py, and only streams, each alone, go step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from audio_tokenizers.step_audio.files import FEATURES, Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CHUNK", "LOOK_BACK", "OVERLAP", "ChunkEncoder", "Network", "State"]

CHUNK = 4
"""New frames of a step: 240 ms."""
OVERLAP = 5
"""Frames of the previous step that are recomputed before the new ones."""
LOOK_BACK = 16
"""Frames before those whose keys and values are kept."""
LAYER_NORM_EPSILON = 1e-12
ROWS = 16
"""Products with weights are padded to a multiple of this number of rows."""

LayerCache = tuple["Tensor", "Tensor"]
"""Keys and values, [clips, heads, at most LOOK_BACK, width / heads] each."""


class _Attention(nn.Module):
    def __init__(self, inputs: int, width: int, heads: int, kernel: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_out = nn.Linear(width, width)
        self.linear_q_k_v = nn.Linear(inputs, 3 * width)
        self.fsmn_block = nn.Conv1d(width, width, kernel, groups=width, bias=False)
        self.padding = (kernel - 1) // 2

    def forward(self, x: Tensor, shape: tuple[int, int], cache: LayerCache | None) -> tuple[Tensor, LayerCache]:
        """[rows, inputs], of which the first belong to `shape` (clips, frames) -> [rows, width], and the new cache."""
        clips, frames = shape
        idle = len(x) - clips * frames
        query, key, value = self.linear_q_k_v(x)[: clips * frames].view(clips, frames, -1).chunk(3, dim=-1)
        memory = nn.functional.pad(value.transpose(1, 2), (self.padding, self.padding))
        memory = self.fsmn_block(memory).transpose(1, 2) + value
        # Contiguous: otherwise BLAS is called differently for one clip and for several.
        split = (t.reshape(clips, frames, self.heads, -1).transpose(1, 2).contiguous() for t in (query, key, value))
        query, key, value = split
        if cache is not None:
            key, value = torch.cat((cache[0], key), dim=2), torch.cat((cache[1], value), dim=2)
        weights = torch.softmax((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1), dim=-1)
        attended = _with_idle_rows((weights @ value).transpose(1, 2).reshape(clips * frames, -1), idle)
        # The overlap is recomputed in the next step: the cache ends before it.
        start, end = max(0, key.shape[2] - OVERLAP - LOOK_BACK), key.shape[2] - OVERLAP
        kept = (key[:, :, start:end], value[:, :, start:end])
        return self.linear_out(attended) + _with_idle_rows(memory.reshape(clips * frames, -1), idle), kept


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.w_2(self.w_1(x).relu_())
        return hidden


class _Layer(nn.Module):
    def __init__(self, inputs: int, checkpoint: Checkpoint) -> None:
        super().__init__()
        width = checkpoint.width
        self.self_attn = _Attention(inputs, width, checkpoint.heads, checkpoint.kernel)
        self.feed_forward = _FeedForward(width, checkpoint.feed_forward)
        self.norm1 = nn.LayerNorm(inputs, eps=LAYER_NORM_EPSILON)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def forward(self, x: Tensor, shape: tuple[int, int], cache: LayerCache | None) -> tuple[Tensor, LayerCache]:
        attended, cache = self.self_attn(self.norm1(x), shape, cache)
        # The first layer changes the width: no residual around its attention.
        x = x + attended if x.shape == attended.shape else attended
        return x + self.feed_forward(self.norm2(x)), cache


class _Encoder(nn.Module):
    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.encoders0 = nn.ModuleList([_Layer(FEATURES, checkpoint)])
        self.encoders = nn.ModuleList(_Layer(checkpoint.width, checkpoint) for _ in range(checkpoint.layers - 1))
        self.after_norm = nn.LayerNorm(checkpoint.width, eps=LAYER_NORM_EPSILON)

    def forward(self, x: Tensor, caches: Sequence[LayerCache | None]) -> tuple[Tensor, list[LayerCache]]:
        """One step. x: float32 [clips, OVERLAP + new frames, 560] -> [clips, new frames, width], and the new caches."""
        clips, frames, _ = x.shape
        x = _with_idle_rows(x.flatten(0, 1), -clips * frames % ROWS)
        kept = []
        for layer, cache in zip((*self.encoders0, *self.encoders), caches, strict=True):
            x, after = layer(x, (clips, frames), cache)
            kept.append(after)
        return self.after_norm(x[: clips * frames].view(clips, frames, -1)[:, OVERLAP:]), kept


def _with_idle_rows(x: Tensor, idle: int) -> Tensor:
    return nn.functional.pad(x, (0, 0, 0, idle))


class Network(nn.Module):
    """The part of FunASR's ParaformerStreaming that tokens need, with its parameter names."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.encoder = _Encoder(checkpoint)


class State:
    """The state of batched clips after the same number of steps."""

    __slots__ = ("caches", "overlap", "position")

    def __init__(self, overlap: Tensor, caches: Sequence[LayerCache | None], position: int) -> None:
        self.overlap = overlap
        """float32 [clips, OVERLAP, 560]: the last inputs."""
        self.caches = caches
        self.position = position
        """Frames encoded so far."""


class ChunkEncoder:
    """Drives the network over whole clips, or over pieces of one."""

    def __init__(self, network: Network, device: str, lanes: int) -> None:
        """`lanes`: maximum number of clips per step."""
        self._encoder = network.encoder
        self._layers = len(network.encoder.encoders) + 1
        self._device = device
        self._lanes = lanes
        self._positions = _positions(1024)

    def encode(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """Features float32 [frames, 560] of each clip -> float32 [frames, width], on the CPU; empty for no frames."""
        order = sorted(range(len(clips)), key=lambda number: -len(clips[number]))
        encoded: dict[int, Tensor] = {}
        for start in range(0, len(order), self._lanes):
            numbers = order[start : start + self._lanes]
            encoded.update(zip(numbers, self._encode_side_by_side([clips[number] for number in numbers]), strict=True))
        return [encoded[number] for number in range(len(clips))]

    def _encode_side_by_side(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """Encode clips sorted by length, longest first."""
        steps = [len(clip) // CHUNK for clip in clips]
        inputs = [torch.cat((clip.new_zeros(OVERLAP, FEATURES), self.embed(clip, 0))) for clip in clips]
        outputs: list[list[Tensor]] = [[] for _ in clips]
        caches: Sequence[LayerCache | None] = [None] * self._layers
        leftovers: dict[tuple[int, int], list[int]] = {}
        kept: dict[int, list[LayerCache | None]] = {}
        going = len(clips)
        for step in range(steps[0] + 1):
            while going and steps[going - 1] == step:
                going -= 1
                if tail := len(clips[going]) % CHUNK:
                    # The tail has another shape than a step: batch it with the tails of the same length.
                    leftovers.setdefault((min(step, LOOK_BACK // CHUNK), tail), []).append(going)
                    kept[going] = [_copy(cache, going) for cache in caches]
            if not going:
                break
            caches = [_rows(cache, slice(going)) for cache in caches]
            output, caches = self._step(_windows(inputs[:going], [step] * going, CHUNK), caches)
            for number in range(going):
                outputs[number].append(output[number])
        for (_, tail), numbers in leftovers.items():
            windows = _windows([inputs[number] for number in numbers], [steps[number] for number in numbers], tail)
            output, _ = self._step(windows, _gather([kept.pop(number) for number in numbers]))
            for number, frames in zip(numbers, output, strict=True):
                outputs[number].append(frames)
        nothing = torch.zeros(0, self._encoder.after_norm.normalized_shape[0])
        return [torch.cat(frames).cpu() if frames else nothing for frames in outputs]

    def start(self) -> State:
        """The state of one clip before its first frame."""
        return State(torch.zeros(1, OVERLAP, FEATURES), [None] * self._layers, 0)

    def advance(self, state: State, features: Tensor) -> Tensor:
        """Encode the next frames of one clip and advance its state: [frames, 560] -> [frames, width].

        Only the last call for a clip may pass a number of frames that is not a multiple of CHUNK.
        """
        inputs = torch.cat((state.overlap, self.embed(features, state.position)[None]), dim=1)
        outputs = [features.new_zeros(0, self._encoder.after_norm.normalized_shape[0])]
        for start in range(0, len(features), CHUNK):
            output, state.caches = self._step(inputs[:, start : start + OVERLAP + CHUNK], state.caches)
            outputs.append(output[0].cpu())
        state.overlap = inputs[:, -OVERLAP:]
        state.position += len(features)
        return torch.cat(outputs)

    def _step(self, window: Tensor, caches: Sequence[LayerCache | None]) -> tuple[Tensor, Sequence[LayerCache | None]]:
        result: tuple[Tensor, list[LayerCache | None]] = self._encoder(window.to(self._device), caches)
        return result

    def embed(self, features: Tensor, position: int = 0) -> Tensor:
        """Scale, and add sinusoidal position encodings; positions count from 1."""
        end = position + len(features)
        positions = self._positions  # a local copy: another thread may replace the attribute with a shorter one
        if end > len(positions):
            positions = self._positions = _positions(2 * end)
        scaled: Tensor = features * self._encoder.after_norm.normalized_shape[0] ** 0.5
        return scaled + positions[position:end]


def _positions(count: int) -> Tensor:
    """float32 [count, 560]: sines, then cosines, at 280 rates each (FunASR's StreamSinusoidalPositionEncoder)."""
    half = FEATURES // 2
    increment = torch.tensor([10000.0]).log() / (half - 1)
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -increment)
    angles = torch.arange(1, count + 1, dtype=torch.float32)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def _windows(inputs: Sequence[Tensor], steps: Sequence[int], frames: int) -> Tensor:
    """[clips, OVERLAP + frames, 560]: each clip's slice of its inputs for its step; inputs begin with OVERLAP zeros."""
    return torch.stack([x[step * CHUNK :][: OVERLAP + frames] for x, step in zip(inputs, steps, strict=True)])


def _copy(cache: LayerCache | None, row: int) -> LayerCache | None:
    """Copy one clip's cache: a view would keep the others' in memory."""
    return None if cache is None else (cache[0][row : row + 1].clone(), cache[1][row : row + 1].clone())


def _rows(cache: LayerCache | None, rows: slice) -> LayerCache | None:
    return None if cache is None else (cache[0][rows], cache[1][rows])


def _gather(caches: Sequence[Sequence[LayerCache | None]]) -> list[LayerCache | None]:
    """Caches of several clips, by clip and layer -> caches by layer."""
    gathered: list[LayerCache | None] = []
    for layer in zip(*caches, strict=True):
        there = [cache for cache in layer if cache is not None]
        gathered.append((torch.cat([k for k, _ in there]), torch.cat([v for _, v in there])) if there else None)
    return gathered
