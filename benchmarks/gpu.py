"""All figures that need a GPU, in one run of less than nine minutes.

    python -m benchmarks.gpu --out DIR [--minutes 8] [--only higgs] [--rehearse]

What matters most comes first. Each part is a process of its own with a share of the time: one that crashes or hangs costs
the others nothing. DIR/results.json has what was found after each part; at the end, or where it is interrupted, come
DIR/table.txt, which is printed too, and DIR/plot.svg. Weights are random ones of full size, made here; nothing is fetched.
`--rehearse` runs every part on the CPU with tiny models, and its figures mean nothing.

Exits 0 if every part was done and every test passed, 1 if not, 2 without a GPU, 128 + signal if interrupted.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.gpu_measure import FULL, TINY, Emit, Left, Sizes, machine, measure_backend
from benchmarks.gpu_scaling import measure_scaling
from benchmarks.gpu_table import plot, table
from jobs.commands import command_parser

__all__ = ["PARTS", "Part", "Stopped", "main", "run"]

ROOT = Path(__file__).resolve().parent.parent
GRACE_SECONDS = 3.0
"""What is left of a part's time when it should have begun to end."""
FEWEST_SECONDS = 30.0
"""With less a part is not begun."""
SLOW_IMPORTS = ("torch", "torchaudio", "transformers.modeling_utils", "benchmarks.gpu_measure")
PYTEST = ("-m", "pytest", "-m", "gpu", "-q", "-rfEP", "-p", "no:cacheprovider", "--continue-on-collection-errors")
REHEARSED_TEST = "tests/audio_tokenizers/shared/test_device_calls.py"
Work = Callable[[str, Sizes, Path, Emit, Left], None]
"""(device, sizes, scratch folder, emit, seconds left) in a process of its own."""


@dataclass(frozen=True)
class Part:
    """One process."""

    name: str
    weight: float
    """Its share of the time that is left, against that of the parts behind it."""
    work: Work


class Stopped(BaseException):
    """A signal came."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def describe_machine(device: str, _sizes: Sizes, _scratch: Path, emit: Emit, _left: Left) -> None:
    """What all figures were made on."""
    emit(machine(device))


@dataclass(frozen=True)
class Backend:
    """The figures of one backend."""

    name: str

    def __call__(self, device: str, sizes: Sizes, scratch: Path, emit: Emit, left: Left) -> None:
        """As Work."""
        measure_backend(self.name, device, sizes, scratch, emit, left)


def run_tests(_device: str, sizes: Sizes, scratch: Path, emit: Emit, left: Left) -> None:
    """The suite's tests that need a GPU; one file of them in a rehearsal, to see that they are found."""
    log = scratch / "tests.log"
    command = [sys.executable, *PYTEST, *([REHEARSED_TEST] if sizes.tiny else [])]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            code: int | None = process.wait(timeout=max(1.0, left()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
    text = log.read_text(errors="replace")
    for line in text.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            emit({"kind": "failed_test", "what": line.partition(" ")[2]})
    shares = re.findall(r"^.*equal codes.*$|^.*equal tokens.*$", text, re.MULTILINE)
    ending = text.strip().splitlines()[-1:] if code is not None else ["no end within its time"]
    summary = re.sub(r"^=+ | =+$", "", ending[0]) if ending else "no output"
    emit({"kind": "tests", "summary": summary, "code": code, "shares": shares, "tail": text[-4000:]})
    if code not in (0, 5):  # 5: none was selected
        emit({"kind": "error", "what": f"pytest: {summary}"})


PARTS = (
    Part("machine", 0.1, describe_machine),
    Part("higgs", 6.0, Backend("higgs")),
    Part("mimi", 3.0, Backend("mimi")),
    Part("cosyvoice_s3", 2.5, Backend("cosyvoice_s3")),
    Part("tests", 4.5, run_tests),
    Part("bicodec", 2.0, Backend("bicodec")),
    Part("xcodec", 2.0, Backend("xcodec")),
    Part("encodec", 1.5, Backend("encodec")),
    Part("dac", 2.0, Backend("dac")),
    Part("scaling", 2.0, measure_scaling),
    Part("whisper_features", 2.0, Backend("whisper_features")),
    Part("step_audio", 1.0, Backend("step_audio")),
)


def in_process(work: Work, device: str, sizes: Sizes, scratch: str, start: Connection) -> None:
    """What a part's process does, once `start` says for how many seconds: each record becomes a line of a file, at once."""
    os.setpgrp()  # so that it can be ended with all that it starts, and Ctrl-C is the other process's to hear
    for module in SLOW_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    try:
        end = time.monotonic() + start.recv()
    except EOFError:
        return
    with (Path(scratch) / "records.jsonl").open("a") as file:

        def emit(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        try:
            work(device, sizes, Path(scratch), emit, lambda: end - time.monotonic())
        except Exception as error:  # noqa: BLE001 - the table tells it, and other parts go on
            traceback.print_exc()
            emit({"kind": "error", "what": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"})


class Process:
    """A part's process. It imports what takes seconds to import while the part before it runs, and then waits."""

    def __init__(self, part: Part, device: str, sizes: Sizes) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix=f"{part.name}-"))
        # Not forked with CUDA: whatever asks for a device on import would make it useless to the child.
        context: Any = multiprocessing.get_context("spawn" if device.startswith("cuda") else "forkserver")
        if not device.startswith("cuda"):
            context.set_forkserver_preload([*SLOW_IMPORTS])
        start, self._start = context.Pipe(duplex=False)
        self._process = context.Process(target=in_process, args=(part.work, device, sizes, str(self._scratch), start))
        self._process.start()
        start.close()

    def run(self, seconds: float) -> str:
        """Let it work for at most `seconds`; returns how it ended, as text."""
        self._start.send(seconds - GRACE_SECONDS)
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            return "out of time"
        return "done" if code == 0 else f"died of {signal.Signals(-code).name}" if code < 0 else f"exit {code}"

    def end(self, keep: Path) -> list[dict[str, Any]]:
        """End it with all that it has started, and what it has found. The tests' log goes to `keep`."""
        self._start.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        found: list[dict[str, Any]] = []
        with contextlib.suppress(FileNotFoundError):
            lines = (self._scratch / "records.jsonl").read_text().splitlines()
            found = [json.loads(line) for line in lines if line.endswith("}")]
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(self._scratch / "tests.log", keep / "tests.log")
        shutil.rmtree(self._scratch, ignore_errors=True)
        return found


def run(parts: Sequence[Part], device: str, sizes: Sizes, seconds: float, out: Path) -> dict[str, Any]:
    """Run all parts within `seconds`, and write what they find. Raises Stopped, when all that is written."""
    end = time.monotonic() + seconds
    results: dict[str, Any] = {"rehearsal": sizes.tiny, "parts": []}
    out.mkdir(parents=True, exist_ok=True)
    ready = deque([Process(part, device, sizes) for part in parts[:1]])
    try:
        for number, part in enumerate(parts):
            process = ready.popleft()
            ready += [Process(following, device, sizes) for following in parts[number + 1 : number + 2]]
            left = end - time.monotonic()
            share = part.weight / sum(other.weight for other in parts[number:])
            _run_part(part, process, min(left, max(FEWEST_SECONDS, left * share)), results, out)
            _write(out / "results.json", json.dumps(results, indent=1))
    finally:
        for process in ready:
            process.end(out)
        finish(results, out)
    return results


def _run_part(part: Part, process: Process, seconds: float, results: dict[str, Any], out: Path) -> None:
    """Add to `results` what becomes of a part; also when a signal comes."""
    found: dict[str, Any] = {"part": part.name, "status": "no time left", "records": [], "seconds": 0.0}
    results["parts"].append(found)
    started = time.monotonic()
    try:
        if seconds >= FEWEST_SECONDS:
            found["status"] = "interrupted"
            print(f"-- {part.name}, {seconds:.0f} s at most", file=sys.stderr, flush=True)
            found["status"] = process.run(seconds)
            found["seconds"] = round(time.monotonic() - started, 1)
    finally:
        found["records"] = process.end(out)


def finish(results: Mapping[str, Any], out: Path) -> None:
    """Write all files, and print the table."""
    _write(out / "results.json", json.dumps(results, indent=1))
    text = table(results)
    _write(out / "table.txt", text)
    drawn = plot(results)
    if drawn is not None:
        _write(out / "plot.svg", drawn)
    print(text, flush=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)


def _stop(number: int, _frame: object) -> None:
    raise Stopped(number)


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, table.txt, plot.svg, tests.log")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS], help="this part; may be repeated")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny models")
    asked = parser.parse_args()
    import torch

    if not asked.rehearse and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no CUDA device; --rehearse tries it out on the CPU", file=sys.stderr)
        return 2
    device, sizes = ("cpu", TINY) if asked.rehearse else ("cuda", FULL)
    parts = [part for part in PARTS if not asked.only or part.name in ("machine", *asked.only)]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        results = run(parts, device, sizes, 60 * asked.minutes, asked.out)
    except Stopped as stopped:
        return 128 + stopped.number
    troubles = [part["part"] for part in results["parts"] if part["status"] != "done"]
    troubles += [part["part"] for part in results["parts"] if any(r["kind"] == "error" for r in part["records"])]
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
