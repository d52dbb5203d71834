"""python -m tools.pack: any data set -> tars of audio with a .json beside each clip, and their list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from jobs.commands import AUDIO, WHAT, WHERE, Verbose, number_parser, parse_size, run_command, setup_logging
from jobs.plain_text import warn
from jobs.subset import check_ratio
from jobs.text_encoding import AUTO, check_encoding
from jobs.text_rules import TEXT_KEYS, TextRules, check_text_keys

__all__ = ["pack"]

WORKERS = 4
SMALLEST = 10 << 10


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
        bool, typer.Option("--without-text", help="also take audio that has no text", rich_help_panel=WHAT)
    ] = False,
    subset_ratio: Annotated[
        float,
        typer.Option(
            parser=number_parser("a share such as 0.1, not 10%"),
            metavar="FLOAT",
            help="share of the clips, by a hash of their names: a larger share contains a smaller one",
            rich_help_panel=WHAT,
        ),
    ] = 1.0,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="also take targets of links outside of SOURCE", rich_help_panel=WHAT),
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
    """Pack a data set into tars. After an interruption the same command resumes; on finished work it does nothing.

    Example: /data/my_corpus --output-dir tars --max-size 2GB
    """
    setup_logging(verbose=verbose)
    texts = TextRules(check_text_keys(text_key or ()) or TEXT_KEYS, check_encoding(text_encoding))
    check_ratio(subset_ratio)
    limit = parse_size("--max-size", max_size, smallest=SMALLEST)
    from tools.packing import sources
    from tools.packing.packer import pack_source
    from tools.packing.ready_tars import list_ready_tars
    from tools.packing.shards import Limits
    from tools.packing.summary import bad_lines, summary

    ready = sources.find_ready_tars(source, follow_links=follow_links, texts=texts)
    if ready is not None:
        if exclude:
            raise UsageError(
                f"--exclude: {source} is tars already, which are listed as they are: unpack them to leave some out"
            )
        if subset_ratio != 1:
            raise UsageError(
                f"--subset-ratio: {source} is tars already, which are listed as they are: {called('hpc.submit')} "
                f"--subset-ratio {subset_ratio:g} tokenizes a share of their clips"
            )
        print(list_ready_tars(ready, output_dir, workers, texts))
        return 0
    packed = pack_source(
        source,
        output_dir,
        limits=Limits(limit, max_clips),
        workers=workers,
        exclude=tuple(exclude or ()),
        without_text=without_text,
        follow_links=follow_links,
        texts=texts,
        subset_ratio=subset_ratio,
    )
    print(
        ("Packed before, nothing to do.\n" if packed.before else "") + summary(packed.folder, packed.shards, packed.left_out)
    )
    if (words := bad_lines(source, packed.left_out_of_list)) is None:
        return 0
    warn(words)
    return 1


if __name__ == "__main__":
    run_command(pack)
