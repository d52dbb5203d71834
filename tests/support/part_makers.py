"""What processes of tools/common/process_pool.py do in its tests; they find it by its name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from audio_tokenizers.errors import UsageError

Tell = Callable[[int], None]


def double(task: int, tell: Tell) -> int:
    """A part like any other."""
    tell(task)
    return 2 * task


def fail_or_go_on(task: int, tell: Tell) -> int:
    """Part 0 fails; the others would go on for ever."""
    if task == 0:
        raise UsageError("part 0 is bad")
    while True:
        tell(1)
        time.sleep(0.01)


def die(task: object, tell: Tell) -> int:
    """It takes its process with it, as the system does when there is no memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def touch_and_wait(task: Path, tell: Tell) -> int:
    """Say who is at work, and go on for ever."""
    task.write_text(str(os.getpid()))
    return fail_or_go_on(1, tell)
