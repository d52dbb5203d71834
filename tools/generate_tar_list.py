"""python -m tools.generate_tar_list: the tars of a folder, one per line, for --list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted
from jobs.commands import Verbose, run_command, setup_logging
from jobs.tar_paths import TAR_SUFFIXES
from tools.common.tar_finding import find_tars, write_tar_list

__all__ = ["generate_tar_list"]


def generate_tar_list(
    input_dir: Annotated[Path, typer.Option(help="folder with tars")],
    output_file: Annotated[Path, typer.Option(help="the list to write")],
    pattern: Annotated[
        str | None, typer.Option(help="glob below the folder, for example '**/*.tar'; default: its tars")
    ] = None,
    prefix: Annotated[str, typer.Option(help="only names that start with this")] = "",
    start: Annotated[int | None, typer.Option(help="only tars whose number is at least this")] = None,
    end: Annotated[int | None, typer.Option(help="only tars whose number is at most this")] = None,
    verbose: Verbose = False,
) -> int:
    """List the tars of a folder."""
    setup_logging(verbose=verbose)
    if not input_dir.is_dir():
        raise UsageError(f"--input-dir {input_dir}: there is no such folder")
    tars = find_tars(input_dir, pattern, prefix, start, end)
    if not tars:
        asked = [pattern or ", ".join("*" + suffix for suffix in TAR_SUFFIXES)]
        asked += [f"--prefix {prefix}"] if prefix else []
        asked += [f"{option} {number}" for option, number in (("--start", start), ("--end", end)) if number is not None]
        raise UsageError(f"--input-dir {input_dir}: no file matches {' and '.join(asked)}")
    write_tar_list(output_file, tars)
    print(f"{counted(len(tars), 'tar')} in {output_file}")
    return 0


if __name__ == "__main__":
    run_command(generate_tar_list)
