"""What training and prediction begin with alike: the model's files, the clips, and the network on its device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.shared.torch_device import require_bfloat16, require_device
from jobs.taste.aggregator import FusionName
from jobs.taste.corpus import Corpus, open_corpus
from jobs.taste.language_model import load_language_model
from jobs.taste.lm_files import LmFiles
from jobs.taste.model import Taste
from jobs.taste.settings import Settings

__all__ = ["build_model", "open_clips", "prepare_device"]

log = logging.getLogger("tar2tokens")


def open_clips(folders: Sequence[Path], files: LmFiles) -> Corpus:
    """The clips of these runs, joined; the log says what is left out."""
    log.info("reading where the clips of %s stand", ", ".join(map(str, folders)))
    corpus, left_out = open_corpus(folders, files)
    for line in left_out:
        log.warning("%s", line)
    return corpus


def build_model(files: LmFiles, settings: Settings, text_width: int, speech_width: int, device: str) -> Taste:
    """With initial weights that the seed decides, the same on every rank and machine."""
    torch.manual_seed(settings.seed)
    fusion: FusionName = settings.fusion
    model = Taste(load_language_model(files), text_width, speech_width, fusion)
    model.freeze(settings.frozen_parts)
    return model.to(device)


def prepare_device(device: str, settings: Settings) -> None:
    """Raises InfrastructureError if there is no such device, or it lacks the precision that is asked for."""
    require_device(device)
    if settings.precision != "bf16":
        return
    try:
        require_bfloat16(device)
    except InfrastructureError as error:
        raise InfrastructureError(f"{error} (precision: bf16 in the settings)") from None
