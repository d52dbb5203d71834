"""A stand-in for a decoder that goes on after damage: audio files that say what of them is lost."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from audio_tokenizers.base import MonoRule, Waveform
from audio_tokenizers.errors import ClipError
from jobs.audio import decode as real_decode
from jobs.losses import Losses
from support.small_run import wav, write_tar

__all__ = ["damaged_tar", "lossy", "lossy_decode", "use_lossy_decode"]

MARK = b"LOST"


def lossy(data: bytes, *losses: tuple[float, str]) -> bytes:
    """The audio file `data`, of which a decoder will say that it lacks so many seconds, for these reasons."""
    return data + MARK + json.dumps(losses).encode()


def lossy_decode(
    file: IO[bytes], *, mono: MonoRule, max_seconds: float | None = None, losses: Losses | None = None
) -> Iterator[tuple[Waveform, int]]:
    """As jobs.audio.decode; what `lossy` has noted is told block by block, the first of it before the first block, or is
    refused where nobody wants to hear of it.
    """
    file.seek(0)
    data, _, notes = file.read().partition(MARK)
    told = json.loads(notes) if notes else []
    if told and losses is None:
        raise ClipError("decode", "damaged")
    for block in real_decode(io.BytesIO(data), mono=mono, max_seconds=max_seconds, losses=losses):
        if losses is not None and told:
            losses.add(*told.pop(0))
        yield block
    for seconds, what in told:
        if losses is not None:
            losses.add(seconds, what)


def use_lossy_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clips decoded by it, by workers of this process and by tools."""
    monkeypatch.setattr("jobs.clip_decoder.decode", lossy_decode)
    monkeypatch.setattr("jobs.audio.decode", lossy_decode)


def damaged_tar(path: Path) -> Path:
    """Six clips of a second: 30 ms missing, whole, 20 ms missing, too much missing, 20 ms missing, whole."""
    lost = [[(0.03, "frames that cannot be decoded")], [], [(0.02, "its end")], [(0.5, "its end")]]
    lost += [[(0.01, "its end"), (0.01, "a gap")], []]
    return write_tar(path, {f"{number}.wav": lossy(wav(8000, seed=number), *each) for number, each in enumerate(lost)})
