"""Lists of tars: read the user's list files, and name each tar's output."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.list_patterns import LARGEST_EXPANSION, expand_braces, find_files, has_glob, is_pattern, matches
from jobs.addresses import check_address, is_address, is_pipe, place_of, scheme_of
from jobs.regular_files import refuse_irregular
from jobs.remote_files import missing_packages
from jobs.remote_tar import RemoteTar
from jobs.tar_paths import TarPaths

__all__ = ["name_tars", "natural_order", "read_tar_list", "shorten"]

NAMES_SHOWN = 20
MEND = "correct the list"
LISTED_SCHEMES = ("s3", "hf")
"""Schemes of addresses whose servers can list files, which globs need."""
TRIES = 5
"""Few, because the user is waiting."""

log = logging.getLogger("tar2tokens")


def read_tar_list(
    path: Path,
    *,
    known: Collection[str] = (),
    skip_missing: bool = False,
    look_at_rest: Callable[[list[str]], Iterable[str]] = lambda _tars: (),
) -> list[str]:
    """The tars in a list file: absolute, without blanks, `#` comments and duplicates, in order.

    Relative paths are resolved against the current directory, as in a shell, or else against the list's own folder. Braces
    and globs are expanded (hpc/list_patterns.py), the matches of one glob in natural order. The name of an existing file or
    of a tar `known` to the run is taken literally, and a glob still matches known tars that it once found. Raises
    UsageError if the list is missing or holds no tar, if a line cannot be read, and if a glob matches nothing, which
    `skip_missing` turns into a warning. The error names every such line, and the faults that `look_at_rest` finds in the
    other tars.
    """
    lines = _lines(path)
    entries = [(number, entry) for number, line in enumerate(lines, 1) if (entry := _entry(line))]
    if not entries:
        raise UsageError(f"--list {path}: expected a tar per line, found none in {counted(len(lines), 'line')}")
    found: list[str] = []
    refused: list[str] = []
    vain: list[str] = []
    taken = frozenset(known)
    for number, entry in entries:
        try:
            names = _names(entry, path, taken)
            if len(found) + len(names) > len(entries) + LARGEST_EXPANSION:
                raise UsageError(f"with {entry[:200]!r} the list stands for more than {LARGEST_EXPANSION:,} tars")
            for name in names:
                tars = _tars(name, path, taken)
                found += tars
                vain += [] if tars else [f"  line {number}: {name}"]
        except UsageError as error:
            refused.append(f"line {number}: {error}")
    tars = list(dict.fromkeys(found))
    words = "\n".join(["nothing matches", *shorten(vain, indent="  ")]) if vain else ""
    if refused or (vain and not (skip_missing and tars)):
        faults = [*shorten(refused), *([words] if words else []), *look_at_rest(tars)]
        advice = [MEND if refused else f"{MEND}, or go on without: --skip-missing"] if len(faults) > len(refused[:1]) else []
        raise UsageError("\n".join([f"--list {path}: {faults[0]}", *faults[1:], *advice]))
    if vain:
        log.warning("--skip-missing: --list %s: %s\nleft out", path, words)
    if len(tars) < len(found):
        log.warning("--list %s: names %d of its tars more than once; each is taken once", path, len(found) - len(tars))
    return tars


def shorten(faults: Sequence[str], *, indent: str = "") -> list[str]:
    """The first few faults, and the number of the rest."""
    rest = len(faults) - NAMES_SHOWN
    return [*faults[:NAMES_SHOWN], *([f"{indent}and {rest:,} more"] if rest > 0 else [])]


def _names(entry: str, path: Path, known: Collection[str]) -> list[str]:
    """The entry with its braces expanded, unless it is literally the name of a tar."""
    as_it_is = not is_pattern(entry) or _is_tar(entry, path, known)
    names = [entry] if as_it_is else expand_braces(entry, keep_backslashes=is_pipe(entry))
    if is_address(entry):
        for name in names:
            check_address(name)
    return names


def _tars(name: str, path: Path, known: Collection[str]) -> list[str]:
    """The tars that a name without braces matches."""
    if is_address(name):
        return _addresses(name, known)
    return _files(name, path, known) if has_glob(name) and not _is_tar(name, path, known) else [_absolute(name, path)]


def _addresses(name: str, known: Collection[str]) -> list[str]:
    """The matches of a glob at an address, if its server can list files; otherwise the address itself."""
    scheme = scheme_of(name) or ""
    if scheme not in LISTED_SCHEMES or not has_glob(name) or name in known:
        return [name]
    if words := missing_packages({scheme}):
        raise UsageError(words)
    found = {*RemoteTar(name, tries=TRIES).matches(), *(tar for tar in known if matches(name, tar))}
    return sorted(map(_listable, found), key=natural_order)


def _is_tar(name: str, list_path: Path, known: Collection[str]) -> bool:
    """Whether a tar with exactly this name exists or is known to the run."""
    if is_address(name):
        return name in known
    absolute = _absolute(name, list_path)
    return absolute in known or os.path.lexists(absolute)


def _files(glob: str, list_path: Path, known: Collection[str]) -> list[str]:
    """A glob's matches, in the current directory or else in the list's own folder; `known` tars match even when gone."""
    glob = str(Path(glob).expanduser()) if glob.startswith("~/") else glob
    for folder in dict.fromkeys((Path.cwd(), list_path.parent.absolute())):
        pattern = os.path.normpath(folder / glob)
        if files := {*find_files(pattern), *(tar for tar in known if matches(pattern, tar))}:
            return sorted(map(_listable, files), key=natural_order)
    return []


def _listable(name: str) -> str:
    """Return the name. Raises UsageError if a list cannot hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name!r}: names of tars must be UTF-8: rename it") from None
    if name != name.strip() or any(character in name for character in "\t\r\n"):
        raise UsageError(f"{name!r}: a list takes names without tabs, line ends and spaces at the end: rename it")
    return name


def _lines(path: Path) -> list[str]:
    try:
        refuse_irregular(path, "a text file with a tar per line")
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"--list {path}: there is no such file; {called('tools.generate_tar_list')} makes one") from None
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
    # not splitlines(): a name may hold characters that are line ends in Unicode only
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _entry(line: str) -> str:
    """The tar that a line names, without a tab and what follows it: in a run's own list (see Run) the output's name."""
    entry = line.partition("\t")[0].strip()
    return "" if entry.startswith("#") else entry


def _absolute(entry: str, list_path: Path) -> str:
    if entry.startswith("/"):
        return os.path.normpath(entry)
    tar = Path(entry)
    if entry.startswith("~/"):
        tar = tar.expanduser()
    if not tar.is_absolute() and not _exists(tar):
        beside = list_path.parent / tar
        if _exists(beside):
            tar = beside
    # normpath(), not resolve(): a path through a link keeps the name that users know
    return os.path.normpath(tar.absolute())


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except OSError:  # Path.exists() would raise some of these, such as ENAMETOOLONG
        return False
    return True


def natural_order(name: str) -> tuple[list[int | str], str]:
    """Sort key: `2.tar` before `10.tar`; ties are broken by the text, `01.tar` before `1.tar`."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def name_tars(tars: Sequence[str], *, keep_dirs: bool, taken: Mapping[str, str]) -> dict[str, str]:
    """Tar -> the name of its output: its stem, or with `keep_dirs` its path below the common folder.

    `taken` are names in use, with their tars: they do not change when the list grows. Raises UsageError that names every two
    tars that would share a name.
    """
    names: dict[str, str] = {}
    refused: list[str] = []
    owner = dict(taken)
    shared = _shared_folder([*taken.values(), *tars]) if keep_dirs else None
    for tar in tars:
        if "\t" in tar or "\n" in tar:
            refused.append(f"{tar!r}: names with tabs or newlines are not supported: rename it")
            continue
        path = place_of(tar)
        name = TarPaths.stem(path) if shared is None else _name_below(shared, tar, owner)
        if name in owner:
            way_out = "rename one, or use another --output-dir" if keep_dirs else "use --keep-dirs"
            if _same_but_suffix(owner[name], tar):
                way_out = "they differ in nothing but the suffix: rename one"
            refused.append(f"two tars would both become {name}.jsonl: {owner[name]} and {tar}; {way_out}")
            continue
        owner[name] = tar
        names[tar] = name
    if refused:
        raise UsageError("\n".join(shorten(refused)))
    return names


def _name_below(shared: Path, tar: str, owner: Mapping[str, str]) -> str:
    """The tar's path below `shared`, or below its nearest ancestor that makes the name unique.

    When a list has grown from `d/a` to `d`, `d/a/1.tar` is already named `1`, and `d/1.tar` must become `d/1`.
    """
    path = place_of(tar)
    for above in (shared, *shared.parents):
        name = (path.parent.relative_to(above) / TarPaths.stem(path)).as_posix()
        if name not in owner or _same_but_suffix(owner[name], tar):
            break
    return name


def _same_but_suffix(one: str, other: str) -> bool:
    first, second = place_of(one), place_of(other)
    return (first.parent, TarPaths.stem(first)) == (second.parent, TarPaths.stem(second))


def _shared_folder(tars: Sequence[str]) -> Path:
    return Path(os.path.commonpath([str(place_of(tar).parent) for tar in tars])) if tars else Path("/")
