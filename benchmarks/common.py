"""Speech for benchmarks, made from examples/speech, and timing that alternates its candidates."""

from __future__ import annotations

import io
import statistics
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

SPEECH = Path(__file__).resolve().parent.parent / "examples" / "speech"


def speech(sample_rate: int, seconds: float) -> npt.NDArray[Any]:
    """float32 [samples], mono: the example clips over and over, each time at another offset."""
    waves = []
    for path in sorted(SPEECH.iterdir()):
        if path.suffix in (".wav", ".flac"):
            wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
            waves.append(soxr.resample(wave[:, 0], rate, sample_rate))
    once = np.concatenate(waves)
    return np.resize(once, int(seconds * sample_rate))


def encoded(wave: npt.NDArray[Any], sample_rate: int, extension: str) -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, wave, sample_rate, format=extension.upper())
    return file.getvalue()


def pack(tar: Path, clips: int, seconds: float, sample_rate: int, extensions: tuple[str, ...]) -> None:
    """A tar of `clips` clips of about `seconds`, cycling through `extensions`."""
    wave = speech(sample_rate, seconds + 60)
    with tarfile.open(tar, "w") as out:
        for number in range(clips):
            offset = (number * 7919) % (60 * sample_rate)
            length = int((0.75 + 0.5 * (number * 37 % 100) / 100) * seconds * sample_rate)
            extension = extensions[number % len(extensions)]
            data = encoded(wave[offset : offset + length], sample_rate, extension)
            member = tarfile.TarInfo(f"{number:06}.{extension}")
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))


def alternate(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each candidate, round by round in turn, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - started)
    return times


def report(what: str, ratios: list[float], goal: float) -> bool:
    """Print a ratio's median and spread beside its goal."""
    median = statistics.median(ratios)
    met = median >= goal
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds"
    print(f"{what}: {median:.3f} ({spread}; goal {goal}) {'ok' if met else 'BELOW GOAL'}")
    return met
