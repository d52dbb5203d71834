"""Pure: what is suspicious about a run's tokens. It warns, and never calls a file invalid: data may be odd, too.

Three questions, each answered by comparison with the rest of the run, since no corpus and no codec is like another:

- Has a tar far fewer codes than the others? Its entropy is compared with the median of all tars. A stuck model has next to
  none, while speakers, languages and recording rooms differ by tenths of a bit.
- Does a token stay the same for long? That is digital silence, or a model that gives one code for everything.
- Does a GPU or node make other tokens than the others? Its histogram is compared with the median device's by their
  Jensen-Shannon divergence (Lin 1991), in bits: 0 for equal histograms, 1 where no id is in both. The devices of a run share
  its list at random, so their histograms differ far less than single tars do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from jobs.packed_counts import Counts
from tools.checking.token_totals import CONSTANT_SECONDS, SequenceTotals, TarStretch, TokenTotals

__all__ = ["Judgement", "Kind", "TokenWarning", "divergence_bits", "judge_tokens"]

Kind = Literal["collapse", "constant", "device"]

LEAST_TOKENS = 2000
"""A tar with fewer tokens per codebook is not judged: a minute and a half at 25 Hz says little about a voice."""
LEAST_TARS = 5
"""So many tars make a median."""
COLLAPSED_SHARE = 0.75
"""Of the median entropy. Less than a quarter of the bits can be missing of what is spoken by one voice in one room."""
COLLAPSED_DEVIATIONS = 6.0
"""Standard deviations by the median absolute deviation, which up to half of the tars cannot move: a run of music and speech
has a wide one, and warns of neither.
"""
TO_SIGMA = 1.4826
"""Median absolute deviation -> standard deviation, of normal values."""
COLLAPSED_RUN = 0.25
"""A whole run's entropy as a share of what its codebook could have."""
STILL_CLIPS, STILL_SHARE = 3, 0.01
"""Clips of a tar that never change: at least so many, and this share."""
LEAST_TOKENS_PER_ID = 20
"""A device with fewer tokens is not judged: by chance alone its divergence would be above 0.01 bits."""
LEAST_DEVICE_TARS = 3
"""Nor is one with fewer tars: a tar is often one speaker."""
LARGEST_VOCABULARY = 1 << 16
"""Ids of larger ones are those of texts, which no device decides."""
DIFFERENT_BITS = 0.1
DIFFERENT_FACTOR = 4.0
"""Times the median device's divergence."""
DIFFERENT_PAIR_BITS = 0.3
"""For two devices, where nothing says which one is right."""
SHOWN = 5


class TokenWarning(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should look at."""

    kind: Kind
    sequence: str
    """The key of the records."""
    tars: tuple[str, ...] = ()
    """Names of all tars that it concerns, the worst first."""
    device: str = ""
    """For `device`: the node, or the node and its GPU."""
    words: str
    """What was found. Names are foreign text."""
    advice: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The warnings, and what they come from."""

    warnings: tuple[TokenWarning, ...]
    """By sequence."""
    tars: int
    """Tars with enough tokens to compare their entropy with the others'."""
    devices: int
    """GPUs, or nodes without any, with enough tokens and tars to compare their histograms."""


class _Group(NamedTuple):
    """What some devices made."""

    counts: Counts
    """[codebooks, ids]"""
    tars: int


def judge_tokens(totals: TokenTotals) -> Judgement:
    """Judge all sequences. The numbers of what is compared are those of the sequence with the most."""
    warnings: list[TokenWarning] = []
    tars = devices = 0
    for key, found in totals.sequences.items():
        warnings += [*_collapsed(key, found), *_constant(key, found)]
        gpus, nodes, gpus_of = _groups(found)
        warnings += _devices(key, gpus, nodes, gpus_of)
        tars = max(tars, sum(items >= LEAST_TOKENS for items in found.tar_items))
        devices = max(devices, len(_enough(gpus or nodes)))
    return Judgement(tuple(warnings), tars if tars >= LEAST_TARS else 0, devices if devices > 1 else 0)


def _collapsed(key: str, found: SequenceTotals) -> list[TokenWarning]:
    if not found.items:
        return []
    judged = np.array(found.tar_items) >= LEAST_TOKENS
    warnings = _collapsed_run(key, found, judged)
    if np.count_nonzero(judged) < LEAST_TARS:
        return warnings
    tars = [tar for tar, counts in zip(found.tars, judged.tolist(), strict=True) if counts]
    entropies = np.array(found.tar_entropies)[judged]  # [tars, codebooks]
    medians = np.median(entropies, axis=0)
    deviations = TO_SIGMA * np.median(np.abs(entropies - medians), axis=0)
    low = (entropies < COLLAPSED_SHARE * medians) & (entropies < medians - COLLAPSED_DEVIATIONS * deviations)
    places = low.any(axis=1).nonzero()[0]
    if not len(places):
        return warnings
    missing = np.where(low, 1 - entropies / np.maximum(medians, 1e-9), 0)
    worst = places[np.argsort(-missing[places].max(axis=1), kind="stable")]
    examples = []
    for place in worst[:SHOWN].tolist():
        k = int(missing[place].argmax())
        others = int(np.count_nonzero(low[place])) - 1
        more = f", and {counted(others, 'other codebook')}" if others else ""
        examples.append(f"{tars[place]} (codebook {k}: {entropies[place, k]:.2f} bits, usual {medians[k]:.2f}{more})")
    words = f"{counted(len(worst), 'tar')} with far less entropy than the others: {_listed(examples, len(worst))}"
    advice = (
        f"Listen to some clips ({called('tools.show')} --listen, {called('tools.decode_check')}): tars of silence or noise "
        "are like that. If the audio is fine, a device failed: move the .jsonl of these tars away, and run "
        f"{called('hpc.resume')}"
    )
    names = tuple(tars[place] for place in worst.tolist())
    return [*warnings, TokenWarning(kind="collapse", sequence=key, tars=names, words=words, advice=advice)]


def _collapsed_run(key: str, found: SequenceTotals, judged: npt.NDArray[np.bool_]) -> list[TokenWarning]:
    """A median says nothing where most tars have collapsed."""
    if not judged.any():
        return []
    medians = np.median(np.array(found.tar_entropies)[judged], axis=0)
    most = float(np.log2(found.size))
    low = (medians < COLLAPSED_RUN * most).nonzero()[0].tolist()
    if not low:
        return []
    examples = [f"codebook {k}: {medians[k]:.2f} bits of {most:.2f}" for k in low[:SHOWN]]
    words = f"most tars use very few codes ({_listed(examples, len(low))})"
    advice = (
        f"Compare with upstream ({called('tools.parity')}) and listen ({called('tools.decode_check')}): weights that were "
        "never trained do this, and so does audio without a signal"
    )
    return [TokenWarning(kind="collapse", sequence=key, words=words, advice=advice)]


def _constant(key: str, found: SequenceTotals) -> list[TokenWarning]:
    warnings = []
    advice = (
        f"Listen to them ({called('tools.show')} --listen): digital silence gives this, and so does a model that is stuck. "
        f"If the audio is fine, move the .jsonl of these tars away, and run {called('hpc.resume')}"
    )
    if found.constant and found.items_per_second:
        by_tar: dict[str, TarStretch] = {}
        for one in sorted(found.constant, key=lambda one: -one.stretch.items):
            by_tar.setdefault(one.tar, one)
        examples = [_describe(one, found.items_per_second) for one in list(by_tar.values())[:SHOWN]]
        words = (
            f"one token for more than {CONSTANT_SECONDS:g} s in {counted(len(by_tar), 'tar')}: "
            f"{_listed(examples, len(by_tar), '; ')}"
        )
        warnings.append(TokenWarning(kind="constant", sequence=key, tars=tuple(by_tar), words=words, advice=advice))
    still = [
        (clips, of, tar)
        for tar, (clips, of) in zip(found.tars, found.tar_still_clips, strict=True)
        if clips >= max(STILL_CLIPS, STILL_SHARE * of)
    ]
    if still:
        still.sort(key=lambda one: -one[0])
        examples = [f"{tar} ({clips:,} of {of:,})" for clips, of, tar in still[:SHOWN]]
        words = f"clips whose tokens never change, in {counted(len(still), 'tar')}: {_listed(examples, len(still))}"
        tars = tuple(tar for _, _, tar in still)
        warnings.append(TokenWarning(kind="constant", sequence=key, tars=tars, words=words, advice=advice))
    return warnings


def _describe(one: TarStretch, items_per_second: float) -> str:
    where = f"{one.tar}: {one.stretch.name} (line {one.stretch.clip + 1})"
    return f"{where}: {one.stretch.items / items_per_second:,.1f} s of {one.stretch.token} in codebook {one.codebook}"


def _listed(examples: Sequence[str], number: int, between: str = ", ") -> str:
    more = f"{between}and {number - len(examples):,} more" if number > len(examples) else ""
    return between.join(examples) + more


def _groups(found: SequenceTotals) -> tuple[dict[str, _Group], dict[str, _Group], dict[str, list[str]]]:
    """(what each GPU made, what each node made, the names of each node's GPUs)."""
    gpus: dict[str, _Group] = {}
    nodes: dict[str, _Group] = {}
    gpus_of: dict[str, list[str]] = {}
    for device, made in found.devices.items() if found.size <= LARGEST_VOCABULARY else ():
        known = nodes.get(device.node, _Group(np.zeros_like(made.counts), 0))
        nodes[device.node] = _Group(known.counts + made.counts, known.tars + made.tars)
        if device.gpu:
            name = f"{device.node}, {device.name} {device.gpu}"
            gpus[name] = _Group(made.counts, made.tars)
            gpus_of.setdefault(device.node, []).append(name)
    return gpus, nodes, gpus_of


def _devices(
    key: str, of_gpus: Mapping[str, _Group], of_nodes: Mapping[str, _Group], gpus_of: Mapping[str, Sequence[str]]
) -> list[TokenWarning]:
    gpus, nodes = _different(of_gpus), _different(of_nodes)
    for node, its in gpus_of.items():  # one bad GPU makes its node look bad; all of them bad are the node's fault
        if node in nodes and len(its) > 1 and gpus.keys() >= set(its):
            gpus = {name: words for name, words in gpus.items() if name not in its}
        elif not gpus.keys().isdisjoint(its):
            nodes.pop(node, None)
    advice = (
        "If its tars are of another kind than those of the others (a language, music), that explains it. Otherwise submit a "
        "few of them into another --output-dir with --slurm exclude=NODE, and compare the files: equal ones clear the node"
    )
    return [
        TokenWarning(kind="device", sequence=key, device=name, words=words, advice=advice)
        for name, words in {**nodes, **gpus}.items()
    ]


def _enough(groups: Mapping[str, _Group]) -> dict[str, Counts]:
    """The histograms of groups that can be judged."""
    return {
        name: group.counts
        for name, group in sorted(groups.items())
        if group.tars >= LEAST_DEVICE_TARS and group.counts.sum(axis=1).min() >= LEAST_TOKENS_PER_ID * group.counts.shape[1]
    }


def _different(groups: Mapping[str, _Group]) -> dict[str, str]:
    """Which groups differ from the others -> how."""
    enough = _enough(groups)
    names = list(enough)
    if len(names) < 2:
        return {}
    codebooks = len(enough[names[0]])
    bits = np.array([_divergences(np.array([enough[name][k] for name in names])) for k in range(codebooks)])
    worst, score = bits.argmax(axis=0), bits.max(axis=0)  # [codebook, group] -> [group]
    if len(names) == 2:
        apart = f"their histograms of codebook {worst[0]} are {score[0]:.2f} bits apart"
        return (
            {names[0]: f"{names[0]} makes other tokens than {names[1]}: {apart}"} if score[0] >= DIFFERENT_PAIR_BITS else {}
        )
    usual = float(np.median(score))
    found = {}
    for place, name in enumerate(names):
        if score[place] >= max(DIFFERENT_BITS, DIFFERENT_FACTOR * usual):
            apart = f"its histogram of codebook {worst[place]} is {score[place]:.2f} bits from the median of {len(names)}"
            found[name] = f"{name} makes other tokens than the others: {apart}, where {usual:.2f} are usual"
    return found


def _divergences(counts: Counts) -> npt.NDArray[np.float64]:
    """Divergence of each group's histogram from the median one, or of two groups from each other: counts [groups, ids]."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    if len(shares) == 2:
        return np.full(2, divergence_bits(shares[0], shares[1]))
    median = np.median(shares, axis=0)
    if not median.any():  # no id is common
        return np.ones(len(shares))
    median /= median.sum()
    return np.array([divergence_bits(one, median) for one in shares])


def divergence_bits(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence of two distributions [ids]: 0 to 1 bits."""
    middle = (p + q) / 2

    def relative(one: npt.NDArray[np.float64]) -> float:
        there = one > 0
        return float((one[there] * np.log2(one[there] / middle[there])).sum())

    return max((relative(p) + relative(q)) / 2, 0.0)
