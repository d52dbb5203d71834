"""Small tars of real and synthetic speech for a soak, 2 % of them damaged, 2 % of the clips bad; the same for a seed."""

from __future__ import annotations

import gzip
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import SPEECH, encoded, speech

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for `support`

from support.tars import tar_bytes

__all__ = ["BAD_SHARE", "SoakTars", "make_tars"]

BAD_SHARE = 0.02
POOL = 60
"""Distinct good clips; tars draw from them."""
RATES = (8000, 16000, 22050)
EXTENSIONS = ("wav", "flac", "mp3")
"""libsndfile numbers Ogg streams at random: the one in the pool is as it was recorded."""


@dataclass(frozen=True)
class SoakTars:
    """What a soak works on."""

    tars: list[Path]
    damaged: frozenset[str]
    """Names of the tars that no run can commit."""
    clips: int
    """In all tars, those behind a damage included."""
    bad_clips: int


def make_tars(folder: Path, seed: int, tars: int, clips: int) -> SoakTars:
    """`tars` tars of about `clips` clips of 0.3 to 1.5 s. At least one tar is damaged, and at least one clip bad."""
    source = random.Random(seed)
    good, bad = _good_clips(source), _bad_clips(source)
    damaged = set(source.sample(range(tars), max(1, round(BAD_SHARE * tars))))
    folder.mkdir(parents=True)
    paths, count, bad_count = [], 0, 0
    for number in range(tars):
        members: list[tuple[str, bytes]] = []
        for clip in range(source.randint(max(1, clips // 2), clips + clips // 2)):
            is_bad = source.random() < BAD_SHARE or (number, clip) == (0, 0)
            extension, data = source.choice(bad if is_bad else good)
            members += [(f"{clip:03}.{extension}", data), (f"{clip:03}.txt", f"clip {clip} of tar {number}, é 語".encode())]
            count, bad_count = count + 1, bad_count + is_bad
        data = tar_bytes(members)
        if number in damaged:
            data = _damage(source, data)
        packed = source.random() < 0.2
        path = folder / (f"{number:04}.tar.gz" if packed else f"{number:04}.tar")
        path.write_bytes(gzip.compress(data, 1, mtime=0) if packed else data)
        paths.append(path)
    return SoakTars(paths, frozenset(f"{number:04}" for number in damaged), count, bad_count)


def _good_clips(source: random.Random) -> list[tuple[str, bytes]]:
    voice = {rate: speech(rate, 60) for rate in RATES}
    found = [("ogg", (SPEECH / "austen-0920.ogg").read_bytes())]
    for number in range(POOL):
        rate, extension = source.choice(RATES), EXTENSIONS[number % len(EXTENSIONS)]
        samples, begin = int(source.uniform(0.3, 1.5) * rate), source.randrange(50 * rate)
        wave = voice[rate][begin : begin + samples] if number % 2 else _synthetic(source, rate, samples)
        found.append((extension, encoded(wave, rate, extension)))
    return found


def _synthetic(source: random.Random, rate: int, samples: int) -> npt.NDArray[Any]:
    """A voice of no one: a glide with three formants' harmonics, in bursts."""
    time = np.arange(samples) / rate
    pitch = source.uniform(90, 220) * (1 + 0.2 * np.sin(2 * np.pi * source.uniform(1, 4) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = sum(np.sin(number * phase) / number for number in (1, 2, 3, 5, 8))
    bursts = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)
    return np.asarray(0.2 * wave * bursts, np.float32)


def _bad_clips(source: random.Random) -> list[tuple[str, bytes]]:
    wave = _synthetic(source, 16000, 8000)
    flac = encoded(wave, 16000, "flac")
    return [
        ("wav", b""),
        ("mp3", b"<html>503 Service Unavailable</html>"),
        ("flac", flac[: len(flac) // 3]),
        ("ogg", source.randbytes(2000)),
        ("wav", encoded(wave[:0], 16000, "wav")),
    ]


def _damage(source: random.Random, data: bytes) -> bytes:
    """Cut it behind its first member, or break the header of a later one."""
    if source.random() < 0.5:
        return data[: source.randrange(len(data) // 3, len(data) - 1024)]
    headers = [at for at in _headers(data) if at > 0]
    at = source.choice(headers) + 148  # of the checksum
    return data[:at] + b"zzzzzz" + data[at + 6 :]


def _headers(data: bytes) -> Sequence[int]:
    """Where the members of a ustar begin."""
    found, at = [], 0
    while data[at : at + 512].strip(b"\0"):
        found.append(at)
        at += 512 + -(-int(data[at + 124 : at + 135], 8) // 512) * 512
    return found
