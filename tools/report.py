"""python -m tools.report: a run as one HTML file: progress, cost, errors, tokens, and clips to hear."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_tokenizers.errors import UsageError
from hpc.run import Run
from jobs.commands import Verbose, run_command, setup_logging
from jobs.fileops import FileOps, write_atomically
from tools.common.whole_files import require_file_place
from tools.reporting.figures import png, require_extra, svg_file

if TYPE_CHECKING:
    from tools.reporting.model import Plot

__all__ = ["report"]

MOST_CLIPS = 100
MARK, MARK_WITHIN = b'<meta name="generator" content="tar2tokens', 4096
"""What a page of ours has among its first bytes."""


def report(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    html: Annotated[Path, typer.Option(help="where to write the page")] = Path("report.html"),
    plots: Annotated[Path | None, typer.Option(help="a folder for each plot as PNG and SVG")] = None,
    audio: Annotated[
        int, typer.Option(min=0, max=MOST_CLIPS, help="embed so many random clips to hear; a dozen takes 2 MB")
    ] = 0,
    verbose: Verbose = False,
) -> int:
    """Write a report of a run, in whatever state it is, as one HTML file that needs no network.

    Example: --output-dir tokens --html report.html --audio 12
    """
    setup_logging(verbose=verbose)
    require_extra()
    from tools.reporting.clips import hear_clips
    from tools.reporting.gather import gather
    from tools.reporting.page import render

    _check_place(html)
    if plots is not None and plots.exists() and not plots.is_dir():
        raise UsageError(f"--plots {plots}: expected a folder, found a file: give another")
    run = Run(output_dir.absolute())
    facts, states = gather(run, time.time())
    clips, fault = hear_clips(run, facts.spec, states, audio)
    page, drawn = render(facts, clips, fault)
    write_atomically(FileOps(), html, page.encode())
    if plots is not None:
        _write_plots(plots, drawn)
    print(f"{html}: {len(page.encode()):,} bytes")
    return 0


def _check_place(html: Path) -> None:
    """Raise UsageError if there is anything but a report of ours: the default name is a usual one."""
    require_file_place(html)
    try:
        with html.open("rb") as file:
            is_ours = MARK in file.read(MARK_WITHIN)
    except FileNotFoundError:
        return
    if not is_ours:
        raise UsageError(
            f"{html}: expected a report of tar2tokens, which would be replaced, found another file: give --html"
        )


def _write_plots(folder: Path, drawn: Sequence[Plot]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ops = FileOps()
    for plot in drawn:
        if plot.figure is not None:
            write_atomically(ops, folder / f"{plot.name}.svg", svg_file(plot.figure).encode())
            write_atomically(ops, folder / f"{plot.name}.png", png(plot.figure))
    print(f"{folder}: {sum(plot.figure is not None for plot in drawn)} plots as PNG and SVG")


if __name__ == "__main__":
    run_command(report)
