"""Scan a run directory: one state per tar. Files are the truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audio_tokenizers.errors import UsageError
from hpc.run import ListedTar, Run
from jobs.outputs import TarPaths, committed_fault, read_manifest
from jobs.records import VERDICT_COMPLETE, VERDICT_IN_PROGRESS, Manifest

__all__ = ["State", "TarState", "scan", "state_of"]

State = Literal["committed", "partial", "not_started", "invalid"]

SCAN_THREADS = 8
COUNT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TarState:
    """What the files say of one tar."""

    tar: str
    name: str
    state: State
    clips: int
    """Lines in the committed file or in the partial."""
    manifest: Manifest | None
    problem: str | None
    """Why it is invalid, or why the tar itself is broken or missing."""


def scan(run: Run, tars: Iterable[ListedTar]) -> Iterator[TarState]:
    """The state of each tar, in order. Threads, since on a shared file system the wait is for the network."""
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        yield from pool.map(lambda tar: state_of(tar.tar, run.paths(tar.name)), tars)


def state_of(tar: str, paths: TarPaths) -> TarState:
    """The state of one tar, from its files alone."""
    try:
        manifest = read_manifest(paths.manifest)
    except UsageError as error:
        return TarState(tar, paths.name, "invalid", 0, None, str(error))
    try:
        problem = committed_fault(paths, Path(tar), manifest)
    except FileNotFoundError:
        return _unfinished(tar, paths, manifest)
    if problem is not None:
        return TarState(tar, paths.name, "invalid", 0, manifest, problem)
    return TarState(tar, paths.name, "committed", manifest.clips if manifest else 0, manifest, None)


def _unfinished(tar: str, paths: TarPaths, manifest: Manifest | None) -> TarState:
    problem = None
    if manifest is not None and manifest.verdict not in (VERDICT_COMPLETE, VERDICT_IN_PROGRESS):
        problem = f"{manifest.verdict}: {manifest.verdict_detail}"
    else:
        try:
            Path(tar).stat()
        except FileNotFoundError:
            problem = "there is no such tar"
        except OSError as error:
            problem = f"the tar cannot be read: {error.strerror}"
    try:
        clips = _count_lines(paths.partial)
    except FileNotFoundError:
        return TarState(tar, paths.name, "not_started", 0, manifest, problem)
    return TarState(tar, paths.name, "partial", clips, manifest, problem)


def _count_lines(path: Path) -> int:
    lines = 0
    with path.open("rb") as file:
        while piece := file.read(COUNT_BYTES):
            lines += piece.count(b"\n")
    return lines
