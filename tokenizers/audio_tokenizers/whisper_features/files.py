"""The files of a Whisper model in transformers' layout: their places, contents and completeness.

Nothing here imports torch: a run can be planned on a login node. The layout is `config.json` (model_type whisper) and
`model.safetensors`, or its shards and an index, as `WhisperForConditionalGeneration` or `WhisperModel` save them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audio_tokenizers.shared.config_reader import read_config
from audio_tokenizers.shared.model_files import (
    CONFIG,
    INDEX,
    SAVED_WEIGHTS,
    WEIGHTS,
    SavedModel,
    find_model,
    require_saved_weights,
)

__all__ = ["HOP", "SAMPLE_RATE", "Checkpoint", "open_checkpoint"]

SAMPLE_RATE = 16000
HOP = 320
"""Samples per state: 160 per mel frame, and a convolution of stride 2."""
LAYOUT = f"a transformers Whisper directory with {CONFIG} and {WEIGHTS} (or its shards and {INDEX})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(SavedModel):
    """A Whisper model saved by transformers."""

    width: int
    """Width of a state: 1280 in large-v3."""
    layers: int
    """Layers of the encoder: 32 in large-v3."""
    mel_bins: int
    positions: int
    """States of one window: 1500."""

    @property
    def window(self) -> int:
        """Samples of the encoder's fixed input: 480000, 30 s."""
        return self.positions * HOP


def open_checkpoint(model_path: str) -> Checkpoint:
    """Open the checkpoint in a directory or of a hub id, which is downloaded only if it is not in the local cache.

    Raises ModelFilesError for anything that would fail to load later: the check does not need torch.
    """
    return _read_directory(find_model(model_path, lambda _: SAVED_WEIGHTS, _read_directory, layout=LAYOUT))


def _read_directory(directory: Path) -> Checkpoint:
    reader = read_config(directory, LAYOUT, "give a Whisper model, such as openai/whisper-large-v3")
    reader.require("model_type", "whisper")
    return Checkpoint(
        directory=directory,
        config=reader.values,
        weights=require_saved_weights(directory, LAYOUT),
        width=reader.positive("d_model"),
        layers=reader.positive("encoder_layers"),
        mel_bins=reader.positive("num_mel_bins"),
        positions=reader.positive("max_source_positions"),
    )
