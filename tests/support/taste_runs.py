"""Finished runs of text, speech and units, made without any model: for what trains on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Field
from jobs.features import _header
from jobs.record_fields import to_json
from jobs.records import ErrorRecord, TokenRecord
from support.committed_runs import error, make_run, record, tar_of

__all__ = ["ALL_KEYS", "SPEECH_WIDTH", "Spoken", "make_taste_run", "some_speech"]

SPEECH_WIDTH = 12
ALL_KEYS = ("text_tokens", "text_embedding", "mid", "final", "tokens")
RATE = 16000
SPEC_RATE = 8000
"""What the spec says that these runs borrow; lengths in their records are in its samples."""


@dataclass(frozen=True)
class Spoken:
    """A clip. Without `units` it is an error."""

    audio_file: str
    text: str
    text_embedding: npt.NDArray[Any]
    mid: npt.NDArray[Any]
    final: npt.NDArray[Any]
    units: npt.NDArray[Any] | None

    @property
    def samples(self) -> int:
        return 320 * len(self.mid)


def some_speech(count: int, *, text_width: int = 8, units: int = 32, seed: int = 0, most: int = 12) -> list[Spoken]:
    """Clips of random lengths; unit 0 is among the units."""
    generator = np.random.default_rng(seed)

    def floats(rows: int, width: int, dtype: str) -> npt.NDArray[Any]:
        return generator.standard_normal((rows, width)).astype(dtype)

    clips = []
    for number in range(count):
        frames = int(generator.integers(4, 3 * most))
        clips.append(
            Spoken(
                audio_file=f"{number % 3}/{number:03}.wav",
                text=f"words of clip {number}",
                text_embedding=floats(int(generator.integers(1, 7)), text_width, "float32"),
                mid=floats(frames, SPEECH_WIDTH, "float16"),
                final=floats(frames, SPEECH_WIDTH, "float16"),
                units=generator.integers(0, units, int(generator.integers(1, most))),
            )
        )
    return clips


def fields(keys: Sequence[str], *, text_width: int, units: int, samples_per_unit: int) -> tuple[Field, ...]:
    """As the backends declare them."""
    every = {
        "text_tokens": Field(name="text_tokens", form="list", codebook_size=60),
        "text_embedding": Field(name="text_embedding", form="features", width=text_width, dtype="float32"),
        "mid": Field(name="mid", form="features", width=SPEECH_WIDTH, dtype="float16"),
        "final": Field(name="final", form="features", width=SPEECH_WIDTH, dtype="float16"),
        "tokens": Field(name="tokens", form="codes", codebook_size=units, samples_per_item=samples_per_unit),
    }
    return tuple(every[key] for key in keys)


def make_taste_run(
    output: Path,
    tars: Mapping[str, Sequence[Spoken] | None],
    keys: Sequence[str] = ALL_KEYS,
    *,
    text_width: int = 8,
    units: int = 32,
    samples_per_unit: int = RATE // 50,
) -> Path:
    """A run with these keys; a tar without clips is not committed. `samples_per_unit` is at 16 kHz."""
    declared = fields(keys, text_width=text_width, units=units, samples_per_unit=samples_per_unit * SPEC_RATE // RATE)
    lines: dict[str, list[TokenRecord | ErrorRecord] | None] = {}
    for name, clips in tars.items():
        if clips is None:
            lines[name] = None
            continue
        made: list[TokenRecord | ErrorRecord] = []
        lines[name], refs, data = made, [], b""
        for index, clip in enumerate(clips):
            tar_file = str(tar_of(output, name))
            if clip.units is None:
                made.append(error("no_text", tar_file=tar_file, audio_file=clip.audio_file))
                continue
            values = {
                "text_tokens": np.arange(len(clip.text_embedding)),
                "text_embedding": clip.text_embedding,
                "mid": clip.mid,
                "final": clip.final,
                "tokens": clip.units[None],
            }
            json, floats = to_json(declared, {key: values[key] for key in keys}, index)
            refs += [ref for ref, _ in floats]
            data += b"".join(array.tobytes() for _, array in floats)
            made.append(
                record(
                    json,
                    tar_file=tar_file,
                    audio_file=clip.audio_file,
                    num_samples=clip.samples * SPEC_RATE // RATE,
                    sample_rate=SPEC_RATE,
                    text=clip.text,
                )
            )
        if any(one.form == "features" for one in declared):
            output.mkdir(parents=True, exist_ok=True)
            (output / f"{name}.safetensors").write_bytes(_header(refs) + data)
    make_run(output, lines, declared)
    return output
