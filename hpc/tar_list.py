"""Lists of tars: reading what people write, and giving each tar the name of its output."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from audio_tokenizers.errors import UsageError
from jobs.outputs import TarPaths

__all__ = ["name_tars", "read_tar_list"]


def read_tar_list(path: Path) -> list[str]:
    """The tars in a list file: absolute, without blanks, `#` comments and duplicates, in order.

    Relative paths are taken from the current directory, as the shell would, or else from the list's own folder. Raises
    UsageError if the list is missing or holds no tar.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        raise UsageError(f"--list {path}: there is no such file; python -m tools.generate_tar_list makes one") from None
    except OSError as error:
        raise UsageError(f"--list {path}: cannot be read: {error.strerror}") from None
    if "\0" in text:
        raise UsageError(f"--list {path}: expected a text file with a tar per line, found binary data")
    lines = [line.partition("\t")[0].strip() for line in text.splitlines()]  # what follows a tab is for us: see Run
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise UsageError(f"--list {path}: expected a tar per line, found none in {len(lines)} lines")
    return list(dict.fromkeys(_absolute(entry, path) for entry in entries))


def _absolute(entry: str, list_path: Path) -> str:
    tar = Path(entry).expanduser()
    if not tar.is_absolute() and not tar.exists():
        beside = list_path.parent / tar
        if beside.exists():
            tar = beside
    # normpath and not resolve: a name that a site reaches through a link stays the name that people know
    return os.path.normpath(tar.absolute())


def name_tars(tars: Sequence[str], *, keep_dirs: bool, taken: Mapping[str, str]) -> dict[str, str]:
    """Tar -> the name of its output: its stem, or with `keep_dirs` its path below the folder that all share.

    `taken` are names in use, with their tars. Raises UsageError, naming both, where two tars would share a name.
    """
    names: dict[str, str] = {}
    owner = dict(taken)
    shared = _shared_folder([*taken.values(), *tars]) if keep_dirs else None
    for tar in tars:
        path = Path(tar)
        stem = TarPaths.stem(path)
        name = stem if shared is None else (path.parent.relative_to(shared) / stem).as_posix()
        if "\t" in tar or "\n" in tar:
            raise UsageError(f"{tar!r}: names with tabs or newlines are not supported: rename it")
        if name in owner:
            way_out = "they differ in nothing but the suffix: rename one" if keep_dirs else "use --keep-dirs"
            raise UsageError(f"two tars would both become {name}.jsonl: {owner[name]} and {tar}; {way_out}")
        owner[name] = tar
        names[tar] = name
    return names


def _shared_folder(tars: Sequence[str]) -> Path:
    return Path(os.path.commonpath([str(Path(tar).parent) for tar in tars])) if tars else Path("/")
