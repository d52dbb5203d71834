"""Archives as sources of pairs: 7z, zip, and tars of files, by the endings of their names.

Each archive is listed and checked before any data is unpacked (tools/packing/archives/safety.py), then read in one pass or
member by member. No file is ever created under a name from an archive.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from audio_tokenizers.errors import UsageError
from tools.packing.archives.listing import ArchiveMember, list_members
from tools.packing.archives.safety import refuse_bomb
from tools.packing.archives.sevenzip import open_sevenzip, require_unpacker
from tools.packing.archives.sevenzip_header import read_sevenzip_list
from tools.packing.archives.shar import SharSource
from tools.packing.archives.shar_archive import ArchivedShards, shards_in
from tools.packing.archives.streamed import OpenData, StreamedSource
from tools.packing.archives.tar_archive import list_tar, open_tar
from tools.packing.archives.volumes import find_volumes, open_volumes, refuse_missing_end
from tools.packing.archives.zip_archive import ZipSource, list_zip, open_zip
from tools.packing.folder import read_trouble
from tools.packing.pairs import Source, SourceOptions

__all__ = ["ARCHIVE_ENDINGS", "ending_of", "open_archive", "open_archive_of_volumes"]

SEVENZIP, ZIP = ".7z", ".zip"
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
ARCHIVE_ENDINGS = (SEVENZIP, ZIP, *TARS)


def ending_of(path: Path) -> str | None:
    """The one of `ARCHIVE_ENDINGS` that a file's name has, in any case."""
    name = path.name.lower()
    return max((ending for ending in ARCHIVE_ENDINGS if name.endswith(ending)), key=len, default=None)


def open_archive_of_volumes(first: Path, options: SourceOptions) -> Source:
    """List a 7z in volumes, given the first. Raises UsageError as `open_archive` does, and where a volume is missing."""
    _keep_from_indexing(options.scratch, sys.platform)
    try:
        volumes = find_volumes(first)
        refuse_missing_end(volumes)
        return _open_sevenzip(first, first.name.rpartition(".")[0][: -len(SEVENZIP)], options, volumes)
    except OSError as error:
        raise read_trouble(error.filename or first, error) from error


def open_archive(path: Path, options: SourceOptions) -> Source:
    """List an archive. Raises UsageError if it is damaged, hostile, encrypted, or not what its name says."""
    ending = ending_of(path)
    if ending is None:
        raise UsageError(f"{path}: expected a name that ends with {', '.join(ARCHIVE_ENDINGS)}, found {path.suffix!r}")
    _keep_from_indexing(options.scratch, sys.platform)
    name = path.name[: -len(ending)]
    try:
        if ending == ZIP:
            return _open_zip(path, name, options)
        return _open_sevenzip(path, name, options, [path]) if ending == SEVENZIP else _open_tar(path, name, options)
    except OSError as error:
        raise read_trouble(path, error) from error


def _open_tar(path: Path, name: str, options: SourceOptions) -> Source:
    members, tables = list_tar(path)
    return _streamed(path, name, members, partial(open_tar, path, members), tables, options)


def _open_zip(path: Path, name: str, options: SourceOptions) -> Source:
    listed = list_zip(path)
    if shards := shards_in(path, listed.members):
        files = ArchivedShards(path, listed.members, shards, partial(open_zip, path, listed), options.scratch, {})
        return SharSource(name, files, shards, options)
    return ZipSource(path, name, options, listed)


def _streamed(
    path: Path,
    name: str,
    members: Sequence[ArchiveMember],
    open_data: OpenData,
    tables: Mapping[int, bytes],
    options: SourceOptions,
) -> Source:
    if shards := shards_in(path, members):
        files = ArchivedShards(path, members, shards, open_data, options.scratch, tables)
        return SharSource(name, files, shards, options)
    listing = list_members(path, members, options)
    return StreamedSource(path, name, listing, open_data, options.scratch, tables, options.texts)


def _open_sevenzip(path: Path, name: str, options: SourceOptions, volumes: Sequence[Path]) -> Source:
    with open_volumes(volumes) as file:
        members = read_sevenzip_list(path, file)
    refuse_bomb(path, sum(volume.stat().st_size for volume in volumes), sum(member.size for member in members))
    program = require_unpacker(path)
    open_data = partial(open_sevenzip, volumes, members, program=program, scratch=options.scratch)
    return _streamed(path, name, members, open_data, {}, options)


def _keep_from_indexing(scratch: Path, platform: str) -> None:
    """Keep Spotlight from reading the files there, which it would hold open."""
    if platform == "darwin":
        (scratch / ".metadata_never_index").touch()
