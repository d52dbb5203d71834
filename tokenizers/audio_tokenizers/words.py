"""Numbers in messages."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 tar`, `2,000 tars`, `2 entries`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
