"""TASTE-simplified as a whole: [SOS] fused text [TASK] units through CosyVoice's language model.

The position of [TASK] predicts the first unit, each unit the next one, the last one the end. Sequences are put together
utterance by utterance and padded only at their end, so that an utterance's loss never depends on its batch mates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from jobs.taste.aggregator import Aggregator, Fusion, FusionName
from jobs.taste.language_model import LanguageModel

__all__ = ["Batch", "Part", "Scores", "Taste"]

Part = Literal["stack", "tables", "head"]
TOP = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """Some utterances; arrays are padded at their end to the longest, and lengths are true ones."""

    names: Sequence[str]
    text: Tensor
    """float [batch, tokens, text width]"""
    text_lengths: Sequence[int]
    mid: Tensor
    """float [batch, frames, speech width], of a middle layer of Whisper."""
    final: Tensor
    """The same of its last layer."""
    frames: Sequence[int]
    units: Sequence[Tensor]
    """int64 [units] each. 0 is a unit."""

    def to(self, device: str) -> Batch:
        """The same on a device, with floats as float32."""
        floats = [each.to(device, torch.float32, non_blocking=True) for each in (self.text, self.mid, self.final)]
        units = [each.to(device, non_blocking=True) for each in self.units]
        return Batch(self.names, floats[0], self.text_lengths, floats[1], floats[2], self.frames, units)


@dataclass(frozen=True, slots=True)
class Scores:
    """How a batch's unit positions were predicted, with the true units before each."""

    losses: Tensor
    """float32 [batch]: summed cross-entropy of each utterance."""
    positions: int
    """Unit positions of all: units + 1 each."""
    targets: Tensor
    """int64 [positions]"""
    predicted: Tensor
    """int64 [positions]: the most likely one."""
    in_top: int
    """Positions whose target is among the TOP most likely."""


class Taste(nn.Module):
    """Aggregator, fusion and input projection, which are always trained, before a language model, which may be."""

    def __init__(self, lm: LanguageModel, text_width: int, speech_width: int, fusion: FusionName) -> None:
        super().__init__()
        self.aggregator = Aggregator(text_width, speech_width)
        self.fusion = Fusion(text_width, fusion)
        self.input_proj = nn.Linear(text_width, lm.llm.shape.inputs)
        self.lm = lm
        self._frozen: tuple[nn.Module, ...] = ()

    def freeze(self, parts: Iterable[Part]) -> None:
        """Train all but these parts of the language model. What is frozen stays in evaluation mode, without dropout."""
        modules: dict[Part, tuple[nn.Module, ...]] = {
            "stack": (self.lm.llm,),
            "tables": (self.lm.llm_embedding, self.lm.speech_embedding),
            "head": (self.lm.llm_decoder,),
        }
        self._frozen = tuple(module for part in parts for module in modules[part])
        self.requires_grad_(requires_grad=True)
        for module in self._frozen:
            module.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Taste:
        """Training mode for all that is trained."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def counts(self) -> dict[str, int]:
        """Part -> how many of its parameters are trained; parts of which none is are left out."""
        found: dict[str, int] = {}
        for name, parameter in self.trained().items():
            first, second, *_ = name.split(".")
            part = second if first == "lm" else first
            found[part] = found.get(part, 0) + parameter.numel()
        return found

    def prefixes(self, batch: Batch) -> list[Tensor]:
        """[SOS], fused text and [TASK] of each utterance: [tokens + 2, inputs]."""
        frames = torch.tensor(batch.frames, device=batch.final.device)
        speech = self.aggregator(batch.text, batch.final, batch.mid, frames)
        projected = self.input_proj(self.fusion(batch.text, speech))
        return [
            torch.cat((self.lm.sos, row[:length], self.lm.task))
            for row, length in zip(projected, batch.text_lengths, strict=True)
        ]

    def forward(self, batch: Batch) -> Scores:
        """The utterances with their true units as input."""
        prefixes = self.prefixes(batch)
        sequences = [
            torch.cat((prefix, self.lm.speech_embedding(units))) for prefix, units in zip(prefixes, batch.units, strict=True)
        ]
        hidden = self.lm.llm(pad_sequence(sequences, batch_first=True))
        # [TASK] is the last of the prefix, and the first that predicts.
        wanted = [
            hidden[row, len(prefix) - 1 : len(sequence)]
            for row, (prefix, sequence) in enumerate(zip(prefixes, sequences, strict=True))
        ]
        logits = self.lm.llm_decoder(torch.cat(wanted)).float()
        end = torch.tensor([self.lm.units], device=logits.device)
        targets = torch.cat([part for units in batch.units for part in (units, end)])
        losses = functional.cross_entropy(logits, targets, reduction="none")
        best = logits.detach().topk(min(TOP, logits.shape[1])).indices
        return Scores(
            losses=torch.stack([part.sum() for part in torch.split(losses, [len(units) + 1 for units in batch.units])]),
            positions=len(targets),
            targets=targets,
            predicted=best[:, 0],
            in_top=int((best == targets.unsqueeze(1)).sum()),
        )

    @torch.inference_mode()
    def decode(self, batch: Batch, most: Sequence[int]) -> list[list[int]]:
        """Units of each utterance, the most likely one at each step, up to the end mark or to `most`."""
        return [self._decode_one(prefix, limit) for prefix, limit in zip(self.prefixes(batch), most, strict=True)]

    def _decode_one(self, prefix: Tensor, most: int) -> list[int]:
        cache = self.lm.llm.start(len(prefix) + most, prefix.device)
        found: list[int] = []
        new = prefix
        while len(found) < most:
            hidden = self.lm.llm.step(new.unsqueeze(0), cache)[0, -1]
            unit = int(self.lm.llm_decoder(hidden).argmax())
            if unit == self.lm.units:
                break
            found.append(unit)
            new = self.lm.speech_embedding.weight[unit : unit + 1]
        return found
