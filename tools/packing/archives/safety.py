"""Refuses hostile archives, judged by their lists, before anything is unpacked."""

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
"""Unpacked bytes of names, sizes and so on: some two million members. Larger lists would cost too much memory."""
MOST_MEMBERS = 4_000_000

BOMB_RATIO = 200
"""Unpacked bytes per packed byte. Speech packs to between half and nearly all of its size, and pure digital silence to
1/1000. Deflate reaches at most 1/1032: a limit there would let its bombs pass."""
SURELY_HARMLESS = 64 << 20
"""Unpacked bytes that are accepted at any ratio."""
SPACE_TO_SPARE = 256 << 20

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
PARTS = re.compile(r"[/\\]")
HIGH_IN_GB2312 = range(0xA1, 0xFF)


def refuse_names(path: Path, names: Iterable[str]) -> None:
    """Raise UsageError at the first name that is absolute, goes up by `..`, or holds a control character.

    No file is ever created under such a name, but the archive is malicious, or made by a broken program.
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
            f"{path}: refused: expected relative names, found {name[:200]!r}, with {what}. If you trust its origin, "
            "unpack it with a program that makes such names safe, and give the folder instead"
        )


def refuse_bomb(path: Path, packed: int, unpacked: int) -> None:
    """Raise UsageError if so few `packed` bytes unpack to `unpacked` bytes."""
    if unpacked > SURELY_HARMLESS and unpacked > BOMB_RATIO * max(packed, 1):
        raise UsageError(
            f"{path}: refused: {packed:,} bytes that unpack to at least {unpacked:,} look like a bomb; audio packs to no "
            f"less than 1/{BOMB_RATIO} of its size. If it really is silence, unpack it yourself and give the folder instead"
        )


def refuse_long_list(path: Path, *, size: int = 0, members: int = 0) -> None:
    """Raise UsageError if a list has too many bytes or members to load."""
    if size > LARGEST_LIST or members > MOST_MEMBERS:
        found = f"{size:,} bytes" if size > LARGEST_LIST else f"{members:,} members"
        raise UsageError(
            f"{path}: refused: expected a list of at most {LARGEST_LIST:,} bytes and {MOST_MEMBERS:,} members, found one "
            f"that claims {found}. If it really is so large, unpack it yourself and give the folder instead"
        )


def require_space(
    path: Path, scratch: Path, size: int, why: str = "has the audio long before its texts, and so it has to wait"
) -> None:
    """Raise InfrastructureError if `scratch` has no room for `size` bytes; `why` explains the need."""
    free = shutil.disk_usage(scratch).free
    if size and free < size + SPACE_TO_SPARE:
        raise InfrastructureError(
            f"{scratch}: {free:,} bytes are free, but {size:,} and some to spare are needed: {path} {why}. Free some space, "
            "or give an --output-dir on another disk"
        )


def decode_names(raw: Sequence[bytes], otherwise: str) -> list[str]:
    r"""Decode names of unknown encoding: UTF-8, or GB18030 if all others look like it, or else `otherwise`.

    Chinese Windows writes GBK. Nearly every pair of high bytes is a character in it, so the test is whether most high bytes
    are in the range of common characters; accented letters of Western code pages are below it. Bytes that `otherwise`
    cannot decode become `\xNN`.
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
