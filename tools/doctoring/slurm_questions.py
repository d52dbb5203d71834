"""Asks a site's Slurm as a run would, and a few nodes by srun. Submits no batch job."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from hpc.batch_script import batch_text
from hpc.environment import task_environment
from hpc.launch import Launch
from hpc.slurm import CALL_SECONDS
from hpc.submissions import Job, Submission
from tools.doctoring.bounded import Answer, Ended, answers, probe_command, run_bounded
from tools.doctoring.news import News

__all__ = ["COMMANDS", "NodesAsked", "ask_commands", "ask_nodes", "try_sbatch"]

COMMANDS: Mapping[str, Sequence[str]] = {
    "sbatch": ("sbatch", "--version"),
    "squeue": ("squeue", "--noheader", "--me", "--format=%i"),
    "sacct": ("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State"),
    "scontrol": ("scontrol", "show", "config"),
}
START_SECONDS = 60.0
"""From srun's grant until Python runs on the nodes."""
NOTE_SECONDS = 75.0
"""For one note's answers. Network file systems may hide files for a minute."""
NOTES = 3
LAST_WORDS_SECONDS = 5.0
"""The asker answers right before srun ends, unless it never started."""
LIMIT_MIN = 10
"""Time limit of srun's job, which ends long before."""


def ask_commands(launch: Launch, seconds: float = CALL_SECONDS) -> Iterator[tuple[str, Ended]]:
    """Call each command that a run's rounds need, as they do."""
    environment = task_environment(launch)
    with ThreadPoolExecutor(len(COMMANDS)) as pool:
        asked = {name: pool.submit(run_bounded, words, seconds, environment=environment) for name, words in COMMANDS.items()}
        for name, answer in asked.items():
            yield name, answer.result()


def try_sbatch(launch: Launch, seconds: float = CALL_SECONDS) -> Ended:
    """Test the array that hpc.submit would send by `sbatch --test-only`, which queues nothing."""
    job = Job(name="tar2tokens-doctor", elements=1, parallel=1, host="", intended_at=0.0)
    text = batch_text(Submission(Path("/0001")), launch, job)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#SBATCH --chdir")) + "\n"
    return run_bounded(["sbatch", "--test-only"], seconds, environment=task_environment(launch), text=text)


@dataclass(frozen=True)
class NodesAsked:
    """The answers of a few nodes."""

    answers: tuple[Answer, ...]
    news: Mapping[str, News]
    srun: Ended
    """The end of srun. Its exit code means nothing if all nodes answered."""


def ask_nodes(
    folder: Path, launch: Launch, *, nodes: int, wait_s: float, checks: Sequence[str], see: Sequence[str]
) -> NodesAsked:
    """Let nodes answer checks of their own, and notes in `folder`, which must exist and be empty."""
    answering = NOTES * NOTE_SECONDS + START_SECONDS
    seen = [word for path in see for word in ("--see", path)]
    script = "\n".join(
        [
            *launch.setup,
            f"{shlex.join(probe_command('host_probe', *checks, *seen))} &",
            shlex.join(probe_command("news", "answer", folder, "--seconds", answering)),
            "wait",
        ]
    )
    srun = ["srun", f"--nodes={nodes}", "--ntasks-per-node=1", f"--time={LIMIT_MIN}", f"--immediate={wait_s:.0f}"]
    srun += ["--job-name=tar2tokens-doctor", "--kill-on-bad-exit=0", "--chdir=/", *_options(launch), "bash", "-c", script]
    asking = probe_command(
        "news", "ask", folder, "--hosts", nodes, "--start", wait_s + START_SECONDS, "--seconds", NOTE_SECONDS
    )
    limit = wait_s + START_SECONDS + answering
    environment = task_environment(launch)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(answers, srun, limit, environment=environment)
        over = partial(_done_for, running, LAST_WORDS_SECONDS, [])
        asked = pool.submit(answers, asking, limit, environment=environment, pointless=over)
        told, ended = running.result()
        heard, _ = asked.result()
    news = {answer.node: msgspec.json.decode(answer.facts, type=News) for answer in heard}
    return NodesAsked(tuple(told), news, ended)


def _done_for(running: Future[Any], seconds: float, since: list[float]) -> bool:
    """Whether the work has been done for a given time; `since` remembers when that was first seen."""
    if running.done() and not since:
        since.append(time.monotonic())
    return bool(since) and time.monotonic() - since[0] > seconds


def _options(launch: Launch) -> Iterator[str]:
    """Of where a run's tasks go, what srun takes too."""
    for name, value in (
        ("partition", launch.partition),
        ("account", launch.account),
        ("qos", launch.qos),
        ("constraint", launch.constraint),
    ):
        if value:
            yield f"--{name}={value}"
    for name in ("reservation", "clusters", "exclude", "gres", "gpus"):
        if name in launch.slurm:
            yield f"--{name}={launch.slurm[name]}"
    if launch.gpus_per_node:
        kind = f"{launch.gpu_type}:" if launch.gpu_type else ""
        yield f"--gpus-per-node={kind}{launch.gpus_per_node}"
