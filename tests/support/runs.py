"""Runs for tests: commands in process and as processes, a speech corpus, and a backend of another package."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from audio_tokenizers import registry
from audio_tokenizers.base import Scalar
from jobs.claims import read_claim
from jobs.commands import run_command
from jobs.spec import TokenizeSpec, make_spec
from support.packed_speech import pack_speech

ROOT = Path(__file__).resolve().parent.parent.parent

BACKEND = '''
"""mu-law with a pause, and faults on demand, registered by an entry point as another package would."""
import errno, os, signal, time
from audio_tokenizers.mulaw import MuLawFactory, MuLaw

class Slow(MuLaw):
    def __init__(self, info, options):
        super().__init__(info)
        self.options = options
        self.calls = 0
    def pause(self):
        self.calls += 1
        brake, until = self.options["brake"], time.monotonic() + self.options["pause"]
        while time.monotonic() < until and (not brake or self.calls > 2 and os.path.exists(brake)):
            time.sleep(min(self.options["pause"], 0.1))
    def encode(self, waves):
        self.pause()
        while len(waves[0]) == self.options["hang"] and os.path.exists(self.options["brake"] or "/"):
            time.sleep(0.1)
        if len(waves[0]) == self.options["killer"]:
            os.kill(os.getpid(), getattr(signal, self.options["signal"]))
        if self.options["fault"] == "disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        if os.environ.get("SLURMD_NODENAME") == self.options["broken_node"]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().encode(waves)

class Factory(MuLawFactory):
    name = "slow"
    uses_gpu = True  # so that tests see each worker get its own
    options = {
        "pause": (0.0, "seconds per call"),
        "brake": ("", "a file: pause only while it is there, and not in a worker's first two calls"),
        "fault": ("none", "none, load, hang (while it loads) or disk"),
        "killer": (-1, "a clip of so many samples kills the process"),
        "signal": ("SIGSEGV", "how"),
        "hang": (-1, "a clip of so many samples does not come back, while the brake is there or none is given"),
        "broken_node": ("", "the Slurm node whose GPU does not work"),
    }
    def load(self, options, device):
        if options["fault"] == "load":
            raise ValueError("a bug in the backend")
        if options["fault"] == "hang":
            time.sleep(1e6)
        return Slow(self.describe(options, device), options)

FACTORY = Factory()
'''


def call(function: Callable[..., int], *args: object) -> int:
    """Run a command in this process, as its command line would; returns its exit code."""
    before = sys.argv
    sys.argv = ["command", *map(str, args)]
    try:
        run_command(function)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    finally:
        sys.argv = before


def speech_list(folder: Path) -> Path:
    """Pack the speech examples into two tars in `folder`; returns a list of them."""
    pack_speech(folder)
    return write_list(folder / "tars.txt", sorted(folder.glob("speech-*")))


def write_list(path: Path, tars: list[Path]) -> Path:
    """A list of tars."""
    path.write_text("".join(f"{tar}\n" for tar in tars), encoding="utf-8")
    return path


def slow_backend(folder: Path) -> dict[str, str]:
    """Install the backend `slow` into `folder`; returns the environment in which it is found."""
    info = folder / "slow_codec-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "slow_codec.py").write_text(BACKEND)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-codec\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tar2tokens.backends]\nslow = slow_codec:FACTORY\n")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT, ROOT / "tokenizers"))),
        "CUDA_VISIBLE_DEVICES": "",
    }


def slow_spec(folder: Path, **options: Scalar) -> TokenizeSpec:
    """The spec of the backend `slow` in `folder`, as a command would make it; this process knows it no longer afterwards."""
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        registry._entry_points.cache_clear()
        return make_spec("slow", device="cpu", options={"pause": 0.0, **options})
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("slow_codec", None)
        registry._entry_points.cache_clear()


def start(module: str, *args: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command as a terminal would: in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, args)],
        cwd=cwd,
        env=env or {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tokenizers'}", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds. The test's time limit is the only one: a slow machine would miss another."""
    while not condition():
        time.sleep(0.02)


def lines_of(output: Path) -> int:
    """Lines in all partials of a run."""
    return sum(path.read_bytes().count(b"\n") for path in output.glob("*.partial"))


def worker_pids(output: Path) -> list[int]:
    """Processes that hold a claim now."""
    claims = [read_claim(path) for path in (output / ".run" / "claims").glob("*.json")]
    return [claim.pid for claim in claims if claim is not None]


def group_members(group: int) -> list[str]:
    """Command lines of the processes of a process group that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found


def committed_bytes(output: Path) -> dict[str, bytes]:
    """Name -> content of the committed files of a run."""
    return {path.name: path.read_bytes() for path in output.rglob("*.jsonl") if ".run" not in path.parts}


def tree(folder: Path) -> dict[str, bytes]:
    """Path -> content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_json(text: str) -> dict[str, Any]:
    """A JSON object."""
    return msgspec.json.decode(text, type=dict)
