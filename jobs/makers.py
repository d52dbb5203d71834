"""Pure: which workers made the lines of a tar that several attempts worked on."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jobs.manifest import Maker

__all__ = ["join_makers", "makers_of"]


def makers_of(made_by: Iterable[Maker], lines: int) -> tuple[Maker, ...]:
    """Who made the `lines` that an attempt found, by the manifest of the attempt before it.

    A killed attempt had no time to count its lines: what no other maker made is its work. Lines that a power loss took are
    missing at the end.
    """
    found: list[Maker] = []
    makers = list(made_by)
    for number, maker in enumerate(makers, 1):
        clips = lines if number == len(makers) else min(maker.clips, lines)
        lines -= clips
        found.append(msgspec.structs.replace(maker, clips=clips))
    return tuple(maker for maker in found if maker.clips)


def join_makers(makers: Iterable[Maker], this: Maker) -> tuple[Maker, ...]:
    """Add the maker at work. It comes last, even without a line so far."""
    *before, last = [*makers, this]
    if before and msgspec.structs.replace(before[-1], clips=last.clips) == last:
        last = msgspec.structs.replace(last, clips=before.pop().clips + last.clips)
    return (*before, last)
