"""Patterns in list entries: braces as bash and WebDataset expand them, and globs over files.

Braces name files whether or not they exist; globs find existing files.
"""

from __future__ import annotations

import errno
import fnmatch
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from audio_tokenizers.errors import InfrastructureError, UsageError

__all__ = ["LARGEST_EXPANSION", "expand_braces", "find_files", "has_glob", "is_pattern", "matches"]

LARGEST_EXPANSION = 2_000_000
"""Names that one entry may expand to."""
LARGEST_TEXT = 1 << 28
"""Total characters of these names."""
DEEPEST = 50
"""Levels of nested braces."""
NUMBER = "(-?[0-9]{1,18})"
SEQUENCE = re.compile(rf"(?:{NUMBER}\.\.{NUMBER}|([A-Za-z])\.\.([A-Za-z]))(?:\.\.{NUMBER})?")
ESCAPED = ("{", "}", ",")
GLOB = re.compile(r"[*?]|\[!?\]?[^]/]*\]")
NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

log = logging.getLogger("tar2tokens")

Part: TypeAlias = "str | _Choice | _Numbers | _Letters"


@dataclass(frozen=True, slots=True)
class _Numbers:
    """`{000..127}`, `{10..0..-2}`."""

    values: range
    width: int
    """Least number of characters, padded with zeros; 0 if neither end is written with a leading zero."""

    def count(self) -> int:
        return len(self.values)

    def names(self) -> Iterator[str]:
        return (f"{value:0{self.width}d}" if self.width else str(value) for value in self.values)


@dataclass(frozen=True, slots=True)
class _Letters:
    """`{a..e}`."""

    values: range

    def count(self) -> int:
        return len(self.values)

    def names(self) -> Iterator[str]:
        return map(chr, self.values)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Consecutive parts."""

    parts: list[Part] = field(default_factory=list)

    def count(self) -> int:
        total = 1
        for part in self.parts:
            total = min(LARGEST_EXPANSION + 1, total * (1 if isinstance(part, str) else part.count()))
        return total

    def names(self) -> Iterator[str]:
        pools = ([part] if isinstance(part, str) else part.names() for part in self.parts)
        return map("".join, itertools.product(*pools))


@dataclass(frozen=True, slots=True)
class _Choice:
    """`{a,b}`; while it is being read, a group without a comma, too."""

    options: list[_Sequence] = field(default_factory=lambda: [_Sequence()])

    def count(self) -> int:
        return min(LARGEST_EXPANSION + 1, sum(option.count() for option in self.options))

    def names(self) -> Iterator[str]:
        return itertools.chain.from_iterable(option.names() for option in self.options)


def is_pattern(entry: str) -> bool:
    """Whether an entry may expand to names other than itself."""
    return "{" in entry or GLOB.search(entry) is not None


def has_glob(name: str) -> bool:
    """Whether a name with its braces expanded is a glob."""
    return GLOB.search(name) is not None


def expand_braces(text: str, *, keep_backslashes: bool = False) -> list[str]:
    r"""Expand `{a,b}/x-{000..127}.tar` in bash's order; nesting, steps, letters and leading zeros are supported.

    Braces without a comma or `..` and unclosed braces are kept literally; `\{`, `\}` and `\,` stand for the characters
    themselves, or are kept with `keep_backslashes`. Raises UsageError, before it takes memory, for more names than
    LARGEST_EXPANSION.
    """
    tree = _parse(text, keep_backslashes=keep_backslashes)
    count = tree.count()
    if count > LARGEST_EXPANSION or count * len(text) > LARGEST_TEXT:
        most = min(LARGEST_EXPANSION, LARGEST_TEXT // len(text))
        raise UsageError(f"{text[:200]!r} stands for more than {most:,} names, which is more than one entry may")
    return list(tree.names())


def _parse(text: str, *, keep_backslashes: bool) -> _Sequence:
    reader = _Reader()
    characters = iter(text)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            reader.letters.append(following if following in ESCAPED and not keep_backslashes else character + following)
        elif character == "{":
            if len(reader.groups) == DEEPEST:
                raise UsageError(f"{text[:200]!r}: braces are nested more than {DEEPEST} deep")
            reader.open(_Choice())
        elif character == "," and reader.groups:
            reader.end_text()
            reader.groups[-1].options.append(_Sequence())
        elif character == "}" and reader.groups:
            reader.close()
        else:
            reader.letters.append(character)
    return reader.end()


class _Reader:
    """The parser's state: what has been read so far."""

    def __init__(self) -> None:
        self.letters: list[str] = []
        """The current run of literal text."""
        self.groups: list[_Choice] = []
        """Open braces, the innermost last."""
        self._whole = _Sequence()

    def _add(self, parts: Iterable[Part]) -> None:
        here = self.groups[-1].options[-1] if self.groups else self._whole
        here.parts.extend(parts)

    def end_text(self) -> None:
        if self.letters:
            self._add(["".join(self.letters)])
            self.letters.clear()

    def open(self, group: _Choice) -> None:
        self.end_text()
        self.groups.append(group)

    def close(self) -> None:
        self.end_text()
        group = self.groups.pop()
        self._add(_closed(group))

    def end(self) -> _Sequence:
        self.end_text()
        while self.groups:
            group = self.groups.pop()
            self._add(["{", *_as_written(group)])
        return self._whole


def _closed(group: _Choice) -> Sequence[Part]:
    if len(group.options) > 1:
        return [group]
    parts = group.options[0].parts
    if len(parts) == 1 and isinstance(parts[0], str) and (found := _range(parts[0])) is not None:
        return [found]
    return ["{", *parts, "}"]


def _as_written(group: _Choice) -> list[Part]:
    parts = list(group.options[0].parts)
    for option in group.options[1:]:
        parts += [",", *option.parts]
    return parts


def _range(text: str) -> _Numbers | _Letters | None:
    match = SEQUENCE.fullmatch(text)
    if match is None:
        return None
    *ends, first, last, step = match.groups()
    if first is not None:
        return _Letters(_steps(ord(first), ord(last), step))
    padded = any(re.match("-?0[0-9]", end) for end in ends)
    return _Numbers(_steps(int(ends[0]), int(ends[1]), step), max(map(len, ends)) if padded else 0)


def _steps(first: int, last: int, step: str | None) -> range:
    size = abs(int(step or 1)) or 1
    return range(first, last + 1, size) if first <= last else range(first, last - 1, -size)


def find_files(pattern: str) -> list[str]:
    """The files that an absolute glob matches, in any order: `*`, `?`, `[...]`, and `**` for any number of folders.

    As in a shell, only a pattern that begins with a dot matches names that do, and `**` follows no links. A folder without
    read permission is skipped with a warning. Raises InfrastructureError if a folder cannot be read for another reason,
    and UsageError for more files than LARGEST_EXPANSION.
    """
    *folders, last = pattern.split("/")[1:]
    found = ["/"]
    for part in folders:
        found = list(dict.fromkeys(_matches(found, part, _folders_in)))
    if last == "**":
        found, last = list(dict.fromkeys(_matches(found, last, _folders_in))), "*"
    files = list(itertools.islice(dict.fromkeys(_matches(found, last, _files_in)), LARGEST_EXPANSION + 1))
    if len(files) > LARGEST_EXPANSION:
        raise UsageError(f"{pattern!r} matches more than {LARGEST_EXPANSION:,} files: write several globs")
    return files


def matches(pattern: str, path: str) -> bool:
    """Whether find_files(pattern) would return this path if the file existed and its folders were not links."""
    return path.startswith(GLOB.split(pattern, maxsplit=1)[0]) and _fits(pattern.split("/"), path.split("/"))


def _fits(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not (parts and names):
        return not (parts or names)
    part, name = parts[0], names[0]
    hidden = name.startswith(".") and not part.startswith(".")
    if part != "**":
        return fnmatch.fnmatchcase(name, part) and not hidden and _fits(parts[1:], names[1:])
    if len(parts) == 1:
        return not any(name.startswith(".") for name in names)
    return _fits(parts[1:], names) or (not hidden and _fits(parts, names[1:]))


def _matches(folders: Iterable[str], part: str, named: Callable[[str], Iterable[str]]) -> Iterator[str]:
    if part == "**":
        yield from itertools.chain.from_iterable(map(_tree, folders))
    elif has_glob(part):
        fits = re.compile(fnmatch.translate(part)).match
        for folder in folders:
            yield from (_join(folder, name) for name in named(folder) if fits(name) and (name[0] != "." or part[0] == "."))
    else:
        yield from (path for folder in folders if os.path.lexists(path := _join(folder, part)))


def _join(folder: str, name: str) -> str:
    return f"/{name}" if folder == "/" else f"{folder}/{name}"


def _tree(folder: str) -> Iterator[str]:
    """Yield the folder and all folders below it that are neither links nor hidden."""
    waiting = [folder]
    while waiting:
        yield (here := waiting.pop())
        waiting += [entry.path for entry in _entries(here) if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)]


def _folders_in(folder: str) -> list[str]:
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def _files_in(folder: str) -> list[str]:
    return [entry.name for entry in _entries(folder) if not _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a broken link
        return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError:
        log.warning("%s: left out, since it cannot be read: permission denied", folder)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise InfrastructureError(f"{folder}: cannot be searched: {error.strerror}") from error
    return []
