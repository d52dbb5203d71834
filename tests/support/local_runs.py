"""Runs on this machine that take a while, so that tests can disturb them: a backend with a pause per clip."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from support.runs import committed_bytes, slow_backend, start, write_list
from support.small_run import tokenize, wav, write_tar

CLIPS = 12


class SlowRun:
    """Tars of short clips, and commands that work on them with the backend `slow`.

    Workers that are to be found at work are on the brake: after two clips they pause at each, until `release`. So nothing is
    over before the test has seen it, however slow the machine.
    """

    def __init__(self, folder: Path, tars: str = "ab", clips: int = CLIPS) -> None:
        self.folder = folder
        self.env = {**slow_backend(folder / "site"), "XDG_CONFIG_HOME": str(folder)}
        members = {f"{number:02}.wav": wav(40 + number, seed=number) for number in range(clips)}
        self.tars = [write_tar(folder / f"{name}.tar", members) for name in tars]
        self.listed = write_list(folder / "list.txt", self.tars)
        self.output = folder / "tokens"
        self.brake = folder / "brake"

    def start(self, pause: float, *more: object, workers: int = 2) -> subprocess.Popen[str]:
        """hpc.submit. With a pause the workers are on the brake: that many seconds per clip, in which they do not hear of
        signals.
        """
        if pause:
            self.brake.touch()
        recipe = ("--list", self.listed, "--backend", "slow", "--set", f"pause={pause}", "--set", f"brake={self.brake}")
        return self.command("hpc.submit", *recipe, "--cluster", "local", "--workers", workers, *more)

    def release(self) -> None:
        """Take the workers off the brake, those at work and those to come."""
        self.brake.unlink()

    def command(self, module: str, *arguments: object) -> subprocess.Popen[str]:
        """A command of ours on this run."""
        return start(module, *arguments, "--output-dir", self.output, cwd=self.folder, env=self.env)

    def assert_complete(self) -> None:
        """All tars are committed, with the bytes that one undisturbed worker commits, and nothing is left over."""
        undisturbed = self.folder / "undisturbed"
        for tar in self.tars:
            tokenize(tar, undisturbed)
        assert committed_bytes(self.output) == committed_bytes(undisturbed)
        assert not list(self.output.glob("*.partial"))
        assert not list((self.output / ".run" / "claims").iterdir())

    def assert_rerun_completes(self) -> None:
        """The same command, undisturbed, finishes the run."""
        out, err = (process := self.start(0)).communicate()
        assert process.returncode == 0, err
        assert f"{len(self.tars)} of {len(self.tars)} tars committed" in out or "nothing to do" in out
        self.assert_complete()


def task_pids(output: Path) -> list[int]:
    """Processes of a run's tasks that have not ended: witnesses and workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"hpc.task" in words and any(word.startswith(os.fsencode(output)) for word in words):
                found.append(int(folder.name))
    return found


def submissions(output: Path) -> int:
    """How many submissions a run has had."""
    return len(list((output / ".run" / "submissions").glob("[0-9]*")))
