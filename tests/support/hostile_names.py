"""Names that a program must not pass on to a terminal or a log as they are, and what nobody may ever see of them."""

from __future__ import annotations

import unicodedata

NAMES = (
    "red\x1b[31m\x1b]0;owned\x07",
    "csi\x9b2J",
    "line\n12:00:00 ERROR forged\nerror: forged",
    "return\rforged",
    "left\u202egnp\u2066\u2069\u200f\u061c",
    "apart\u2028error: forged\u2029\x85",
    "back\x08\x7f\x00"[:-1],
    "tab\tb",
)
"""None has a dot or a slash, or what tars or lists refuse."""
LINES = ("12:00:00 ERROR forged", "error: forged", "forged")


def faults(text: str) -> list[str]:
    """What of a command's output a terminal would obey, or a person take for the command's own words."""
    bad = {
        sign
        for sign in text
        if sign not in "\n\u200c\u200d" and unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }
    return [*map(ascii, sorted(bad)), *(line for line in text.splitlines() if line.startswith(LINES))]
