"""A tar through several backends at once: the bits of the single runs, in one pair of files, whatever interrupts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.small_run import stopping_after, write_tar
from support.tars import audio_file
from support.tiny_higgs import speech_like
from support.tiny_taste import SMALL, TASTE, build_taste

from audio_tokenizers.base import Scalar
from jobs.conveyor import Feeding
from jobs.spec import TokenizeSpec, make_spec, preset_name
from jobs.tar_paths import TarPaths
from jobs.tokenize import tokenize_tar
from jobs.worker import load_backend

pytestmark = pytest.mark.slow

RATE = 24000
LENGTHS = (9000, 14000, 9100, 30001, 12345, 100, 8999, 21000)
NO_TEXT, TOO_SHORT = "02.wav", "05.wav"
PARTS = {"cosyvoice_text": "CosyVoice-300M", "whisper_features": "whisper-large-v3", "cosyvoice_s3": "CosyVoice-300M"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_taste(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip has no text, and another is too short for units."""
    members = {}
    for number, length in enumerate(LENGTHS):
        name = f"{number:02}.wav"
        members[name] = audio_file(speech_like(length, seed=number), RATE, subtype="PCM_16")
        if name != NO_TEXT:
            members[f"{number:02}.txt"] = f"the clip number {number}".encode()
    return write_tar(tmp_path_factory.mktemp("tars") / "speech.tar", members)


def taste(models: Path, **options: Scalar) -> TokenizeSpec:
    return make_spec("taste", device="cpu", options={"model_path": str(models), **SMALL, **options})


def alone(part: str, models: Path, **options: Scalar) -> TokenizeSpec:
    layer: dict[str, Scalar] = {"layer": 1} if part == "whisper_features" else {}
    return make_spec(part, device="cpu", options={"model_path": str(models / PARTS[part]), **layer, **options})


def lines(output: Path) -> dict[str, dict[str, Any]]:
    return {line["audio_file"]: line for line in map(json.loads, (output / "speech.jsonl").read_text().splitlines())}


@pytest.mark.parametrize(("lanes", "engine"), [(0, "onnx"), (3, "torch")])
def test_the_bits_of_the_single_runs(models: Path, tar: Path, tmp_path: Path, lanes: int, engine: str) -> None:
    """Codes, lists and floats, of each clip that no part refuses; one clip at a time, and with lanes and batches. What stops
    in the middle goes on to the same bytes.
    """
    parts: dict[str, Scalar] = {"whisper_features.lanes": lanes, "cosyvoice_s3.engine": engine}
    spec = taste(models, **parts)
    backend = load_backend(spec, "cpu")
    assert (spec.backend, preset_name(spec), spec.min_samples) == (TASTE, "taste", 201)

    def run(name: str, **how: Any) -> Path:
        output = tmp_path / name
        result = tokenize_tar(tar, TarPaths(output, "speech"), spec, backend, **how)
        assert result.outcome == ("committed" if "stop" not in how else "yielded")
        return output

    together = lines(run("together"))
    tensors = load_file(tmp_path / "together" / "speech.safetensors")
    given: dict[str, dict[str, Scalar]] = {"whisper_features": {"lanes": lanes}, "cosyvoice_s3": {"engine": engine}}
    for part in PARTS:
        part_spec = alone(part, models, **given.get(part, {}))
        output = tmp_path / part
        tokenize_tar(tar, TarPaths(output, "speech"), part_spec, load_backend(part_spec, "cpu"))
        single = lines(output)
        assert list(single) == list(together)
        floats = load_file(output / "speech.safetensors") if part != "cosyvoice_s3" else {}
        for name, line in together.items():
            if "error" not in line:
                for field in part_spec.fields:
                    assert line[field.name] == single[name][field.name], (name, field.name)
                    if field.form == "features":
                        key = line[field.name]["key"]
                        assert np.array_equal(tensors[key], floats[key], equal_nan=True)
        for key, value in part_spec.recipe.items():
            assert spec.recipe.get(f"{part}.{key}", spec.recipe.get(key)) == value
    errors = {name: line["error_kind"] for name, line in together.items() if "error" in line}
    assert errors == {NO_TEXT: "no_text", TOO_SHORT: "too_short"}

    assert run("resumed", **stopping_after(3))
    for output in (run("resumed"), run("threads", feeding=Feeding(decode_threads=3, buffer_bytes=300_000))):
        for suffix in ("jsonl", "safetensors"):
            expected = (tmp_path / "together" / f"speech.{suffix}").read_bytes()
            assert (output / f"speech.{suffix}").read_bytes() == expected
