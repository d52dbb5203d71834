"""A tar of a few short clips, one of them bad, and what it takes to tokenize it in process."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from audio_tokenizers.base import Options
from jobs import tokenize as tokenizing
from jobs.fileops import FileOps
from jobs.ledger import Ledger
from jobs.recipe_options import RecipeOptions
from jobs.records import Record
from jobs.spec import TokenizeSpec, make_spec
from jobs.tar_paths import TarPaths
from jobs.tar_work import TarResult
from jobs.tokenize import tokenize_tar
from support.tars import audio_file, tar_bytes

CLIPS = 5
BAD_CLIP = 2

tokenizing.PACE_SECONDS = 0.0  # it would be more than half of the time that a tar of a few clips takes


def wav(samples: int, rate: int = 8000, seed: int = 0) -> bytes:
    """A WAV file of loud noise."""
    return audio_file(np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32), rate, subtype="PCM_16")


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """A plain tar with these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members.items()))
    return path


def small_tar(path: Path, clips: int = CLIPS, samples: int = 40) -> Path:
    """`clips` clips with transcripts; the one numbered BAD_CLIP is no audio."""
    members: dict[str, bytes] = {}
    for number in range(clips):
        members[f"{number:03}.wav"] = b"not audio" if number == BAD_CLIP else wav(samples + number, seed=number)
        members[f"{number:03}.txt"] = f"clip {number}, é 語".encode()
    return write_tar(path, members)


def spec_of(
    name: str, *, device: str, options: Options | None = None, begun: TokenizeSpec | None = None, **asked: Any
) -> TokenizeSpec:
    """The spec of a preset or backend, with what is asked for as keywords."""
    return make_spec(name, device=device, options=options, asked=RecipeOptions(**asked), begun=begun)


@functools.cache
def mulaw_spec(**asked: Any) -> TokenizeSpec:
    """The spec of the mulaw backend."""
    return spec_of("mulaw", device="cpu", **asked)


def stopping_after(lines: int) -> dict[str, Any]:
    """Settings for `tokenize` with which an attempt stops when it has written so many lines."""
    written: list[Record] = []
    return {
        "one_at_a_time": True,
        "on_progress": lambda record, _bytes: written.append(record),
        "stop": lambda: len(written) >= lines,
    }


def tokenize(
    tar: Path, output: Path, ops: FileOps | None = None, *, spec: TokenizeSpec | None = None, **settings: Any
) -> TarResult:
    """One attempt at a tar, here, with the mulaw backend unless `backend` is given."""
    from audio_tokenizers.mulaw import FACTORY

    seconds = iter(range(10**9))
    take = functools.partial(Ledger.take, ops=ops or FileOps(), clock=lambda: float(next(seconds)))
    backend = settings.pop("backend", None) or FACTORY.load({}, "cpu")
    return tokenize_tar(tar, TarPaths(output, TarPaths.stem(tar)), spec or mulaw_spec(), backend, take=take, **settings)
