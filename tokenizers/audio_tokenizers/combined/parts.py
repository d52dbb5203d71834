"""Pure: which backends can be combined, the description of a combination, and the exact batches of its parts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from audio_tokenizers.base import BackendInfo, Batching
from audio_tokenizers.errors import UsageError

__all__ = ["combined_info", "exact_batches", "leader", "record_keys"]


def combined_info(name: str, parts: Sequence[BackendInfo]) -> BackendInfo:
    """The description of the combination `name`. Raises UsageError if the parts cannot be combined."""
    _check(name, parts)
    lanes = _with_lanes(parts)
    batched = [part.max_batch for part in parts if part.batching in (Batching.ANY, Batching.EQUAL_LENGTH)]
    batching = Batching.LANES if lanes else Batching.ANY if batched else Batching.SINGLE
    return BackendInfo(
        name=name,
        sample_rate=parts[0].sample_rate,
        hop_length=lanes[0].hop_length if lanes else max(part.hop_length for part in parts),
        fields=tuple(
            dataclasses.replace(field, name=key)
            for part, keys in zip(parts, record_keys(parts), strict=True)
            for field, key in zip(part.fields, keys.values(), strict=True)
        ),
        mono=parts[0].mono,
        min_samples=max(part.min_samples for part in parts),
        kind="clips",
        max_tokens_per_fragment=None,
        batching=batching,
        # With lanes, exactly those of the part that has them: another number is another shape, and another token.
        max_batch=lanes[0].max_batch if lanes else max(batched, default=1),
        needs_text=any(part.needs_text for part in parts),
        recipe={f"{part.name}.{key}": value for part in parts for key, value in part.recipe.items()},
    )


def _check(name: str, parts: Sequence[BackendInfo]) -> None:
    apart = "make one run of each, and join the runs (tar2tokens.join_runs)"
    for part in parts:
        if part.kind != "clips":
            raise UsageError(
                f"{name}: {part.name} encodes fragments, and only backends of whole clips can be combined: {apart}"
            )
    rates = {f"{part.name} {part.sample_rate} Hz": part.sample_rate for part in parts}
    if len(set(rates.values())) > 1:
        raise UsageError(f"{name}: expected one sample rate, found {', '.join(rates)}: {apart}")
    rules = {f"{part.name} {part.mono}": part.mono for part in parts}
    if len(set(rules.values())) > 1:
        raise UsageError(f"{name}: expected one rule for channels (mean or first), found {', '.join(rules)}: {apart}")
    lanes = [part.name for part in _with_lanes(parts)]
    if len(lanes) > 1:
        raise UsageError(f"{name}: expected lanes in one part at most, found {', '.join(lanes)}: --set {lanes[0]}.lanes=0")


def _with_lanes(parts: Sequence[BackendInfo]) -> list[BackendInfo]:
    return [part for part in parts if part.batching is Batching.LANES]


def leader(parts: Sequence[BackendInfo]) -> int:
    """Index of the part whose resampled audio defines a clip's length: the part with lanes, since the length decides the
    shape of its calls, else the first part. Resamplers may differ by one sample.
    """
    return next((number for number, part in enumerate(parts) if part.batching is Batching.LANES), 0)


def record_keys(parts: Sequence[BackendInfo]) -> list[dict[str, str]]:
    """For each part, its key -> the record's key: the same, or `PART_KEY` if several parts have that key. Raises UsageError
    if two keys of the record would be equal.
    """
    having = Counter(field.name for part in parts for field in part.fields)
    keys = [
        {field.name: field.name if having[field.name] == 1 else f"{part.name}_{field.name}" for field in part.fields}
        for part in parts
    ]
    twice = [key for key, count in Counter(key for part in keys for key in part.values()).items() if count > 1]
    if twice:
        raise UsageError(f"{'+'.join(part.name for part in parts)}: several parts give the key {twice[0]!r}")
    return keys


def exact_batches(info: BackendInfo, lengths: Sequence[int]) -> Iterator[list[int]]:
    """Batches, as indexes of clips of these lengths, that `info` declares exact; single clips if it has lanes."""
    if info.batching is Batching.EQUAL_LENGTH:
        groups: dict[int, list[int]] = {}
        for number, length in enumerate(lengths):
            groups.setdefault(length, []).append(number)
    else:
        groups = {0: list(range(len(lengths)))}
    most = info.max_batch if info.batching in (Batching.ANY, Batching.EQUAL_LENGTH) else 1
    for group in groups.values():
        for first in range(0, len(group), most):
            yield group[first : first + most]
