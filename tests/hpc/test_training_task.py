"""hpc/training_task.py: processes of one training: how they are started, end together, and what is written of their end."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.runs import wait_for
from support.training_campaign import tell_status

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc import training_task as module
from hpc.plan import Plan
from hpc.run import Run
from hpc.submissions import Submission
from hpc.training_task import Seat, judge_ends, run_training
from jobs.fileops import StorageError
from jobs.progress import Progress, read_progress
from jobs.signals import STOP_SIGNALS
from jobs.tar_task import TarTask
from jobs.taste.endings import Ended, How, LossNotFiniteError, LostRankError
from jobs.taste.status import CHECKPOINT
from jobs.taste.training import Training

FOREVER = 1e6


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks often and waits little; afterwards this process answers to signals as before."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(module, "BAD_END_SECONDS", 0.2)
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    yield
    for number, handler in zip(STOP_SIGNALS, before, strict=True):
        signal.signal(number, handler)


class TrainingRun:
    """A submission whose processes do what the test says instead of training."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "trained"
        self.submission: Submission = Run(self.folder).new_submission()
        self._patch = monkeypatch

    def train(
        self, work: Callable[[int, Callable[[], bool]], bool], ranks: int = 2, *, gpus: int = 0, stop_at: float | None = None
    ) -> tuple[int, Progress]:
        """The exit code and the report, when each rank has done `work`, given its number and its stop flag."""

        def fake(
            training: Training,
            output_dir: Path,
            device: str,
            *,
            stop: Callable[[], bool],
            environment: Mapping[str, str],
            listener: socket.socket,
            owner: object,
        ) -> bool:
            del training, owner
            assert output_dir == self.folder
            assert environment["WORLD_SIZE"] == str(ranks)
            assert environment["MASTER_PORT"] == str(listener.getsockname()[1])
            rank = int(environment["RANK"])
            assert device == (f"cuda:{rank}" if gpus else "cpu")
            return work(rank, stop)

        self._patch.setattr(module, "train", fake)
        plan = Plan(
            fingerprint="",
            submission=1,
            slots=((TarTask(str(self.folder), "training", 0),),),
            training=Training(settings={}, data=("/run",)),
            ranks=ranks,
            device="cuda" if gpus else "cpu",
        )
        code = run_training(self.submission, plan, Seat("n1", [str(gpu) for gpu in range(gpus)], 4, stop_at))
        report = read_progress(self.submission.report_file(0))
        assert report is not None
        assert report.finished
        return code, report


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingRun:
    return TrainingRun(tmp_path, monkeypatch)


def test_all_epochs(training: TrainingRun) -> None:
    """Every rank trains to the end: the try counts the steps that were saved meanwhile, and cores are shared."""
    tell_status(training.folder, step=3, saved=2)

    def work(rank: int, _stop: Callable[[], bool]) -> bool:
        assert os.environ["OMP_NUM_THREADS"] == "2"
        if rank == 0:
            tell_status(training.folder, epoch=3, step=20, saved=20)
        return True

    code, report = training.train(work)
    (attempt,) = report.tries
    assert (code, attempt.outcome, attempt.gained, report.node) == (0, "committed", 18, "n1")


def test_a_training_begun_anew_gains_its_first_steps(training: TrainingRun) -> None:
    """Its checkpoint was moved away, since it was damaged, and training.json still speaks of it."""
    tell_status(training.folder, step=87, saved=87)
    (training.folder / CHECKPOINT).unlink()

    def work(rank: int, _stop: Callable[[], bool]) -> bool:
        if rank == 0:
            tell_status(training.folder, step=10, saved=10)
        return False

    assert training.train(work)[1].tries[0].gained == 10


def test_a_signal_is_passed_on(training: TrainingRun) -> None:
    """Slurm's signal before the time limit reaches every rank, and the task has yielded."""
    ready = training.folder.parent

    def work(rank: int, stop: Callable[[], bool]) -> bool:
        (ready / f"ready{rank}").touch()
        if rank == 0:
            wait_for((ready / "ready1").exists)
            os.kill(os.getppid(), signal.SIGUSR2)
        wait_for(stop)
        return False

    code, report = training.train(work)
    assert (code, report.tries[0].outcome, report.tries[0].problem) == (0, "yielded", "")


def test_the_clock_before_the_time_limit(training: TrainingRun) -> None:
    """Where Slurm sends no signal, the ranks stop by the clock."""

    def work(_rank: int, stop: Callable[[], bool]) -> bool:
        wait_for(stop)
        return False

    code, report = training.train(work, stop_at=time.time() + 0.1)
    assert (code, report.tries[0].outcome) == (0, "yielded")


def dies(_rank: int) -> bool:
    os.kill(os.getpid(), signal.SIGTRAP)
    return True


def refuses(_rank: int) -> bool:
    raise UsageError("checkpoint.pt: damaged")


def diverges(_rank: int) -> bool:
    raise LossNotFiniteError("step 7: the loss is nan")


def has_no_room(_rank: int) -> bool:
    raise StorageError("no room", "full")


def has_no_memory(_rank: int) -> bool:
    raise InfrastructureError("CUDA out of memory")


def has_a_bug(_rank: int) -> bool:
    raise AssertionError("impossible")


@pytest.mark.parametrize(
    ("end", "outcome", "problem"),
    [
        (dies, "died", "rank 1: the worker was killed by SIGTRAP"),
        (refuses, "damaged", "checkpoint.pt: damaged"),
        (diverges, "damaged", "step 7: the loss is nan"),
        (has_no_room, "machine", "no room"),
        (has_no_memory, "machine", "CUDA out of memory"),
        (has_a_bug, "machine", "AssertionError: impossible"),
    ],
)
def test_one_rank_that_fails_ends_all(training: TrainingRun, end: Callable[[int], bool], outcome: str, problem: str) -> None:
    """Rank 0 would wait for rank 1 for ever: it is ended at once, and the report has rank 1's message."""

    def work(rank: int, _stop: Callable[[], bool]) -> bool:
        if rank == 1:
            return end(rank)
        tell_status(training.folder, step=4, saved=4)
        time.sleep(FOREVER)
        return True

    code, report = training.train(work)
    (attempt,) = report.tries
    assert (attempt.outcome, attempt.problem) == (outcome, problem)
    assert attempt.storage == ("full" if end is has_no_room else None)
    assert code != 0


def test_gpus_that_are_missing(training: TrainingRun) -> None:
    """A node that shows fewer GPUs than processes is to blame, and nothing is started."""
    code, report = training.train(lambda rank, stop: True, ranks=4, gpus=2)
    assert (code, report.tries[0].outcome) == (1, "machine")
    assert report.tries[0].problem == "expected 4 GPUs on n1, found 2"


@pytest.mark.parametrize(
    ("ends", "asked", "expected"),
    [
        (["finished", "died"], False, "finished"),
        (["stopped", "stopped"], True, "stopped"),
        (["lost", "died"], False, "died"),
        (["lost", "died"], True, "stopped"),
        (["lost", "refused", "trouble"], False, "refused"),
        (["left_alone", "lost"], False, "left_alone"),
        (["stopped", "killed"], True, "stopped"),
        (["storage", "lost"], True, "storage"),
    ],
)
def test_which_end_explains_the_others(ends: list[How], *, asked: bool, expected: How) -> None:
    """A cause goes before what follows from it, and who was asked to stop is not blamed for being killed."""
    assert judge_ends([Ended(how, how) for how in ends], asked=asked).how == expected


def test_errors_of_other_ranks_are_no_cause() -> None:
    """Where each rank reports the other as lost, the first message stays."""
    lost = str(LostRankError("rank 0: another rank of this training has ended"))
    assert judge_ends([Ended("lost", lost, 1), Ended("lost", "x", 1)], asked=False).words == lost
