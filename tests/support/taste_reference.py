"""What the script that TASTE-simplified replaces computes, in plain steps, for batches in which it is right.

Written from its description, not from its lines: text is padded to the longest of the batch before [TASK] follows, attention
masks frames with -1e9, and the loss is the mean over the unit positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jobs.taste.model import Batch, Taste

__all__ = ["batch_of", "plain_loss"]


def batch_of(
    generator: torch.Generator,
    texts: list[int],
    frames: list[int],
    units: list[int],
    *,
    text_width: int = 8,
    speech: int = 12,
    most: int = 32,
) -> Batch:
    """Random utterances of these lengths. The padding holds large values, which expose code that reads it."""

    def floats(lengths: list[int], width: int) -> Tensor:
        values = torch.randn(len(lengths), max(lengths), width, generator=generator)
        for row, length in enumerate(lengths):
            values[row, length:] = 1e4
        return values

    return Batch(
        names=[f"clip {number}" for number in range(len(texts))],
        text=floats(texts, text_width),
        text_lengths=texts,
        mid=floats(frames, speech),
        final=floats(frames, speech),
        frames=frames,
        units=[torch.randint(0, most, (length,), generator=generator) for length in units],
    )


def plain_loss(model: Taste, batch: Batch) -> Tensor:
    """Mean cross-entropy over all unit positions, of a batch whose texts are equally long."""
    assert len(set(batch.text_lengths)) == 1
    weights = dict(model.named_parameters())

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    query, keys, values = (
        linear(f"aggregator.{name}", x)
        for name, x in (("q_proj", batch.text), ("k_proj", batch.final), ("v_proj", batch.mid))
    )
    scores = query @ keys.transpose(1, 2) / math.sqrt(query.shape[-1])
    for row, length in enumerate(batch.frames):
        scores[row, :, length:] = -1e9
    speech = scores.softmax(-1) @ values
    inputs = linear("input_proj", norm("fusion.ln_text", batch.text) + norm("fusion.ln_z", speech))
    count, length = len(inputs), max(map(len, batch.units))
    padded = torch.zeros(count, length, dtype=torch.long)
    targets = torch.full((count, length + 1), -100)
    for row, units in enumerate(batch.units):
        padded[row, : len(units)] = targets[row, : len(units)] = units
        targets[row, len(units)] = model.lm.units
    marks = weights["lm.llm_embedding.weight"]
    sequence = torch.cat(
        (
            marks[0].expand(count, 1, -1),
            inputs,
            marks[1].expand(count, 1, -1),
            weights["lm.speech_embedding.weight"][padded],
        ),
        1,
    )
    logits = linear("lm.llm_decoder", model.lm.llm(sequence)[:, inputs.shape[1] + 1 :])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
