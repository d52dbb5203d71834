"""hpc/patience.py: how long a job may be missing, and which refusals are the same."""

from __future__ import annotations

import msgspec
import pytest

from hpc.patience import GRACE_SECONDS, REFUSALS, may_turn_up, refused_again
from hpc.submissions import Job

NEW = Job(name="n", elements=1, parallel=1, host="h", intended_at=1000.0)


def refused(words: str, **more: object) -> Job:
    return msgspec.structs.replace(NEW, state="refused", words=words, **more)


@pytest.mark.parametrize(
    ("job", "seconds", "expected"),
    [
        (NEW, GRACE_SECONDS, True),
        (NEW, GRACE_SECONDS + 1, False),
        (msgspec.structs.replace(NEW, state="submitted", job_id="5"), GRACE_SECONDS, True),
        (msgspec.structs.replace(NEW, state="submitted", job_id="5", answered_at=1050.0), GRACE_SECONDS + 50, True),
        (msgspec.structs.replace(NEW, state="submitted", job_id="5", answered_at=1050.0), GRACE_SECONDS + 51, False),
    ],
)
def test_grace(job: Job, seconds: float, expected: bool) -> None:
    """From the answer of sbatch on, or from its call where there is none."""
    assert may_turn_up(job, 1000.0 + seconds) is expected


def test_the_same_refusal() -> None:
    """Twice in a row, but for numbers in it, and the latest is told; a job that was taken in between begins anew."""
    one, two = refused("lua: job 7: no"), refused("lua: job 8: no")
    taken = msgspec.structs.replace(NEW, state="submitted", job_id="9")
    assert refused_again([one, two]) == "twice the same: lua: job 8: no"
    assert refused_again([taken, one, two]) == "twice the same: lua: job 8: no"
    for jobs in ([], [one], [one, refused("lua: yes")], [one, taken, two], [one, two, taken]):
        assert refused_again(jobs) == ""


def test_refusals_that_are_never_the_same() -> None:
    """A site that adds a tip of the day, or one of two controllers that word it differently, refuses all the same."""
    tips = [refused(f"sbatch: error: no such account\ntip: {tip}") for tip in ("drink tea", "go home")]
    assert refused_again(tips) == "twice the same: sbatch: error: no such account\ntip: go home"
    one, two = refused("lua: say which project pays"), refused("Unspecified error")
    assert refused_again([two, one, two]) == ""
    assert refused_again([one, two, one, two]) == f"{REFUSALS} times in a row: Unspecified error"
    taken = msgspec.structs.replace(NEW, state="submitted", job_id="9")
    assert refused_again([one, taken, one, two]) == ""


def test_limits_and_silence_are_no_refusals() -> None:
    """However often: they pass."""
    limit = refused("sbatch: error: AssocMaxSubmitJobLimit", full=True)
    silence = msgspec.structs.replace(NEW, words="sbatch: Socket timed out: its job will be looked up by name")
    assert refused_again([limit, limit]) == refused_again([silence, silence]) == refused_again([NEW, NEW]) == ""


def test_answers_that_no_job_came_of() -> None:
    """An sbatch that ends well and names no job is looked up; that no job is found twice is told like a refusal."""
    odd = msgspec.structs.replace(NEW, words="sbatch: exit code 0: its job will be looked up by name")
    assert refused_again([odd, odd]) == f"twice the same: {odd.words}"
    assert refused_again([odd, msgspec.structs.replace(odd, state="submitted", job_id="9")]) == ""
