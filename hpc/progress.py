"""Scan a run directory: one state per tar, from its files alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from audio_tokenizers.errors import UsageError
from hpc.run import ListedTar, Run
from jobs.addresses import is_address
from jobs.clip_journal import frames_kept
from jobs.manifest import Manifest
from jobs.partial_tally import tally_partial
from jobs.spec import read_spec
from jobs.tar_paths import TarPaths, is_attempt

__all__ = ["State", "TarState", "scan", "state_of"]

State = Literal["committed", "partial", "not_started", "invalid"]

SCAN_THREADS = 8
CHUNK_TARS = 128
WAITING_SECONDS = 0.0005
"""Per tar. Cached files take a tenth of it, even on a busy machine; a network file system takes more."""


@dataclass(frozen=True, slots=True)
class TarState:
    """The state of one tar according to its files."""

    tar: str
    name: str
    state: State
    clips: int
    """Lines in the committed file or in the partial."""
    manifest: Manifest | None
    """Of the committed file, or else of the latest attempt."""
    problem: str | None
    """Why the output is invalid, or why the tar itself is broken or missing."""
    audio_seconds: float = 0.0
    """Audio that became tokens, in the committed file or the partial. All reported hours are sums of these."""
    damaged_clips: int = 0
    """Clips kept with a part missing, likewise."""
    damaged_seconds: float = 0.0
    """Seconds missing from them."""
    long_clip_seconds: float = 0.0
    """The part of the audio that is in a long clip's journal, before its line is written."""


def scan(run: Run, tars: Iterable[ListedTar]) -> Iterator[TarState]:
    """The state of each tar, in order.

    Runs in this thread while files respond instantly, since threads would only take turns; in several threads from the
    first slow chunk on.
    """

    def look(chunk: list[ListedTar]) -> list[TarState]:
        return [state_of(tar.tar, TarPaths(run.output_dir, tar.name)) for tar in chunk]

    chunks = _chunks(tars)
    for chunk in chunks:
        started = time.perf_counter()
        states = look(chunk)
        waited = time.perf_counter() - started > WAITING_SECONDS * CHUNK_TARS
        yield from states
        if waited:
            break
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        for states in pool.map(look, chunks):
            yield from states


def _chunks(tars: Iterable[ListedTar]) -> Iterator[list[ListedTar]]:
    rest = iter(tars)
    while chunk := list(islice(rest, CHUNK_TARS)):
        yield chunk


def state_of(tar: str, paths: TarPaths) -> TarState:
    """The state of one tar, from its files."""
    try:
        manifest, problem = paths.read_committed(tar)
    except FileNotFoundError:
        return _unfinished(tar, paths)
    except UsageError as error:
        return TarState(tar, paths.name, "invalid", 0, None, str(error))
    if problem is not None or manifest is None:
        return TarState(tar, paths.name, "invalid", 0, manifest, problem)
    return TarState(
        tar,
        paths.name,
        "committed",
        manifest.clips,
        manifest,
        None,
        manifest.audio_seconds,
        manifest.damaged_clips,
        manifest.damaged_seconds,
    )


def _unfinished(tar: str, paths: TarPaths) -> TarState:
    try:
        manifest = paths.read_unfinished()
    except UsageError as error:
        return TarState(tar, paths.name, "invalid", 0, None, str(error))
    problem = None
    if manifest is not None and manifest.is_damage:
        problem = f"{manifest.verdict}: {manifest.verdict_detail}"
    elif not is_address(tar):
        try:
            os.stat(tar)  # noqa: PTH116 (str path: once per tar)
        except FileNotFoundError:
            problem = "there is no such tar"
        except OSError as error:
            problem = f"the tar cannot be read: {error.strerror}"
    try:
        found = tally_partial(paths.partial)
    except FileNotFoundError:
        return TarState(tar, paths.name, "not_started", 0, manifest, problem)
    begun = _long_clip_seconds(paths, manifest, found.clips)
    return TarState(
        tar,
        paths.name,
        "partial",
        found.clips,
        manifest,
        problem,
        found.audio_seconds + begun,
        found.damaged_clips,
        found.damaged_seconds,
        begun,
    )


def _long_clip_seconds(paths: TarPaths, manifest: Manifest | None, first: int) -> float:
    """Seconds kept by the latest attempt of the clip whose line is due, number `first`, or of a later one."""
    if manifest is None or not is_attempt(manifest.attempt):
        return 0.0
    frames = frames_kept(paths.private_journal(manifest.attempt), first)
    with suppress(UsageError):  # an unreadable spec is reported elsewhere
        if frames and (spec := read_spec(paths.output_dir)) is not None:
            return round(frames * spec.hop_length / spec.sample_rate, 3)
    return 0.0
