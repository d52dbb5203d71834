"""Pure: the figures of a run in the exposition format that OpenMetrics and Prometheus's text format 0.0.4 have in common.

node_exporter's textfile collector parses the text format. It takes `# UNIT` and `# EOF` for comments, refuses types that
only OpenMetrics has, and refuses samples with a timestamp. An OpenMetrics counter `x_total` is declared as `x`, which the
text format would read as another metric without samples. All metrics are therefore gauges, which both read alike; the counts
of a run may also go down, for example where a committed file is lost and made again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from hpc.events import TrainingCounts
from hpc.monitor import Snapshot
from hpc.policy import Decision
from hpc.progress import TarState

__all__ = ["FAMILIES", "VERSION", "Family", "Measured", "render"]

VERSION = 1
"""Of the names, labels and units. A metric that is added keeps it; one that is removed, renamed or changed raises it."""
PREFIX = "tar2tokens_"
OUTCOMES = ("running", "finished", "quarantined", "stuck")
STATES = ("committed", "partial", "not_started", "invalid", "quarantined")

Samples = Iterable[tuple[Mapping[str, str], float]]


class Family(msgspec.Struct, frozen=True):
    """A metric. Its unit is the end of its name, where it has one."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    """Beside `run`."""
    unit: str = ""


FAMILIES = (
    Family("tar2tokens_run_info", "1, with what the run is", ("output_dir", "backend", "metrics_version", "tar2tokens")),
    Family("tar2tokens_run_outcome", "1 for the outcome of the last round, 0 for the others", ("outcome",)),
    Family("tar2tokens_round_seconds", "Duration of the last round", unit="seconds"),
    Family("tar2tokens_scan_seconds", "Part of the last round that scanned the tars' files", unit="seconds"),
    Family("tar2tokens_last_round_timestamp_seconds", "When the last round ended, in Unix time", unit="seconds"),
    Family("tar2tokens_eta_seconds", "Time left at the present rate; absent before there is one", unit="seconds"),
    Family("tar2tokens_tars", "Tars of the list by state; those in quarantine are in no other", ("state",)),
    Family("tar2tokens_done_bytes", "Bytes of the tars that have been used", unit="bytes"),
    Family("tar2tokens_listed_bytes", "Size of the tars that are not in quarantine", unit="bytes"),
    Family("tar2tokens_clips", "Lines of committed files and partials"),
    Family("tar2tokens_damaged_clips", "Clips kept with a part missing"),
    Family("tar2tokens_error_clips", "Error records in committed files by kind", ("kind",)),
    Family("tar2tokens_audio_seconds", "Audio in committed files, partials and long clips in progress", unit="seconds"),
    Family("tar2tokens_encoded_audio_seconds", "Audio that tasks have encoded, some of it more than once", unit="seconds"),
    Family("tar2tokens_waiting_tars", "Tars that Slurm has not accepted a job for yet"),
    Family("tar2tokens_tasks", "Array tasks by state", ("state",)),
    Family("tar2tokens_node_tasks", "Running array tasks by node", ("node",)),
    Family("tar2tokens_stalled_tasks", "Tasks without progress"),
    Family("tar2tokens_unknown_submissions", "Submissions whose tasks could not be looked up"),
    Family("tar2tokens_excluded_node", "1 for each node that the run avoids", ("node",)),
    Family(
        "tar2tokens_device_seconds",
        "Time of the running tasks' devices: busy, waiting for audio, waiting for the writer",
        ("state",),
        unit="seconds",
    ),
    Family("tar2tokens_training_epochs", "Epochs to train in all"),
    Family("tar2tokens_training_epoch", "Whole epochs so far"),
    Family("tar2tokens_training_step", "Optimizer steps so far"),
    Family("tar2tokens_training_loss", "Loss of the last step"),
)
"""Every metric, in the order of the file."""


@dataclass(frozen=True)
class Measured:
    """What a round has measured."""

    run: str
    output_dir: str
    backend: str
    """`taste` for a training."""
    version: str
    """Of tar2tokens."""
    now: float
    """Seconds since the epoch."""
    seconds: float
    scan_seconds: float
    eta_seconds: float | None
    decision: Decision
    states: Sequence[TarState]
    figures: Snapshot
    training: TrainingCounts | None = None


def render(measured: Measured) -> str:
    """The file's text. Metrics without a sample are left out, as are those of tars for a training."""
    lines: list[str] = []
    values = _samples(measured)
    for family in FAMILIES:
        samples = [_sample(family.name, {"run": measured.run, **labels}, value) for labels, value in values[family.name]]
        if samples:
            lines.append(f"# HELP {family.name} {family.help}")
            lines.append(f"# TYPE {family.name} gauge")
            lines += [f"# UNIT {family.name} {family.unit}"] if family.unit else []
            lines += samples
    return "\n".join([*lines, "# EOF", ""])


def _samples(measured: Measured) -> dict[str, Samples]:
    """The samples of every family, by its name."""
    figures, training = measured.figures, measured.training
    info = {
        "output_dir": measured.output_dir,
        "backend": measured.backend,
        "metrics_version": str(VERSION),
        "tar2tokens": measured.version,
    }
    found: dict[str, Samples] = {
        "run_info": [(info, 1)],
        "run_outcome": _by("outcome", {one: float(one == measured.decision.outcome) for one in OUTCOMES}),
        "round_seconds": _one(measured.seconds),
        "scan_seconds": _one(measured.scan_seconds),
        "last_round_timestamp_seconds": _one(measured.now),
        "tasks": _by("state", {"running": sum(figures.running.values()), "pending": figures.pending}),
        "node_tasks": _by("node", figures.running),
        "stalled_tasks": _one(len(figures.stalls)),
        "unknown_submissions": _one(figures.unknown),
        "excluded_node": _by("node", dict.fromkeys(measured.decision.exclude, 1)),
        "device_seconds": _by("state", msgspec.structs.asdict(figures.device_seconds)),
        **(_of_tars(measured) if training is None else _of_training(training)),
    }
    return {family.name: found.get(family.name.removeprefix(PREFIX), ()) for family in FAMILIES}


def _of_tars(measured: Measured) -> dict[str, Samples]:
    figures = measured.figures
    states = Counter("quarantined" if tar.name in measured.decision.quarantine else tar.state for tar in measured.states)
    kinds: Counter[str] = Counter()
    for tar in measured.states:
        if tar.state == "committed" and tar.manifest is not None and tar.manifest.errors:
            kinds.update(tar.manifest.errors)
    return {
        "eta_seconds": _one(measured.eta_seconds),
        "tars": _by("state", {state: states[state] for state in STATES}),
        "done_bytes": _one(figures.bytes_done),
        "listed_bytes": _one(figures.bytes_total),
        "clips": _one(figures.clips),
        "damaged_clips": _one(figures.damaged),
        "error_clips": _by("kind", kinds),
        "audio_seconds": _one(figures.audio_seconds),
        "encoded_audio_seconds": _one(figures.encoded_seconds),
        "waiting_tars": _one(figures.waiting),
    }


def _of_training(training: TrainingCounts) -> dict[str, Samples]:
    return {f"training_{name}": _one(value) for name, value in msgspec.structs.asdict(training).items()}


def _one(value: float | None) -> Samples:
    return [] if value is None else [({}, value)]


def _by(label: str, values: Mapping[str, float]) -> Samples:
    return [({label: name}, value) for name, value in sorted(values.items())]


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """One line. Whole numbers have no fraction; others have six digits of it at most."""
    shown = str(int(value)) if float(value).is_integer() else repr(round(value, 6))
    words = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{words}}} {shown}"


def _escape(text: str) -> str:
    """A label's value: valid UTF-8, on one line, as both formats escape it."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    return whole.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
