"""python -m tools.export: a run's tokens as Parquet, WebDataset, a Hugging Face data set or NumPy files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import UsageError
from jobs.commands import Verbose, run_command, setup_logging
from jobs.devices import available_cores
from tools.exporting.plan import FORMATS
from tools.exporting.run_export import export_run

__all__ = ["export"]


def export(
    to: Annotated[
        str,
        typer.Option(
            help="parquet: typed columns; webdataset: a tar per tar; hf: a data set for load_dataset; npz: a file per clip"
        ),
    ],
    output: Annotated[Path, typer.Option(help="the folder to write: empty, new, or begun by the same command")],
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    with_audio: Annotated[
        bool, typer.Option("--with-audio", help="webdataset: each clip's audio file beside its tokens, as it was")
    ] = False,
    partial_ok: Annotated[
        bool, typer.Option("--partial-ok", help="export what is committed of a run that is not finished")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: one per core")] = None,
    verbose: Verbose = False,
) -> int:
    """Export a run's tokens. Clips with errors are left out. If interrupted, the same command resumes."""
    setup_logging(verbose=verbose)
    if to not in FORMATS:
        raise UsageError(f"--to {to}: expected one of {', '.join(FORMATS)}")
    if with_audio and to != "webdataset":
        raise UsageError(f"--with-audio: --to {to} holds no audio; --to webdataset does")
    print(
        export_run(
            output_dir,
            output,
            to,
            with_audio=with_audio,
            partial_ok=partial_ok,
            workers=workers or available_cores(),
        )
    )
    return 0


if __name__ == "__main__":
    run_command(export)
