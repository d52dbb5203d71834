"""python -m tools.pack: a data set of whatever form -> tars of audio with a .json beside each clip, and the list of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.wording import counted, size_words
from jobs.commands import AUDIO, WHAT, WHERE, Verbose, parse_size, run_command, setup_logging, writing_to
from jobs.plain_text import plain, warn
from jobs.progress import ProgressFile
from jobs.text_encoding import AUTO, check_encoding
from jobs.text_rules import TEXT_KEYS, TextRules, check_text_keys
from tools.generate_tar_list import write_tar_list

if TYPE_CHECKING:
    from tools.packing.pairs import LeftOut, Source
    from tools.packing.shards import Limits, Shard
    from tools.packing.tar_folder import PackPlan, TarFolder

__all__ = ["pack"]

WORKERS = 4
EXAMPLES = 3
LINES_NAMED = 20
SMALLEST = 10 << 10


def _write_shards(
    source: Source, folder: TarFolder, plan: PackPlan, shards: Sequence[Shard], limits: Limits, workers: int
) -> list[Shard]:
    """The shards that stand, with those that were missing."""
    from tools.packing.loading import Stream, load_ahead
    from tools.packing.shards import write_shard

    found = list(shards)
    first = found[-1].end if found else 0
    told = ProgressFile(None, total_bytes=source.bytes_total)
    told.progress.bytes_done = sum(shard.audio_bytes for shard in found)

    def tell(size: int, seconds: float) -> None:
        told.progress.clips += 1
        told.progress.bytes_done += size
        told.progress.audio_seconds += seconds
        told.publish()

    with told.on_terminal("packing"), closing(load_ahead(source.items(first), workers)) as loaded:
        stream = Stream(loaded, first)
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


def _summary(folder: TarFolder, shards: Sequence[Shard], left_out: Sequence[LeftOut]) -> str:
    tars = [shard for shard in shards if shard.tar]
    hours = sum(shard.audio_seconds for shard in shards) / 3600
    size = sum(shard.bytes for shard in shards)
    pairs = sum(shard.pairs for shard in shards)
    lines = [
        f"{counted(pairs, 'clip')}, {hours:,.2f} hours of audio, in {counted(len(tars), 'tar')}, {size_words(size)} in all"
    ]
    if segments := sum(shard.segments for shard in shards):
        segmented = sum(shard.segmented for shard in shards)
        lines.append(
            f"{counted(segmented, 'clip')} of these {'is a recording' if segmented == 1 else 'are recordings'} of "
            f"{counted(segments, 'segment')}: `hpc.submit --segments` makes each of them a clip"
        )
    if faulty := sum(shard.faulty for shard in shards):
        lines.append(
            f"{counted(faulty, 'clip')} of these: part of what is said of them is no text or no JSON: `sidecar_errors`"
        )
    for reason, number in Counter(item.reason for item in left_out).most_common():
        names = [plain(item.name) for item in left_out if item.reason == reason][:EXAMPLES]
        lines.append(
            f"Left out, {reason.replace('_', ' ')}: {number:,} ({', '.join(names)}{', ...' if number > EXAMPLES else ''})"
        )
    if left_out:
        lines.append(f"All that was left out: {folder.left_out_file}")
    lines.append(f"The list of tars: {folder.list_file}")
    return "\n".join(lines)


def _no_pairs(source: Source, given: str, left_out: Sequence[LeftOut]) -> UsageError:
    from tools.packing.pairs import describe_found

    reasons = Counter(item.reason.replace("_", " ") for item in left_out)
    found = f"no pair among {describe_found(source.found)}" if source.found else "no file at all"
    words = f"; left out: {', '.join(f'{number:,} {reason}' for reason, number in reasons.most_common())}" if reasons else ""
    return UsageError(
        f"{given}: expected audio with its text beside it (.lab, .txt, .json, .srt or .vtt of the same name, or one of the "
        f"layouts of docs/data.md), found {found}{words}. Audio alone is taken with --without-text"
    )


def _tell_of_bad_lines(given: str, left_out: Sequence[LeftOut]) -> int:
    """The exit code: 1 if lines of a manifest are missing, for a manifest that was cut would lose clips without a word."""
    bad = [item for item in left_out if item.reason == "unreadable_line"]
    if bad:
        numbers = ", ".join(item.name.removeprefix("line ") for item in bad[:LINES_NAMED])
        more = f" and {len(bad) - LINES_NAMED:,} more" if len(bad) > LINES_NAMED else ""
        warn(
            f"{given}: {counted(len(bad), 'line')} could not be read, and the clips there are missing: {numbers}{more}. The "
            f"first: {bad[0].detail}\nmend the manifest and pack it into another --output-dir; was it cut?"
        )
    return 1 if bad else 0


def _list_ready_tars(tars: Sequence[Path], output_dir: Path, workers: int, texts: TextRules) -> str:
    """WebDataset tars are what we make: they are looked through, and listed where they lie."""
    from tools.packing.folder import told
    from tools.packing.sources import check_ready_tar

    with ThreadPoolExecutor(workers) as pool:
        try:
            counts = list(told(pool.map(partial(check_ready_tar, texts=texts), tars), "looking through tars", "tar"))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    clips, without = sum(count.clips for count in counts), sum(count.without_text for count in counts)
    if not clips:
        raise UsageError(f"{tars[0].parent}: expected tars with audio in them, found none in {counted(len(tars), 'tar')}")
    with writing_to(output_dir):
        write_tar_list(output_dir / "tars.txt", tars)
    return (
        f"WebDataset tars already, which stay where they are: {counted(len(tars), 'tar')} of {counted(clips, 'clip')}"
        f"{f', {without:,} of them without text' if without else ''}\nThe list of tars: {output_dir.absolute() / 'tars.txt'}"
    )


def pack(
    source: Annotated[
        str, typer.Argument(help="a folder, archive, manifest, Parquet file or hub data set", metavar="SOURCE")
    ],
    output_dir: Annotated[Path, typer.Option(help="where the tars and tars.txt go", rich_help_panel=WHERE)] = Path("tars"),
    max_size: Annotated[str, typer.Option(help="size of a tar, such as 1GB or 512MiB", rich_help_panel=WHERE)] = "1GB",
    max_clips: Annotated[int | None, typer.Option(min=1, help="clips of a tar", rich_help_panel=WHERE)] = None,
    workers: Annotated[int, typer.Option(min=1, help="threads that read")] = WORKERS,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="glob of paths, or of folders or names in them, to leave out; may be repeated", rich_help_panel=WHAT
        ),
    ] = None,
    without_text: Annotated[
        bool, typer.Option("--without-text", help="take audio that has no text, too", rich_help_panel=WHAT)
    ] = False,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="take what links in SOURCE lead to outside of it, too", rich_help_panel=WHAT),
    ] = False,
    text_key: Annotated[
        list[str] | None,
        typer.Option(
            help="key or column of the text; default: text, transcript, sentence and others", rich_help_panel=AUDIO
        ),
    ] = None,
    text_encoding: Annotated[
        str,
        typer.Option(
            help="encoding of texts, such as shift_jis; auto: UTF-8, or what all texts of SOURCE show",
            rich_help_panel=AUDIO,
        ),
    ] = AUTO,
    verbose: Verbose = False,
) -> int:
    """Pack a data set into tars. The same command goes on after an interruption, and does nothing on finished work.

    Example: /data/my_corpus --output-dir tars --max-size 2GB
    """
    setup_logging(verbose=verbose)
    texts = TextRules(check_text_keys(text_key or ()) or TEXT_KEYS, check_encoding(text_encoding))
    limit = parse_size("--max-size", max_size, smallest=SMALLEST)
    from tools.packing.members import safe_name
    from tools.packing.pairs import SourceOptions
    from tools.packing.shards import Limits
    from tools.packing.sources import find_ready_tars, open_source
    from tools.packing.tar_folder import PackPlan, TarFolder
    from tools.whole_files import scratch_folder, unmade_if_it_fails

    ready = find_ready_tars(source, follow_links=follow_links, texts=texts)
    if ready is not None:
        if exclude:
            raise UsageError(
                f"--exclude: {source} is tars already, which are listed as they are: unpack them to leave some out"
            )
        print(_list_ready_tars(ready, output_dir, workers, texts))
        return 0
    folder = TarFolder(output_dir.absolute())
    folder.check_is_free()
    with ExitStack() as stack:
        stack.enter_context(unmade_if_it_fails(folder.state))
        with writing_to(output_dir):
            scratch = stack.enter_context(scratch_folder(folder.state))
        options = SourceOptions(
            exclude=tuple(exclude or ()),
            without_text=without_text,
            follow_links=follow_links,
            scratch=scratch,
            texts=texts,
        )
        found = open_source(source, options)
        plan = PackPlan(
            source=safe_name(found.name),
            fingerprint=found.fingerprint,
            items=found.items_total,
            max_bytes=limit,
            max_clips=max_clips,
            exclude=options.exclude,
            without_text=without_text,
            text_keys=texts.keys,
            text_encoding=texts.encoding,
        )
        if not found.items_total:
            raise _no_pairs(found, source, found.left_out)
        with writing_to(output_dir):
            folder.freeze(plan)
        shards = folder.finished(plan)
        done = folder.is_listed() and bool(shards) and shards[-1].end == found.items_total
        if not done:
            shards = _write_shards(found, folder, plan, shards, Limits(limit, max_clips), workers)
        left_out = [*found.left_out, *(item for shard in shards for item in shard.left_out)]
        if not any(shard.pairs for shard in shards):
            raise _no_pairs(found, source, left_out)
        if not done:
            folder.finish(shards, left_out)
    print(("Packed before, nothing to do.\n" if done else "") + _summary(folder, shards, left_out))
    return _tell_of_bad_lines(source, found.left_out)


if __name__ == "__main__":
    run_command(pack)
