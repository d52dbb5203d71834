"""Manifests whose lines name parts of files by `offset` and `duration` (NeMo's): a file becomes one clip with segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from jobs.segments import is_open_end
from tools.packing.layouts.long_recordings import segment
from tools.packing.layouts.row_store import RowStore
from tools.packing.layouts.table_lines import representable
from tools.packing.layouts.tree import split_name
from tools.packing.manifests.rows import Row, Rows
from tools.packing.pairs import LeftOut

__all__ = ["PartsFoundError", "only_whole_files", "recordings_of"]


class PartsFoundError(Exception):
    """A line of a manifest names a part of a file."""


def only_whole_files(rows: Rows) -> Rows:
    """The same rows. Raises PartsFoundError at the first that is a part of a file."""

    def checked() -> Iterator[Row | LeftOut]:
        for row in rows():
            if not isinstance(row, LeftOut) and row.is_part:
                raise PartsFoundError
            yield row

    return checked


def recordings_of(rows: Rows, scratch: Path, faults: list[LeftOut]) -> Rows:
    """One row per file that has parts, at its first part's place, with the parts as segments in the manifest's order.

    All lines of such a file are parts, also one whose offset is 0. Each reading adds the bad parts to `faults`.
    """

    def joined() -> Iterator[Row | LeftOut]:
        faults.clear()
        of_parts = {row.audio for row in rows() if not isinstance(row, LeftOut) and row.is_part}
        parts = RowStore(scratch)
        for row in rows():
            if not isinstance(row, LeftOut) and row.audio in of_parts:
                made = _part(row)
                if isinstance(made, str):
                    faults.append(LeftOut("unreadable_text", row.id, f"{row.where}: {made}"))
                else:
                    parts.add(row.audio, msgspec.json.encode(made))
        for row in rows():
            if isinstance(row, LeftOut) or row.audio not in of_parts:
                yield row
            elif found := parts.take(row.audio):
                segments = [msgspec.json.decode(part) for part in found]
                yield replace(
                    row, id=split_name(row.audio_name)[0], text=None, language=None, metadata={"segments": segments}
                )

    return joined


def _part(row: Row) -> dict[str, object] | str:
    """The segment of a line, or an error message."""
    said: dict[str, Any] = representable(row.metadata or {})
    start, duration = said.pop("offset", None) or 0.0, said.pop("duration", None)
    goes_on = is_open_end(duration) or duration == 0  # NeMo's meaning
    number = isinstance(duration, int | float) and not isinstance(duration, bool)
    if not isinstance(start, int | float) or not (goes_on or number):
        return f"expected `offset` and `duration` in seconds, found {start!r:.40} and {duration!r:.40}"
    more = {"text": row.text} if row.text is not None else {}
    more |= {"language": row.language} if row.language is not None else {}
    more |= {"id": row.id} if row.id != split_name(row.audio_name)[0] else {}
    return segment({**said, **more, "start": start, "end": None if goes_on else round(start + duration, 6)})
