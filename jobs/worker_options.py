"""Options for a worker and the tars that it reads: of `jobs.tokenize_tar` and of commands that start workers."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import msgspec

from jobs.commands import WHAT, WHERE, WORKER, parse_buffer_memory
from jobs.memory_guard import parse_memory_guard
from jobs.option_struct import Option
from jobs.trust import Trust, trust_of

__all__ = ["Count", "SharingOptions", "WishOptions", "WorkerOptions"]

Count = Annotated[int, msgspec.Meta(ge=1)]
_Worker = functools.partial(Option, group=WORKER)
_What = functools.partial(Option, group=WHAT)
_Where = functools.partial(Option, group=WHERE)


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker feeds its device, and when it gives up. None of it changes a token. None: the worker's own default."""

    decode_threads: Annotated[
        Count | Literal["auto"] | None, _Worker("threads that decode audio; default auto: one per core that the worker has")
    ] = None
    buffer_memory: Annotated[str | int | None, _Worker("memory for audio decoded ahead, such as 500M; default 1G")] = None
    memory_guard: Annotated[
        str | int | float | None, _Worker("share of its memory at which a worker flushes and ends; default 0.9, 0 is off")
    ] = None
    clip_timeout: Annotated[
        Annotated[float, msgspec.Meta(ge=0)] | None,
        _Worker(
            "seconds without progress after which a worker is ended; 0: never; default: a time that fits the clip",
            expected="seconds, such as 600 for ten minutes, without a unit; 0: never",
        ),
    ] = None

    @property
    def buffer_bytes(self) -> int | None:
        """--buffer-memory in bytes. Raises UsageError."""
        return None if self.buffer_memory is None else parse_buffer_memory(self.buffer_memory)

    @property
    def guard(self) -> float | None:
        """--memory-guard as a share. Raises UsageError."""
        return None if self.memory_guard is None else parse_memory_guard(self.memory_guard)


class WishOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to accept of tars, and what to do again."""

    retry_errors: Annotated[bool, _What("try clips with error records again")] = False
    allow_missing_end: Annotated[bool, _What("accept a tar with no end marker, or a very long one")] = False
    allow_joined: Annotated[bool, _What("accept a tar that another one follows in the same file, and read both")] = False
    allow_pipe: Annotated[bool, _What("run the command of a tar that is pipe:COMMAND, as you (docs/trust.md)")] = False


class SharingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Who else may read and write the run."""

    group: Annotated[str | None, _Where("a group to share the run with: its members can run commands in your name")] = None
    umask: Annotated[
        str | None, _Where("umask for what the run creates; default 022 or stricter, with --group 002 or 007")
    ] = None

    def trust(self) -> Trust:
        """Whom to believe, and the umask. Raises UsageError."""
        return trust_of(self.group, self.umask)
