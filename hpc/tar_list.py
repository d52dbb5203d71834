"""Lists of tars: reading what people write, and giving each tar the name of its output."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from audio_tokenizers.errors import UsageError
from audio_tokenizers.words import counted
from jobs.outputs import TarPaths
from jobs.regular_files import refuse_irregular

__all__ = ["name_tars", "natural_order", "read_tar_list"]

log = logging.getLogger("tar2tokens")


def read_tar_list(path: Path) -> list[str]:
    """The tars in a list file: absolute, without blanks, `#` comments and duplicates, in order.

    Relative paths are taken from the current directory, as the shell would, or else from the list's own folder. Raises
    UsageError if the list is missing or holds no tar.
    """
    lines = _lines(path)
    entries = [entry for line in lines if (entry := _entry(line))]
    if not entries:
        raise UsageError(f"--list {path}: expected a tar per line, found none in {counted(len(lines), 'line')}")
    tars = list(dict.fromkeys(_absolute(entry, path) for entry in entries))
    if len(tars) < len(entries):
        log.warning("--list %s: names %d of its tars more than once; each is taken once", path, len(entries) - len(tars))
    return tars


def _lines(path: Path) -> list[str]:
    try:
        refuse_irregular(path, "a text file with a tar per line")
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"--list {path}: there is no such file; python -m tools.generate_tar_list makes one") from None
    except UsageError as error:
        raise UsageError(f"--list {error}; put the names into a file") from None
    except OSError as error:
        raise UsageError(f"--list {path}: cannot be read: {error.strerror}") from None
    if b"\0" in data:
        raise UsageError(f"--list {path}: expected a text file with a tar per line, found binary data")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"--list {path}: line {number} is not UTF-8, which names of tars must be: rename it") from None
    # not splitlines: a name may hold what Unicode, but no file system, takes for the end of a line
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _entry(line: str) -> str:
    """The tar that a line names; what follows a tab is the name of its output in a run's own list (see Run)."""
    entry = line.partition("\t")[0].strip()
    return "" if entry.startswith("#") else entry


def _absolute(entry: str, list_path: Path) -> str:
    tar = Path(entry)
    if entry.startswith("~/"):
        tar = tar.expanduser()
    if not tar.is_absolute() and not _exists(tar):
        beside = list_path.parent / tar
        if _exists(beside):
            tar = beside
    # normpath and not resolve: a name that a site reaches through a link stays the name that people know
    return os.path.normpath(tar.absolute())


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except OSError:  # Path.exists would raise some of them, such as that a name is too long
        return False
    return True


def natural_order(name: str) -> tuple[list[int | str], str]:
    """What to sort by: `2.tar` before `10.tar`; `01.tar` before `1.tar`, always."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def name_tars(tars: Sequence[str], *, keep_dirs: bool, taken: Mapping[str, str]) -> dict[str, str]:
    """Tar -> the name of its output: its stem, or with `keep_dirs` its path below the folder that all share.

    `taken` are names in use, with their tars: they stay what they are when the list grows. Raises UsageError, naming both,
    where two tars would share a name.
    """
    names: dict[str, str] = {}
    owner = dict(taken)
    shared = _shared_folder([*taken.values(), *tars]) if keep_dirs else None
    for tar in tars:
        if "\t" in tar or "\n" in tar:
            raise UsageError(f"{tar!r}: names with tabs or newlines are not supported: rename it")
        path = Path(tar)
        name = TarPaths.stem(path) if shared is None else _name_below(shared, path, owner)
        if name in owner:
            way_out = "rename one, or use another --output-dir" if keep_dirs else "use --keep-dirs"
            if _same_but_suffix(owner[name], tar):
                way_out = "they differ in nothing but the suffix: rename one"
            raise UsageError(f"two tars would both become {name}.jsonl: {owner[name]} and {tar}; {way_out}")
        owner[name] = tar
        names[tar] = name
    return names


def _name_below(shared: Path, tar: Path, owner: Mapping[str, str]) -> str:
    """The tar's path below `shared`, or below the nearest folder above it that gives a name which no other tar has.

    A list that grew from `d/a` to `d` has named `d/a/1.tar` just `1`, so `d/1.tar` has to become `d/1`.
    """
    for above in (shared, *shared.parents):
        name = (tar.parent.relative_to(above) / TarPaths.stem(tar)).as_posix()
        if name not in owner or _same_but_suffix(owner[name], str(tar)):
            break
    return name


def _same_but_suffix(one: str, other: str) -> bool:
    first, second = Path(one), Path(other)
    return (first.parent, TarPaths.stem(first)) == (second.parent, TarPaths.stem(second))


def _shared_folder(tars: Sequence[str]) -> Path:
    return Path(os.path.commonpath([str(Path(tar).parent) for tar in tars])) if tars else Path("/")
