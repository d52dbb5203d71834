"""Runs on a real Slurm for tests: tars, an undisturbed reference, and the commands as people type them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.plan import Plan
from hpc.submissions import Job, Submission, read_submissions
from jobs.claims import Claim, read_claims
from jobs.progress import Progress, Try
from support.runs import ROOT, committed_bytes, read_json, slow_backend, write_list
from support.small_run import small_tar


@dataclass(frozen=True)
class Watch:
    """A controller that runs."""

    process: subprocess.Popen[bytes]
    output: Path

    def said(self) -> str:
        """What it has said so far, on both streams."""
        return self.output.read_text()

    def ends(self) -> int:
        """Wait for its end; returns its exit code."""
        return self.process.wait()


@dataclass
class SlurmRun:
    """A list of tars with the backend `slow`, tokenized on Slurm into `output`.

    A worker that is to be found at work is on the brake: after two clips it pauses at each, until `release`. So nothing is
    over before the test has seen it, however slow the machine.
    """

    folder: Path
    tars: list[Path]
    env: dict[str, str]
    settings: list[str] = field(default_factory=list)
    """--set options of the backend, which do not change tokens."""

    @property
    def output(self) -> Path:
        return self.folder / "tokens"

    @property
    def brake(self) -> Path:
        return self.folder / "brake"

    @property
    def tar_list(self) -> Path:
        return write_list(self.folder / "tars.txt", self.tars)

    def command(self, module: str, *args: object, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its exit code must be `check`, unless that is None."""
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, args), "--output-dir", str(self.output)],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert check is None or done.returncode == check, f"{module}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, module: str, *args: object) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, args), "--output-dir", str(self.output)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def submit(self, *args: object, pause: float = 0.0, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """hpc.submit on Slurm. With a `pause` the workers are on the brake: that many seconds per clip, in which they do not
        hear of signals.
        """
        if pause:
            self.brake.touch()
        options = (f"pause={pause}", f"brake={self.brake}", *self.settings)
        settings = [word for setting in options for word in ("--set", setting)]
        return self.command(
            "hpc.submit", "--list", self.tar_list, "--backend", "slow", "--cluster", "slurm", *settings, *args, check=check
        )

    def release(self) -> None:
        """Take the workers off the brake, those at work and those to come."""
        self.brake.unlink()

    def once(self, check: int | None = None) -> subprocess.CompletedProcess[str]:
        """One round of the controller."""
        return self.command("hpc.resume", "--once", check=check)

    def finish(self, check: int = 0) -> subprocess.CompletedProcess[str]:
        """Rounds until the end."""
        return self.command("hpc.resume", "--watch", "--interval", 0.5, check=check)

    def cron(self) -> int:
        """One round as cron starts it: in the checkout, with nothing at all in the environment. Returns the exit code."""
        words = [sys.executable, "-m", "hpc.resume", "--once", "--output-dir", str(self.output)]
        done = subprocess.run(words, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 75), done.stdout + done.stderr
        return done.returncode

    def reports(self, submission: Submission) -> dict[int, Progress]:
        """Slot -> what its worker has told of itself."""
        return submission.reports(range(len(plan_of(submission).slots)))

    def assert_nothing_twice(self) -> None:
        """The workers have made each line once, all of them together."""
        assert sum(attempt.gained for _, _, attempt in self.tries()) == self.lines()

    def lines(self) -> int:
        """Lines in all partials and committed files."""
        found = 0
        for path in self.output.glob("[!.]*.jsonl*"):
            try:
                found += path.read_bytes().count(b"\n")
            except FileNotFoundError:  # committed a moment ago
                continue
        return found

    def job_ids(self) -> list[str]:
        """Slurm's numbers of the run's arrays, oldest first."""
        jobs = [submission.read_job() for submission in self.submissions()]
        return [job.job_id for job in jobs if job is not None and job.job_id]

    def submissions(self) -> list[Submission]:
        """The run's submissions, oldest first."""
        return read_submissions(self.output / ".run" / "submissions")

    def claims(self) -> dict[str, Claim]:
        """Name of the tar -> who works on it, or died with it."""
        return read_claims(self.output / ".run" / "claims")

    def lines_of(self, name: str) -> int:
        """Lines in one tar's partial, none where there is none yet."""
        partial = self.output / f"{name}.jsonl.partial"
        return partial.read_bytes().count(b"\n") if partial.exists() else 0

    def tries(self) -> list[tuple[int, str, Try]]:
        """Submission, node and try of all that the tasks have reported, oldest submission first."""
        found = []
        for submission in self.submissions():
            plan = submission.read_plan()
            for report in submission.reports(range(len(plan.slots) if plan else 0)).values():
                found += [(submission.number, report.node, attempt) for attempt in report.tries]
        return found

    def logs(self) -> list[tuple[int, str]]:
        """Submission and text of every task's log."""
        found = [(each.number, path) for each in self.submissions() for _element, _rank, path in each.log_files()]
        return [(number, path.read_text()) for number, path in found]

    def history(self) -> list[dict[str, Any]]:
        """What the controllers have decided."""
        lines = (self.output / ".run" / "history.jsonl").read_text().splitlines()
        return [read_json(line) for line in lines]

    @contextmanager
    def watching(self, *args: object, env: dict[str, str] | None = None) -> Iterator[Watch]:
        """hpc.resume --watch at work beside this block, and gone after it."""
        output = Path(tempfile.mkstemp(dir=self.folder, prefix="watch-")[1])
        words = [sys.executable, "-m", "hpc.resume", "--watch", "--interval", "0.3", *map(str, args)]
        with (
            output.open("w") as file,
            subprocess.Popen(
                [*words, "--output-dir", str(self.output)], cwd=self.folder, env=env or self.env, stdout=file, stderr=file
            ) as process,
        ):
            try:
                yield Watch(process, output)
            finally:
                process.kill()

    def assert_complete(self) -> None:
        """Every tar is committed, and equals byte for byte what one undisturbed process on this machine makes of it."""
        reference = self.folder / "reference"
        settings = [word for setting in self.settings if setting.startswith("killer") for word in ("--set", setting)]
        words = ["--list", str(self.tar_list), "--backend", "slow", *settings, "--cluster", "local", "--workers", "1"]
        subprocess.run(
            [sys.executable, "-m", "hpc.submit", *words, "--output-dir", str(reference)],
            cwd=self.folder,
            env=self.env,
            check=True,
            capture_output=True,
        )
        assert len(committed_bytes(reference)) == len(self.tars)
        assert committed_bytes(self.output) == committed_bytes(reference)
        assert not list(self.output.glob("*.partial"))
        assert not list((self.output / ".run" / "claims").glob("**/*.json"))


def plan_of(submission: Submission) -> Plan:
    """The plan of a submission that has one."""
    plan = submission.read_plan()
    assert plan is not None
    return plan


def job_of(submission: Submission) -> Job:
    """The job of a submission that has one."""
    job = submission.read_job()
    assert job is not None
    return job


def slurm_run(folder: Path, *, tars: int, clips: int = 10) -> SlurmRun:
    """A run of so many tars with so many clips each; a clip with n samples is number n - 40 of its tar."""
    folder.mkdir(exist_ok=True)
    env = {**slow_backend(folder / "site"), **{name: os.environ[name] for name in ("PATH", "SLURM_CONF")}}
    env["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), str(ROOT), str(ROOT / "tokenizers")])
    return SlurmRun(folder, [small_tar(folder / "in" / f"{n:03}.tar", clips=clips) for n in range(tars)], env)
