"""What a round makes known: new events in `.run/events.jsonl` and to hooks, and the run's figures in `.run/metrics.prom`.

It is only news: a file that cannot be written costs a warning, and the round goes on.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from hpc.controller import Round, Tell
from hpc.event_file import EventFile
from hpc.event_hooks import Hooks
from hpc.events import RoundDone, TrainingCounts, seconds_of
from hpc.evidence import View
from hpc.metrics import Measured, render
from hpc.monitor import Snapshot, Speed, take_snapshot
from hpc.new_events import Facts, new_events
from hpc.run import Run, RunState
from hpc.submissions import Submission
from jobs.fileops import FileOps, describe_error, write_atomically
from jobs.spec import preset_name, read_spec
from jobs.taste.status import read_status
from jobs.version import version

__all__ = ["Broadcast", "broadcasting"]

METRICS_SECONDS = 5.0
"""Between two writes of the figures while a run goes on: rounds on one machine follow each other faster."""
BASIS_SECONDS = 3600.0
"""The oldest event `round` from which a new controller measures its speed."""

TRAINING = "taste"
"""What the metrics call the backend of a run that trains."""

log = logging.getLogger("tar2tokens")


class Broadcast:
    """Makes known what the rounds of one controller did."""

    def __init__(
        self,
        run: Run,
        *,
        host: str,
        hooks: Hooks,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._host = host
        self._hooks = hooks
        self._clock = clock
        self._monotonic = monotonic
        self._events = EventFile(run.events_file)
        self._speed: Speed | None = None
        self._measured_at: float | None = None
        self._failed: set[Path] = set()
        self._output_dir = str(run.output_dir).encode("utf-8", "backslashreplace").decode()
        self._backend = ""
        self._version = version()

    def tell(self, seen: Round, state: RunState, views: Sequence[View]) -> None:
        """Make a round known; the lock is held."""
        figures, now, training = take_snapshot(seen), self._clock(), _training(self._run, state)
        facts = Facts(
            run=state.run_id,
            output_dir=self._output_dir,
            host=self._host,
            now=now,
            amnesty=state.amnesty,
            decision=seen.decision,
            states=seen.states,
            views=views,
            sent={
                number: job
                for number in seen.submitted.submissions
                if (job := Submission(self._run.submissions_folder / f"{number:04}").read_job()) is not None
            },
            figures=figures,
            seconds=seen.seconds,
            scan_seconds=seen.scan_seconds,
            training=training,
        )
        last = self._tell_events(facts)
        moment = self._monotonic()
        self._speed = self._speed or _speed(figures, last, now, moment)
        soon = self._measured_at is not None and moment - self._measured_at < METRICS_SECONDS
        if soon and seen.decision.outcome == "running":
            return
        self._measured_at = moment
        measured = Measured(
            run=state.run_id,
            output_dir=self._output_dir,
            backend=self._name_backend(state),
            version=self._version,
            now=now,
            seconds=seen.seconds,
            scan_seconds=seen.scan_seconds,
            eta_seconds=self._speed.measure(figures, moment)[1],
            decision=seen.decision,
            states=seen.states,
            figures=figures,
            training=training,
        )
        self._tell_metrics(render(measured).encode(), state)

    def _tell_events(self, facts: Facts) -> RoundDone | None:
        """Append what is new; returns the last round of the file as it was."""
        lines: list[bytes] = []
        last = None
        with self._tolerating(self._run.events_file):
            said = self._events.read()
            last = said.last_round
            lines = self._events.append(new_events(facts, said))
        self._hooks.give(lines)
        return last

    def _tell_metrics(self, text: bytes, state: RunState) -> None:
        paths = [self._run.metrics_file]
        if state.launch is not None and state.launch.metrics_dir:
            paths.append(Path(state.launch.metrics_dir) / f"tar2tokens-{state.run_id}.prom")
        for path in paths:
            with self._tolerating(path):
                write_atomically(FileOps(), path, text)

    def _name_backend(self, state: RunState) -> str:
        if not self._backend:
            spec = None
            with suppress(UsageError):  # an unreadable spec is reported elsewhere
                spec = read_spec(self._run.output_dir) if state.training is None else None
            self._backend = TRAINING if state.training is not None else preset_name(spec) if spec is not None else ""
        return self._backend

    @contextmanager
    def _tolerating(self, path: Path) -> Iterator[None]:
        """Log the first of the failures in a row to write a file, and go on."""
        try:
            yield
        except OSError as error:
            if path not in self._failed:
                log.warning("%s; the run goes on, and each round tries to write it again", describe_error(error, str(path)))
            self._failed.add(path)
        else:
            self._failed.discard(path)


@contextmanager
def broadcasting(run: Run) -> Iterator[Tell]:
    """What a controller makes its rounds known with. In the end it waits for hooks that are at work."""
    hooks = Hooks()
    try:
        yield Broadcast(run, host=socket.gethostname(), hooks=hooks).tell
    finally:
        hooks.wait()


def _training(run: Run, state: RunState) -> TrainingCounts | None:
    """How far a training is; None of a run that makes tokens."""
    if state.training is None:
        return None
    status = read_status(run.output_dir)
    epochs = state.training.chosen().epochs
    if status is None:
        return TrainingCounts(epochs=epochs, epoch=0, step=0)
    return TrainingCounts(epochs=epochs, epoch=status.epoch, step=status.step, loss=status.loss)


def _speed(now: Snapshot, last: RoundDone | None, clock: float, moment: float) -> Speed:
    """Measured from this round on, or from the last event `round`: one round of cron measures nothing by itself."""
    age = clock - seconds_of(last) if last is not None else 0.0
    if last is None or not 0.0 < age < BASIS_SECONDS:
        return Speed(now, moment)
    first = msgspec.structs.replace(now, encoded_seconds=last.encoded_seconds, bytes_done=last.bytes_done)
    return Speed(first, moment - age)
