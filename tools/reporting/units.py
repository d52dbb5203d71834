"""Pure: numbers, durations and times as text for people."""

from __future__ import annotations

import math
from datetime import datetime, tzinfo

__all__ = ["big", "clock", "duration", "hours", "number", "percent", "shortened", "size", "zone_name"]

MOST_DECIMALS = 4


def number(value: float, digits: int = 3) -> str:
    """About `digits` significant digits: `1,234`, `12.3`, `0.012`."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    if decimals <= 0:
        return f"{value:,.0f}"
    text = f"{value:,.{min(decimals, MOST_DECIMALS)}f}".rstrip("0").rstrip(".")
    return text if text.strip("-0.") else f"< {10**-MOST_DECIMALS:.{MOST_DECIMALS}f}"


def hours(value: float) -> str:
    """`2,809 h`, and less than an hour as a duration."""
    return f"{big(value)} h" if value >= 1 else duration(3600 * value)


def big(value: float) -> str:
    """`950`, `12,300`, `4.5 M`: short enough for a tile or an axis."""
    for limit, suffix in ((1e9, " G"), (1e6, " M")):
        if abs(value) >= limit:
            return f"{number(value / limit)}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else number(value)


def percent(share: float) -> str:
    """`12 %`, `0.4 %`; never rounded to 0 % or 100 % where it is neither."""
    value = 100 * share
    if 0 < value < 0.01:
        return "< 0.01 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.2g} %"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 120 and seconds != 60:
        if 0 < seconds < 0.05:
            return "< 0.1 s"
        return f"{seconds:.1f} s" if seconds < 10 and seconds != round(seconds) else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours + (minutes >= 30), 24)
    return f"{days:,} d {hours} h" if hours else f"{days:,} d"


def size(count: float) -> str:
    """`1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{number(count)} {unit}"
        count /= 1000
    raise AssertionError("TB takes whatever is left")


def clock(seconds: float, zone: tzinfo | None = None, *, exact: bool = False) -> str:
    """`2026-11-28 18:05`, in `zone`; that of this machine by default. `exact`: with seconds."""
    moment = datetime.fromtimestamp(seconds, tz=zone) if zone is not None else datetime.fromtimestamp(seconds).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}" if exact else f"{moment:%Y-%m-%d %H:%M}"


def zone_name(seconds: float) -> str:
    """The name of this machine's time zone at that moment: `UTC`, `CET`."""
    return datetime.fromtimestamp(seconds).astimezone().tzname() or ""


def shortened(text: str, most: int) -> str:
    """The text, or of a longer one the first characters and an ellipsis: `most` characters at most."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
