"""Pure: judge a clip's losses: nothing, damage noted in its record, or an error instead of tokens."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from audio_tokenizers.errors import ClipError
from jobs.losses import UNNOTICED_SECONDS, Losses

__all__ = ["ALWAYS_KEPT_SECONDS", "DEFAULT_MAX_DAMAGE", "Damage", "judge", "judge_place", "own_share"]

DEFAULT_MAX_DAMAGE = 0.02
"""Share of a clip that may be missing, unless --max-damage says otherwise."""
ALWAYS_KEPT_SECONDS = 0.05
"""Loss allowed in any clip, however short: about two MP3 frames. A share of 0 still allows nothing."""
KINDS_NAMED = 4
SECONDS_DIGITS = 3


class Damage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Audio missing from a clip that was kept."""

    seconds: Annotated[float, msgspec.Meta(ge=0)]
    """Audio that could not be decoded, to the millisecond."""
    what: Annotated[str, msgspec.Meta(min_length=1)]
    """Description of the losses."""


def judge(losses: Losses, decoded_seconds: float, max_share: float) -> Damage | ClipError | None:
    """Judge a clip of which `decoded_seconds` were decoded and `losses` are missing; None: it is whole.

    The missing share is relative to the whole clip, losses included. A clip is kept if it lacks up to `max_share` (0 to 1)
    of itself, or ALWAYS_KEPT_SECONDS or less; with a share of 0, only whole clips are kept. Any other clip is an error of
    kind `decode`, as is one of which nothing could be decoded.
    """
    if not losses.what:
        return None
    if not decoded_seconds > 0:
        return ClipError("decode", f"damaged: nothing of it could be decoded ({_describe_losses(losses)})")
    lost = losses.seconds
    whole = decoded_seconds + lost
    allowed = max(ALWAYS_KEPT_SECONDS, max_share * whole) if max_share > 0 else 0.0
    if max_share > 0 and 0 <= lost <= allowed and math.isfinite(lost):
        return Damage(round(lost, SECONDS_DIGITS), _describe_losses(losses))
    missing = f"{lost:.3f} s of {whole:.3f} s" if lost > 0 else "part of it"
    bound = f"--max-damage {max_share:g} allows {allowed:.3f} s" if max_share > 0 else "--max-damage 0 allows nothing"
    return ClipError("decode", f"damaged: {missing} could not be decoded ({_describe_losses(losses)}); {bound}")


def judge_place(losses: Losses, max_share: float) -> Losses | ClipError:
    """Judge a segment that extends beyond the first place at which its recording has `losses`: its damage, or an error of
    kind `segment`.

    Audio cut after that place may be off its text by as much as is missing. Up to UNNOTICED_SECONDS that is damage; a larger
    or unknown shift is allowed only where everything decodable is (a share of 1).
    """
    shift, found = losses.shift, Losses()
    if not (losses.what or losses.torn) and not shift > UNNOTICED_SECONDS:
        return found
    if max_share >= 1 or (max_share > 0 and 0 < shift <= UNNOTICED_SECONDS and not losses.torn):
        found.add(shift, f"in its recording, before or in it: {_describe_losses(losses)}")
        return found
    missing = "an unknown part" if losses.torn else f"{shift:.3f} s" if shift > 0 else "part"
    allowed = f"{UNNOTICED_SECONDS:g} s of it may be" if max_share > 0 else "--max-damage 0 allows nothing"
    return ClipError(
        "segment",
        f"{missing} of its recording is missing before or in it, so that nobody knows where it stands "
        f"({_describe_losses(losses)}); {allowed}, and with --max-damage 1 it is kept",
    )


def own_share(losses: Losses, inside: float, at_end: float) -> Losses:
    """Losses of a segment of known place: `inside` seconds are missing between its ends, and `at_end` seconds because its
    recording, whose `losses` are given, ends too early.
    """
    found = Losses()
    if inside + at_end > 0:
        found.add(inside + at_end, _describe_losses(losses))
    return found


def _describe_losses(losses: Losses) -> str:
    """Describe the losses in bounded length: a decoder may name as many kinds as a file has frames."""
    if not losses.what:
        return "there are gaps in its times or between its frames"
    rest = len(losses.what) - KINDS_NAMED
    return "; ".join([*losses.what[:KINDS_NAMED], *([f"and {rest} more"] if rest > 0 else [])])
