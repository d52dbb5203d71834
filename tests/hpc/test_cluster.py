"""hpc/cluster.py: where workers go, what a slot's process does, and how ends are told apart."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from support.runs import committed_bytes
from support.small_run import mulaw_spec, small_tar

from audio_tokenizers.errors import UsageError
from hpc import cluster
from hpc.cluster import Failure, LocalWorkers, Placement, check_path, place_workers, progress_file, run_slot, start_local
from hpc.plan import make_plan
from jobs.outputs import TarTask
from jobs.reporting import Progress
from jobs.spec import freeze_spec


class TestPlaces:
    def test_one_worker_per_gpu(self) -> None:
        """Each GPU gets a worker, and the workers share the cores."""
        assert place_workers(["0", "1"], None, 1, 16, tars=9) == [Placement("0", 8), Placement("1", 8)]

    def test_workers_share_gpus_evenly(self) -> None:
        """--procs-per-gpu fills each GPU once before any twice, so that --workers below that leaves none idle."""
        assert [place.gpu for place in place_workers(["0", "1"], None, 2, 8, tars=9)] == ["0", "1", "0", "1"]
        assert [place.gpu for place in place_workers(["0", "1"], 2, 2, 8, tars=9)] == ["0", "1"]

    def test_cpus(self) -> None:
        """Without GPUs there is a worker per core, or as many as asked for, even more than cores."""
        assert place_workers([], None, 1, 4, tars=9) == [Placement(None, 1)] * 4
        assert place_workers([], 8, 1, 4, tars=9) == [Placement(None, 1)] * 8

    def test_never_more_than_tars(self) -> None:
        """Few tars get few workers, which then have all cores."""
        assert place_workers([], None, 1, 8, tars=2) == [Placement(None, 4)] * 2
        assert place_workers(["0", "1"], None, 1, 8, tars=1) == [Placement("0", 8)]
        assert place_workers([], None, 1, 8, tars=0) == []


@pytest.mark.parametrize("tag", ["%j", "%t", "%A", "%a"])
def test_paths_that_submitit_would_change(tag: str) -> None:
    """Where submitit would write logs to another folder, or raise, the path is refused; other percent signs are fine."""
    with pytest.raises(UsageError, match=tag):
        check_path(Path(f"/runs/x{tag}y/tokens"))
    check_path(Path("/runs/100%/a b/'\"/tokens"))


class TestSlot:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, "unset")

    def planned(self, tmp_path: Path, *tars: Path, freeze: bool = True) -> tuple[str, str]:
        output = tmp_path / "tokens"
        if freeze:
            freeze_spec(output, mulaw_spec())
        tasks = [TarTask(str(tar), tar.stem, 1) for tar in tars]
        plan_file = tmp_path / "plan.json"
        plan_file.write_bytes(msgspec.json.encode(make_plan(tasks, 1, mulaw_spec())))
        return str(output), str(plan_file)

    def published(self, tmp_path: Path) -> Progress:
        return msgspec.json.decode(progress_file(tmp_path, 0).read_bytes(), type=Progress)

    def test_tokenizes_its_slot(self, tmp_path: Path) -> None:
        """A slot's tars are committed, its counts are published, and its device and threads are its placement's."""
        output, plan_file = self.planned(tmp_path, small_tar(tmp_path / "a.tar"), small_tar(tmp_path / "b.tar"))
        assert run_slot(output, plan_file, 0, Placement(None, 3)) == 0
        assert sorted(committed_bytes(Path(output))) == ["a.jsonl", "b.jsonl"]
        assert (self.published(tmp_path).tars_done, self.published(tmp_path).finished) == (2, True)
        assert os.environ["OMP_NUM_THREADS"] == "3"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "unset"

    def test_bad_tar_is_a_problem_and_not_the_end(self, tmp_path: Path) -> None:
        """One tar that is missing costs the exit code, and not the next tar."""
        output, plan_file = self.planned(tmp_path, tmp_path / "none.tar", small_tar(tmp_path / "b.tar"))
        assert run_slot(output, plan_file, 0, Placement(None, 1)) == 1
        assert list(committed_bytes(Path(output))) == ["b.jsonl"]
        assert [name for name, _ in self.published(tmp_path).problems] == ["none"]

    def test_spec_of_another_run(self, tmp_path: Path) -> None:
        """A plan never works with a spec that it was not made for; the reason is published."""
        output, plan_file = self.planned(tmp_path, small_tar(tmp_path / "a.tar"), freeze=False)
        assert run_slot(output, plan_file, 0, Placement(None, 1)) == 2
        assert "its spec is not the one" in self.published(tmp_path).problems[0][1]

    def test_handlers_are_given_back(self, tmp_path: Path) -> None:
        """After its slot the process answers to signals as before."""
        before = signal.getsignal(signal.SIGTERM)
        output, plan_file = self.planned(tmp_path)
        (tmp_path / "plan.json").write_bytes(
            msgspec.json.encode(msgspec.structs.replace(make_plan([], 1, mulaw_spec()), slots=((),)))
        )
        assert run_slot(output, plan_file, 0, Placement(None, 1)) == 0
        assert signal.getsignal(signal.SIGTERM) is before


class FakeProcess:
    def __init__(self) -> None:
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


class FakeJob:
    """What we use of a submitit job."""

    def __init__(self, folder: Path, *, done: bool = True) -> None:
        self._process = FakeProcess()
        self.paths = SimpleNamespace(result_pickle=folder / "result.pkl", stderr=folder / "log.err")
        self.is_done = done
        folder.mkdir(exist_ok=True)

    def done(self) -> bool:
        return self.is_done


class TestWorkers:
    def test_ends_are_told_apart(self, tmp_path: Path) -> None:
        """A result is an end, whatever exit code it is; an exception, half a result and none are failures with a log."""
        jobs = [FakeJob(tmp_path / str(number)) for number in range(4)]
        jobs[0].paths.result_pickle.write_bytes(pickle.dumps(("success", 1)))
        jobs[1].paths.result_pickle.write_bytes(pickle.dumps(("error", "Traceback ...\nValueError: bad\n")))
        jobs[2].paths.result_pickle.write_bytes(pickle.dumps(("success", 0))[:5])
        log_files = [job.paths.stderr for job in jobs]
        assert LocalWorkers(jobs).failures() == [
            Failure(1, "crashed: ValueError: bad", log_files[1]),
            Failure(2, "was killed", log_files[2]),
            Failure(3, "was killed", log_files[3]),
        ]

    def test_stopping_is_asked_again_and_only_of_the_living(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A SIGTERM that comes early is dropped by submitit, so it is sent again, at most once a second."""
        now = iter([0.0, 0.0, 0.5, 1.0, 1.0])
        monkeypatch.setattr(cluster.time, "monotonic", lambda: next(now))
        living, ended = FakeJob(tmp_path / "1", done=False), FakeJob(tmp_path / "2")
        workers = LocalWorkers([living, ended])
        assert workers.running() == 1
        for _ in range(3):
            workers.ask_to_stop()
        assert living._process.signals == [signal.SIGTERM, signal.SIGTERM]
        assert ended._process.signals == []

    def test_start_that_fails_stops_those_that_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If the second worker cannot be started, the first is not left to itself; the environment is as before."""
        import submitit

        first = FakeJob(tmp_path / "1", done=False)
        first._process.send_signal = lambda _number: setattr(first, "is_done", True)
        answers = iter([first])

        class Executor:
            def __init__(self, folder: Path) -> None:
                self.folder = folder

            def update_parameters(self, **_: object) -> None:
                assert "PYTHONPATH" not in os.environ

            def submit(self, *_: object) -> FakeJob:
                assert os.environ["PYTHONPATH"]
                assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())
                try:
                    return next(answers)
                except StopIteration:
                    raise OSError("no space") from None

        monkeypatch.delenv("PYTHONPATH", raising=False)
        monkeypatch.setattr(submitit, "LocalExecutor", Executor)
        with pytest.raises(OSError, match="no space"):
            start_local(tmp_path, tmp_path, tmp_path / "plan.json", [Placement(None, 1)] * 2)
        assert first.is_done
        assert "PYTHONPATH" not in os.environ
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())

    def test_nothing_is_started_after_an_interruption(self, tmp_path: Path) -> None:
        """Ctrl-C while workers are being started starts no more of them."""
        places = [Placement(None, 1)] * 3
        workers = start_local(tmp_path, tmp_path / "s", tmp_path / "plan.json", places, lambda: True)
        assert workers.running() == 0
        assert workers.failures() == []
