"""Pairs -> shards: tars of bounded size whose bytes depend on the pairs alone. Each appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from audio_tokenizers.errors import InfrastructureError
from jobs.sidecars import FAULTS_KEY
from jobs.tar_headers import BLOCK
from tools.common.tar_header import tar_header
from tools.common.whole_files import replacing
from tools.packing.loading import Stream
from tools.packing.members import Loaded, member_key, sidecar
from tools.packing.pairs import LeftOut

__all__ = ["Limits", "Shard", "write_shard"]

END_BYTES = 2 * BLOCK
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """When a shard is full."""

    max_bytes: int
    """Of the tar. A larger pair gets a shard of its own."""
    max_clips: int | None = None


class Shard(msgspec.Struct, frozen=True):
    """The record of a finished shard."""

    tar: str
    """File name in the output folder; empty if all items were left out."""
    first: int
    """Number of its first item, from 0."""
    end: int
    """Number of the first item after it."""
    pairs: int
    bytes: int
    audio_bytes: int
    audio_seconds: float
    left_out: list[LeftOut]
    segments: int = 0
    """Number of segments in its clips."""
    segmented: int = 0
    """Clips that have segments."""
    faulty: int = 0
    """Clips with `sidecar_errors` in their JSON: texts that could not be read or kept."""


@dataclass(slots=True)
class _Member:
    name: str
    data: bytes | BinaryIO
    size: int

    @property
    def padding(self) -> int:
        return -self.size % BLOCK


def _members(loaded: Loaded) -> list[_Member]:
    pair = loaded.pair
    key = member_key(pair.id)
    text = sidecar(loaded)
    extension = pair.audio_name.rpartition(".")[2].lower()
    return [_Member(f"{key}.{extension}", pair.audio, pair.size), _Member(f"{key}.json", text, len(text))]


class _Tar:
    """A tar that is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0

    def write(self, members: list[tuple[bytes, _Member]]) -> None:
        for header, member in members:
            self._file.write(header)
            if isinstance(member.data, bytes):
                written = self._file.write(member.data)
            else:
                with member.data as source:
                    shutil.copyfileobj(source, self._file, COPY_BYTES)
                written = self._file.tell() - self.size - len(header)
            self._file.write(bytes(member.padding))
            self.size += len(header) + member.size + member.padding
            if written != member.size:
                raise InfrastructureError(
                    f"{member.name}: its file has changed while it was read: run the same command again"
                )

    def end(self) -> None:
        self._file.write(bytes(END_BYTES))
        self.size += END_BYTES


def write_shard(stream: Stream, path: Path, limits: Limits, tell: Callable[[int, float], None]) -> Shard:
    """Take items from `stream` until the shard is full or the stream ends, and write its pairs to the tar `path`.

    Without pairs there is no tar. The same items give the same bytes. `tell` gets bytes and seconds of each clip's audio.
    """
    first = stream.number
    pairs = audio_bytes = segments = segmented = faulty = 0
    seconds = 0.0
    left_out: list[LeftOut] = []
    tar: _Tar | None = None
    with ExitStack() as stack:
        while (item := stream.peek()) is not None:
            if isinstance(item, LeftOut):
                left_out.append(item)
                stream.advance()
                continue
            members = [(tar_header(member.name, member.size), member) for member in _members(item)]
            size = sum(len(header) + member.size + member.padding for header, member in members)
            if tar is None:
                private = stack.enter_context(replacing(path))
                tar = _Tar(stack.enter_context(private.open("wb", buffering=COPY_BYTES)))
            elif tar.size + size + END_BYTES > limits.max_bytes or pairs == limits.max_clips:
                break
            tar.write(members)
            pairs += 1
            audio_bytes += item.pair.size
            faulty += FAULTS_KEY in (item.pair.metadata or {})
            parts = (item.pair.metadata or {}).get("segments")
            if isinstance(parts, list) and parts:
                segments += len(parts)
                segmented += 1
            seconds += item.seconds
            tell(item.pair.size, item.seconds)
            stream.advance()
        if tar is not None:
            tar.end()
    return Shard(
        tar=path.name if tar is not None else "",
        first=first,
        end=stream.number,
        pairs=pairs,
        bytes=tar.size if tar is not None else 0,
        audio_bytes=audio_bytes,
        audio_seconds=seconds,
        left_out=left_out,
        segments=segments,
        segmented=segmented,
        faulty=faulty,
    )
