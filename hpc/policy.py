"""Pure: what to submit, what to give up on, which nodes to avoid, when to stop. No clock, no file system.

What counts against whom. A worker that ended by itself without a new line, or died outside of any clip, counts against its
tar; one that died with a clip in hand, against that clip. One that died with several clips in hand counts against none of
them, nor against their tars: the next try takes them one at a time, and finds out. Whatever was stopped from outside (a time
limit, preemption, a cancelled job, a dead node) left no witness, and counts against nobody. Nor does a worker that somebody
killed, though many in a row are told (hpc/outside_kills.py); nor one that could not write its results, since storage that
is full or away is so for all, and may pass (hpc/storage_waits.py); nor what happened on a node where tries failed and too
few went well: that is the node's fault, or, if no node does better, the fault of something that all share.

A clip that kills and a node that kills look alike, so the same clip has to die elsewhere too before its node is cleared.
Where there is no other node, it speaks for the node that something went well there right before.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from hpc.deaths import timed_out_clips
from hpc.outside_kills import OutsideKills, count_kills
from hpc.storage_waits import StorageWaits
from jobs.memory_guard import LESS_MEMORY
from jobs.reporting import Try

__all__ = ["Decision", "Evidence", "NodeTry", "TarFact", "decide"]

TAR_TRIES = 3
"""Tries of a tar without progress, in a row, until it is quarantined."""
CLIP_DEATHS = 2
"""Workers that a clip may kill until it becomes a record."""
CLIPS_IN_DOUBT = 2
"""Clips of one tar that become records although nothing shows that the machine was well; from then on it is the tar."""
NODE_FAILURES = 2
"""Tries that fail on a node, and fewer that go well, until the node is avoided."""
SAME_TROUBLE_TARS = 3
"""Different tars that met trouble with machines, and no progress anywhere, until the loop stops."""
HOLD_TARS = 10
"""The same while other tasks still run: they may be older than the trouble, so it takes more of it."""
SHORT_ROUNDS = 2
"""The same where workers yielded because their memory was short: the second one took clip after clip, and in vain."""
IDLE_ROUNDS = 3
"""Rounds of submissions in a row that changed nothing, whatever the reason, until the loop stops."""

Death = tuple[str, int | None]
"""A tar, and the clip in hand if there was one."""


class TarFact(msgspec.Struct, frozen=True):
    """What the files and Slurm say of one tar."""

    name: str
    done: bool
    taken: bool = False
    """A task that may be alive has it in its plan, or holds its claim."""
    broken: str | None = None
    """The data verdict, as long as the tar is still the file that was judged."""


class NodeTry(msgspec.Struct, frozen=True):
    """A try, and where it was."""

    node: str
    attempt: Try


class Evidence(msgspec.Struct, frozen=True):
    """What the tasks of one submission have tried, but for what living ones have in hand."""

    submission: int
    ended: bool
    """All of its tasks have."""
    tries: tuple[NodeTry, ...]
    silent: int = 0
    """Tasks that started and never came to their work."""
    wordless: int = 0
    """Tasks that started and left nothing, no word in a log either."""
    stopped: bool = False
    """Each task that had begun was cancelled or preempted."""
    round: int = 0
    """The first submission of the same round; 0 if it was the only one."""
    age_s: float = math.inf
    """Since it was submitted; infinite where that does not matter any more."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a round does."""

    outcome: Literal["finished", "running", "quarantined", "stuck"]
    submit: tuple[str, ...] = ()
    """Names of the tars that need a task, in the list's order."""
    crash_clips: dict[str, tuple[int, ...]] = {}
    timed_out: dict[str, tuple[int, ...]] = {}
    """Those of them that never came to an end."""
    one_at_a_time: tuple[str, ...] = ()
    """Tars in which a worker has died: the next is to show at which clip. And those that need the least memory."""
    short_of_memory: tuple[str, ...] = ()
    """Tars at which workers yielded without a new line, for their memory: the others come first."""
    quarantine: dict[str, str] = {}
    """Name -> reason."""
    exclude: dict[str, str] = {}
    """Node -> reason."""
    diagnosis: str = ""
    passes: bool = False
    """What the diagnosis speaks of may pass by itself: later rounds try again."""


def decide(tars: Sequence[TarFact], evidence: Sequence[Evidence], *, place: str = "the output directory") -> Decision:
    """Judge the evidence, submission by submission, and say what to do with the tars that are left. `place` is what the run
    directory is called.
    """
    tries = [(each.node, each.attempt) for one in evidence for each in one.tries]
    kills = count_kills(tries, _is_good)
    nodes = _judge_nodes(evidence, kills)
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


def _count_unwritten(evidence: Sequence[Evidence], nodes: _Nodes, waits: StorageWaits) -> set[int]:
    """Submissions of which came nothing but trouble with storage."""
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
    """Tars that have not come on since a worker yielded at them for its memory."""
    found: set[str] = set()
    for one in evidence:
        for each in one.tries:
            if each.attempt.gained:
                found.discard(each.attempt.name)
            elif each.attempt.short_of_memory:
                found.add(each.attempt.name)
    return found


def _is_good(attempt: Try) -> bool:
    """Whether a try shows that its node works: it made lines, and not only those that need no model."""
    if attempt.clip is None:
        return attempt.gained > len(attempt.crash_clips)
    gained = range(attempt.clip - attempt.gained, attempt.clip)
    return attempt.gained > sum(clip in gained for clip in attempt.crash_clips)


def _failed(attempt: Try) -> bool:
    return attempt.outcome in ("machine", "died") and not attempt.storage


def _follows_a_line(attempt: Try) -> bool:
    """Whether the line before the clip in hand was made in earnest, whenever that was."""
    return attempt.clip is not None and attempt.clip > 0 and attempt.clip - 1 not in attempt.crash_clips


@dataclass(frozen=True)
class _Nodes:
    """What is known of the nodes."""

    suspects: Collection[str]
    """What fails there counts against no tar and no clip."""
    excluded: dict[str, str]
    """Those that are avoided, since others work, and why."""
    sound: Collection[Death]
    """Clips that killed where something went well right before: in that try, or on that node in that submission."""
    elsewhere: Collection[Death]
    """Clips that killed on two nodes that both have worked."""


def _judge_nodes(evidence: Sequence[Evidence], kills: OutsideKills) -> _Nodes:
    worked = {each.node for one in evidence for each in one.tries if _is_good(each.attempt)}
    places: dict[Death, set[str]] = defaultdict(set)
    places_of_tar: dict[str, set[str]] = defaultdict(set)
    sound: set[Death] = set()
    for one in evidence:
        good = {each.node for each in one.tries if _is_good(each.attempt)}
        for each in one.tries:
            if _failed(each.attempt):
                key = each.attempt.name, each.attempt.clip
                places[key].add(each.node)
                places_of_tar[each.attempt.name].add(each.node)
                if each.attempt.clip is not None and each.node in good:
                    sound.add(key)
    elsewhere = {key for key, nodes in places.items() if key[1] is not None and len(nodes & worked) > 1}

    def tried_elsewhere(each: NodeTry) -> bool:
        name = each.attempt.name
        found = places_of_tar[name] if each.attempt.several else places[name, each.attempt.clip]
        return bool((found - {each.node}) & worked)

    def likely_the_clip(each: NodeTry) -> bool:
        return each.attempt.several or (each.attempt.name, each.attempt.clip) in sound or _follows_a_line(each.attempt)

    failures = {node: found for node, found in _failures(evidence, tried_elsewhere).items() if len(found) >= NODE_FAILURES}
    shunned = kills.shunned(worked)
    if worked - set(failures) - set(shunned):
        words = shunned | {node: _node_words([each.attempt.name for each in found]) for node, found in failures.items()}
        return _Nodes(set(words), words, sound, elsewhere)
    shared = {
        node
        for node, found in _failures(evidence, likely_the_clip).items()
        if len({each.attempt.name for each in found}) >= SAME_TROUBLE_TARS
    }
    return _Nodes(shared, {}, sound, elsewhere)


def _failures(evidence: Sequence[Evidence], explained: Callable[[NodeTry], bool]) -> dict[str, list[NodeTry]]:
    """Node -> tries that failed there, unexplained, since as many went well in one submission.

    One bad GPU fails fast and takes try after try, while its node's others do well, slowly.
    """
    since: dict[str, list[NodeTry]] = defaultdict(list)
    for one in evidence:
        good = Counter(each.node for each in one.tries if _is_good(each.attempt))
        bad: dict[str, list[NodeTry]] = defaultdict(list)
        alone = _alone_without_storage(one)
        for each in one.tries:
            failed = _failed(each.attempt) or (each.attempt.storage == "away" and each.node == alone)
            if failed and not _is_good(each.attempt) and not explained(each):
                bad[each.node].append(each)
        for node in good.keys() | bad.keys():
            if good[node] and good[node] >= len(bad[node]):
                since.pop(node, None)
            else:
                since[node] += bad[node]
    return since


def _alone_without_storage(one: Evidence) -> str | None:
    """The one node that could not write its results, if others could."""
    without = {each.node for each in one.tries if each.attempt.storage}
    others = any(_is_good(each.attempt) for each in one.tries if each.node not in without)
    return without.pop() if len(without) == 1 and others else None


def _node_words(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(set(names))[:3])
    return f"{len(names)} tries failed on it and no more than that went well, while other nodes work ({shown})"


@dataclass
class _Tally:
    """What counts against tars and clips."""

    kills: OutsideKills
    crash_clips: dict[str, tuple[int, ...]]
    """Tar -> clips that have killed CLIP_DEATHS workers on nodes that are beyond suspicion."""
    idle: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Tar -> tries that count against it, since it last made progress."""
    words: dict[str, str] = field(default_factory=dict)
    """Tar -> what the last of them said."""
    damaged: set[str] = field(default_factory=set)
    submissions: set[int] = field(default_factory=set)
    """Those in which something counted. Since all counts end, so does what they delay."""


def _count(evidence: Sequence[Evidence], nodes: _Nodes, kills: OutsideKills) -> _Tally:
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
            if attempt.gained or attempt.outcome == "damaged":
                tally.idle[name] = 0
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
                continue  # beyond that it is no clip's fault that may become a record
            if not attempt.gained:
                tally.idle[name] += 1
                tally.words[name] = attempt.problem
    return tally


def _crash_clips(evidence: Sequence[Evidence], nodes: _Nodes) -> dict[str, tuple[int, ...]]:
    deaths: Counter[Death] = Counter()
    doubtful: Counter[str] = Counter()
    found: dict[str, set[int]] = defaultdict(set)
    for one in evidence:
        for each in one.tries:
            attempt = each.attempt
            if attempt.outcome == "damaged":  # whoever tries it again has another file
                found.pop(attempt.name, None)
                deaths = Counter({key: number for key, number in deaths.items() if key[0] != attempt.name})
            if attempt.outcome != "died" or attempt.clip is None or each.node in nodes.suspects:
                continue
            key = attempt.name, attempt.clip
            deaths[key] += 1
            if deaths[key] != CLIP_DEATHS:
                continue
            if not (key in nodes.sound or key in nodes.elsewhere or _follows_a_line(attempt)):
                doubtful[attempt.name] += 1
            if doubtful[attempt.name] <= CLIPS_IN_DOUBT:
                found[attempt.name].add(attempt.clip)
    return {name: tuple(sorted(clips)) for name, clips in found.items()}


def _quarantine(tars: Sequence[TarFact], tally: _Tally) -> dict[str, str]:
    """Tar -> why it is given up: its data, TAR_TRIES tries in a row without progress, or whoever kills its workers."""
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
    evidence: Sequence[Evidence], nodes: _Nodes, tally: _Tally, unwritten: Collection[int], *, tars: int, taken: bool
) -> str:
    """Why to submit no more, or nothing."""
    common = _common_trouble(evidence, nodes, tars=tars, taken=taken) or tally.kills.diagnosis(HOLD_TARS if taken else 0)
    return common or _no_change(evidence, nodes, tally, unwritten, taken=taken)


def _went_well(one: Evidence, nodes: _Nodes) -> bool:
    """Whether a submission brought a tar on, or showed which node is to be avoided."""
    return any(
        _is_good(each.attempt) or each.attempt.outcome in ("committed", "damaged") or each.node in nodes.excluded
        for each in one.tries
    )


def _common_trouble(evidence: Sequence[Evidence], nodes: _Nodes, *, tars: int, taken: bool) -> str:
    """What all tars seem to suffer from since something last went well, or nothing."""
    troubled: set[str] = set()
    perhaps: set[str] = set()  # they died with a clip in hand that may well be bad, but so many at once?
    unreadable: set[str] = set()
    for one in evidence:
        if _went_well(one, nodes):
            troubled, perhaps, unreadable = set(), set(), set()
            continue
        for each in one.tries:
            attempt = each.attempt
            if attempt.outcome == "failed":
                unreadable.add(attempt.name)
            elif _failed(attempt) and (attempt.name, attempt.clip) not in nodes.sound:
                (perhaps if attempt.several or _follows_a_line(attempt) else troubled).add(attempt.name)
    enough = HOLD_TARS if taken else SAME_TROUBLE_TARS
    if len(troubled) >= enough or len(troubled | perhaps) >= HOLD_TARS:
        return f"{len(troubled | perhaps)} tars met trouble with their machines, and nothing has gone well since"
    if len(unreadable) >= enough and 2 * len(unreadable) > tars:
        return f"{len(unreadable)} of {tars} tars could not be worked on, and nothing has gone well since"
    return ""


def _no_change(
    evidence: Sequence[Evidence], nodes: _Nodes, tally: _Tally, unwritten: Collection[int], *, taken: bool
) -> str:
    """Whether the latest submissions have changed nothing, not even a count, in words."""
    idle: list[Evidence] = []
    for one in evidence:
        counted = one.submission in tally.submissions or any(each.attempt.outcome == "killed" for each in one.tries)
        if counted or _went_well(one, nodes) or any(each.attempt.gained for each in one.tries):
            idle = []
        elif one.ended and not one.stopped and one.submission not in unwritten:
            idle.append(one)
    short = {one.round or one.submission: each for one in idle for each in one.tries if each.attempt.short_of_memory}
    if len(short) >= (HOLD_TARS if taken else SHORT_ROUNDS):
        latest = next(reversed(short.values()))
        return f"{len(short)} rounds in a row brought no new line on {latest.node}: {latest.attempt.problem}; {LESS_MEMORY}"
    silent = sum(one.silent for one in idle if not one.tries)
    if silent >= (HOLD_TARS if taken else SAME_TROUBLE_TARS):
        return f"{silent} tasks ended before they came to their work, and nothing has gone well since"
    rounds = len({one.round or one.submission for one in idle})
    if rounds >= (HOLD_TARS if taken else IDLE_ROUNDS):
        return f"{rounds} rounds of submissions in a row have changed nothing"
    return ""
