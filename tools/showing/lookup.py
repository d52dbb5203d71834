"""Finds a tar of the run by name or path, and clips by number, name or glob."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.run import ListedTar, Run
from jobs.line_file import good_lines
from jobs.records import Record
from jobs.spec import TokenizeSpec
from jobs.tar_paths import PARTIAL_SUFFIX, TarPaths

__all__ = ["find_tar", "matching", "only_one", "open_lines"]

READ_BYTES = 1 << 20


def find_tar(name: str, run: Run) -> ListedTar:
    """The tar of the run whose output is called `name`; or `name` is the path of the tar or of its output's file."""
    listed = run.listed()
    by_name = {tar.name: tar for tar in listed}
    by_path = {tar.tar: tar for tar in listed}
    bare = name.removesuffix(PARTIAL_SUFFIX).removesuffix(".jsonl")
    in_run = os.path.relpath(Path(bare).resolve(), run.output_dir.resolve())
    path = os.path.normpath(Path(name).absolute())
    found = by_name.get(name) or by_path.get(path) or by_name.get(bare) or by_name.get(in_run)
    if found is None:
        raise UsageError(
            f"{name}: no output of {run.output_dir}: expected the name of one of its {counted(len(listed), 'tar')}"
            f"{_close(bare, list(by_name))}"
        )
    return found


def _close(wanted: str, names: Sequence[str]) -> str:
    """Text with the nearest names, or the first ones: `, such as a, b`."""
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4) or names[:3]
    return f", such as {', '.join(near)}" if near else ""


def open_lines(paths: TarPaths) -> IO[bytes]:
    """The committed file, or else the partial. Raises UsageError if there is neither."""
    for path in (paths.committed, paths.partial, paths.committed):  # again: it may have been committed in between
        with suppress(FileNotFoundError):
            return path.open("rb", buffering=READ_BYTES)
    raise UsageError(f"{paths.name}: not begun yet, so there is nothing to show: see {called('tools.check_progress')}")


def matching(lines: IO[bytes], wanted: Sequence[str], spec: TokenizeSpec) -> Iterator[tuple[int, Record]]:
    """The clips that match `wanted`: indices, names or globs. Raises UsageError at the end if one of these matched none."""
    missing = dict.fromkeys(wanted)
    last = max(map(int, wanted)) if all(map(_is_index, wanted)) else None
    names = []
    for index, (_, record) in enumerate(good_lines(lines, spec.fields)):
        names.append(record.audio_file)
        hits = [word for word in wanted if _matches(word, index, record.audio_file)]
        for word in hits:
            missing.pop(word, None)
        if hits:
            yield index, record
        if index == last:
            break
    for word in missing:
        near = "" if _is_index(word) else _close(word, names)
        raise UsageError(
            f"--clip {word}: {lines.name} has no such clip: expected a number, from 0, or the name of one of its "
            f"{counted(len(names), 'clip')}{near}"
        )


def only_one(found: Sequence[tuple[int, Record]], wanted: Sequence[str]) -> tuple[int, Record]:
    """The clip to hear. Raises UsageError if several match."""
    if len(found) > 1:
        names = " and ".join(f"clip {index} ({record.audio_file})" for index, record in found)
        raise UsageError(f"--listen: expected one clip, found {names} for --clip {' --clip '.join(wanted)}")
    return found[0]


def _is_index(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _matches(word: str, index: int, name: str) -> bool:
    return int(word) == index if _is_index(word) else name == word or fnmatchcase(name, word)
