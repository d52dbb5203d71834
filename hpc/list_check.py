"""Find tars of a list that cannot be opened, with many threads, since a shared file system answers slowly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from audio_tokenizers.errors import InfrastructureError
from jobs.addresses import is_address
from jobs.tar_check import start_fault
from jobs.tar_source import TarSource, tar_source

__all__ = ["describe_faults", "find_faults"]

LOOKERS = 32
"""Threads. One is enough on a local disk; where each answer takes milliseconds, the speed-up is proportional."""
SILENT_SECONDS = 120.0
"""Without any answer for this long the file system counts as hung. Even a file on tape may take a while."""
NAMES_SHOWN = 20


def find_faults(
    tars: Sequence[str],
    look: Callable[[TarSource], str | None] = start_fault,
    *,
    lookers: int = LOOKERS,
    silent_seconds: float = SILENT_SECONDS,
) -> dict[str, str]:
    """Tar -> why it cannot be tokenized, in the list's order, for those that cannot.

    Raises InfrastructureError, naming the tars, if a file system does not answer.
    """
    looks = [_Looker(look) for _ in range(min(lookers, len(tars)))]
    left = _Shared(tars)
    ended = threading.Semaphore(0)
    for one in looks:  # daemons: a thread that hangs in the kernel must not block the command's exit
        threading.Thread(target=one.run, args=(left, ended), name="list check", daemon=True).start()
    running, answers = len(looks), 0
    while running:
        if ended.acquire(timeout=silent_seconds):
            running -= 1
        elif (now := sum(one.answers for one in looks)) > answers:
            answers = now
        else:
            hung = [one.in_hand for one in looks if one.in_hand is not None]
            where, well = ("server", "there") if hung and is_address(hung[0]) else ("file system", "mounted")
            raise InfrastructureError(
                f"no answer for {silent_seconds:g} s from the {where} of {', '.join(hung[:3])}"
                f"{f' and {len(hung) - 3} more' if len(hung) > 3 else ''}: is it {well}, and well?"
            )
    for one in looks:
        if one.trouble is not None:
            raise one.trouble
    found = {tar: fault for one in looks for tar, fault in one.faults.items()}
    return {tar: found[tar] for tar in tars if tar in found}


class _Shared:
    """Hands out items one by one to several threads."""

    def __init__(self, items: Sequence[str]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        while True:
            with self._lock:
                item = next(self._items, None)
            if item is None:
                return
            yield item


class _Looker:
    """Checks tars in one thread."""

    def __init__(self, look: Callable[[TarSource], str | None]) -> None:
        self._look = look
        self.faults: dict[str, str] = {}
        self.answers = 0
        self.in_hand: str | None = None
        self.trouble: Exception | None = None

    def run(self, tars: _Shared, ended: threading.Semaphore) -> None:
        """Look at tars until there are no more."""
        try:
            for tar in tars:
                self.in_hand = tar
                fault = self._look(tar_source(tar, allow_pipe=True))  # does not run the command
                if fault is not None:
                    self.faults[tar] = fault
                self.answers += 1
        except Exception as error:  # noqa: BLE001 (raised again in the waiting thread)
            self.trouble = error
        finally:
            self.in_hand = None
            ended.release()


def describe_faults(faults: Mapping[str, str], of: int) -> str:
    """`2 of 3 cannot be tokenized:` and one line each for the first few."""
    shown = [f"  {tar}: {fault}" for tar, fault in list(faults.items())[:NAMES_SHOWN]]
    rest = len(faults) - len(shown)
    more = [f"  and {rest:,} more"] if rest else []
    return "\n".join([f"{len(faults):,} of {of:,} cannot be tokenized:", *shown, *more])
