"""Where the speech tokenizer of a CosyVoice checkpoint is. Nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.model_files import find_model

__all__ = ["find_onnx"]

ON_THE_HUB = ("speech_tokenizer_v[0-9].onnx",)
IN_A_DIRECTORY = re.compile(r"speech_tokenizer_[^.]+\.onnx")
"""Not speech_tokenizer_v2.batch.onnx, which newer checkpoints have beside it for training."""
LAYOUT = "the directory of a CosyVoice checkpoint with one speech_tokenizer_*.onnx (.batch.onnx aside), or that file"


def find_onnx(model_path: str) -> Path:
    """The ONNX file that `model_path` is, or that its directory or hub repository holds. Raises ModelFilesError."""
    path = Path(model_path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir() and model_path.startswith(("/", ".", "~")):
        raise ModelFilesError(f"{path}: missing: expected {LAYOUT}")
    return _only_onnx(find_model(model_path, _nothing_else, _only_onnx, hub_first=ON_THE_HUB, layout=LAYOUT))


def _nothing_else(_directory: Path) -> Sequence[str]:
    return ()


def _only_onnx(directory: Path) -> Path:
    names = sorted(entry.name for entry in directory.iterdir())
    candidates = [name for name in names if IN_A_DIRECTORY.fullmatch(name)]
    if len(candidates) == 1:
        return directory / candidates[0]
    if candidates:
        raise ModelFilesError(f"{directory}: expected {LAYOUT}; found {', '.join(candidates)}: give the one you mean")
    raise ModelFilesError(f"{directory}: expected {LAYOUT}; found {', '.join(names[:8]) or 'nothing'}")
