"""Child processes with a time limit, and their output: a line of JSON per answer.

A process that hangs in a file system may survive even SIGKILL. Nothing here waits for it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import msgspec

from jobs.run_module import module_command

__all__ = ["Answer", "Ended", "answers", "probe_command", "run_bounded"]

KILL_SECONDS = 1.0
LOOK_SECONDS = 0.5
READ_BYTES = 1 << 16


class Answer(msgspec.Struct, frozen=True):
    """A probe's answer to one check: facts, or an error."""

    check: str
    facts: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    usage: bool = False
    """A usage error: something that the user named does not exist."""
    node: str = ""
    """The node, if not this host."""


class Ended(msgspec.Struct, frozen=True):
    """The end of a child."""

    code: int | None
    """None if its time was up, or there is no such program."""
    out: str
    err: str
    seconds: float
    missing: bool = False
    """There is no such program."""

    @property
    def late(self) -> bool:
        """It was still running when its time was up."""
        return self.code is None and not self.missing

    @property
    def words(self) -> str:
        """The last line of its error output."""
        if self.late:
            return f"no answer in {self.seconds:.0f} s"
        return (self.err.strip() or self.out.strip() or f"exit code {self.code}").splitlines()[-1]


def probe_command(module: str, *arguments: object) -> list[str]:
    """The command line of a probe."""
    return module_command(f"tools.doctoring.{module}", *arguments)


@contextmanager
def _child(
    argv: Sequence[str], environment: Mapping[str, str] | None, text: str | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in its own session, which is killed with everything that it started, without waiting for it."""
    child = subprocess.Popen(  # noqa: S603 (an argv list; no shell)
        argv,
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        if text is not None and child.stdin is not None:
            with suppress(BrokenPipeError), child.stdin:
                child.stdin.write(text.encode())
        yield child
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):  # srun returns its nodes on SIGTERM
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(KILL_SECONDS)
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def _read(
    child: subprocess.Popen[bytes], seconds: float, on_out: Callable[[bytes], None], pointless: Callable[[], bool]
) -> tuple[str, bool]:
    """Read both streams to their ends, for at most `seconds`, or until it is pointless; returns (standard error, whether the
    ends were reached).
    """
    until = time.monotonic() + seconds
    err = b""
    with selectors.DefaultSelector() as selector:
        for pipe in filter(None, (child.stdout, child.stderr)):
            selector.register(pipe, selectors.EVENT_READ)
        last = False
        while selector.get_map() and not last:
            left = until - time.monotonic()
            last = left <= 0 or pointless()  # output up to now is still read
            for key, _ in selector.select(0 if last else min(left, LOOK_SECONDS)):
                data = os.read(key.fd, READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is child.stdout:
                    on_out(data)
                else:
                    err += data
        return err.decode(errors="replace"), not selector.get_map()


def run_bounded(
    argv: Sequence[str],
    seconds: float,
    *,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
    pointless: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run a command for at most `seconds`, or until it is pointless. Never raises because of the command."""
    out: list[bytes] = []
    began = time.monotonic()
    try:
        with _child(argv, environment, text) as child:
            err, ended = _read(child, seconds, out.append, pointless)
            code = child.wait(KILL_SECONDS) if ended else None
    except OSError as error:
        return Ended(None, "", f"{argv[0]}: {error.strerror}", 0.0, missing=True)
    except subprocess.TimeoutExpired:  # it closed its streams and is still running
        err, code = "", None
    return Ended(code, b"".join(out).decode(errors="replace"), err, time.monotonic() - began)


def answers(
    argv: Sequence[str],
    seconds: float,
    *,
    environment: Mapping[str, str] | None = None,
    pointless: Callable[[], bool] = lambda: False,
) -> tuple[list[Answer], Ended]:
    """A probe's answers within its time, and its end."""
    ended = run_bounded(argv, seconds, environment=environment, pointless=pointless)
    found = []
    for line in ended.out.splitlines():
        with suppress(msgspec.DecodeError):  # output of a library, or a truncated line
            found.append(msgspec.json.decode(line, type=Answer))
    return found, ended
