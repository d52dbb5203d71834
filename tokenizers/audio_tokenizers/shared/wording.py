"""Numbers, values and other libraries' errors in messages."""

from __future__ import annotations

__all__ = ["counted", "first_line", "shown", "size_words"]


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 tar`, `2,000 tars`, `2 entries`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of an error's message that is not blank, or the name of its type; cut after `most` characters."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:most]


def shown(value: object, none: str = "nothing") -> str:
    """A value of a YAML or JSON file, or of an option, as people write it there: `'a'`, `3`, `true`.

    `none` stands for None: nothing was there, or, in an option, `null` was.
    """
    if value is None:
        return none
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def size_words(size: float) -> str:
    """Bytes in the largest unit that fits: `12.3 GB`."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"
