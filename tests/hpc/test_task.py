"""hpc/task.py: which part of the plan a process has, when it ends, and what is left of one that was killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.runs import committed_bytes, lines_of, slow_backend, slow_spec, start, wait_for, worker_pids
from support.small_run import CLIPS, mulaw_spec, small_tar, tokenize, wav, write_tar

from audio_tokenizers.base import Scalar
from hpc import task as module
from hpc.deaths import Tried
from hpc.plan import Plan, make_plan, stop_margin_s
from hpc.run import Run
from hpc.submissions import Submission
from hpc.task import Place, feeding_of, last_look, main, place_in_slurm, stop_time, work_lists
from hpc.witness import LastLook
from jobs.activities import Activities
from jobs.conveyor import Feeding
from jobs.progress import Progress, read_progress
from jobs.spec import freeze_spec
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tar_task import TarTask

KILLER = 43
"""Samples of clip 3 of a small tar."""
KILLER_CLIP = 3


def plan_of(slots: int, **settings: Any) -> Plan:
    tasks = tuple((TarTask(f"/d/{number}.tar", str(number), 1),) for number in range(slots))
    return make_plan(tasks, mulaw_spec(), **{"submission": 1, "device": "cuda", **settings})


class TestPlace:
    def place(self, plan: Plan, gpus: list[str] = [], cores: int = 8, **variables: object) -> Place | None:  # noqa: B006
        environment = {"SLURM_ARRAY_TASK_ID": "0", "SLURMD_NODENAME": "n1", **{k: str(v) for k, v in variables.items()}}
        return place_in_slurm(environment, plan, gpus, cores, now=1000.0)

    def found(self, plan: Plan, gpus: list[str], **variables: Any) -> tuple[int, str | None]:
        place = self.place(plan, gpus, **variables)
        assert place is not None
        return place.slot, place.gpu

    def test_a_gpu_of_a_shared_node(self) -> None:
        """An array task with one process does the slot of its number, on the GPU that Slurm shows it."""
        plan = plan_of(5)
        assert self.found(plan, ["2"], SLURM_ARRAY_TASK_ID=3, SLURM_LOCALID=0, CUDA_VISIBLE_DEVICES=2) == (3, "2")

    @pytest.mark.parametrize("rank", range(4))
    def test_whole_node_where_each_task_sees_its_own_gpu(self, rank: int) -> None:
        """A site that binds GPUs to tasks has shown each the right one already."""
        plan = plan_of(12, processes=4)
        found = self.found(plan, [str(rank)], SLURM_ARRAY_TASK_ID=1, SLURM_LOCALID=rank, CUDA_VISIBLE_DEVICES=rank)
        assert found == (4 + rank, str(rank))

    @pytest.mark.parametrize("rank", range(4))
    def test_whole_node_where_every_task_sees_all(self, rank: int) -> None:
        """Then the local rank says which GPU is whose; names are taken as they are listed."""
        gpus = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
        variables = {"SLURM_LOCALID": rank, "CUDA_VISIBLE_DEVICES": ",".join(gpus), "SLURM_JOB_GPUS": "0,1,2,3"}
        assert self.found(plan_of(12, processes=4), gpus, **variables) == (rank, gpus[rank])

    def test_two_processes_on_each_gpu(self) -> None:
        """With --procs-per-gpu 2 each GPU gets two of the ranks, and no two processes the same slot."""
        plan = plan_of(16, processes=8)
        found = [
            self.found(plan, list("0123"), SLURM_ARRAY_TASK_ID=1, SLURM_LOCALID=rank, CUDA_VISIBLE_DEVICES="0,1,2,3")
            for rank in range(8)
        ]
        assert found == [(8 + rank, str(rank % 4)) for rank in range(8)]

    def test_without_cuda_visible_devices(self) -> None:
        """Slurm's own list of GPUs counts, the step's before the job's; the driver's would name those of others too."""
        plan = plan_of(4, processes=2)
        everything = list("01234567")
        assert self.found(plan, everything, SLURM_LOCALID=1, SLURM_JOB_GPUS="4,6") == (1, "6")
        assert self.found(plan, everything, SLURM_LOCALID=1, SLURM_JOB_GPUS="4,6", SLURM_STEP_GPUS="6") == (1, "6")
        assert self.found(plan, everything, SLURM_LOCALID=1) == (1, "1")

    def test_cpu(self) -> None:
        """A plan for the CPU takes no GPU, whatever there is to see."""
        assert self.found(plan_of(2, device="cpu"), ["0"], CUDA_VISIBLE_DEVICES="0", SLURM_JOB_GPUS="0") == (0, None)

    def test_more_processes_than_slots(self) -> None:
        """The last array task may have processes with nothing to do; they are told apart from the others."""
        plan = plan_of(6, processes=4)
        places = [self.place(plan, SLURM_ARRAY_TASK_ID=1, SLURM_LOCALID=rank) for rank in range(4)]
        assert [place.slot if place else None for place in places] == [4, 5, None, None]

    def test_end_time(self) -> None:
        """From the job's own end where Slurm tells it (it may be earlier than the limit), else from the limit."""
        plan = plan_of(1, time_limit_s=600.0)
        for told, end in ((1500, 1500.0), ("", 1600.0), ("Unknown", 1600.0), (None, 1600.0)):
            variables: dict[str, Any] = {} if told is None else {"SLURM_JOB_END_TIME": told}
            place = self.place(plan, **variables)
            assert place is not None
            assert place.ends_at == end
            assert stop_time(place, plan) == end - stop_margin_s(600.0)
            assert last_look(place, plan) == LastLook(end - stop_margin_s(600.0) / 2, 300.0)
        unlimited = self.place(plan_of(1))
        assert unlimited is not None
        assert stop_time(unlimited, plan_of(1)) is None
        assert last_look(unlimited, plan_of(1)) is None

    def test_threads(self) -> None:
        """As many as Slurm gave the task, or a fair share of the cores that the job may use."""
        plan = plan_of(4, processes=4)
        places = [self.place(plan, SLURM_CPUS_PER_TASK=3), self.place(plan), self.place(plan, cores=2)]
        assert [place.threads for place in places if place] == [3, 2, 1]


class TestFeeding:
    def test_threads_and_memory(self) -> None:
        """A decode thread per core of the worker, and the worker's own bound, unless the plan has numbers."""
        place = Place(0, "n1", "0", threads=6, ends_at=None, shared=True)
        assert feeding_of(place, plan_of(1)) == Feeding(6, 10**9)
        assert feeding_of(place, plan_of(1, decode_threads=2, buffer_memory=5_000_000)) == Feeding(2, 5_000_000)

    def test_worker_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the plan says reaches the worker."""
        asked: list[Feeding] = []
        monkeypatch.setattr(module, "run_tars", lambda *_, feeding, **__: asked.append(feeding))
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, "1")
        freeze_spec(tmp_path, mulaw_spec())
        submission = Run(tmp_path).new_submission()
        plan = plan_of(1, device="cpu", decode_threads=2, buffer_memory=5_000_000)
        place = Place(0, "n1", None, threads=6, ends_at=None, shared=False)
        assert module._work(tmp_path, submission, plan, place, 1, Tried(), Progress(), Activities(), lambda: False) == 0
        assert asked == [Feeding(2, 5_000_000)]


class TestMemoryGuard:
    @pytest.mark.parametrize(
        ("plan_says", "shared", "expected"), [(None, True, (0.9, 4)), (0.5, False, (0.5, 7)), (0.0, True, (0.0, 4))]
    )
    def test_worker_is_told(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        plan_says: float | None,
        shared: bool,
        expected: tuple[float, int],
    ) -> None:
        """The plan's share, or the default; and how many workers share the job, or this machine."""
        asked: list[tuple[float, int]] = []
        monkeypatch.setattr(module, "run_tars", lambda *_, stop, **__: stop())

        def guard(share: float, workers: int) -> Callable[[], str]:
            asked.append((share, workers))
            return lambda: "memory is short"

        monkeypatch.setattr(module, "MemoryGuard", guard)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, "1")
        freeze_spec(tmp_path, mulaw_spec())
        submission = Run(tmp_path).new_submission()
        plan = plan_of(8, device="cpu", processes=4, memory_guard=plan_says)
        place = Place(0, "n1", None, threads=1, ends_at=None, shared=shared)
        assert module._work(tmp_path, submission, plan, place, 7, Tried(), Progress(), Activities(), lambda: False) == 0
        assert asked == [expected]


class TestOnAMac:
    def test_the_worker_is_the_task(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its GPU is of no use in a forked process: the task works itself, on that device, without a witness."""
        devices: list[str] = []
        monkeypatch.setattr(module, "run_tars", lambda *_, device, **__: devices.append(device))
        monkeypatch.setattr(module, "Witness", lambda *_, **__: pytest.fail("a witness"))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "before")
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, "1")
        freeze_spec(tmp_path, mulaw_spec())
        plan = plan_of(1, device="mps")
        place = Place(0, "mac", "mps", threads=1, ends_at=None, shared=False)
        assert module.run_task(Run(tmp_path).new_submission(), plan, place, 1) == 0
        assert devices == ["mps"]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "before"


class TestWorkLists:
    def test_own_tars_first_then_those_that_start_last(self) -> None:
        """A worker with time left helps with the slots whose tasks have the longest to wait."""
        plan = plan_of(4)
        own, others = work_lists(plan, 1, 4, Tried())
        assert [task.name for task in own] == ["1"]
        assert [task.name for task in others] == ["3", "2", "0"]

    def test_only_what_was_submitted(self) -> None:
        """Slots for which Slurm took no task may be in another submission's plan by now: they are left to it."""
        plan = plan_of(8, processes=2)
        assert [task.name for task in work_lists(plan, 0, 2, Tried())[1]] == ["3", "2", "1"]

    def test_what_this_task_has_tried_is_left_out(self) -> None:
        """A tar that killed this task's worker is for others, be it its own or not."""
        own, others = work_lists(plan_of(3), 1, 3, Tried(skip=frozenset({"1", "2"})))
        assert (own, [task.name for task in others]) == ([], ["0"])

    def test_tars_to_be_searched_come_first(self) -> None:
        """Where a worker died with several clips in hand, the next one of the task goes clip by clip, its own tar or not."""
        own, others = work_lists(plan_of(4), 1, 4, Tried(search=frozenset({"1", "2"})))
        assert [(task.name, task.one_at_a_time) for task in own] == [("1", True), ("2", True)]
        assert [task.name for task in others] == ["3", "0"]


SILENT_FILE_SYSTEM = """
import os, time
answer = os.stat
def stat(path, *args, **kwargs):
    if str(path).endswith("stuck.tar"):
        time.sleep(3600)
    return answer(path, *args, **kwargs)
os.stat = stat
"""


class TaskRun:
    """A run with one submission, whose tasks a test starts as processes."""

    def __init__(
        self,
        folder: Path,
        slots: list[list[TarTask]],
        time_limit_s: float | None,
        clip_timeout: float | None,
        **options: Scalar,
    ) -> None:
        self.output, self.folder = folder / "tokens", folder
        self.env = slow_backend(folder / "site")
        spec = slow_spec(folder / "site", **options)
        freeze_spec(self.output, spec)
        self.submission: Submission = Run(self.output).new_submission()
        self.elements = len(slots)
        self.processes: list[subprocess.Popen[str]] = []
        limits: dict[str, Any] = {"time_limit_s": time_limit_s, "clip_timeout": clip_timeout}
        self.submission.write_plan(make_plan([tuple(slot) for slot in slots], spec, submission=1, **limits))

    def start(self, element: int = 0, elements: int | None = None) -> subprocess.Popen[str]:
        arguments = [self.submission.plan_file, "--elements", elements or self.elements, "--element", element]
        return self._start(self.env, *arguments)

    def start_in_slurm(self, **variables: object) -> subprocess.Popen[str]:
        given = {"SLURM_ARRAY_TASK_ID": 0, "SLURM_LOCALID": 0, "SLURMD_NODENAME": "n7", **variables}
        env = {**self.env, **{name: str(value) for name, value in given.items()}}
        return self._start(env, self.submission.plan_file, "--elements", self.elements)

    def _start(self, env: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
        self.processes.append(start("hpc.task", *arguments, cwd=self.folder, env=env))
        return self.processes[-1]

    def end(self) -> None:
        """Leave no process behind, whatever a test found."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def report(self, slot: int = 0) -> Progress:
        found = read_progress(self.submission.report_file(slot))
        assert found is not None
        return found

    def tries(self, slot: int = 0) -> list[tuple[str, str, int | None]]:
        """All but those that ended with several clips in hand: whether there are any is luck."""
        return [(one.name, one.outcome, one.clip) for one in self.report(slot).tries if not one.several]


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what was said."""
    out, err = process.communicate()
    return process.returncode, out + err


@pytest.fixture
def task_run(tmp_path: Path) -> Iterator[Callable[..., TaskRun]]:
    """Makes runs of the backend `slow`, which kills its process on a clip of KILLER samples if told so."""
    runs: list[TaskRun] = []

    def make(
        *slots: list[Path | TarTask],
        time_limit_s: float | None = None,
        clip_timeout: float | None = None,
        **options: Scalar,
    ) -> TaskRun:
        tasks = [[tar if isinstance(tar, TarTask) else as_task(tar) for tar in slot] for slot in slots]
        runs.append(TaskRun(tmp_path, tasks, time_limit_s, clip_timeout, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.end()


def as_task(tar: Path, **settings: Any) -> TarTask:
    return TarTask(str(tar), tar.stem, tar.stat().st_size, **settings)


def reference(tar: Path, folder: Path) -> bytes:
    """The committed bytes of an undisturbed run."""
    tokenize(tar, folder / "reference")
    return TarPaths(folder / "reference", tar.stem).committed.read_bytes()


@pytest.mark.slow
class TestRun:
    @pytest.mark.parametrize("how", ["SIGSEGV", "SIGABRT"])
    def test_a_clip_that_kills_its_worker(self, how: str, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """The next worker finds out with which clip it died; the lines before it stay, and the tars around it are done."""
        before, bad, after = (small_tar(tmp_path / f"{n}.tar", samples=n) for n in (100, 40, 200))
        run = task_run([before, bad, after], killer=KILLER, signal=how)
        code, said = finish(run.start())
        assert code == 0, said
        assert run.tries() == [("100", "committed", None), ("40", "died", KILLER_CLIP), ("200", "committed", None)]
        tries = [one for one in run.report().tries if one.name == "40"]
        assert [(one.alone, one.several) for one in tries] == [(False, True), (True, False)]
        assert all(how in one.problem for one in tries)
        assert sum(one.gained for one in tries) > 0  # so that nobody takes the node for broken
        assert how in said
        assert run.report().tars_done == 2
        assert run.report().finished
        whole = reference(bad, tmp_path).splitlines(keepends=True)
        assert (run.output / "40.jsonl.partial").read_bytes() == b"".join(whole[:KILLER_CLIP])
        assert committed_bytes(run.output) == {f"{n}.jsonl": reference(tmp_path / f"{n}.tar", tmp_path) for n in (100, 200)}

    def test_a_killer_within_a_long_clip(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """The worker that comes so far is told to have come on; the next one begins right before it, and dies without."""
        tar = write_tar(tmp_path / "in" / "a.tar", {"a.wav": wav(50), "b.wav": wav(3 * 8000 * 60 + KILLER)})
        run = task_run([tar], killer=KILLER, pause=0.5)
        (tmp_path / "site" / "sitecustomize.py").write_text(EACH_FRAGMENT)
        finish(run.start())
        first, second = run.report().tries
        assert (first.several, first.lengthened) == (True, 1)
        assert (second.outcome, second.clip, second.came_on) == ("died", 1, False)

    def test_a_clip_that_is_known_to_kill_is_not_touched(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """Told of it, a worker takes the dead one's tar over and finishes it, with a record of kind `crash` in its place."""
        bad = small_tar(tmp_path / "a.tar")
        run = task_run([bad], killer=KILLER)
        finish(run.start())
        again = Run(run.output).new_submission()
        plan = run.submission.read_plan()
        assert plan is not None
        told = ((as_task(bad, crash_clips=(KILLER_CLIP,)),),)
        again.write_plan(msgspec.structs.replace(plan, submission=2, slots=told))
        run.submission = again
        assert finish(run.start())[0] == 0
        lines = committed_bytes(run.output)["a.jsonl"].splitlines()
        kinds = [msgspec.json.decode(line).get("error_kind") for line in lines]
        assert kinds == [None, None, "decode", "crash", None]
        assert [line for n, line in enumerate(lines) if n != KILLER_CLIP] == [
            line for n, line in enumerate(reference(bad, tmp_path).splitlines()) if n != KILLER_CLIP
        ]

    def test_a_clip_that_never_ends(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """The worker is ended; the next one finds out with which clip, and all other tars are done."""
        before, bad, after = (small_tar(tmp_path / f"{n}.tar", samples=n) for n in (100, 40, 200))
        run = task_run([before, bad, after], hang=KILLER, clip_timeout=2.0)
        code, said = finish(run.start())
        assert code == 0, said
        ended = [one for one in run.tries() if one[1] != "yielded"]  # as a tar that was begun beside it may have
        assert ended == [("100", "committed", None), ("40", "died", KILLER_CLIP), ("200", "committed", None)]
        tries = [one for one in run.report().tries if one.name == "40"]
        assert [(one.alone, one.several, one.timed_out) for one in tries] == [(False, True, True), (True, False, True)]
        assert f"encoding clip {KILLER_CLIP} of 40 has made no progress for" in tries[-1].problem
        whole = reference(bad, tmp_path).splitlines(keepends=True)
        assert (run.output / "40.jsonl.partial").read_bytes() == b"".join(whole[:KILLER_CLIP])

    def test_a_clip_that_is_known_never_to_end(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """It becomes a record of kind `timeout`, unread, and the tar goes on."""
        tar = as_task(small_tar(tmp_path / "a.tar"), crash_clips=(KILLER_CLIP,), timed_out=(KILLER_CLIP,))
        run = task_run([tar], hang=KILLER)
        assert finish(run.start())[0] == 0
        lines = committed_bytes(run.output)["a.jsonl"].splitlines()
        kinds = [msgspec.json.decode(line).get("error_kind") for line in lines]
        assert kinds == [None, None, "decode", "timeout", None]

    def test_a_tar_that_cannot_be_opened(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """As on a file system that does not answer: it is the machine's trouble, named, and the tars after it are done."""
        good = small_tar(tmp_path / "good.tar")
        stuck = as_task(small_tar(tmp_path / "stuck.tar"))
        run = task_run([stuck, good], clip_timeout=2.0)
        (tmp_path / "site" / "sitecustomize.py").write_text(SILENT_FILE_SYSTEM)
        code, said = finish(run.start())
        assert code == 0, said
        assert run.tries() == [("stuck", "machine", None), ("good", "committed", None)]
        assert f"reading {tmp_path / 'stuck.tar'} has made no progress" in run.report().tries[0].problem

    def test_a_backend_that_never_loads(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """It ends the task: the next worker would wait as well."""
        run = task_run([small_tar(tmp_path / "a.tar"), small_tar(tmp_path / "b.tar")], fault="hang", clip_timeout=2.0)
        assert finish(run.start())[0] == 1
        assert run.tries() == [("a", "died", None)]
        assert "loading the backend has made no progress" in run.report().tries[0].problem

    def test_killed_from_outside_twice_at_one_clip(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """A person's kill -9 blames no clip, and the next task makes of the tar what an undisturbed one does."""
        tar = small_tar(tmp_path / "a.tar")
        brake = tmp_path / "brake"
        brake.touch()
        run = task_run([tar], hang=KILLER, brake=str(brake))
        task = run.start()
        killed: set[int] = set()
        for _ in range(3):  # the first of them has gained lines, and counts for nothing
            wait_for(lambda: lines_of(run.output) == KILLER_CLIP and bool(set(worker_pids(run.output)) - killed))
            (worker,) = worker_pids(run.output)
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        code, said = finish(task)
        assert code == 1
        assert {(one.outcome, one.clip, one.several) for one in run.report().tries} == {("killed", None, False)}
        assert "killed by signal 9 without a memory event: someone or something on" in said
        brake.unlink()
        assert finish(run.start())[0] == 0
        assert committed_bytes(run.output)["a.jsonl"] == reference(tar, tmp_path)

    def test_workers_that_die_before_their_first_line(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """Two in a row, and the task ends: it may well be the machine, which would eat the whole list."""
        tars = [small_tar(tmp_path / f"{n}.tar") for n in range(4)]
        run = task_run(tars, killer=40)
        assert finish(run.start())[0] == 1
        assert run.tries() == [("0", "died", 0), ("1", "died", 0)]
        assert len(run.report().tries) <= 5  # with what the first life had in hand

    def test_a_tar_that_failed_is_not_tried_again_after_a_death(
        self, tmp_path: Path, task_run: Callable[..., TaskRun]
    ) -> None:
        """What one life of a task has tried is no second time held against it in the next."""
        bad = small_tar(tmp_path / "bad.tar")
        missing = TarTask(str(tmp_path / "missing.tar"), "missing", 0)
        run = task_run([missing, bad, small_tar(tmp_path / "good.tar", samples=100)], killer=KILLER)
        assert finish(run.start())[0] == 1
        assert run.tries() == [("missing", "failed", None), ("bad", "died", KILLER_CLIP), ("good", "committed", None)]
        assert [name for name, _ in run.report().problems] == ["missing"]

    def test_killed_after_a_request_to_stop(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """A worker that Slurm asks to stop, and kills before it is done, counts against nobody."""
        run = task_run([small_tar(tmp_path / "a.tar", clips=200)], pause=0.2)
        task = run.start()
        wait_for(lambda: lines_of(run.output) > 1)
        (worker,) = worker_pids(run.output)
        assert worker != task.pid
        os.kill(worker, signal.SIGSTOP)
        wait_for(lambda: status_of(worker)["State"].startswith("T"))
        task.send_signal(signal.SIGTERM)
        wait_for(lambda: is_pending(worker, signal.SIGTERM))
        os.kill(worker, signal.SIGKILL)
        assert finish(task)[0] == 1
        assert run.tries() == [("a", "working", None)]

    @pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
    def test_asked_to_stop(self, number: signal.Signals, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """The clip in hand is finished; whole lines and no claim are left, and the exit code is that of good work."""
        tar = small_tar(tmp_path / "a.tar", clips=200)
        run = task_run([tar], pause=0.2)
        task = run.start()
        wait_for(lambda: lines_of(run.output) > 1)
        task.send_signal(number)
        code, said = finish(task)
        assert code == 0
        assert "yielded" in said
        assert run.tries() == [("a", "yielded", None)]
        self.check_yielded(run, tar)

    def check_yielded(self, run: TaskRun, tar: Path) -> None:
        partial = (run.output / "a.jsonl.partial").read_bytes()
        lines = partial.splitlines(keepends=True)
        assert reference(tar, run.folder).startswith(partial)
        assert all(line.endswith(b"\n") for line in lines)
        manifest = read_manifest(TarPaths(run.output, "a").attempt)
        assert manifest is not None
        assert manifest.clips == len(lines) < 200
        assert worker_pids(run.output) == []

    def test_asked_to_stop_before_there_is_a_worker(
        self, tmp_path: Path, task_run: Callable[..., TaskRun], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A signal that comes while the task starts is not lost."""
        run = task_run([small_tar(tmp_path / "a.tar")])
        script = (
            "import os, signal, sys\n"
            "from hpc import task\n"
            "fork = os.fork\n"
            "def late():\n"
            "    os.kill(os.getpid(), signal.SIGUSR2)\n"
            "    return fork()\n"
            "os.fork = late\n"
            "sys.exit(task.main(sys.argv[1:]))\n"
        )
        arguments = [str(run.submission.plan_file), "--elements", "1", "--element", "0"]
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=run.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert run.tries() == []
        assert run.report().finished

    def test_a_deadline_in_the_past_takes_no_clip(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """A task that starts in its last seconds leaves the work to the next."""
        run = task_run([small_tar(tmp_path / "a.tar")], time_limit_s=60.0)
        code, said = finish(run.start_in_slurm(SLURM_JOB_END_TIME=int(time.time())))
        assert (code, run.tries()) == (0, []), said
        assert list(run.output.glob("*.jsonl*")) == []
        assert (run.report().node, run.report().finished) == ("n7", True)

    def test_the_deadline_ends_it(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """Without any signal a worker yields before its job's end, with the margin of its limit to spare. The job's end
        comes by a clock that jumps, when the worker is at work.
        """
        tar = small_tar(tmp_path / "a.tar", clips=200)
        run = task_run([tar], time_limit_s=1200.0, pause=0.2)
        clock = tmp_path / "clock"
        (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK.format(clock=clock))
        ends_at = int(time.time()) + 1200
        task = run.start_in_slurm(SLURM_JOB_END_TIME=ends_at)
        wait_for(lambda: lines_of(run.output) > 1)
        ahead = ends_at - stop_margin_s(1200.0) - time.time()
        clock.with_suffix(".new").write_text(str(ahead))
        clock.with_suffix(".new").rename(clock)
        code, said = finish(task)
        assert code == 0
        assert time.time() + ahead < ends_at
        assert "yielded" in said
        self.check_yielded(run, tar)

    def test_a_clip_that_does_not_end_before_its_job(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """Slurm ends the job long before the clip's time-out: the witness tells it first, though Slurm has asked to stop."""
        tar = small_tar(tmp_path / "a.tar")
        run = task_run([as_task(tar, one_at_a_time=True)], time_limit_s=2.0, hang=KILLER)
        clock = tmp_path / "clock"
        (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK.format(clock=clock))
        ends_at = int(time.time()) + 1200
        task = run.start_in_slurm(SLURM_JOB_END_TIME=ends_at)
        wait_for(lambda: lines_of(run.output) == KILLER_CLIP)
        clock.with_suffix(".new").write_text(str(ends_at - 1 - time.time()))
        clock.with_suffix(".new").rename(clock)
        task.send_signal(signal.SIGUSR2)
        code, said = finish(task)
        assert code == 1
        assert run.tries() == [("a", "died", KILLER_CLIP)]
        assert run.report().tries[0].timed_out
        assert f"encoding clip {KILLER_CLIP} of a has made no progress for" in said
        assert "and the job ends: the worker is ended" in said

    def test_another_runs_plan(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """A plan never works with a spec that it was not made for; the reason is published."""
        run = task_run([small_tar(tmp_path / "a.tar")])
        plan = run.submission.read_plan()
        assert plan is not None
        run.submission = Run(run.output).new_submission()
        run.submission.write_plan(msgspec.structs.replace(plan, fingerprint="0" * 16))
        code, said = finish(run.start())
        assert code == 2
        assert "its spec is not the one" in said
        assert "its spec is not the one" in run.report().problems[0][1]

    def test_storage_that_is_away_before_any_tar_is_in_hand(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The report says so at the first tar, or else it would be a task that did nothing for no reason."""

        def away(_folder: Path) -> None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

        monkeypatch.setattr(module, "read_spec", away)
        submission = Run(tmp_path).new_submission()
        plan = plan_of(2, device="cpu")
        place = Place(1, "n1", None, 1, ends_at=None, shared=True)
        report = Progress(node="n1")
        code = module._work(tmp_path, submission, plan, place, 2, Tried(), report, Activities(), lambda: False)
        assert code == 1
        (attempt,) = submission.reports([1])[1].tries
        assert (attempt.name, attempt.outcome, attempt.storage) == ("1", "machine", "away")

    def test_an_exception_that_nobody_foresaw(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """It ends the task, which says so in its report, so that the tar is not tried for ever."""
        run = task_run([small_tar(tmp_path / "a.tar")], fault="load")
        code, said = finish(run.start())
        assert code != 0
        assert "Traceback" in said
        assert run.tries() == [("a", "machine", None)]
        assert run.report().tries[0].problem == "ValueError: a bug in the backend"

    def test_helping(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """A worker that is done goes on with tars of tasks that have not begun, but not with those never submitted."""
        tars = [small_tar(tmp_path / f"{n}.tar") for n in range(3)]
        run = task_run(*[[tar] for tar in tars])
        assert finish(run.start(0, elements=2))[0] == 0
        assert sorted(committed_bytes(run.output)) == ["0.jsonl", "1.jsonl"]
        assert run.tries() == [("0", "committed", None), ("1", "committed", None)]
        assert finish(run.start(1, elements=2))[0] == 0
        assert run.tries(1) == [("1", "committed", None)]
        assert run.report(1).clips == 0

    def test_claims_name_their_task(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """So that whoever knows which tasks have ended knows which claims are void."""
        run = task_run([], [small_tar(tmp_path / "a.tar", clips=100)], pause=0.2)
        task = run.start(1)
        wait_for(lambda: lines_of(run.output) > 0)
        claim = msgspec.json.decode(TarPaths(run.output, "a").claim.read_bytes())
        task.send_signal(signal.SIGTERM)
        finish(task)
        assert claim["task"] == "0001/1"

    def test_no_gpu_where_the_plan_wants_one(self, tmp_path: Path, task_run: Callable[..., TaskRun]) -> None:
        """A job that Slurm shows no GPU never falls back to the CPU without a word: the backend is asked for CUDA."""
        run = task_run([small_tar(tmp_path / "a.tar")])
        plan = run.submission.read_plan()
        assert plan is not None
        run.submission = Run(run.output).new_submission()
        run.submission.write_plan(msgspec.structs.replace(plan, device="cuda"))
        backend = tmp_path / "site" / "slow_codec.py"
        backend.write_text(backend.read_text() + "\n    # told\n" + TELL_DEVICE)
        said = finish(run.start_in_slurm())[1]
        assert "asked for cuda:0" in said


EACH_FRAGMENT = """
from jobs import clip_decoder, clip_journal
clip_decoder.LONG_CLIP_SECONDS = clip_journal.KEEP_SECONDS = 0.0
"""
CLOCK = """
import os, time
real = time.time
time.time = lambda: real() + (float(open("{clock}").read()) if os.path.exists("{clock}") else 0)
"""
TELL_DEVICE = """
def tell(self, options, device):
    print("asked for", device, flush=True)
    return Slow(self.describe(options, device), options)

Factory.load = tell
"""


def status_of(pid: int) -> dict[str, str]:
    """What /proc says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a signal waits for a stopped process."""
    status = status_of(pid)
    return any(int(status[mask], 16) & (1 << (number - 1)) for mask in ("SigPnd", "ShdPnd"))


class TestMain:
    def test_no_plan(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A node that does not see the run directory says so, and does nothing."""
        assert main([str(tmp_path / "plan.json"), "--elements", "1", "--element", "0"]) == 1

    def test_nothing_to_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process without a slot ends well, and touches nothing."""
        submission = Submission(tmp_path)
        submission.write_plan(plan_of(1, processes=4))
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
        monkeypatch.setenv("SLURM_LOCALID", "3")
        assert main([str(submission.plan_file), "--elements", "1"]) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_small_tars_are_as_these_tests_think() -> None:
    """The killer is the clip whose number the tests expect, and only one clip is so long."""
    assert KILLER == 40 + KILLER_CLIP
    assert KILLER_CLIP < CLIPS
