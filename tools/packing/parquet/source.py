"""Parquet files with an Audio column as a data set for tools.pack. No byte of audio is changed."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audio_tokenizers.errors import UsageError
from hpc.tar_list import natural_order
from jobs.text_encoding import TextDecoder
from tools.packing.boundary import Boundary, refuse_links
from tools.packing.pairs import Item, LeftOut, Pair, Source, SourceOptions, is_excluded, is_outside
from tools.packing.parquet.forms import is_bytes
from tools.packing.parquet.rows import (
    BATCH_ROWS,
    BUFFER_BYTES,
    ID_COLUMNS,
    Columns,
    as_pair,
    bare_name,
    batches,
    find_columns,
    path_of,
    reading,
)

__all__ = ["SPLIT", "ParquetSource", "open_parquet"]

SHARD = re.compile(r"(?P<split>.+?)-[0-9]+-of-[0-9]+(-[0-9a-f]+)?")
SPLIT = re.compile(r"(train|test|val|dev|eval)(ing|idation|idated|id|uation)?([^a-z].*)?", re.IGNORECASE)
MOST_REPEATS = 0.1
"""Share of rows; if more of them repeat an earlier path, such as `audio.wav`, paths are not used as names."""
ROWS_AT_A_TIME = 1 << 16


@dataclass(frozen=True, slots=True)
class _Shard:
    """One Parquet file, known from its footer."""

    path: Path
    name: str
    split: str | None
    columns: Columns
    rows: int
    audio_bytes: int
    footer: str
    """Hash of the footer, which describes the data: types, sizes and offsets."""
    first: int
    """The number of its first row in the data set."""
    prefix: str
    """Prefix of the ids of rows without a name."""
    first_of_prefix: int
    """The number of its first row among those of this prefix."""


@dataclass(frozen=True, slots=True)
class _Naming:
    """The source of row ids: a column, else the audio's path, else numbers."""

    column: str | None
    by_path: bool
    by_split: bool
    """There are several splits, and each has paths of its own."""

    def clip(self, shard: _Shard, row: int, value: object, path: str | None) -> str:
        """The id of row `row` of the shard."""
        if self.column is not None:
            return str(value)
        name = bare_name(path) if self.by_path and path else ""
        if not name:
            return f"{shard.prefix}-{shard.first_of_prefix + row:09}"
        return f"{shard.prefix}/{name}" if self.by_split else name


class ParquetSource:
    """Rows in order of file names, then of rows in the file."""

    def __init__(
        self,
        named: Iterable[tuple[Path, str]],
        name: str,
        options: SourceOptions,
        locate: Callable[[Path, str], Path | None],
    ) -> None:
        """`named`: (file, its name in the data set). `locate`: (file, path in it) -> path of that audio."""
        shards = _open_shards(named, options)
        self.name = name
        self.items_total = sum(shard.rows for shard in shards)
        self.bytes_total = sum(shard.audio_bytes for shard in shards)
        self.left_out: Sequence[LeftOut] = ()
        self.found = Counter({".parquet": len(shards), "rows": self.items_total})
        self._shards, self._options, self._locate = shards, options, locate
        digest = hashlib.sha256()
        for shard in shards:
            digest.update(f"{shard.name}\0{shard.path.stat().st_size}\0{shard.rows}\0{shard.footer}\n".encode())
        self.fingerprint = digest.hexdigest()
        self._naming, self._repeated = _naming(shards)
        self._decoder = TextDecoder(options.texts.encoding, self._texts)

    def items(self, start: int) -> Iterator[Item]:
        """Rows from number `start` on."""
        for shard in self._shards:
            if shard.first + shard.rows > start:
                for row, batch in batches(shard.path, shard.columns, max(0, start - shard.first)):
                    for index in range(batch.num_rows):
                        yield functools.partial(self._item, shard, row + index, batch, index)

    def _item(self, shard: _Shard, row: int, batch: pa.RecordBatch, index: int) -> Pair | LeftOut:
        column = self._naming.column
        try:
            audio = batch.column(shard.columns.audio)[index]
            path = path_of(shard.columns, audio)
            clip = self._naming.clip(shard, row, column and batch.column(column)[index].as_py(), path)
        except UnicodeDecodeError as error:
            return LeftOut("unreadable_text", f"{shard.name}, row {row}", f"expected UTF-8, found {error.object[:20]!r}")
        if any(is_excluded(name, self._options.exclude) for name in (clip, path) if name):
            return LeftOut("excluded", clip)
        if is_outside(clip, self._options):
            return LeftOut("outside_subset", clip)
        if shard.first + row in self._repeated:
            return LeftOut("duplicate", clip, f"{shard.name}, row {row}: an earlier row has this id")
        return as_pair(
            shard.columns,
            batch,
            index,
            clip=clip,
            id_column=column,
            split=shard.split,
            locate=functools.partial(self._locate, shard.path),
            without_text=self._options.without_text,
            decode=self._decoder.decode,
        )

    def _texts(self) -> Iterator[bytes]:
        """The texts in columns of bytes: only these may have other encodings; strings are UTF-8."""
        for shard in self._shards:
            with reading(shard.path), pq.ParquetFile(shard.path, buffer_size=BUFFER_BYTES) as file:
                texts = [name for name in (shard.columns.text, shard.columns.record) if name is not None]
                names = [name for name in texts if is_bytes(file.schema_arrow.field(name).type)]
                for batch in file.iter_batches(BATCH_ROWS, columns=names) if names else ():
                    yield from (value for column in batch.columns for value in column.to_pylist() if value is not None)


def open_parquet(paths: Sequence[Path], name: str, options: SourceOptions) -> Source:
    """Local Parquet files in natural order. Audio that is only named is beside its file.

    Raises UsageError if one is no Parquet file, or has no Audio column or no text.
    """
    base = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    named = [(path, path.absolute().relative_to(base).as_posix()) for path in paths]
    return ParquetSource(named, name, options, functools.partial(_locate, follow_links=options.follow_links))


_boundary = functools.lru_cache(Boundary)


def _locate(shard: Path, audio: str, *, follow_links: bool) -> Path | None:
    """The file that a row names. Raises UsageError if a relative path leads out of the shard's folder by a link.

    As in a manifest, absolute paths and those with `..` are followed: they are explicit.
    """
    found = shard.parent / audio
    try:
        if follow_links or not found.is_file():
            return found
    except ValueError:  # a zero byte in its name
        return None
    target = None if audio.startswith("/") else _boundary(shard.parent).outside(str(found.absolute()))
    refuse_links(shard, {} if target is None else {audio: target})
    return found


def _open_shards(named: Iterable[tuple[Path, str]], options: SourceOptions) -> list[_Shard]:
    shards: list[_Shard] = []
    rows_of: Counter[str] = Counter()
    total = 0
    for path, name in sorted(named, key=lambda item: natural_order(item[1])):
        with reading(path), pq.ParquetFile(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        columns = find_columns(schema, str(path), text_keys=options.texts.keys, without_text=options.without_text)
        chunks = (group.column(number) for group in groups for number in range(group.num_columns))
        size = sum(chunk.total_uncompressed_size for chunk in chunks if _is_at(columns, chunk.path_in_schema))
        split = _split_of(name)
        prefix = split or path.stem
        shards.append(
            _Shard(path, name, split, columns, metadata.num_rows, size, _footer(path), total, prefix, rows_of[prefix])
        )
        rows_of[prefix] += metadata.num_rows
        total += metadata.num_rows
    return shards


def _is_at(columns: Columns, path: str) -> bool:
    return path == columns.data_leaf or path.startswith(f"{columns.data_leaf}.")


def _footer(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        file.seek(-8 - int.from_bytes(file.read(4), "little"), os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest()


def _split_of(name: str) -> str | None:
    """`train` of `data/train-00000-of-00002.parquet`, `train.parquet` and `default/train/0000.parquet`."""
    path = PurePosixPath(name)
    if (shard := SHARD.fullmatch(path.stem)) is not None:
        return shard["split"]
    stem = re.sub(r"[-_.]?[0-9]+$", "", path.stem)
    return next((word for word in (stem, path.parent.name) if SPLIT.fullmatch(word)), None)


def _naming(shards: Sequence[_Shard]) -> tuple[_Naming, frozenset[int]]:
    """How rows are named, and the numbers of rows that repeat an earlier name. Reads ids and paths, no audio."""
    for column in (name for name in ID_COLUMNS if all(name in shard.columns.ids for shard in shards)):
        naming = _Naming(column, by_path=False, by_split=False)
        if _repeated(naming, shards) == frozenset():
            return naming, frozenset()
    naming = _Naming(None, by_path=True, by_split=len({shard.split for shard in shards}) > 1)
    repeated = _repeated(naming, shards)
    if repeated is not None and len(repeated) <= MOST_REPEATS * sum(shard.rows for shard in shards):
        return naming, repeated
    return _Naming(None, by_path=False, by_split=False), frozenset()


def _repeated(naming: _Naming, shards: Sequence[_Shard]) -> frozenset[int] | None:
    """Rows that repeat an earlier id; None if some row has no id.

    Compared by hash: 16 bytes of memory per row.
    """
    parts: list[bytes] = []
    for shard in shards:
        row = 0
        for values in _read_names(shard, naming.column):
            if naming.column is not None and not all(value not in {None, ""} for value in values):
                return None
            clips = (naming.clip(shard, row + number, value, value) for number, value in enumerate(values))
            parts.append(b"".join(hashlib.blake2b(clip.encode(), digest_size=16).digest() for clip in clips))
            row += len(values)
    hashes = np.frombuffer(b"".join(parts), np.uint64).reshape(-1, 2)
    order = np.lexsort(hashes.T)  # stable: the first of equal ones stays the first
    same = (hashes[order[1:]] == hashes[order[:-1]]).all(axis=1)
    return frozenset(order[1:][same].tolist())


def _read_names(shard: _Shard, column: str | None) -> Iterator[list[Any]]:
    """The values of a column, or else the audio's paths, in batches of rows."""
    if column is None and not shard.columns.has_paths:
        yield from ([None] * min(ROWS_AT_A_TIME, shard.rows - row) for row in range(0, shard.rows, ROWS_AT_A_TIME))
        return
    leaf = column or f"{shard.columns.audio}.path"
    with reading(shard.path), pq.ParquetFile(shard.path, buffer_size=BUFFER_BYTES) as file:
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=[leaf]):
            values = batch.column(0)
            try:
                yield (values if column else pc.struct_field(values, "path")).to_pylist()
            except UnicodeDecodeError as error:
                raise UsageError(f"{shard.path}: {leaf}: expected UTF-8, found {error.object[:20]!r}") from error
