"""Packs a source into tars, resuming what an interrupted command left."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.shared.wording import counted
from jobs.commands import writing_to
from jobs.progress import ProgressFile
from jobs.text_rules import TextRules
from tools.common.whole_files import scratch_folder, unmade_if_it_fails
from tools.packing import sources
from tools.packing.loading import Stream, load_ahead
from tools.packing.members import safe_name
from tools.packing.pairs import LeftOut, Source, SourceOptions
from tools.packing.shards import Limits, Shard, write_shard
from tools.packing.summary import no_pairs
from tools.packing.tar_folder import PackPlan, TarFolder

__all__ = ["Packed", "pack_source"]


@dataclass(frozen=True, slots=True)
class Packed:
    """The result of packing a source."""

    folder: TarFolder
    shards: Sequence[Shard]
    left_out: Sequence[LeftOut]
    """Everything that was left out."""
    left_out_of_list: Sequence[LeftOut]
    """The part of it that was known from listing the source."""
    before: bool
    """An earlier command made all tars."""


def pack_source(
    source: str,
    output_dir: Path,
    *,
    limits: Limits,
    workers: int,
    exclude: tuple[str, ...],
    without_text: bool,
    follow_links: bool,
    texts: TextRules,
    subset_ratio: float = 1.0,
) -> Packed:
    """Make the missing tars of `source` in `output_dir`, then their list.

    Raises UsageError if there is no pair in the source, if it is damaged or hostile, or if the folder holds something else;
    InfrastructureError if the machine is at fault or the source changes during the pack.
    """
    folder = TarFolder(output_dir.absolute())
    folder.check_is_free()
    with ExitStack() as stack:
        stack.enter_context(unmade_if_it_fails(folder.state))
        with writing_to(output_dir):
            scratch = stack.enter_context(scratch_folder(folder.state))
        options = SourceOptions(
            exclude=exclude,
            without_text=without_text,
            follow_links=follow_links,
            scratch=scratch,
            texts=texts,
            subset_ratio=subset_ratio,
        )
        found = sources.open_source(source, options)
        plan = PackPlan(
            source=safe_name(found.name),
            fingerprint=found.fingerprint,
            items=found.items_total,
            max_bytes=limits.max_bytes,
            max_clips=limits.max_clips,
            exclude=exclude,
            without_text=without_text,
            subset_ratio=subset_ratio,
            text_keys=texts.keys,
            text_encoding=texts.encoding,
        )
        if not found.items_total:
            raise no_pairs(found, source, found.left_out)
        with writing_to(output_dir):
            folder.freeze(plan)
        shards = folder.finished(plan)
        before = folder.is_listed() and bool(shards) and shards[-1].end == found.items_total
        if not before:
            shards = _write_shards(found, folder, plan, shards, limits, workers)
        left_out = [*found.left_out, *(item for shard in shards for item in shard.left_out)]
        if not any(shard.pairs for shard in shards):
            raise no_pairs(found, source, left_out)
        if not before:
            folder.finish(shards, left_out)
    return Packed(folder, shards, left_out, found.left_out, before)


def _write_shards(
    source: Source, folder: TarFolder, plan: PackPlan, shards: Sequence[Shard], limits: Limits, workers: int
) -> list[Shard]:
    """All shards: the finished ones and those made now."""
    found = list(shards)
    first = found[-1].end if found else 0
    shown = ProgressFile(None, total_bytes=source.bytes_total)
    shown.progress.bytes_done = sum(shard.audio_bytes for shard in found)

    def tell(size: int, seconds: float) -> None:
        shown.progress.clips += 1
        shown.progress.bytes_done += size
        shown.progress.audio_seconds += seconds
        shown.publish()

    with (
        shown.on_terminal("packing"),
        closing(load_ahead(source.items(first), workers)) as loaded,
        closing(Stream(loaded, first)) as stream,
    ):
        while stream.peek() is not None:
            shard = write_shard(stream, folder.tar(plan, len(found)), limits, tell)
            folder.keep(len(found), shard)
            found.append(shard)
    end = found[-1].end if found else 0
    if end != source.items_total:
        raise InfrastructureError(
            f"{source.name}: {counted(source.items_total, 'clip')} were listed and {end:,} came: it has changed meanwhile; "
            "pack it again, into another --output-dir"
        )
    return found
