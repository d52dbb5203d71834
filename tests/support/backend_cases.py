"""Every backend with a tiny random model, and calls that mean the same for each kind of backend."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio_tokenizers.base import (
    Backend,
    BackendFactory,
    LaneShape,
    Scalar,
    Utterance,
    Waveform,
    lanes_of_clips,
    lanes_of_waves,
    takes_clips,
    takes_waves,
)
from audio_tokenizers.cosyvoice_s3 import backend as cosyvoice_s3
from audio_tokenizers.registry import complete_options, get_factory
from audio_tokenizers.shared.s3_torch import TorchEncoder
from support import tiny_hf
from support.tiny_bicodec import build_spark_tts
from support.tiny_cosyvoice_text import build_cosyvoice
from support.tiny_higgs import build_original_layout, build_transformers_layout
from support.tiny_s3 import build_s3_onnx
from support.tiny_step_audio import build_step_audio
from support.tiny_taste import TASTE, build_taste
from support.tiny_whisper import build_whisper

__all__ = [
    "ALL",
    "ON_A_GPU",
    "WITH_LANES",
    "WITH_NETWORK",
    "Case",
    "TinyModels",
    "alike",
    "begin",
    "cases",
    "clip",
    "described_without_torch",
    "equal",
    "values",
    "values_in_lanes",
]


def build_s3(directory: Path) -> None:
    directory.mkdir()
    build_s3_onnx(directory / "speech_tokenizer_v2.onnx", version="v2", rate=25)


@dataclass(frozen=True, eq=False)
class Case:
    """A backend with one kind of model, or one way to run it."""

    name: str
    backend: str
    build: Callable[[Path], object] | None = None
    """Makes a tiny checkpoint in a folder that is not there yet."""
    network: Callable[[Any], tuple[object, str]] | None = None
    """A function that each call goes through, as an attribute of something; None of a backend that computes nothing."""
    options: Mapping[str, Scalar] = field(default_factory=dict)
    gpu: bool = True
    """Whether it runs on a GPU with what is installed here."""

    @property
    def factory(self) -> BackendFactory:
        return get_factory(self.backend)


def acoustic_encoder(backend: Any) -> tuple[object, str]:
    return backend._model.acoustic_encoder, "forward"


def encoder(backend: Any) -> tuple[object, str]:
    return backend._model.encoder, "forward"


def encoder_norm(backend: Any) -> tuple[object, str]:
    return backend._encoder._encoder.layer_norm, "forward"


ALL = (
    Case("mulaw", "mulaw"),
    Case("higgs", "higgs", build_original_layout, acoustic_encoder),
    Case("higgs of transformers", "higgs", build_transformers_layout, acoustic_encoder),
    *(Case(codec, "hf", functools.partial(tiny_hf.build, codec=codec), encoder) for codec in ("mimi", "dac", "encodec")),
    Case("xcodec", "hf", functools.partial(tiny_hf.build, codec="xcodec"), acoustic_encoder),
    Case("bicodec", "bicodec", build_spark_tts, lambda backend: (backend._wav2vec2.feature_extractor, "forward")),
    Case("s3 by onnxruntime", "cosyvoice_s3", build_s3, lambda _: (cosyvoice_s3, "log_mel"), {"engine": "onnx"}, gpu=False),
    Case("s3 by torch", "cosyvoice_s3", build_s3, lambda _: (TorchEncoder, "hidden_states"), {"engine": "torch"}),
    Case("cosyvoice_text", "cosyvoice_text", build_cosyvoice),
    Case("step_audio", "step_audio", build_step_audio, lambda backend: (backend._encoder, "encode")),
    Case(
        "whisper_features",
        "whisper_features",
        build_whisper,
        encoder_norm,
        {"layer": 1},
    ),
    Case(
        "taste",
        TASTE,
        build_taste,
        lambda backend: encoder_norm(backend.parts[1]),
        {"whisper_features.layer": 1, "cosyvoice_s3.model_path": "FunAudioLLM/CosyVoice-300M"},
    ),
)
WITH_NETWORK = [case for case in ALL if case.network is not None]
ON_A_GPU = [case for case in WITH_NETWORK if case.gpu]
WITH_LANES = [case for case in ALL if "lanes" in case.factory.options]


def cases(some: Sequence[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", some, ids=[case.name for case in some])


class TinyModels:
    """Checkpoints of cases, each made when it is first needed."""

    def __init__(self, make_folder: Callable[[], Path]) -> None:
        self._make_folder = make_folder
        self._built: dict[str, Path] = {}

    def options(self, case: Case, **changes: Scalar) -> dict[str, Scalar]:
        """All options of a case, with the path of its model."""
        given = {**case.options, **changes}
        if case.build is not None and "model_path" not in changes:
            if case.name not in self._built:
                self._built[case.name] = self._make_folder() / "model"
                case.build(self._built[case.name])
            given["model_path"] = str(self._built[case.name])
        return complete_options(case.factory, given)


@functools.cache
def described_without_torch(options: Callable[[Case], dict[str, Scalar]]) -> dict[str, Any]:
    """What a process says in which nothing heavy can be imported: of each case its name, and what it imported after all."""
    script = (
        "import json, sys\n"
        "for name in json.loads(sys.argv[1]): sys.modules[name] = None\n"
        "from audio_tokenizers.registry import get_factory\n"
        "for name, backend, options, device in json.loads(sys.argv[2]):\n"
        "    info = get_factory(backend).describe(options, device)\n"
        "    heavy = {'huggingface_hub', 'librosa', 'scipy', 'onnxruntime', 'onnx', 's3tokenizer'} & set(sys.modules)\n"
        "    print(json.dumps([name, [info.name, *heavy]]))\n"
    )
    absent = ["torch", "torchaudio", "transformers", "safetensors", "soxr", "whisper", "tiktoken", "funasr"]
    asked = [(case.name, case.backend, options(case), "cuda:3" if case.gpu else "cpu") for case in ALL]
    command = [sys.executable, "-c", script, json.dumps(absent), json.dumps(asked)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def clip(backend: Backend, seconds: float = 0.5) -> Waveform:
    time = np.arange(int(backend.info.sample_rate * seconds)) / backend.info.sample_rate
    return (0.3 * np.sin(2 * np.pi * (110 * time + 165 * time**2))).astype(np.float32)


def values(backend: Backend, *waves: Waveform) -> list[Mapping[str, Any]]:
    if takes_waves(backend):
        return [{"tokens": codes} for codes in backend.encode(waves)]
    assert takes_clips(backend)
    return list(backend.encode_clips([utterance(backend, wave) for wave in waves]))


def utterance(backend: Any, wave: Waveform) -> Utterance:
    """A clip at the backend's rate: all parts of a combination hear the same."""
    return Utterance(wave, "a wife", (wave,) * len(getattr(backend, "parts", ())))


def equal(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    return len(one) == len(other) and all(
        list(a) == list(b) and all(np.array_equal(a[key], b[key]) for key in a) for a, b in zip(one, other, strict=True)
    )


def begin(backend: Backend, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], object]:
    if lanes_of_waves(backend):
        return backend.encode_lanes(waves, shape)
    assert lanes_of_clips(backend)
    return backend.encode_lanes([Utterance(wave) for wave in waves], shape)


def values_in_lanes(backend: Backend, wave: Waveform) -> Sequence[Mapping[str, Any]]:
    """Those of one clip, from a call with two lanes that is as long as the clip."""
    hop = backend.info.hop_length
    found: Any = begin(backend, [wave], LaneShape(2, -(-len(wave) // hop) * hop))()
    return [{"tokens": found[0]}] if takes_waves(backend) else list(found)


def alike(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> bool:
    """Whether shapes are equal, and values but for rounding: calls of other shapes may move a few codes."""
    return len(found) == len(expected) and all(
        list(a) == list(b)
        and all(a[key].shape == b[key].shape and np.isclose(a[key], b[key], atol=1e-2).mean() > 0.9 for key in a)
        for a, b in zip(found, expected, strict=True)
    )
