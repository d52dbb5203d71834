"""A tiny model for each backend, as a command gets it."""

from __future__ import annotations

from pathlib import Path

from support.tiny_bicodec import build_spark_tts
from support.tiny_cosyvoice_text import build_cosyvoice
from support.tiny_hf import build
from support.tiny_higgs import build_original_layout
from support.tiny_s3 import build_s3_onnx
from support.tiny_step_audio import build_step_audio
from support.tiny_taste import SMALL, build_taste
from support.tiny_whisper import build_whisper

__all__ = ["build_model"]


def build_model(backend: str, folder: Path) -> list[str]:
    """A tiny random checkpoint in the real layout, and the arguments that name it."""
    if backend == "mulaw":
        return []
    model = folder / "model"
    if backend == "higgs":
        build_original_layout(model)
    elif backend == "step_audio":
        build_step_audio(model)
        return ["--model-path", str(model), "--set", "raw_codes=true"]
    elif backend == "cosyvoice_s3":
        model.mkdir()
        build_s3_onnx(model / "speech_tokenizer_v2.onnx", version="v2", rate=25)
    elif backend == "bicodec":
        build_spark_tts(model)
    elif backend == "whisper_features":
        build_whisper(model)
        return ["--model-path", str(model), "--set", "layer=1"]
    elif backend == "cosyvoice_text":
        build_cosyvoice(model)
    elif backend == "taste":
        build_taste(model)
        return [
            "--model-path",
            str(model),
            *(word for item in SMALL.items() for word in ("--set", "=".join(map(str, item)))),
        ]
    else:
        build(model, backend)
    return ["--model-path", str(model)]
