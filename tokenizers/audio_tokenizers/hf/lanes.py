"""Lanes of the codecs of transformers: which of their layers make which branch, and how long the lanes begin."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from audio_tokenizers.hf.model import encode_batch
from audio_tokenizers.shared.lanes import Branch

if TYPE_CHECKING:
    import torch

__all__ = ["HfLanes"]


class HfLanes:
    """A loaded codec with hooks, and a quantizer of its own for the first `codebooks`."""

    def __init__(self, model: Any, codebooks: int) -> None:  # noqa: ANN401 - its modules have no types
        from audio_tokenizers.shared.lane_quantizers import LaneQuantizer

        self._model = model
        self._codebooks = codebooks
        self._quantizer = LaneQuantizer(model, codebooks)
        if model.config.model_type == "xcodec":
            # HuBERT hears as many zeros on each side as the acoustic encoder does where the two would differ in frames.
            both = 2 * model.pad
            self._branches = [
                (Branch(model.acoustic_encoder), (0, both)),
                (Branch(model.semantic_model, model.encoder_semantic), (both,)),
            ]
        else:
            roots = [part for name, part in model.named_children() if name != "quantizer"]
            self._branches = [(Branch(*roots), (0,))]

    def encode(
        self, batch: torch.Tensor, lengths: Sequence[int], bandwidth: float | None
    ) -> tuple[torch.Tensor, Sequence[int]]:
        """`encode_batch` of [lanes, samples] with `lengths` samples each, zeros behind them; and each lane's frames."""
        width = batch.shape[1]
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._quantizer.in_place())
            for branch, paddings in self._branches:
                starts = {width + padding: [length + padding for length in lengths] for padding in paddings}
                table = stack.enter_context(branch.scope(starts))
            codes = encode_batch(self._model, batch[:, None], self._codebooks, bandwidth)
        return codes, table.at(codes.shape[2])
