"""tools/doctoring/judge_slurm.py: what the answers of Slurm and of nodes mean."""

from __future__ import annotations

import pytest

from tools.doctoring.bounded import Ended
from tools.doctoring.judge_slurm import judge_command, judge_missing, judge_news, judge_sbatch, judge_silence, judge_skew
from tools.doctoring.news import News

MISSING = Ended(None, "", "squeue: No such file or directory", 0.0, missing=True)
LATE = Ended(None, "", "", 60.0)
NO_SLURM = Ended(1, "", "squeue: fatal: Could not establish a configuration source\n", 0.1)
AGAIN = ("python", "-m", "tools.doctor", "--wait", "600")


@pytest.mark.parametrize(
    ("name", "ended", "verdict", "words"),
    [
        ("squeue", Ended(0, "", "", 0.2), "ok", "answers in 0.2 s"),
        ("sbatch", Ended(0, "slurm-wlm 22.05.8\n", "", 0.0), "ok", "slurm-wlm 22.05.8"),
        ("sbatch", MISSING, "fault", "there is no such command"),
        ("squeue", LATE, "fault", "no answer in 60 s"),
        ("squeue", NO_SLURM, "fault", "Could not establish a configuration source"),
        ("sacct", Ended(1, "", "Slurm accounting storage is disabled\n", 0.1), "warning", "accounting storage is disabled"),
        ("scontrol", Ended(0, "MaxArraySize            = 1001\n", "", 0.0), "ok", "arrays of up to 1,001 tasks"),
        ("scontrol", Ended(0, "nothing\n", "", 0.0), "fault", "MaxArraySize"),
    ],
)
def test_commands(name: str, ended: Ended, verdict: str, words: str) -> None:
    """A run does without sacct, and without no other; what Slurm said is told."""
    finding = judge_command(name, ended)
    assert (finding.verdict, words in finding.found) == (verdict, True)
    assert verdict == "ok" or finding.advice


def test_where_slurm_does_not_answer_the_way_without_it_is_told() -> None:
    """As on a machine where Slurm's packages are installed and nothing runs."""
    assert "--cluster local" in judge_command("squeue", NO_SLURM).advice
    assert "--cluster local" in judge_command("sbatch", MISSING).advice


def test_what_sbatch_would_say() -> None:
    """A refusal is a fault with Slurm's words; a limit that passes is a warning."""
    assert judge_sbatch(Ended(0, "", "sbatch: Job 1 to start at ...\n", 0.1)).found == "Job 1 to start at ..."
    refused = judge_sbatch(Ended(1, "", "sbatch: error: say -A\nallocation failure: Unspecified error\n", 0.1))
    assert (refused.verdict, "say -A allocation failure: Unspecified error" in refused.found) == ("fault", True)
    limit = judge_sbatch(Ended(1, "", "sbatch: error: AssocMaxSubmitJobLimit\n", 0.1))
    assert limit.verdict == "warning"
    assert judge_sbatch(LATE).verdict == "warning"


@pytest.mark.parametrize(
    ("err", "verdict", "advice"),
    [
        ("srun: error: Unable to allocate resources: Requested nodes are busy", "warning", "--wait 600"),
        ("/shared/python: No such file or directory", "fault", "see at the same path"),
        ("srun: error: something of the site's", "warning", "srun --nodes=1 hostname"),
    ],
)
def test_nodes_that_say_nothing(err: str, verdict: str, advice: str) -> None:
    """Busy nodes were not checked, and how to check them is said; nodes without our Python are a fault."""
    finding = judge_silence(2, [], Ended(1, "", err, 3.0), 30, AGAIN)
    assert (finding.verdict, advice in finding.advice) == (verdict, True)
    assert err in finding.found


def test_nodes_that_answer() -> None:
    """Fewer than asked for are said to be."""
    assert judge_silence(2, ["n2", "n1"], Ended(0, "", "", 3.0), 30, AGAIN).found == "n1, n2 answered"
    assert "no more than 1 of 2" in judge_silence(2, ["n1"], Ended(0, "", "", 3.0), 30, AGAIN).found


@pytest.mark.parametrize(
    ("news", "verdict"),
    [
        (News((0.1, 0.2, 0.1), 0, 0.0), "ok"),
        (News((1.0, 61.0, 3.0), 0, 0.0), "warning"),
        (News((1.0, 599.0), 0, 0.0), "fault"),
        (News((0.1,), 1, 0.0), "fault"),
        (News((), 1, None), "fault"),
        (None, "fault"),
    ],
)
def test_how_late_news_may_be(news: News | None, verdict: str) -> None:
    """A minute is allowed for; what outlasts a claim, or never comes, is a fault."""
    assert judge_news("n1", news).verdict == verdict


def skew(told: dict[str, News]) -> str:
    """The verdict, where there is one."""
    found = judge_skew(told)
    assert found is not None
    return found.verdict


def test_clocks() -> None:
    """Compared between all hosts, this one included, and only as closely as news travel."""
    quick = (0.1,)
    assert judge_skew({"n1": News((), 1, None)}) is None
    assert skew({"n1": News(quick, 0, 1.0), "n2": News(quick, 0, -1.0)}) == "ok"
    assert skew({"n1": News(quick, 0, 4.0), "n2": News(quick, 0, -4.0)}) == "warning"
    assert skew({"n1": News(quick, 0, -90.0)}) == "fault"
    assert skew({"n1": News((60.0,), 0, 20.0)}) == "ok"


def test_paths_that_a_node_does_not_see() -> None:
    """They are named."""
    assert judge_missing("n1", []).verdict == "ok"
    assert "/data/1.tar" in judge_missing("n1", ["/data/1.tar"]).found
