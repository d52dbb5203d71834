"""python -m tools.parity: our engine against upstream's own code, on clips of your tars."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.base import Scalar
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.registry import backend_names, get_factory
from hpc.tar_list import read_tar_list
from jobs.commands import Verbose, run_command, setup_logging
from jobs.loaded_backend import EncodedClip, LoadedBackend, open_backend
from jobs.option_struct import Only, with_options
from jobs.recipe_options import BackendOptions
from jobs.spec import load_preset
from tools.comparing.agreement import Agreement
from tools.comparing.report import render
from tools.comparing.sample import Sampled, sample_clips

__all__ = ["parity"]

ASKED = (
    *("backend", "model_path", "settings", "max_tokens_per_fragment", "num_tokens_overlap", "max_duration", "max_damage"),
    *("extensions", "sniff", "channel"),
)
OURS_ALONE = ("lanes", "precision", "tf32")
"""Options that upstream's code does not have: it computes one clip at a time, in float32."""
ENGINE = "upstream"


@dataclass
class _Outcome:
    agreement: Agreement = field(default_factory=Agreement)
    refused: int = 0
    faults: list[str] = field(default_factory=list)


@with_options
def parity(
    asked: Annotated[BackendOptions, Only(ASKED)],
    tar_list: Annotated[
        Path, typer.Option("--list", "--tar-list", help="file with a tar, a glob or a{000..127}.tar per line")
    ],
    clips: Annotated[int, typer.Option(min=1, help="how many clips, from the beginnings of random tars")] = 200,
    at_least: Annotated[
        float, typer.Option(min=0, max=1, help="share of the tokens of each codebook that must agree")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="which tars: the same seed chooses the same tars of the same list")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    verbose: Verbose = False,
) -> int:
    """Encode clips with our engine and with upstream's own code, and compare their tokens. Exits 1 below --at-least.

    Example: --backend higgs --model-path /models/higgs-audio-v2-tokenizer --list tars.txt --clips 200
    """
    setup_logging(verbose=verbose)
    ours, theirs = _engines(asked)
    tars = read_tar_list(tar_list)
    own = open_backend(asked.backend, device, ours, asked)
    upstream = open_backend(asked.backend, device, theirs, asked)
    print(f"own: {_recipe(own)}\nupstream: {_recipe(upstream)}", flush=True)
    outcome = _Outcome()
    for sampled in sample_clips(tars, clips, own.spec, seed):
        _compare(sampled, own, upstream, outcome)
    agreement = outcome.agreement
    if not agreement.clips and not outcome.faults:
        refused = f" but {outcome.refused} that both engines refuse" if outcome.refused else ""
        raise UsageError(f"--list {tar_list}: no clips{refused}: nothing was compared")
    print(render(agreement, outcome.refused, outcome.faults))
    return 1 if outcome.faults or agreement.lowest < at_least else 0


def _engines(asked: BackendOptions) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """The options of our engine and of upstream's. Raises UsageError for a backend without a choice."""
    factory = get_factory(load_preset(asked.backend).backend)
    if "engine" not in factory.options:
        able = ", ".join(name for name in backend_names() if _has_engines(name))
        raise UsageError(f"--backend {asked.backend}: it has no engine={ENGINE}; these backends have one: {able}")
    given = dict(asked.options)
    if given.get("engine") == ENGINE:
        raise UsageError(f"--set engine={ENGINE}: it is compared with our own engine already: leave it out")
    if "raw_codes" in factory.options:
        given.setdefault("raw_codes", True)  # each codebook by itself
    ours = dict(given)
    if factory.options["engine"][0] == "auto":  # which may be upstream's
        ours.setdefault("engine", "torch")
    return ours, {**{key: value for key, value in given.items() if key not in OURS_ALONE}, "engine": ENGINE}


def _has_engines(name: str) -> bool:
    try:
        return "engine" in get_factory(name).options
    except UsageError:  # a backend of another package that is broken
        return False


def _recipe(loaded: LoadedBackend) -> str:
    return ", ".join(f"{key} {value}" for key, value in loaded.info.recipe.items() if not key.endswith("sha256"))


def _compare(sampled: Sampled, own: LoadedBackend, upstream: LoadedBackend, outcome: _Outcome) -> None:
    ours, theirs = _encode(sampled, own), _encode(sampled, upstream)
    name = f"{Path(sampled.tar).name}: {sampled.name}"
    if isinstance(ours, ClipError) and isinstance(theirs, ClipError) and ours.kind == theirs.kind:
        outcome.refused += 1
    elif isinstance(ours, ClipError):
        outcome.faults.append(f"{name}: ours: {ours.kind}: {ours}")
    elif isinstance(theirs, ClipError):
        outcome.faults.append(f"{name}: upstream: {theirs.kind}: {theirs}")
    else:
        outcome.agreement.add(name, ours.samples / own.info.sample_rate, ours.arrays, theirs.arrays)


def _encode(sampled: Sampled, backend: LoadedBackend) -> EncodedClip | ClipError:
    try:
        return backend.encode_member(sampled.name, io.BytesIO(sampled.audio))
    except ClipError as error:
        return error


if __name__ == "__main__":
    run_command(parity)
