"""What a trial made: its lines by clip, and what each excerpt cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpc.progress import TarState, scan
from jobs.progress import read_progress
from jobs.records import ErrorRecord, decode_record
from tools.rehearsing.excerpts import Excerpt
from tools.rehearsing.trial import Trial

__all__ = ["ClipId", "Figures", "Made", "read_made"]


@dataclass(frozen=True, order=True, slots=True)
class ClipId:
    """A clip, the same in all trials."""

    part: str
    """Name of its excerpt's output."""
    index: int
    """Among the clips of the excerpt, from 0."""
    name: str
    """Its audio member."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one excerpt cost, and gave."""

    source: str
    """The tar of the list that it is from."""
    bytes: int
    """Of the source, as it is stored."""
    seconds: float
    """Of one worker's device, waits included. A call may hold clips of several excerpts: only sums are exact."""
    output_bytes: int
    audio_seconds: float


@dataclass(frozen=True)
class Made:
    """Everything that a trial made."""

    name: str
    lines: Mapping[ClipId, bytes]
    features: Mapping[str, str]
    """Name of an excerpt's output -> hash of its floats, if the backend gives any."""
    figures: Sequence[Figures]
    errors: Mapping[str, int]
    """Error records, by kind."""
    device: str
    """Which device made the tokens, as manifests name it: `cpu`, or the GPU's name."""
    workers: int
    seconds: float
    """From the first round to the end of the last worker."""
    startup_s: float
    """How long a worker takes before its device has work: mostly loading the model."""

    @property
    def audio_seconds(self) -> float:
        """Audio that became tokens."""
        return sum(one.audio_seconds for one in self.figures)

    @property
    def rate(self) -> float:
        """Audio per time of one worker at work; 0 without any. The first calls, which are slow, are in it."""
        seconds = sum(one.seconds for one in self.figures)
        return self.audio_seconds / seconds if seconds else 0.0


def read_made(trial: Trial, parts: Sequence[Excerpt]) -> Made:
    """Read what is committed. Raises OSError."""
    cut = {str(part.path): part for part in parts}
    states = [state for state in scan(trial.run, trial.listed) if state.state == "committed" and state.manifest is not None]
    lines: dict[ClipId, bytes] = {}
    errors: dict[str, int] = {}
    for state in states:
        for index, line in enumerate(trial.run.paths(state.name).committed.read_bytes().splitlines()):
            record = decode_record(line)
            lines[ClipId(state.name, index, record.audio_file)] = line
            if isinstance(record, ErrorRecord):
                errors[record.error_kind] = errors.get(record.error_kind, 0) + 1
    startups = _startups(trial)
    return Made(
        name=trial.name,
        lines=lines,
        features={state.name: state.manifest.features_sha256 for state in states if state.manifest},
        figures=[_figures(state, cut[state.tar]) for state in states],
        errors=errors,
        device=next((maker.device for state in states if state.manifest for maker in state.manifest.made_by), ""),
        workers=len(startups),
        seconds=trial.outcome.seconds,
        startup_s=statistics.median(startups) if startups else 0.0,
    )


def _figures(state: TarState, part: Excerpt) -> Figures:
    manifest = state.manifest
    assert manifest is not None, "it is committed"
    longer = len(str(part.path).encode()) - len(part.source.encode())  # each line names its tar
    return Figures(
        source=part.source,
        bytes=part.bytes,
        seconds=manifest.device_seconds.total,
        output_bytes=manifest.output_bytes - longer * manifest.clips + manifest.features_bytes,
        audio_seconds=manifest.audio_seconds,
    )


def _startups(trial: Trial) -> list[float]:
    """Seconds of each worker's life in which its device had no tar, by its last report. Empty without reports."""
    found = []
    for submission in trial.run.submissions():
        for path in sorted((submission.folder / "tasks").glob("*.json")):
            report = read_progress(path)
            if report is not None and report.started:
                found.append(max(0.0, path.stat().st_mtime - report.started - report.device_seconds.total))
    return found
