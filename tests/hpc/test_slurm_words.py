"""hpc/slurm_words.py: what Slurm's answers mean, also those of sites that have their own."""

from __future__ import annotations

from functools import partial

import pytest

from hpc.slurm_words import (
    JobNumber,
    TaskSeen,
    all_ended,
    from_outside,
    is_submit_limit,
    job_number,
    no_answer,
    parse_nodes,
    parse_squeue,
    verdict,
)

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("out", "number"),
    [
        ("4711\n", JobNumber("4711")),
        ("4711;other\n", JobNumber("4711", "other")),
        ("submission notes\n4711\n", JobNumber("4711")),
        ("2026\n4711\n", JobNumber("4711")),
        ("  4711 \n", JobNumber("4711")),
        ("12000\nSubmitted batch job 4711\n", JobNumber("4711")),
        ("4711;other\n3 jobs of yours run\n12000\n", JobNumber("4711", "other")),
        ("Submitted batch job 4711\n", JobNumber("4711")),
        ("thank you!\nSubmitted batch job 4711 on cluster other\n", JobNumber("4711", "other")),
        ("", None),
        ("4 jobs of yours run\n", None),
    ],
)
def test_ways_to_tell_the_id(out: str, number: JobNumber | None) -> None:
    """A cluster's name behind it, a site's words before it, or an sbatch that does not know --parsable."""
    assert job_number(out) == number


@pytest.mark.parametrize(
    "words",
    [
        f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}",
        f"sbatch: error: AssocGrpSubmitJobsLimit\n{POLICY}",
        f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}",
        f"sbatch: error: QOSMaxSubmitJobPerAccountLimit\n{POLICY}",
        f"sbatch: error: QOSGrpSubmitJobsLimit\n{POLICY}",
        f"sbatch: error: QOSMaxJobsPerUserLimit\n{POLICY}",
        f"sbatch: error: AssocMaxJobsLimit\n{POLICY}",
        f"{FAILED}Resource temporarily unavailable",
        f"{FAILED}Unable to create job record, try again",
        POLICY,
    ],
)
def test_limits_on_the_number_of_jobs_pass(words: str) -> None:
    """Those of a person, an account, a QOS or the whole controller; the general word alone names them first."""
    assert is_submit_limit(words)
    assert verdict(1, "", words) == "limit"


@pytest.mark.parametrize(
    "words",
    [
        f"sbatch: error: QOSMinGRES\n{POLICY}",
        f"sbatch: error: QOSMinCPUNotSatisfied\n{POLICY}",
        f"sbatch: error: QOSMaxGRESPerUser\n{POLICY}",
        f"sbatch: error: QOSMaxCpuPerUserLimit\n{POLICY}",
        f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}",
        f"sbatch: error: AssocMaxCpuPerJobLimit\n{POLICY}",
        f"sbatch: error: lua: GPUs only in partition gpu\n{FAILED}Unspecified error",
        f"sbatch: error: lua: the debug partition is temporarily closed\n{POLICY}",
        "sbatch: error: cli_filter plugin terminated with error",
        f"{FAILED}Requested GRES option unsupported by configured SelectType plugin",
        "sbatch: fatal: --gpus-per-node and --gres are mutually exclusive",
        "sbatch: error: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.",
        f"{FAILED}Invalid partition name specified",
        "words that nobody has ever seen",
    ],
)
def test_everything_else_is_a_refusal(words: str) -> None:
    """A limit on what one job may be, a site's own plugin, and whatever we do not know: it would be refused for ever."""
    assert not is_submit_limit(words)
    assert verdict(1, "", words) == "refused"


@pytest.mark.parametrize(
    "words",
    [
        f"{FAILED}Socket timed out on send/recv operation",
        f"{FAILED}Unable to contact slurm controller (connect failure)",
        f"{FAILED}Connection refused",
        f"{FAILED}Zero Bytes were transmitted or received",
        f"{FAILED}Unexpected message received",
        f"{FAILED}Slurm backup controller in standby mode",
        f"{FAILED}Controller is in standby mode, try a different controller",
        f"{FAILED}Communication connection failure",
        f"{FAILED}Communication shutdown failure",
        f"{FAILED}Message send failure",
        f"{FAILED}Message receive failure",
        "no answer in 60 s",
    ],
)
def test_controller_that_does_not_answer(words: str) -> None:
    """It may have taken the job before it fell silent."""
    assert no_answer(words)
    assert verdict(1, "", words) == "unknown"


@pytest.mark.parametrize(("code", "out"), [(0, ""), (0, "no number\n"), (-1, ""), (-9, ""), (139, ""), (1, "4711\n")])
def test_what_may_have_been_submitted(code: int, out: str) -> None:
    """An sbatch that hung, or told an id and failed, or told none and did not, or failed without a word."""
    assert verdict(code, out, "sbatch: error: something broke") == "unknown"
    assert verdict(1, "", "") == "unknown"


def test_arrays_that_a_site_s_squeue_keeps_together() -> None:
    """One that does not know --array, or keeps what waits in one line: each of its elements is alive."""
    lines = "t|50|0-2|PENDING||None\nt|50|[4,6-7%2]|PENDING||Resources\nt|50|9|RUNNING|n1|None\nt|50|[1-]|RUNNING|n1|None\n"
    (seen,) = parse_squeue(lines, {"50": 1}, {}).values()
    assert sorted(seen.tasks) == [0, 1, 2, 4, 6, 7, 9]
    assert seen.tasks[6] == TaskSeen("PENDING", "", "Resources")


@pytest.mark.parametrize(
    "why", ["", " DUE TO PREEMPTION", " DUE TO JOB REQUEUE", " DUE TO SIGNAL Terminated", " DUE to SIGNAL Killed"]
)
def test_last_words_of_a_task_that_somebody_ended(why: str) -> None:
    """As slurmstepd writes them, in the words of several versions; a time limit or a lost node is another cause."""
    log = f"loading\nslurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-28T10:00:00{why} ***\n"
    assert from_outside(None, lambda: log)
    assert not from_outside("FAILED", lambda: log)
    for other in (" DUE TO TIME LIMIT", " DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"):
        assert not from_outside(None, partial(lambda other: log.replace(f"{why} ***", f"{other} ***"), other))


def test_all_ended() -> None:
    """Only when the accounts tell of each task an end; one that waits to begin again has none."""
    assert all_ended({0: "FAILED", 1: "CANCELLED"}, 2)
    assert not all_ended({0: "FAILED"}, 2)
    assert not all_ended({0: "FAILED", 1: "REQUEUED"}, 2)


def test_nodes_of_a_partition() -> None:
    """Those that start jobs, and why the others do not; without a partition those of the default one."""
    text = "a*|n1|idle\na*|n2|mixed~\na*|n3|idle*\nb|n3|allocated\nb|n4|drained\nc|n5|down\n"
    assert parse_nodes(text, None) == {"n1": "", "n2": "", "n3": "idle*"}
    assert parse_nodes(text, "b,c") == {"n3": "", "n4": "drained", "n5": "down"}
    assert parse_nodes("", "b") == {}
