"""Read the statistics of a run's tokens: out of its manifests, or from the lines of tars whose manifests have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.base import Field
from audio_tokenizers.errors import UsageError
from hpc.progress import TarState
from hpc.run import Run
from jobs.devices import available_cores
from jobs.manifest import Manifest
from jobs.spec import read_spec
from jobs.tar_paths import TarPaths
from jobs.token_counter import count_file
from jobs.token_statistics import read_statistics
from tools.checking.token_totals import TokenTotals, maker_of
from tools.common.process_pool import Tell, in_processes

__all__ = ["read_totals"]

TARS_AT_ONCE = 1000
"""For one process. Its result has histograms of every device, and takes a while to hand over."""
FEW_TARS = 2000
"""A run of no more is read in this process."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Tars for one process."""

    tars: Sequence[tuple[str, Manifest]]
    output_dir: Path
    fields: Sequence[Field]
    """To count the tokens of tars whose manifests have no statistics; empty to leave that."""


def _read(chunk: _Chunk, _tell: Tell) -> TokenTotals:
    totals = TokenTotals()
    for name, manifest in chunk.tars:
        paths = TarPaths(chunk.output_dir, name)
        try:
            found = read_statistics(paths.manifest)
            if found is None and chunk.fields:
                found = count_file(paths.committed, chunk.fields)
        except (ValueError, OSError, msgspec.DecodeError) as error:
            totals.damaged[name] = str(error)
            continue
        totals.add(name, found, maker_of(manifest))
    return totals


def read_totals(run: Run, states: Sequence[TarState], *, count: bool = False) -> TokenTotals:
    """The tokens of all committed tars. `count`: also read every line of those whose manifests have no statistics.

    Raises UsageError if that takes the run's spec, and it is not there.
    """
    fields: Sequence[Field] = ()
    if count:
        spec = read_spec(run.output_dir)
        if spec is None:
            raise UsageError(f"{run.spec_file}: there is no such file, so nothing says what tokens are: restore it")
        fields = spec.fields
    tars = [(s.name, s.manifest) for s in states if s.state == "committed" and s.manifest is not None]
    at_once = 1 if count else TARS_AT_ONCE
    chunks = [_Chunk(tars[at : at + at_once], run.output_dir, fields) for at in range(0, len(tars), at_once)]
    workers = available_cores() if count or len(tars) > FEW_TARS else 1
    totals = TokenTotals()
    for found in in_processes(_read, chunks, workers, lambda _: None) if chunks else ():
        totals.join(found)
    return totals
