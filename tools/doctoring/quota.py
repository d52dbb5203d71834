"""Quotas from `quota` and `lfs quota`, where a site has them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tools.doctoring.bounded import run_bounded

__all__ = ["Quota", "ask_quotas", "parse_quotas"]

SECONDS = 20.0
COLUMNS = 8
KIB = 1024


class Quota(msgspec.Struct, frozen=True):
    """The user's quota on one file system; a limit of 0 means none."""

    place: str
    used_bytes: int
    limit_bytes: int
    used_files: int
    limit_files: int


def ask_quotas(folder: Path) -> list[Quota]:
    """Quotas from the installed commands; empty if there are none, or if they do not answer."""
    commands = []
    if shutil.which("quota"):
        commands.append(["quota", "--no-wrap", "--raw-grace"])
    if shutil.which("lfs"):
        commands.append(["lfs", "quota", "-q", "-u", str(os.getuid()), str(folder)])
    return [quota for words in commands for quota in parse_quotas(run_bounded(words, SECONDS).out)]


def parse_quotas(text: str) -> Iterator[Quota]:
    """Parse rows of `place blocks quota limit grace files quota limit grace`, blocks in KiB; other lines are ignored. Pure.

    The limit is the soft one, if any: beyond it only days are left. A long place is on a line of its own.
    """
    place = ""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 1:
            place = fields[0]
            continue
        if len(fields) == COLUMNS + 1:
            place, fields = fields[0], fields[1:]
        numbers = [field.rstrip("*") for field in (*fields[:3], *fields[4:7])]
        if len(fields) != COLUMNS or not place or not all(number.isdecimal() for number in numbers):
            continue
        blocks, soft, hard, files, soft_files, hard_files = map(int, numbers)
        yield Quota(place, KIB * blocks, KIB * (soft or hard), files, soft_files or hard_files)
