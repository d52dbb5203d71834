"""What no honest archive of speech holds, told from its list, before any of it is unpacked."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from audio_tokenizers.errors import InfrastructureError, UsageError

__all__ = [
    "LARGEST_LIST",
    "MOST_MEMBERS",
    "SURELY_HARMLESS",
    "decode_names",
    "refuse_bomb",
    "refuse_long_list",
    "refuse_names",
    "require_space",
]

LARGEST_LIST = 256 << 20
"""Bytes of names, sizes and so on, unpacked: some two million members. What claims more would cost memory to look at."""
MOST_MEMBERS = 4_000_000

BOMB_RATIO = 200
"""Unpacked bytes per packed byte. Speech packs to between a half and nearly all of its size, and digital silence, if a set
were nothing else, to 1/1000; deflate can do no better than 1/1032, so a limit there would let its bombs pass."""
SURELY_HARMLESS = 64 << 20
"""Unpacked bytes; whatever the ratio."""
SPACE_TO_SPARE = 256 << 20

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
PARTS = re.compile(r"[/\\]")
HIGH_IN_GB2312 = range(0xA1, 0xFF)


def refuse_names(path: Path, names: Iterable[str]) -> None:
    """Raise UsageError at the first name that is absolute, goes up by `..`, or holds a control character.

    Nothing is ever written under such a name; but an archive that has one was made to harm, or by a broken program.
    """
    for name in names:
        if CONTROL.search(name):
            what = "a control character in it"
        elif ABSOLUTE.match(name):
            what = "an absolute path"
        elif ".." in name and ".." in PARTS.split(name):
            what = "`..` as a part"
        else:
            continue
        raise UsageError(
            f"{path}: refused: expected relative names, found {name[:200]!r}, with {what}. If you trust whoever made it, "
            "unpack it with a program that makes such names safe, and give the folder instead"
        )


def refuse_bomb(path: Path, packed: int, unpacked: int) -> None:
    """Raise UsageError if `unpacked` bytes cannot honestly come from `packed` ones."""
    if unpacked > SURELY_HARMLESS and unpacked > BOMB_RATIO * max(packed, 1):
        raise UsageError(
            f"{path}: refused: {packed:,} bytes that unpack to at least {unpacked:,} look like a bomb; audio packs to no "
            f"less than 1/{BOMB_RATIO} of its size. If it really is silence, unpack it yourself and give the folder instead"
        )


def refuse_long_list(path: Path, *, size: int = 0, members: int = 0) -> None:
    """Raise UsageError if a list of so many bytes, or of so many members, is more than anybody should load."""
    if size > LARGEST_LIST or members > MOST_MEMBERS:
        found = f"{size:,} bytes" if size > LARGEST_LIST else f"{members:,} members"
        raise UsageError(
            f"{path}: refused: expected a list of at most {LARGEST_LIST:,} bytes and {MOST_MEMBERS:,} members, found one "
            f"that claims {found}. If it really is so large, unpack it yourself and give the folder instead"
        )


def require_space(
    path: Path, scratch: Path, size: int, why: str = "has the audio long before its texts, and so it has to wait"
) -> None:
    """Raise InfrastructureError if `scratch` has no room for what must wait there at once; `why`, of the archive."""
    free = shutil.disk_usage(scratch).free
    if size and free < size + SPACE_TO_SPARE:
        raise InfrastructureError(
            f"{scratch}: {free:,} bytes are free, but {size:,} and some to spare are needed: {path} {why}. Free some space, "
            "or give an --output-dir on another disk"
        )


def decode_names(raw: Sequence[bytes], otherwise: str) -> list[str]:
    r"""Names whose encoding the archive does not say: UTF-8, or GB18030 if all others look like it, or else `otherwise`.

    Chinese Windows writes GBK. Nearly every pair of high bytes is a character in it, so what counts is that most high bytes
    are those of its usual characters: the accented letters of Western code pages lie below them. Bytes that `otherwise`
    cannot read either become `\xNN`.
    """
    found = [_utf8(name) for name in raw]
    unknown = [name for name, text in zip(raw, found, strict=True) if text is None]
    encoding = "gb18030" if _is_chinese(unknown) else otherwise
    pairs = zip(raw, found, strict=True)
    return [text if text is not None else name.decode(encoding, "backslashreplace") for name, text in pairs]


def _utf8(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


def _is_chinese(names: Sequence[bytes]) -> bool:
    high = usual = 0
    for name in names:
        try:
            name.decode("gb18030")
        except UnicodeDecodeError:
            return False
        high += sum(byte >= 0x80 for byte in name)
        usual += sum(byte in HIGH_IN_GB2312 for byte in name)
    return 4 * usual > 3 * high
