"""Checks committed files against their manifests, in several processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audio_tokenizers.errors import UsageError
from hpc.progress import TarState
from hpc.remote_list import changed_at_servers
from hpc.run import Run
from jobs.addresses import is_address, is_pipe
from jobs.console import bar_on_terminal
from jobs.devices import available_cores
from jobs.manifest import Manifest
from jobs.spec import TokenizeSpec, read_spec
from jobs.validation import validate_file
from tools.common.process_pool import Tell, in_processes

__all__ = ["validate"]

CHECKS_AHEAD = 16
"""Files per process that may be queued while a large one is checked."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One file to validate, in another process."""

    committed: Path
    manifest: Manifest
    spec: TokenizeSpec


def _fault(check: _Check, _tell: Tell) -> str | None:
    try:
        found = validate_file(check.committed, check.manifest, check.spec).fault
    except OSError as error:
        return f"{check.committed}: cannot be read: {error.strerror}"
    return found and f"{check.committed}: {found}: move it away to have it made again"


def validate(run: Run, states: list[TarState]) -> tuple[list[TarState], int]:
    """(states, with `invalid` for committed files that do not match their manifests, number of tars at addresses whose
    servers did not answer whether they have changed).
    """
    committed = [state for state in states if state.state == "committed"]
    if not committed:
        return states, 0
    spec = read_spec(run.output_dir)
    if spec is None:
        raise UsageError(f"{run.spec_file}: there is no such file, so nothing says what valid tokens are: restore it")
    checks = [_Check(run.paths(s.name).committed, s.manifest, spec) for s in committed if s.manifest is not None]
    found = in_processes(_fault, checks, available_cores(), lambda _: None, ahead=CHECKS_AHEAD)
    faults: dict[str, str] = {}
    with bar_on_terminal("checking", len(checks), "tar") as bar:
        for state, fault in zip(committed, found, strict=True):
            if fault is not None:
                faults[state.name] = fault
            if bar is not None:
                bar.update()
    sizes = {s.tar: s.manifest.input_bytes for s in committed if s.manifest and is_address(s.tar) and not is_pipe(s.tar)}
    changed, not_asked = changed_at_servers(sizes)
    for state in committed:
        if state.tar in changed:
            words = f"{run.paths(state.name).committed}: {changed[state.tar]}: move it away to have it made again"
            faults.setdefault(state.name, words)
    checked = [
        TarState(state.tar, state.name, "invalid", 0, state.manifest, faults[state.name]) if state.name in faults else state
        for state in states
    ]
    return checked, not_asked
