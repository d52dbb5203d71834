"""jobs/worker_options.py: what is said of a worker is read in the units in which it is used."""

from __future__ import annotations

import pytest

from audio_tokenizers.errors import UsageError
from jobs.trust import trust_of
from jobs.worker_options import SharingOptions, WorkerOptions


def test_sizes_and_shares() -> None:
    """Text, as options give it, or numbers, as YAML does; nothing said leaves it to the worker."""
    assert (WorkerOptions().buffer_bytes, WorkerOptions().guard) == (None, None)
    assert (WorkerOptions(buffer_memory="1.5G", memory_guard="0").buffer_bytes) == 1_500_000_000
    assert WorkerOptions(memory_guard="0").guard == 0.0
    assert (WorkerOptions(buffer_memory=2_000_000, memory_guard=1).buffer_bytes) == 2_000_000
    assert WorkerOptions(memory_guard=1).guard == 1.0


def test_sizes_and_shares_that_are_none() -> None:
    """They are refused in the name of the option."""
    with pytest.raises(UsageError, match=r"^--buffer-memory '8': expected at least"):
        _ = WorkerOptions(buffer_memory=8).buffer_bytes
    with pytest.raises(UsageError, match=r"^--memory-guard 90: expected a share"):
        _ = WorkerOptions(memory_guard="90").guard


def test_nobody_else_writes_unless_a_group_is_named() -> None:
    """Without words the run is this user's alone."""
    assert SharingOptions().trust() == trust_of()
    with pytest.raises(UsageError, match="--umask"):
        SharingOptions(umask="000").trust()
