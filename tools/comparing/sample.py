"""A sample of the clips of a list: the beginnings of random tars, so that no tar is read to its end."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audio_tokenizers.errors import UsageError
from jobs.plain_text import plain
from jobs.spec import TokenizeSpec
from jobs.tar_format import TarDamage
from jobs.tar_source import tar_source
from tools.common.rereading import Rereading

__all__ = ["Sampled", "in_random_order", "sample_clips"]

MOST_TARS = 50
"""Tars that share the clips: each more is another file to open, and perhaps to download."""
log = logging.getLogger("tar2tokens")


@dataclass(frozen=True, slots=True)
class Sampled:
    """A clip of a tar, as bytes: it is decoded more than once."""

    tar: str
    name: str
    audio: bytes


def in_random_order(tars: Sequence[str], seed: int) -> list[str]:
    """All tars in an order that depends on the list and `seed` alone."""
    return random.Random(seed).sample(list(tars), len(tars))  # noqa: S311 - not for secrets


def sample_clips(tars: Sequence[str], clips: int, spec: TokenizeSpec, seed: int) -> Iterator[Sampled]:
    """Up to `clips` clips: as many from the beginning of each of up to MOST_TARS random tars, and of further tars if those
    have fewer. A tar that cannot be read is left out with a warning. The same `seed` chooses the same tars of a list.
    """
    order = in_random_order(tars, seed)
    share = math.ceil(clips / min(len(order), MOST_TARS)) if order else 0
    left = clips
    for number, tar in enumerate(order):
        if not left:
            return
        last = number + 1 == len(order)
        for sampled in _first_clips(tar, left if last else min(share, left), spec):
            left -= 1
            yield sampled


def _first_clips(tar: str, clips: int, spec: TokenizeSpec) -> Iterator[Sampled]:
    try:
        with Rereading(spec.extensions, spec.sniff).open(tar_source(tar)) as reader:  # whole members, not their segments
            for clip in reader:
                if clip.audio is not None:
                    yield Sampled(tar, clip.name, clip.audio.read())
                    clips -= 1
                clip.close()
                if not clips:
                    return
    except (TarDamage, OSError, UsageError) as error:
        log.warning("%s: left out from here on: %s", plain(tar), plain(str(error)))
