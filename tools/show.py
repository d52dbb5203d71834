"""python -m tools.show NAME: what one tar became: its tokens, their use of the codebooks, its clips."""

from __future__ import annotations

import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted
from hpc.progress import TarState, state_of
from hpc.run import ListedTar, Run
from jobs.commands import Verbose, run_command, setup_logging
from jobs.records import Record
from jobs.spec import TokenizeSpec
from tools.common.run_files import spec_of
from tools.showing.lookup import find_tar, matching, only_one, open_lines

__all__ = ["show"]

NARROWEST = 60


def show(
    name: Annotated[str, typer.Argument(help="an output, such as 000001, or the path of its .jsonl or of its tar")],
    clip: Annotated[list[str] | None, typer.Option(help="show this clip: its number from 0, its name, or a glob")] = None,
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    listen: Annotated[Path | None, typer.Option(help="write the original of the one --clip to this .wav")] = None,
    verbose: Verbose = False,
) -> int:
    """Show what one tar became, finished or not; with --clip, what single clips became."""
    setup_logging(verbose=verbose)
    if listen is not None and (not clip or listen.suffix.lower() != ".wav"):
        raise UsageError(f"--listen {listen}: expected a name that ends in .wav, and the clip to hear as --clip")
    run = Run(output_dir.absolute())
    spec = spec_of(run.output_dir)
    tar = find_tar(name, run)
    paths = run.paths(tar.name)

    from tools.showing.histograms import Style, choose_bars
    from tools.showing.summary import summarize, with_floats
    from tools.showing.text import render_clip, render_file

    width = max(shutil.get_terminal_size().columns, NARROWEST)
    style = Style(width, choose_bars(sys.stdout.encoding))
    with open_lines(paths) as lines:
        state = state_of(tar.tar, paths)
        if not clip:
            print(render_file(summarize(lines, state, spec), spec.fields, style))
            return 0
        features = paths.features if Path(lines.name) == paths.committed else None
        found = matching(lines, clip, spec)
        if listen is not None:
            found = iter([only_one(list(islice(found, 2)), clip)])
        for number, (index, record) in enumerate(found):
            shown = with_floats(tar.name, index, record, spec, features)
            print(("\n" if number else "") + render_clip(shown, spec.fields, style))
            if listen is not None:
                _write_original(tar, index, record, state, spec, listen)
    return 0


def _write_original(tar: ListedTar, index: int, record: Record, state: TarState, spec: TokenizeSpec, output: Path) -> None:
    from jobs.tar_source import tar_source
    from tools.common.rereading import Rereading
    from tools.showing.original_clip import write_original

    manifest = state.manifest
    original = write_original(
        tar_source(tar.tar),
        index,
        record.audio_file,
        output,
        how=Rereading.of(spec, manifest),
        tar_bytes=manifest.input_bytes if manifest is not None else None,
    )
    how = "a copy of the member" if original.untouched else "decoded"
    print(
        f"\nwrote {output}: the original, {how}: {original.samples / original.sample_rate:,.3f} s, "
        f"{original.sample_rate:,} Hz, {counted(original.channels, 'channel')}"
    )


if __name__ == "__main__":
    run_command(show)
