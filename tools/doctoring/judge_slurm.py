"""Pure: answers of Slurm's commands and of a few nodes -> findings with advice."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from hpc.slurm_words import is_submit_limit
from jobs.claims import SIGN_OF_LIFE_SECONDS, STALE_SECONDS
from tools.common.findings import Finding, fault, fine, warning
from tools.doctoring.bounded import Ended
from tools.doctoring.news import News

__all__ = ["is_busy", "judge_command", "judge_missing", "judge_news", "judge_sbatch", "judge_silence", "judge_skew"]

VOID = f"claims are void after {STALE_SECONDS:.0f} s without a sign of life"
LATE_S = 10.0
SKEW_S, MUCH_SKEW_S = 5.0, 60.0
"""Workers stop at least 5 s before their time limit, by their node's clock."""
WORDS = 300
LOCAL = "--cluster local runs on this machine without Slurm"


def judge_command(name: str, ended: Ended) -> Finding:
    """One of Slurm's commands."""
    if ended.missing:
        advice = f"is this a node that may submit? Slurm's commands have to be on the PATH; {LOCAL}"
        return fault(name, "there is no such command", advice)
    if name == "sacct":
        return _sacct(ended)
    if ended.code != 0:
        advice = f"sinfo and scontrol ping may say more: is a Slurm running, and is SLURM_CONF right? {LOCAL}"
        return fault(name, ended.words, advice)
    return _scontrol(ended) if name == "scontrol" else fine(name, _answered(ended))


def _answered(ended: Ended) -> str:
    first = ended.out.strip().partition("\n")[0]
    return f"{first}, in {ended.seconds:.1f} s" if first.startswith("slurm") else f"answers in {ended.seconds:.1f} s"


def _sacct(ended: Ended) -> Finding:
    if ended.code == 0:
        return fine("sacct", _answered(ended))
    advice = "runs work without accounting, but a job that is killed for its memory then counts against no tar and no node"
    return warning("sacct", ended.words, advice)


def _scontrol(ended: Ended) -> Finding:
    largest = re.search(r"MaxArraySize\s*=\s*(\d+)", ended.out)
    if largest is None:
        return fault("scontrol", "show config names no MaxArraySize", "arrays are planned by it: ask the site")
    return fine("scontrol", f"answers in {ended.seconds:.1f} s; arrays of up to {int(largest[1]):,} tasks")


def judge_sbatch(ended: Ended) -> Finding:
    """Whether sbatch would accept an array of this run."""
    words = " ".join(ended.err.split())[-WORDS:] or ended.words
    if ended.code == 0:
        return fine("a job", words.removeprefix("sbatch: "))
    if ended.late or is_submit_limit(words):
        return warning("a job", words, "try again later: a submission waits by itself")
    advice = "give what Slurm asks for: --partition, --account, --qos, --gpus-per-node, or once for all in cluster.yaml"
    return fault("a job", f"sbatch would refuse it: {words}", advice)


def is_busy(srun: Ended) -> bool:
    """Whether srun found too few free nodes in its time."""
    return bool(re.search(r"Requested nodes are busy|[Ii]mmediate|Resource temporarily", srun.err))


def judge_silence(asked: int, heard: Sequence[str], srun: Ended, waited_s: float, again: Sequence[str]) -> Finding:
    """How many nodes answered at all."""
    if heard:
        names = ", ".join(sorted(heard))
        if len(heard) < asked:
            return fine("nodes", f"{names} answered; no more than {len(heard)} of {asked} were free at once")
        return fine("nodes", f"{names} answered")
    words = " ".join(srun.err.split())[-WORDS:] or srun.words
    if is_busy(srun):
        advice = f"what nodes see was not checked; when some are free, or with more patience: {shlex.join(again)}"
        return warning("nodes", f"none was free within {waited_s:.0f} s: {words}", advice)
    if re.search(r"No such file|not found|No module named|cannot execute|can't open", words):
        advice = "install on a file system that the nodes see at the same path, and put what they need into `setup`"
        return fault("nodes", f"nodes cannot run this Python: {words}", advice)
    advice = f"try it by hand: srun --nodes=1 hostname; then {shlex.join(again)}"
    return warning("nodes", f"srun started nothing: {words}", advice)


def judge_news(node: str, news: News | None) -> Finding:
    """How long a node and this host take to see each other's files."""
    check = f"news {node}"
    if news is None:
        return fault(
            check,
            f"{node} does not see the output directory, or this host does not see what {node} writes there",
            "choose an --output-dir that every node sees at the same path and may write to",
        )
    limit = STALE_SECONDS - SIGN_OF_LIFE_SECONDS
    if news.unanswered or not news.rounds_s:
        words = f"{news.unanswered} of {news.unanswered + len(news.rounds_s)} notes were not answered in time"
        return fault(check, words, f"this file system shows news too late: {VOID}: choose another folder")
    slowest = max(news.rounds_s)
    words = f"there and back in {min(news.rounds_s):.2f} to {slowest:.2f} s"
    if slowest > limit:
        return fault(check, words, f"{VOID}: choose another folder")
    if slowest > LATE_S:
        return warning(
            check, words, f"allowed for, up to {limit:.0f} s; ask the site for shorter caching if rounds seem late"
        )
    return fine(check, f"{words}; claims allow for {limit:.0f} s")


def judge_skew(news: Mapping[str, News]) -> Finding | None:
    """The clocks of hosts, as far as known; None without an answer."""
    ahead = {node: one.ahead_s for node, one in news.items() if one.ahead_s is not None}
    if not ahead:
        return None
    slack = max(max(one.rounds_s) for one in news.values() if one.rounds_s) / 2
    most = max({**ahead, "this host": 0.0}.values()) - min({**ahead, "this host": 0.0}.values())
    shown = ", ".join(f"{node} {seconds:+.2f} s" for node, seconds in sorted(ahead.items()))
    words = f"against this host: {shown} (to within {slack:.2f} s)"
    if most - slack > MUCH_SKEW_S:
        return fault("clocks", words, "have them set (NTP): tasks would stop too early, or be killed before they stop")
    if most - slack > SKEW_S:
        return warning("clocks", words, "have them set (NTP): tasks stop by their node's clock, 5 s before a short limit")
    return fine("clocks", words)


def judge_missing(node: str, missing: Sequence[str]) -> Finding:
    """Paths that a node must see."""
    if missing:
        return fault(
            f"paths {node}", f"not seen there: {', '.join(missing)}", "put them on a file system that all nodes share"
        )
    return fine(f"paths {node}", "tars and weights are seen there")
