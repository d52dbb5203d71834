"""Outputs of older tools, made of the tokens that this project gives: tars, their lines, and the recipes that take them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_tokenizers.base import Field
from jobs.spec import TokenizeSpec, adopting
from support.committed_runs import spec_with
from support.small_run import mulaw_spec, tokenize, wav, write_tar

__all__ = [
    "BICODEC",
    "PAIRS",
    "adopting_spec",
    "bicodec_line",
    "codec_lines",
    "made_by_us",
    "pair_line",
    "say",
    "talk_tar",
    "whole_tar",
    "write_lines",
]

BICODEC = (
    Field(name="global_tokens", form="list", codebook_size=4096, items=4),
    Field(name="semantic_tokens", form="list", codebook_size=8192, samples_per_item=8),
)
PAIRS = (Field(name="tokens", form="audio_string", codebook_size=5120, samples_per_item=8, slack=5),)
KEYS = ("tar_file", "audio_file", "num_samples", "sample_rate", "tokens", "token_shape")


@functools.cache
def adopting_spec(fields: tuple[Field, ...] | None = None) -> TokenizeSpec:
    """The recipe of mulaw, or of records with these fields at its rate, in a run with adopted lines."""
    if fields is None:
        return adopting(mulaw_spec(), "higgs")
    return adopting(spec_with(fields), "bicodec" if fields == BICODEC else "text_audio_pairs")


def whole_tar(path: Path, clips: int = 5) -> Path:
    """A tar of clips that are all well, with texts."""
    members: dict[str, bytes] = {}
    for number in range(clips):
        members[f"{number:03}.wav"] = wav(40 + number, seed=number)
        members[f"{number:03}.txt"] = f"clip {number}, é 語".encode()
    return write_tar(path, members)


def talk_tar(path: Path, clips: Mapping[str, tuple[str, int]], *, packed: bool = False) -> Path:
    """A tar of clips by name, each with its text and samples; `packed`: as tools.pack notes their origin."""
    members: dict[str, bytes] = {}
    for name, (text, samples) in clips.items():
        members[f"{name}.wav"] = wav(samples, seed=samples)
        source = {"source": {"audio": f"voices/{name}.wav", "text": f"voices/{name}.lab", "sample_rate": 8000}}
        members[f"{name}.json"] = json.dumps({"text": text, "language": "zh", **(source if packed else {})}).encode()
    return write_tar(path, members)


def made_by_us(tar: Path, output: Path) -> list[dict[str, Any]]:
    """The lines that mulaw gives a tar here."""
    tokenize(tar, output)
    return [json.loads(line) for line in (output / f"{tar.stem}.jsonl").read_bytes().splitlines()]


def codec_lines(tar: Path, output: Path) -> list[dict[str, Any]]:
    """Those as tokenize_audio.py writes them."""
    lines = made_by_us(tar, output)
    return [{key: line[key] for key in (*KEYS, "error") if key in line} for line in lines]


def bicodec_line(text: str, samples: int, **changed: object) -> dict[str, Any]:
    """A line of extract_tar_tokens.py for a clip at 8 kHz."""
    tokens = [index % 8192 for index in range(samples // 8)]
    return {"language": "zh", "text": text, "global_tokens": [1, 2, 3, 4], "semantic_tokens": tokens, **changed}


def pair_line(name: str, text: str, samples: int, **changed: object) -> dict[str, Any]:
    """A line of prepare_genshin_pairs.py for a clip at 8 kHz."""
    groups = "".join(
        f"<audio_{index % 1024}><audio_5><audio_1024><audio_2000><audio_5119>" for index in range(samples // 40)
    )
    names = {"rel_wav": f"voices/{name}.wav", "rel_lab": f"voices/{name}.lab"}
    return {"id": f"voices/{name}", "text": text, "tokens": groups, **names, "sr": 8000, **changed}


def say(line: object) -> bytes:
    """A line, as Python's json writes it: with spaces, and escapes."""
    return json.dumps(line).encode() + b"\n"


def write_lines(path: Path, lines: Sequence[object]) -> Path:
    """A file of lines; bytes are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line if isinstance(line, bytes) else say(line) for line in lines))
    return path
