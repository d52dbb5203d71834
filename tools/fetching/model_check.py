"""Checks of a model directory by its backend: its description, and one second encoded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_tokenizers.base import BackendFactory, BackendInfo, Scalar, Waveform, hear, takes_clips, takes_waves
from audio_tokenizers.registry import complete_options, get_factory
from jobs.spec import load_preset

if TYPE_CHECKING:
    import numpy as np

__all__ = ["describe_directory", "encode_one_second"]

TEXT = "Good morning, and welcome."


def _backend(name: str, directory: Path | None) -> tuple[BackendFactory, dict[str, Scalar]]:
    preset = load_preset(name)
    factory = get_factory(preset.backend)
    path = {} if directory is None else {"model_path": str(directory)}
    return factory, complete_options(factory, {**preset.options, **path})


def describe_directory(name: str, directory: Path) -> BackendInfo:
    """The backend's description of the directory. Raises ModelFilesError on a missing, truncated or foreign file."""
    factory, complete = _backend(name, directory)
    return factory.describe(complete, "cpu")


def encode_one_second(name: str, directory: Path | None) -> list[str]:
    """Load onto the CPU, encode, and describe each field. Raises ModelFilesError, or what the backend raises."""
    factory, complete = _backend(name, directory)
    backend = factory.load(complete, "cpu")
    info = backend.info
    wave = _one_second(info)
    values: Mapping[str, np.ndarray[Any, Any]] = {}
    if takes_waves(backend):
        values = {info.fields[0].name: backend.encode([wave])[0]}
    elif takes_clips(backend):
        utterance = hear(backend, wave, info.sample_rate, TEXT if info.needs_text else None)
        values = backend.encode_clips([utterance])[0]
    return [f"{key}: {_describe_array(value)}" for key, value in values.items()]


def _one_second(info: BackendInfo) -> Waveform:
    """A glide from 110 to 440 Hz, or more of it for a backend that needs longer clips."""
    import numpy as np

    time = np.arange(max(info.sample_rate, info.min_samples)) / info.sample_rate
    return (0.3 * np.sin(2 * np.pi * (110 * time + 165 * time**2))).astype(np.float32)


def _describe_array(value: np.ndarray[Any, Any]) -> str:
    shape = f"{value.dtype} [{', '.join(map(str, value.shape))}]"
    return f"{shape}, values {value.min():g} to {value.max():g}" if value.size else shape
