"""jobs/taste/endings.py: which errors another try would only repeat."""

from __future__ import annotations

import errno

import pytest

from audio_tokenizers.errors import ClaimLostError, InfrastructureError, ModelFilesError, UsageError
from jobs.fileops import StorageError
from jobs.taste.endings import Ended, LossNotFiniteError, LostRankError, ended_by


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (UsageError("checkpoint.pt: damaged"), Ended("refused", "checkpoint.pt: damaged", 2)),
        (ModelFilesError("llm.pt: cut"), Ended("refused", "llm.pt: cut", 2)),
        (LossNotFiniteError("nan"), Ended("refused", "nan", 1)),
        (LostRankError("gone"), Ended("lost", "gone", 1)),
        (ClaimLostError("held"), Ended("left_alone", "held", 1)),
        (StorageError("no room", "full"), Ended("storage", "no room", 1, "full")),
        (InfrastructureError("CUDA"), Ended("trouble", "CUDA", 1)),
        (OSError(errno.EMFILE, "Too many open files"), Ended("trouble", "Too many open files", 1)),
        (MemoryError(), Ended("trouble", "out of memory", 1)),
    ],
)
def test_kinds(error: Exception, ended: Ended) -> None:
    """Bad settings, files and losses stay bad; machines and storage may get well; a lost rank is no cause."""
    assert ended_by(error) == ended
