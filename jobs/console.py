"""What the commands' live lines and bars are made of: rates, times, and how often a line comes."""

from __future__ import annotations

__all__ = ["BAR_FORMAT", "LOG_SECONDS", "clock_time", "describe_rate", "eta_seconds"]

LOG_SECONDS = 30.0
BAR_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"
"""For tqdm, without its own rate and ETA: it would count what an earlier attempt has done as done now."""


def describe_rate(audio_seconds: float, wall_seconds: float) -> str:
    """`1.25 audio-h at 310 audio-h/h`."""
    rate = audio_seconds / wall_seconds if wall_seconds > 0 else 0.0
    return f"{audio_seconds / 3600:.2f} audio-h at {rate:.0f} audio-h/h"


def eta_seconds(bytes_before: int, bytes_done: int, bytes_total: int, wall_seconds: float) -> float | None:
    """Seconds until the rest is done at the rate so far; None before there is a rate."""
    used = bytes_done - bytes_before
    if used <= 0 or wall_seconds <= 0:
        return None
    return max(bytes_total - bytes_done, 0) * wall_seconds / used


def clock_time(seconds: float | None) -> str:
    """`1:02:03`, or `?`."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
