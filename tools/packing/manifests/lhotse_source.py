"""lhotse's manifests as a source: the audio is wherever they point, seldom beside them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from tools.packing.boundary import Boundary, refuse_links
from tools.packing.folder import read_trouble
from tools.packing.layouts.lhotse import is_lhotse_table, read_lhotse, with_partners
from tools.packing.layouts.table_lines import TableDecoder
from tools.packing.layouts.tables import Reading
from tools.packing.manifests.rows import Row
from tools.packing.manifests.source import ManifestSource
from tools.packing.pairs import LeftOut, SourceOptions

__all__ = ["open_lhotse", "open_lhotse_file"]


def open_lhotse_file(path: Path, options: SourceOptions) -> ManifestSource:
    """One manifest and its partners beside it: `x_supervisions_dev.jsonl.gz` for `x_recordings_dev.jsonl.gz`."""
    try:
        there = [entry.name for entry in path.parent.iterdir() if is_lhotse_table(entry.name)]
    except OSError as error:
        raise read_trouble(path.parent, error) from error
    tables = {name: path.parent / name for name in with_partners(path.name, there)}
    return open_lhotse(tables, path.parent, path.name.partition(".")[0], options)


def _audio_name(home: str, path: str) -> str:
    """A path as a name: relative to the manifests' folder if it is below, else without its root."""
    whole = posixpath.normpath(posixpath.join(home, path))
    return whole.removeprefix(f"{home}/").lstrip("/")


def open_lhotse(tables: Mapping[str, Path], home: Path, name: str, options: SourceOptions) -> ManifestSource:
    """Manifests by their names below `home`. Relative paths in them start there, or else in the current folder.

    Raises UsageError if one is damaged, or a link leads out of `home`.
    """
    if not options.follow_links:
        boundary = Boundary(home)
        targets = {table: boundary.outside(str(path.absolute())) for table, path in tables.items()}
        refuse_links(home, {table: target for table, target in targets.items() if target is not None})
    faults: list[LeftOut] = []
    below = str(home.absolute())

    def open_table(table: str) -> BinaryIO:
        try:
            return tables[table].open("rb")
        except OSError as error:
            raise read_trouble(tables[table], error) from error

    decoder = TableDecoder(open_table, sorted(tables), options.texts.encoding)

    def rows() -> Iterator[Row]:
        faults.clear()
        for found in read_lhotse(sorted(tables), Reading(open_table, options.scratch, (), decoder=decoder)):
            if isinstance(found, LeftOut):
                faults.append(found)
                continue
            said = found.said
            yield Row(
                found.id, found.path, _audio_name(below, found.path), said.text, found.where, said.language, said.metadata
            )

    source = ManifestSource(name, below, rows, options)
    source.left_out = (*source.left_out, *faults)
    return source
