"""The files of a Whisper model in transformers' layout: where they are, what they hold, whether they are whole.

Nothing here imports torch, so that a run can be planned on a login node. The layout is `config.json` (model_type whisper)
and `model.safetensors`, or its shards and an index, as `WhisperForConditionalGeneration` or `WhisperModel` save them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_tokenizers.shared.config_reader import ConfigReader
from audio_tokenizers.shared.model_files import (
    CONFIG,
    INDEX,
    SHARDS,
    WEIGHTS,
    find_model,
    read_json,
    require_files,
    weights_names,
)

__all__ = ["HOP", "SAMPLE_RATE", "Checkpoint", "open_checkpoint"]

SAMPLE_RATE = 16000
HOP = 320
"""Samples per state: 160 per mel frame, and a convolution of stride 2."""
LAYOUT = f"a transformers Whisper directory with {CONFIG} and {WEIGHTS} (or its shards and {INDEX})"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory whose config was understood and whose weights files look whole; no tensor has been read."""

    directory: Path
    config: Mapping[str, Any]
    """The parsed `config.json`."""
    weights: tuple[Path, ...]
    """The weights file, or the shards in the order of their names."""
    width: int
    """Of each state: 1280 in large-v3."""
    layers: int
    """Of the encoder: 32 in large-v3."""
    mel_bins: int
    positions: int
    """States of one window: 1500."""

    @property
    def config_path(self) -> Path:
        """The file that `config` was read from."""
        return self.directory / CONFIG

    @property
    def window(self) -> int:
        """Samples that the encoder always hears: 480000, 30 s."""
        return self.positions * HOP


def open_checkpoint(model_path: str) -> Checkpoint:
    """The checkpoint in a directory, or of a hub id, which is downloaded only if the local cache does not have it.

    Raises ModelFilesError on anything that could not be loaded later: it costs no torch to find that out now.
    """
    return _read_directory(find_model(model_path, lambda _: (WEIGHTS, INDEX, SHARDS), _read_directory, layout=LAYOUT))


def _read_directory(directory: Path) -> Checkpoint:
    path = directory / CONFIG
    require_files(directory, [CONFIG], LAYOUT)
    config = read_json(path)
    reader = ConfigReader(path, config, advice="give a Whisper model, such as openai/whisper-large-v3")
    reader.require("model_type", "whisper")
    return Checkpoint(
        directory=directory,
        config=config,
        weights=tuple(require_files(directory, weights_names(directory), LAYOUT)),
        width=reader.positive("d_model"),
        layers=reader.positive("encoder_layers"),
        mel_bins=reader.positive("num_mel_bins"),
        positions=reader.positive("max_source_positions"),
    )
