"""Runs to export, and what of them has to come back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpc.run import Run
from jobs.records import Record
from jobs.spec import freeze_spec
from support.committed_runs import error, record
from support.envelope import Envelope, envelope_spec
from support.small_run import mulaw_spec, small_tar, tokenize
from tools.reader import TokenizedClip, read_run

TARS = ("a", "b", "c")


def tokenized_run(folder: Path, *, several_keys: bool = False) -> Path:
    """A run of three tars of five clips, one of which is no audio; with `several_keys`, strings, lists and floats."""
    output = folder / "tokens"
    spec = envelope_spec() if several_keys else mulaw_spec()
    tars = [small_tar(folder / "tars" / f"{name}.tar", samples=40 + 10 * number) for number, name in enumerate(TARS)]
    freeze_spec(output, spec)
    Run(output).add_to_list([str(tar) for tar in tars], keep_dirs=False)
    for tar in tars:
        tokenize(tar, output, spec=spec, backend=Envelope() if several_keys else None)
    return output


def code_records(names: list[str], books: int = 2, top: int = 1024) -> list[Record]:
    """Clips of these names with codes of their own, [books, 1 or 2 frames], and an error among them."""
    made: list[Record] = []
    for number, name in enumerate(names):
        codes = np.random.default_rng(number).integers(0, top, (books, 1 + number % 2)).tolist()
        shape = [books, len(codes[0])]
        values = {"tokens": msgspec.json.encode(codes), "token_shape": msgspec.json.encode(shape)}
        metadata = {"n": number, "é": [1.5, None]} if number % 2 else None
        made.append(record(values, audio_file=name, text=f"{number} é 語" if number % 3 else None, metadata=metadata))
    return [*made[:1], error(), *made[1:]]


def by_tar(run: Path) -> dict[str, list[TokenizedClip]]:
    """What the reader gives, by the name of the tar."""
    clips: dict[str, list[TokenizedClip]] = {}
    for clip in read_run(run):
        clips.setdefault(Path(clip.tar_file).stem, []).append(clip)
    return clips


def same(found: Mapping[str, Any], clip: TokenizedClip) -> bool:
    """Whether every array has the values and the shape that the reader gives."""
    return all(
        np.shape(found[key]) == array.shape and np.array_equal(np.asarray(found[key]), array)
        for key, array in clip.arrays.items()
    )
