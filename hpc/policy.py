"""Pure: what to submit, what to give up on, which nodes to avoid, when to stop. No clock, no file system.

What a failed try counts against:

- its tar, if the worker ended by itself without progress (a new line, or more of a long clip that the next worker need not
  repeat), or died outside any clip;
- a clip, if the worker died with that one clip in hand. Progress within the clip clears its earlier deaths;
- nothing, if the worker died with several clips in hand. The next try takes them one at a time and finds the culprit;
- nothing, if it was stopped from outside: a time limit, preemption, a cancelled job, a dead node. No witness is left then;
- nothing, if the worker was killed by a user, though many kills in a row are reported (hpc/outside_kills.py);
- nothing, if it could not write its results: full or unavailable storage affects every task, and may recover
  (hpc/storage_waits.py);
- its node, if tries failed there and too few succeeded (hpc/node_faults.py). If no node does better, something that all of
  them share is at fault.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from hpc.deaths import timed_out_clips
from hpc.node_faults import SAME_TROUBLE_TARS, Nodes, judge_nodes
from hpc.outside_kills import OutsideKills, count_kills
from hpc.storage_waits import StorageWaits
from hpc.tries import Death, Evidence, failed, follows_a_line, is_good, without_repeats
from jobs.memory_guard import LESS_MEMORY
from jobs.progress import Try

__all__ = ["Decision", "TarFact", "decide"]

TAR_TRIES = 3
"""Tries in a row without progress after which a tar is quarantined."""
CLIP_DEATHS = 2
"""Workers that a clip must kill to become an error record."""
CLIPS_IN_DOUBT = 2
"""Clips of one tar that become records with no evidence that the machine was sound; beyond that the tar is blamed."""
HOLD_TARS = 10
"""Replaces SAME_TROUBLE_TARS while other tasks run: these may have started before the trouble, so more of it is needed."""
SHORT_ROUNDS = 2
"""The limit, in rounds, for workers that yielded for lack of memory: the second took one clip at a time and still failed."""
IDLE_ROUNDS = 3
"""Rounds in a row that changed nothing, for whatever reason, after which the loop stops."""


class TarFact(msgspec.Struct, frozen=True):
    """What the files and Slurm say about one tar."""

    name: str
    done: bool
    taken: bool = False
    """A task that may be alive has it in its plan or holds its claim."""
    broken: str | None = None
    """The data verdict, while the tar is still the file that was judged."""
    untrusted: bool = False
    """Some of its output files are not as the run left them."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a round does."""

    outcome: Literal["finished", "running", "quarantined", "stuck"]
    submit: tuple[str, ...] = ()
    """Names of the tars that need a task, in list order."""
    crash_clips: dict[str, tuple[int, ...]] = {}
    timed_out: dict[str, tuple[int, ...]] = {}
    """Those of crash_clips that never finished, as opposed to crashing."""
    one_at_a_time: tuple[str, ...] = ()
    """Tars to process a clip at a time: a worker died in them, and the next must show at which clip, or memory was short."""
    short_of_memory: tuple[str, ...] = ()
    """Tars at which workers yielded for lack of memory without writing a line; they are planned last."""
    quarantine: dict[str, str] = {}
    """Name -> reason."""
    exclude: dict[str, str] = {}
    """Node -> reason."""
    diagnosis: str = ""
    passes: bool = False
    """The trouble in `diagnosis` may pass by itself: later rounds try again."""


def decide(tars: Sequence[TarFact], evidence: Sequence[Evidence], *, place: str = "the output directory") -> Decision:
    """Judge the evidence, oldest submission first, and decide what to do with the remaining tars.

    `place` names the run directory in messages.
    """
    evidence = without_repeats(_that_still_counts(tars, evidence))
    tries = [(each.node, each.attempt) for one in evidence for each in one.tries]
    kills = count_kills(tries, is_good)
    nodes = judge_nodes(evidence, kills)
    tally = _count(evidence, nodes, kills)
    quarantine = _quarantine(tars, tally)
    left = [tar for tar in tars if not tar.done and tar.name not in quarantine]
    taken = any(tar.taken for tar in tars if not tar.done)
    waits = StorageWaits(place)
    unwritten = _count_unwritten(evidence, nodes, waits)
    diagnosis = _diagnose(evidence, nodes, tally, unwritten, tars=len(tars), taken=taken) if left else ""
    free = () if diagnosis else tuple(tar.name for tar in left if not tar.taken)
    submit = tuple(name for name in free if not waits.holds(name))
    waiting = waits.diagnosis(free)
    outcome: Literal["finished", "running", "quarantined", "stuck"]
    if taken or submit or (waiting and not waits.last(free)):
        outcome = "running"
    elif left:
        outcome = "stuck"
    else:
        outcome = "quarantined" if any(not tar.done for tar in tars) else "finished"
    wanted = set(submit)
    deadly = {attempt.name for _, attempt in tries if attempt.outcome == "died"}
    short = _short_of_memory(evidence)
    crash_clips = {name: clips for name, clips in tally.crash_clips.items() if name in wanted}
    return Decision(
        outcome=outcome,
        submit=submit,
        one_at_a_time=tuple(name for name in submit if name in deadly or name in short),
        short_of_memory=tuple(name for name in submit if name in short),
        crash_clips=crash_clips,
        timed_out=timed_out_clips(crash_clips, (attempt for _, attempt in tries)),
        quarantine=quarantine,
        exclude=nodes.excluded,
        diagnosis=diagnosis or waiting,
        passes=bool(waiting),
    )


def _that_still_counts(tars: Sequence[TarFact], evidence: Sequence[Evidence]) -> list[Evidence]:
    """Drop tries that failed because of files that have been removed since, and submissions that consist of nothing else."""
    untrusted = {tar.name for tar in tars if tar.untrusted}
    found = []
    for one in evidence:
        tries = tuple(each for each in one.tries if not each.attempt.untrusted or each.attempt.name in untrusted)
        if tries or not one.tries or one.silent or one.wordless:
            found.append(one if len(tries) == len(one.tries) else msgspec.structs.replace(one, tries=tries))
    return found


def _count_unwritten(evidence: Sequence[Evidence], nodes: Nodes, waits: StorageWaits) -> set[int]:
    """Submissions that had only storage trouble."""
    return {
        one.submission
        for one in evidence
        if waits.add(
            [each.attempt for each in one.tries],
            one.wordless,
            round_=one.round or one.submission,
            age_s=one.age_s,
            went_well=_went_well(one, nodes),
        )
    }


def _short_of_memory(evidence: Sequence[Evidence]) -> set[str]:
    """Tars without progress since a worker yielded at them for lack of memory."""
    found: set[str] = set()
    for one in evidence:
        for each in one.tries:
            if each.attempt.came_on:
                found.discard(each.attempt.name)
            elif each.attempt.short_of_memory:
                found.add(each.attempt.name)
    return found


@dataclass
class _Tally:
    """What counts against tars and clips."""

    kills: OutsideKills
    crash_clips: dict[str, tuple[int, ...]]
    """Tar -> clips that have killed CLIP_DEATHS workers on nodes that are not suspect."""
    idle: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Tar -> tries that count against it since its last progress."""
    words: dict[str, str] = field(default_factory=dict)
    """Tar -> the problem of the last of them."""
    damaged: set[str] = field(default_factory=set)
    submissions: set[int] = field(default_factory=set)
    """Those in which something counted. Every count has a limit, so what it delays ends too."""


def _count(evidence: Sequence[Evidence], nodes: Nodes, kills: OutsideKills) -> _Tally:
    kills.forgive(nodes.suspects)
    tally = _Tally(kills, _crash_clips(evidence, nodes))
    deaths: Counter[Death] = Counter()
    to_be_searched: set[str] = set()
    for one in evidence:
        for each in one.tries:
            attempt = each.attempt
            name, clip = attempt.name, attempt.clip
            if attempt.outcome == "damaged":
                tally.damaged.add(name)
            if attempt.came_on or attempt.outcome in ("damaged", "committed"):
                tally.idle[name] = 0
            _forget_deaths(deaths, attempt)
            if each.node in nodes.suspects or attempt.storage or attempt.outcome not in ("failed", "machine", "died"):
                continue
            if attempt.several:
                if name not in to_be_searched:
                    tally.submissions.add(one.submission)
                    to_be_searched.add(name)
                continue
            tally.submissions.add(one.submission)
            deaths[name, clip] += 1
            theirs = clip is not None and clip not in attempt.crash_clips
            if theirs and (deaths[name, clip] <= CLIP_DEATHS or clip in tally.crash_clips.get(name, ())):
                continue  # further deaths count against the tar: this clip may not become a record
            if not attempt.came_on:
                tally.idle[name] += 1
                tally.words[name] = attempt.problem
    return tally


def _crash_clips(evidence: Sequence[Evidence], nodes: Nodes) -> dict[str, tuple[int, ...]]:
    deaths: Counter[Death] = Counter()
    doubtful: Counter[str] = Counter()
    found: dict[str, set[int]] = defaultdict(set)
    for one in evidence:
        for each in one.tries:
            attempt = each.attempt
            if attempt.outcome == "damaged":  # it is tried again only if the file is replaced
                found.pop(attempt.name, None)
                deaths = Counter({key: number for key, number in deaths.items() if key[0] != attempt.name})
            _forget_deaths(deaths, attempt)
            if attempt.outcome != "died" or attempt.clip is None or each.node in nodes.suspects:
                continue
            key = attempt.name, attempt.clip
            deaths[key] += 1
            if deaths[key] != CLIP_DEATHS:
                continue
            if not (key in nodes.sound or key in nodes.elsewhere or follows_a_line(attempt)):
                doubtful[attempt.name] += 1
            if doubtful[attempt.name] <= CLIPS_IN_DOUBT:
                found[attempt.name].add(attempt.clip)
    return {name: tuple(sorted(clips)) for name, clips in found.items()}


def _forget_deaths(deaths: Counter[Death], attempt: Try) -> None:
    """Clear the deaths of a clip within which a try made progress."""
    if attempt.lengthened is not None:
        deaths.pop((attempt.name, attempt.lengthened), None)


def _quarantine(tars: Sequence[TarFact], tally: _Tally) -> dict[str, str]:
    """Tar -> why it is given up: its data, TAR_TRIES tries in a row without progress, or workers killed from outside."""
    found = {}
    for tar in tars:
        if tar.done or tar.taken:
            continue
        tries = tally.idle.get(tar.name, 0)
        if tar.broken is not None and tar.name in tally.damaged:
            found[tar.name] = tar.broken
        elif tries >= TAR_TRIES:
            found[tar.name] = f"{tries} tries without progress; the last one: {tally.words[tar.name]}"
        elif words := tally.kills.of(tar.name):
            found[tar.name] = words
    return found


def _diagnose(
    evidence: Sequence[Evidence], nodes: Nodes, tally: _Tally, unwritten: Collection[int], *, tars: int, taken: bool
) -> str:
    """Why to submit nothing more; empty to continue."""
    common = _common_trouble(evidence, nodes, tars=tars, taken=taken) or tally.kills.diagnosis(HOLD_TARS if taken else 0)
    return common or _no_change(evidence, nodes, tally, unwritten, taken=taken)


def _went_well(one: Evidence, nodes: Nodes) -> bool:
    """Whether a submission made progress on a tar, or showed which node to avoid."""
    return any(
        is_good(each.attempt) or each.attempt.outcome in ("committed", "damaged") or each.node in nodes.excluded
        for each in one.tries
    )


def _common_trouble(evidence: Sequence[Evidence], nodes: Nodes, *, tars: int, taken: bool) -> str:
    """A cause that seems to affect all tars since the last success; empty if there is none."""
    troubled: set[str] = set()
    perhaps: set[str] = set()  # died with a clip in hand: it may be bad, but hardly in so many tars at once
    unreadable: set[str] = set()
    for one in evidence:
        if _went_well(one, nodes):
            troubled, perhaps, unreadable = set(), set(), set()
            continue
        for each in one.tries:
            attempt = each.attempt
            if attempt.outcome == "failed":
                unreadable.add(attempt.name)
            elif failed(attempt) and (attempt.name, attempt.clip) not in nodes.sound:
                (perhaps if attempt.several or follows_a_line(attempt) else troubled).add(attempt.name)
    enough = HOLD_TARS if taken else SAME_TROUBLE_TARS
    if len(troubled) >= enough or len(troubled | perhaps) >= HOLD_TARS:
        return f"{len(troubled | perhaps)} tars met machine trouble, and nothing has succeeded since"
    if len(unreadable) >= enough and 2 * len(unreadable) > tars:
        return f"{len(unreadable)} of {tars} tars could not be processed, and nothing has succeeded since"
    return ""


def _no_change(evidence: Sequence[Evidence], nodes: Nodes, tally: _Tally, unwritten: Collection[int], *, taken: bool) -> str:
    """Why to stop, if the latest submissions changed nothing, not even a count; empty if they did."""
    idle: list[Evidence] = []
    for one in evidence:
        counted = one.submission in tally.submissions or any(each.attempt.outcome == "killed" for each in one.tries)
        if counted or _went_well(one, nodes) or any(each.attempt.came_on for each in one.tries):
            idle = []
        elif one.ended and not one.stopped and one.submission not in unwritten:
            idle.append(one)
    short = {one.round or one.submission: each for one in idle for each in one.tries if each.attempt.short_of_memory}
    if len(short) >= (HOLD_TARS if taken else SHORT_ROUNDS):
        latest = next(reversed(short.values()))
        return f"{len(short)} rounds in a row brought no new line on {latest.node}: {latest.attempt.problem}; {LESS_MEMORY}"
    silent = sum(one.silent for one in idle if not one.tries)
    if silent >= (HOLD_TARS if taken else SAME_TROUBLE_TARS):
        return f"{silent} tasks exited before starting work, and nothing has succeeded since"
    rounds = len({one.round or one.submission for one in idle})
    if rounds >= (HOLD_TARS if taken else IDLE_ROUNDS):
        return f"{rounds} rounds of submissions in a row have changed nothing"
    return ""
