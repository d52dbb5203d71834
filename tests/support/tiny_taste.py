"""The folder that `--backend taste --model-path` takes, with tiny random models: as tools.fetch_model taste fills it."""

from __future__ import annotations

from pathlib import Path

from audio_tokenizers.base import Scalar
from support.tiny_cosyvoice_text import build_cosyvoice
from support.tiny_s3 import build_s3_onnx
from support.tiny_whisper import build_whisper

__all__ = ["SMALL", "TASTE", "build_taste"]

TASTE = "cosyvoice_text+whisper_features+cosyvoice_s3"
SMALL: dict[str, Scalar] = {"whisper_features.layer": 1}
"""What the preset's options need for a Whisper of three layers."""


def build_taste(directory: Path) -> Path:
    """CosyVoice-300M, text and units, and whisper-large-v3."""
    build_cosyvoice(directory / "CosyVoice-300M")
    build_s3_onnx(directory / "CosyVoice-300M" / "speech_tokenizer_v1.onnx", version="v1", rate=50)
    build_whisper(directory / "whisper-large-v3")
    return directory
