"""A run of 100,000 tars as its controller meets it: planning, rounds with Slurm's commands counted, and the status scan.

The files are real, in a temporary folder; sbatch, squeue, sacct and scontrol are scripts that count. Then 1,000 tars go to a
real Slurm, if there is one to be had. python -m benchmarks.scale
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hpc.broadcast import Broadcast
from hpc.controller import Controller, Round
from hpc.event_hooks import Hooks
from hpc.evidence import View
from hpc.fresh_report import FreshReport
from hpc.launch import make_launch
from hpc.launch_options import LaunchOptions
from hpc.plan import balance, chunk, make_plan, slots_for
from hpc.progress import scan
from hpc.run import Run, RunState
from hpc.slurm import SlurmCluster
from jobs.commands import command_parser
from jobs.manifest import VERDICT_COMPLETE, Manifest
from jobs.spec import TokenizeSpec, freeze_spec, make_spec
from jobs.tar_task import TarTask

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = os.pathsep.join([str(ROOT), str(ROOT / "tokenizers")])
TARS, MAX_ARRAY, SUBMITTED = 100_000, 1001, 1000
REPORT_SECONDS = 600.0
PLAN_SECONDS, SCAN_SECONDS, SUBMIT_SECONDS, FAILURES_SECONDS = 5.0, 3.0, 15.0, 10.0
NEWS_SHARE = 0.1
"""Of the CPU of a round that brings nothing new."""
MEDIAN_BYTES, SIGMA = 1e9, 1.0
RATE = 2e6
"""Tar bytes per second of one GPU, for `auto`."""
COMMITTED = b'{"committed":true}\n'
COUNTING = """#!/bin/sh
name=$(basename "$0")
echo x >> "{folder}/$name.calls"
case $name in
sbatch) cat > /dev/null; wc -l < "{folder}/sbatch.calls" ;;
squeue) cat "{folder}/queue" ;;
scontrol) echo "MaxArraySize = {max_array}" ;;
esac
"""


def sizes(number: int) -> list[int]:
    """Log-normal tar sizes in bytes, the same each time."""
    source = random.Random(1)
    return [int(MEDIAN_BYTES * source.lognormvariate(0, SIGMA)) for _ in range(number)]


def timed(what: str, seconds: float, goal: float) -> bool:
    """Print a time beside its goal."""
    met = seconds <= goal
    print(f"{what}: {seconds:.2f} s (goal {goal:g} s) {'ok' if met else 'ABOVE GOAL'}", flush=True)
    return met


def plan_seconds(spec: TokenizeSpec, tars_per_gpu: int | str) -> float:
    """From the list to the bytes of the plan files, as hpc.dispatch makes them."""
    tasks = [TarTask(f"/data/{number:06}.tar", f"{number:06}", size) for number, size in enumerate(sizes(TARS))]
    started = time.perf_counter()
    slots = balance(tasks, slots_for(tasks, tars_per_gpu, 1, 7200.0, RATE))
    alive: dict[int, list[int]] = {}
    parts = chunk(slots, 1, MAX_ARRAY)
    written = 0
    for number, part in enumerate(parts, 1):
        plan = make_plan(part, spec, submission=number, time_limit_s=7200.0, device="cuda", alive=alive)
        written += len(msgspec.json.format(msgspec.json.encode(plan)))
        alive[number] = list(range(plan.elements))
    seconds = time.perf_counter() - started
    print(f"{TARS:,} tars: {len(slots):,} slots in {len(parts)} arrays, {written / 1e6:.0f} MB of plans")
    return seconds


def counting_slurm(folder: Path) -> SlurmCluster:
    """A Slurm of scripts that count how often they are called."""
    for name in ("sbatch", "squeue", "sacct", "scontrol", "scancel"):
        script = folder / name
        script.write_text(COUNTING.format(folder=folder, max_array=MAX_ARRAY))
        script.chmod(0o755)
    (folder / "queue").write_text("")
    return SlurmCluster({**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"})


def calls(folder: Path) -> Counter[str]:
    """How often each command has been called since this was asked last."""
    found: Counter[str] = Counter()
    for path in folder.glob("*.calls"):
        if path.stem != "sbatch":  # whose count makes job ids
            found[path.stem] = len(path.read_text().splitlines())
            path.unlink()
    return found


def make_run(folder: Path, spec: TokenizeSpec) -> Run:
    """A run of TARS sparse files of the sizes in question."""
    (folder / "data").mkdir()
    paths = [str(folder / "data" / f"{number:06}.tar") for number in range(TARS)]
    for path, size in zip(paths, sizes(TARS), strict=True):
        with Path(path).open("wb") as file:
            file.truncate(size)
    run = Run(folder / "tokens")
    run.folder.mkdir(parents=True)
    freeze_spec(run.output_dir, spec)
    run.add_to_list(paths, keep_dirs=False)
    return run


def commit_all(run: Run, spec: TokenizeSpec) -> None:
    """What workers would leave behind, except for the tokens."""
    (run.folder / "manifests").mkdir()
    for tar in run.listed():
        status = Path(tar.tar).stat()
        manifest = Manifest(
            tar_file=tar.tar,
            input_bytes=status.st_size,
            input_mtime_ns=status.st_mtime_ns,
            fingerprint=spec.fingerprint,
            verdict=VERDICT_COMPLETE,
            clips=1000,
            audio_seconds=10_000.0,
            wall_seconds=status.st_size / RATE,
            output_bytes=len(COMMITTED),
            versions={"tar2tokens": "0.1.0", "python": "3.11"},
        )
        paths = run.paths(tar.name)
        paths.manifest.write_bytes(msgspec.json.encode(manifest))
        paths.committed.write_bytes(COMMITTED)


def queue_of(run: Run) -> str:
    """What squeue says while all tasks run."""
    lines = []
    for submission in run.submissions():
        job = submission.read_job()
        assert job is not None
        lines += [f"{job.name}|{job.job_id}|{element}|RUNNING|n1|None\n" for element in range(job.elements)]
    return "".join(lines)


class News:
    """What a round makes known, and the CPU that it takes."""

    def __init__(self, run: Run) -> None:
        self._broadcast = Broadcast(run, host="here", hooks=Hooks(list))
        self.cpu = 0.0
        """Of the last round."""

    def tell(self, seen: Round, state: RunState, views: Sequence[View]) -> None:
        """See hpc.controller.Tell."""
        began = time.process_time()
        self._broadcast.tell(seen, state, views)
        self.cpu = time.process_time() - began


def rounds(run: Run, spec: TokenizeSpec, folder: Path) -> bool:
    """A first round, three while all tasks run, the last of them beside a report, and some after all have ended: what each
    asks of Slurm, and how long it takes.
    """
    cluster = counting_slurm(folder)
    launch = make_launch(LaunchOptions(cluster="slurm", device="cuda"), environment={"PATH": os.environ["PATH"]})
    launch = msgspec.structs.replace(launch, time_limit_min=120)
    run.write_state(RunState(run_id="00000000", launch=launch))
    news = News(run)
    controller = Controller(run, cluster, launch, host="here", tell=news.tell)
    met = True
    report = FreshReport(run)
    while_all_run = ("while all run", "while all run, again", "while all run, beside a report")
    for what in ("that submits all", *while_all_run, "after all have ended", "with nothing new", "of a new controller"):
        if what == "while all run":
            (folder / "queue").write_text(queue_of(run))
        elif what == "after all have ended":
            commit_all(run, spec)
            (folder / "queue").write_text("")
        elif what == "of a new controller":
            news = News(run)
            controller = Controller(run, cluster, launch, host="here", tell=news.tell)
        started, cpu = time.perf_counter(), time.process_time()
        if what.endswith("beside a report"):
            report.refresh(TARS)
        seen = controller.round()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        report.wait(REPORT_SECONDS)
        asked = calls(folder)
        ok = asked["squeue"] <= 2 and asked["sacct"] <= 1  # by name it asks for what is not found by id
        met = met and ok
        print(
            f"round {what}: {seconds:.1f} s, {len(seen.submitted.submissions)} sbatch, {asked['squeue']} squeue, "
            f"{asked['sacct']} sacct {'ok' if ok else 'TOO MANY'}; CPU {cpu:.2f} s, of it for news {news.cpu:.2f} s",
            flush=True,
        )
        if what == "with nothing new":
            met = timed("events and metrics, of a round's CPU with nothing new", news.cpu, NEWS_SHARE * cpu) and met
    print(f"events.jsonl: {run.events_file.stat().st_size / 1e6:.1f} MB")
    return met and seen.decision.outcome == "finished"


def failures_seconds(run: Run) -> float:
    """CPU of tools.failures, all tars committed and clean: how long it takes to say that nothing failed."""
    with tempfile.TemporaryDirectory() as here:
        command = [sys.executable, "-m", "tools.failures", "--output-dir", str(run.output_dir)]
        before = os.times()
        subprocess.run(command, cwd=here, env={**os.environ, "PYTHONPATH": IMPORTS}, capture_output=True, check=True)
        after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def scan_seconds(run: Run) -> float:
    """The second of two scans of all tars, all committed."""
    listed = run.listed()
    for _ in range(2):
        started = time.perf_counter()
        committed = sum(state.state == "committed" for state in scan(run, listed))
        seconds = time.perf_counter() - started
        assert committed == TARS
    return seconds


@contextmanager
def real_slurm() -> Iterator[dict[str, str] | None]:
    """The environment in which there is a Slurm: the one that SLURM_CONF names, or that of the tests; None without."""
    if "SLURM_CONF" in os.environ:
        yield dict(os.environ)
        return
    sys.path.append(str(ROOT / "tests"))
    from support.real_cluster import RealCluster, free_ports, missing_prerequisites

    if missing := missing_prerequisites():
        print(f"submitting to a real Slurm: left out, since SLURM_CONF is not set and {', '.join(missing)} is not here")
        yield None
        return
    folder = Path(f"/tmp/slurm-bench-{os.getpid()}")  # short, for its sockets
    with RealCluster(folder, free_ports(19100)) as cluster:
        yield cluster.env


def submit_seconds(folder: Path, environment: dict[str, str]) -> float:
    """hpc.submit of SUBMITTED tars, from the command's start to its end; the jobs are held, and cancelled after it."""
    tars = folder / "some.txt"
    tars.write_text("".join(f"{folder}/data/{number:06}.tar\n" for number in range(SUBMITTED)))
    output = folder / "real"
    command = ["-m", "hpc.submit", "--list", str(tars), "--backend", "mulaw", "--cluster", "slurm", "--device", "cpu"]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command, "--slurm", "hold", "--output-dir", str(output)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    jobs = [submission.read_job() for submission in Run(output).submissions()]
    if done.returncode or sum(job.elements for job in jobs if job is not None and job.job_id) != SUBMITTED:
        raise SystemExit(f"hpc.submit: exit code {done.returncode}: {done.stdout}{done.stderr}")
    subprocess.run(
        ["scancel", *(job.job_id for job in jobs if job is not None)], env=environment, capture_output=True, check=True
    )
    return seconds


def main() -> int:
    spec = make_spec("mulaw", device="cpu")
    met = [timed(f"their plan, --tars-per-gpu {each}", plan_seconds(spec, each), PLAN_SECONDS) for each in (1, "auto")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        run = make_run(folder, spec)
        met.append(rounds(run, spec, folder / "bin"))
        met.append(timed(f"scan of {TARS:,} committed tars, warm", scan_seconds(run), SCAN_SECONDS))
        met.append(timed(f"tools.failures of {TARS:,} committed tars, CPU", failures_seconds(run), FAILURES_SECONDS))
        with real_slurm() as environment:
            if environment is not None:
                seconds = submit_seconds(folder, environment)
                met.append(timed(f"hpc.submit of {SUBMITTED:,} tars to a real Slurm", seconds, SUBMIT_SECONDS))
    return 0 if all(met) else 1


if __name__ == "__main__":
    command_parser(__doc__).parse_args()  # a word that it does not know begins nothing
    sys.exit(main())
