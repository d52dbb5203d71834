"""CosyVoice 1's speech language model as TASTE uses it: the stack, its tables and its head, loaded strictly from llm.pt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audio_tokenizers.shared.weights import Naming, Weights
from jobs.taste.lm_files import LmFiles
from jobs.taste.stack import Stack

__all__ = ["LanguageModel", "load_language_model"]

NAMING = Naming(
    parts=("llm", "llm_embedding", "speech_embedding", "llm_decoder"),
    # What turns text and a speaker into inputs upstream, where TASTE has its own.
    unneeded=r"(text_embedding|text_encoder|text_encoder_affine_layer|spk_embed_affine_layer)\.",
)


class LanguageModel(nn.Module):
    """[SOS], text, [TASK] and units -> logits over the units and the end mark, which is the number `units`."""

    def __init__(self, files: LmFiles) -> None:
        super().__init__()
        self.units = files.units
        self.llm = Stack(files.stack)
        self.llm_embedding = nn.Embedding(2, files.stack.inputs)
        self.speech_embedding = nn.Embedding(files.units, files.stack.inputs)
        self.llm_decoder = nn.Linear(files.stack.width, files.units + 1)

    @property
    def sos(self) -> Tensor:
        """[1, inputs]: how each sequence begins."""
        return self.llm_embedding.weight[:1]

    @property
    def task(self) -> Tensor:
        """[1, inputs]: what stands between text and units."""
        return self.llm_embedding.weight[1:]


def load_language_model(files: LmFiles) -> LanguageModel:
    """On the CPU, in float32, frozen. Raises ModelFilesError where a tensor is missing, unknown or misshapen."""
    with torch.device("meta"):
        model = LanguageModel(files)
    Weights([files.weights], NAMING, str(files.config)).read().fill(model)
    return model
