"""Pure: what the trials of a rehearsal did -> findings with advice."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from jobs.plain_text import plain
from tools.common.findings import Finding, fault, fine, warning
from tools.listening.comparison import Verdict
from tools.rehearsing.agreement import Difference
from tools.rehearsing.budget import figure
from tools.rehearsing.excerpts import Excerpts
from tools.rehearsing.results import Made
from tools.rehearsing.trial import Outcome

__all__ = [
    "judge_devices",
    "judge_errors",
    "judge_excerpts",
    "judge_heard",
    "judge_interruption",
    "judge_node",
    "judge_rate",
    "judge_same",
    "judge_trial",
]

UNLIKE_DB = -20.0
"""SI-SDR below which decoded audio has nothing of the original: noise has about -35 dB. Generative decoders, which invent
waveforms, may be as low."""
MANY_ERRORS = 0.1
"""Share of clips that are errors above which a warning is due."""
LOGS = "the scratch folder keeps its logs"
UNTRIED = "not tried: busy, or not for this job; --wait waits longer"


def judge_excerpts(found: Excerpts, asked: int) -> list[Finding]:
    """Which clips the trials are about, and tars that cannot be read."""
    findings = [
        fault("clips", f"{plain(tar)}: {plain(why)}", "a run would leave it out: repair the tar, or take it out of the list")
        for tar, why in found.faults.items()
    ]
    if not found.parts:
        words = "no clips in the tars that were looked at: nothing was tried"
        return [*findings, fault("clips", words, f"are these tars of audio? {called('tools.show')} says what a tar has")]
    names = dict.fromkeys(Path(part.source).name for part in found.parts)
    words = f"{counted(found.clips, 'clip')} from the beginning of {', '.join(map(plain, names))}"
    if found.clips < asked:
        words += f": fewer than {asked:,}, there are no more in these tars"
    return [*findings, fine("clips", words)]


def judge_trial(name: str, outcome: Outcome, made: Made | None) -> Finding:
    """Whether a trial came to its end."""
    if outcome.untried:
        return warning(name, plain(outcome.problem), UNTRIED)
    if outcome.problem:
        return fault(name, plain(outcome.problem), f"a run would fail in the same way: {LOGS}")
    assert made is not None, "it has ended well"
    words = f"{counted(len(made.lines), 'clip')} in {outcome.seconds:.1f} s, {made.startup_s:.1f} s of them to load"
    return fine(name, f"{words}, on {plain(made.device)}" if made.device else words)


def judge_interruption(outcome: Outcome) -> Finding:
    """Whether the workers were ended at work, and the trial finished all the same."""
    if outcome.untried:
        return warning("interrupted", plain(outcome.problem), UNTRIED)
    if outcome.problem:
        return fault("interrupted", plain(outcome.problem), f"it has to survive an interruption: {LOGS}")
    if not outcome.interrupted:
        found = f"the trial ended in {outcome.seconds:.1f} s, before a worker was in the middle of a tar"
        return warning("interrupted", found, "not tried: more --clips give it time")
    return fine("interrupted", "all workers were ended in the middle of a tar, and others resumed to the end")


def judge_same(check: str, difference: Difference | None, clips: int) -> Finding:
    """Whether two trials made the same."""
    if difference is None:
        return fine(check, f"{counted(clips, 'clip')}: the same, bit for bit")
    advice = f"tokens must not depend on luck: keep the scratch folder, and report it; {LOGS}"
    return fault(check, plain(str(difference)), advice)


def judge_errors(made: Made) -> Finding:
    """How many clips became error records."""
    errors, clips = sum(made.errors.values()), len(made.lines)
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(made.errors.items()))
    if errors == clips:
        words = f"none of {counted(clips, 'clip')} could be tokenized: {kinds}"
        return fault("errors", words, f"the lines of the scratch folder say why: {called('tools.show')}")
    words = f"{errors:,} of {counted(clips, 'clip')} became an error record" + (f": {kinds}" if kinds else "")
    if errors > MANY_ERRORS * clips:
        return warning("errors", words, "is that to be expected of these data?")
    return fine("errors", words)


def judge_heard(verdicts: Sequence[Verdict]) -> Finding:
    """What decoded tokens sound like, by length and SI-SDR."""
    faults = [verdict for verdict in verdicts if verdict.fault is not None]
    if faults:
        words = f"{len(faults)} of {counted(len(verdicts), 'clip')}: {faults[0].pick.record.audio_file}: {faults[0].fault}"
        return fault("decoded", plain(words), "the tokens are not what this model decodes: check the weights")
    ratios = [verdict.si_sdr for verdict in verdicts if verdict.si_sdr is not None]
    words = f"{counted(len(verdicts), 'clip')} decoded to the right length"
    if not ratios:
        return fine("decoded", f"{words}; all are silent")
    median = statistics.median(ratios)
    words += f", SI-SDR {min(ratios):.1f} to {max(ratios):.1f} dB, median {median:.1f} dB"
    if median < UNLIKE_DB or math.isnan(median):
        return warning("decoded", words, f"nothing of the original is in it: listen with {called('tools.decode_check')}")
    return fine("decoded", words)


def judge_rate(made: Made, *, gpu: bool) -> Finding:
    """Audio-hours per hour of a worker at work, and of all of the trial's workers."""
    if made.rate <= 0:
        return warning("rate", "no audio became tokens: not measured", "see the errors above")
    each = made.rate
    where = "GPU worker" if gpu else "worker"
    words = f"{figure(each)} audio-h per hour and {where}"
    if made.workers > 1:
        words += f", {figure(each * made.workers)} with {counted(made.workers, 'worker')}"
    return fine("rate", f"{words}; {figure(made.audio_seconds / 3600)} audio-h tried")


def judge_node(node: str, outcome: Outcome, made: Made | None, difference: Difference | None) -> Finding:
    """A node of the partition, and how its tokens differ from those of most others with its device."""
    check = f"node {node}"
    if outcome.untried:
        return warning(check, plain(outcome.problem), UNTRIED)
    if outcome.problem or made is None:
        return fault(check, plain(outcome.problem), f"keep it out: --slurm exclude={node}; {LOGS}")
    if difference is not None:
        return fault(check, f"other tokens than most: {plain(str(difference))}", f"keep it out: --slurm exclude={node}")
    return fine(check, f"same tokens, at {figure(made.rate * made.workers)} audio-h per hour, on {plain(made.device)}")


def judge_devices(devices: Mapping[str, Difference | None]) -> list[Finding]:
    """Kinds of devices, with how the tokens of each differ from those of the first."""
    first, *others = devices
    return [
        warning(
            "devices",
            f"tokens on {plain(other)} are not those on {plain(first)}: {plain(str(devices[other]))}",
            "a data set of one kind of GPU is of one piece: --constraint, or --gpus-per-node TYPE:NUMBER",
        )
        for other in others
        if devices[other] is not None
    ]
