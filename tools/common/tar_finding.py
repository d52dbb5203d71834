"""The tars of a folder, and the list of them that hpc.submit takes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from audio_tokenizers.errors import UsageError
from hpc.tar_list import natural_order
from jobs.fileops import FileOps
from jobs.regular_files import kind_of
from jobs.tar_paths import TAR_SUFFIXES, TarPaths
from tools.common.tar_lists import write_where_told

log = logging.getLogger("tar2tokens")


__all__ = ["find_tars", "write_tar_list"]


def find_tars(
    folder: Path, pattern: str | None, prefix: str = "", start: int | None = None, end: int | None = None
) -> list[Path]:
    """Tars below `folder`, sorted, numbers by value.

    `pattern` is a glob such as `*.tar` or `**/*.tar`; without one, every tar directly in the folder. `start` and `end`
    (both included) are compared with the last number in a tar's name; with either, tars without a number are left out.
    """
    if pattern is None:
        found = [path for path in folder.iterdir() if path.name.lower().endswith(TAR_SUFFIXES)]
    else:
        try:
            found = list(set(folder.glob(pattern)))  # `**` may give a file twice
        except (ValueError, NotImplementedError):
            raise UsageError(
                f"--pattern {pattern!r}: expected a glob below the folder, such as '*.tar' or '**/*.tar'"
            ) from None
    named = [path for path in found if path.name.startswith(prefix) and not path.name.startswith("._")]
    kept = [path for path in named if _is_regular(path)]
    if start is not None or end is not None:
        kept = [path for path in kept if _in_range(_number(path), start, end)]
    return sorted(kept, key=lambda path: natural_order(str(path)))


def write_tar_list(path: Path, tars: Iterable[Path], ops: FileOps | None = None) -> None:
    """A list as hpc.submit takes it, of absolute paths. Raises UsageError if it cannot hold the name of a tar."""
    write_where_told(path, b"".join(_line(tar) for tar in tars), ops or FileOps())


def _is_regular(path: Path) -> bool:
    """Whether it is a regular file. Logs what it is instead if it is named like a tar."""
    try:
        found = kind_of(path)
    except OSError as error:
        found = f"a link that leads nowhere ({error.strerror})" if path.is_symlink() else f"unreadable ({error.strerror})"
    if found is not None and path.name.lower().endswith(TAR_SUFFIXES):
        log.warning("left out: %s is %s", path, found)
    return found is None


def _number(path: Path) -> int | None:
    digits = re.findall(r"[0-9]+", TarPaths.stem(path))
    return int(digits[-1]) if digits else None


def _in_range(number: int | None, start: int | None, end: int | None) -> bool:
    return number is not None and (start is None or number >= start) and (end is None or number <= end)


def _line(tar: Path) -> bytes:
    """The tar's line in a list. Raises UsageError if a list cannot hold its name."""
    name = os.path.normpath(tar.absolute())
    try:
        line = name.encode()
    except UnicodeEncodeError:
        line = b"\n"
    if name != name.strip() or any(character in line for character in b"\t\r\n"):
        raise UsageError(f"{name!r}: a list takes names in UTF-8, without tabs, line ends and spaces at the end: rename it")
    return line + b"\n"
