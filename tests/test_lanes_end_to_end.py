"""Tars through backends with lanes: whatever shares a call, in whatever order, the same tokens."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from support.small_run import spec_of, stopping_after, write_tar
from support.tars import audio_file
from support.tiny_bicodec import build_spark_tts
from support.tiny_hf import build
from support.tiny_higgs import build_original_layout, speech_like
from support.tiny_whisper import build_whisper

from audio_tokenizers.base import Backend
from jobs.conveyor import Feeding
from jobs.spec import TokenizeSpec
from jobs.tar_paths import TarPaths
from jobs.tokenize import tokenize_tar
from jobs.worker import load_backend

RATE = 24000
BACKENDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    **{
        codec: (functools.partial(build, codec=codec), {"max_tokens_per_fragment": frames, "num_tokens_overlap": 2})
        for codec, frames in {"mimi": 8, "dac": 60, "encodec": 60, "xcodec": 60}.items()
    },
    "higgs": (build_original_layout, {"max_tokens_per_fragment": 25, "num_tokens_overlap": 2}),
    "bicodec": (build_spark_tts, {}),
    "whisper_features": (build_whisper, {"options": {"layer": 1}}),
}
LENGTHS = (9000, 14000, 9100, 30001, 12345, 14100, 8999, 21000, 70000, 13999, 9050)
"""Samples: several in a bucket, and one clip of several fragments."""
RECORDING = speech_like(60_000)


def members(names: Iterable[int]) -> dict[str, bytes]:
    found = {}
    for n in names:
        wave = RECORDING[1000 * n :][: LENGTHS[n]] if LENGTHS[n] < 50_000 else speech_like(LENGTHS[n], seed=1)
        found[f"{n:02}.wav"] = audio_file(wave, RATE, subtype="PCM_16")
    return found


def lines(output: Path) -> dict[str, dict[str, Any]]:
    """Name -> what its line says of its tokens."""
    found = {}
    for text in (output / "speech.jsonl").read_text().splitlines():
        line = json.loads(text)
        del line["tar_file"]
        for value in line.values():
            if isinstance(value, dict):
                value.pop("key")  # of floats, which have a checksum beside it; it counts the tar's clips
        found[line["audio_file"]] = line
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKENDS)
def test_company_changes_no_token(name: str, tmp_path: Path) -> None:
    """Orders, look-ahead, threads, a clip alone in its call, and where an attempt was resumed."""
    make, given = BACKENDS[name]
    options = {"model_path": str(make(tmp_path / "model")), "lanes": 4, **given.get("options", {})}
    spec: TokenizeSpec = spec_of(name, device="cpu", **{**given, "options": options})
    assert spec.recipe["lanes"] == 4
    assert "lane_grid" in spec.recipe
    backend: Backend = load_backend(spec, "cpu")
    there = write_tar(tmp_path / "there" / "speech.tar", members(range(len(LENGTHS))))
    back = write_tar(tmp_path / "back" / "speech.tar", members(reversed(range(len(LENGTHS)))))

    def run(tar: Path, output: str, **how: Any) -> dict[str, dict[str, Any]]:
        result = tokenize_tar(tar, TarPaths(tmp_path / output, "speech"), spec, backend, **how)
        return lines(tmp_path / output) if result.outcome == "committed" else {}

    expected = run(there, "plain")
    assert len(expected) == len(LENGTHS)
    assert all("error" not in line for line in expected.values())
    assert run(back, "back", feeding=Feeding(decode_threads=3)) == expected
    assert run(there, "small", feeding=Feeding(buffer_bytes=200_000)) == expected
    assert run(there, "resumed", **stopping_after(4)) == {}
    assert run(there, "resumed") == expected
    assert (tmp_path / "resumed" / "speech.jsonl").read_bytes() == (tmp_path / "plain" / "speech.jsonl").read_bytes()
