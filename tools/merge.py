"""python -m tools.merge: the committed files of a run as one .jsonl, .jsonl.gz or .jsonl.zst, in list order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.run import Run
from jobs.channels import ADOPTED, describe_note
from jobs.commands import Verbose, run_command, setup_logging
from jobs.devices import available_cores
from tools.common.byte_progress import ByteProgress
from tools.common.run_files import CommittedFile, committed_files, spec_of
from tools.common.whole_files import require_file_place
from tools.merging.shapes import SHAPES, Shape, check_shape

if TYPE_CHECKING:
    from tools.merging.assembly import Merged

__all__ = ["merge"]


def merge(
    output: Annotated[Path, typer.Option(help="the file to make: NAME.jsonl, NAME.jsonl.gz or NAME.jsonl.zst")],
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    partial_ok: Annotated[
        bool, typer.Option("--partial-ok", help="take what is committed of a run that is not finished")
    ] = False,
    shape: Annotated[
        str | None, typer.Option(help=f"lines as older tools write them: {', '.join(SHAPES)}; default: as they are")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: one per core")] = None,
    verbose: Verbose = False,
) -> int:
    """Merge a run's committed files into one file, a gzip member or zstd frame each. If interrupted, run it again."""
    from tools.merging.assembly import merge as merge_files

    setup_logging(verbose=verbose)
    wanted = _shape_called(shape)
    _check_place(output, output_dir)
    spec = spec_of(output_dir)
    floats = [field.name for field in spec.fields if field.form == "features"]
    if floats:
        raise UsageError(
            f"{output_dir}: its floats ({', '.join(floats)}) are in NAME.safetensors, which one merged file cannot hold: "
            f"use {called('tools.export')}"
        )
    if wanted is not None:
        check_shape(wanted, spec.fields)
    files = committed_files(output_dir, partial_ok=partial_ok)
    progress = ByteProgress(output.name, sum(file.bytes for file in files))
    with progress.on_terminal():
        merged = merge_files(
            files,
            Run(output_dir.absolute()).listed(),
            output,
            shape=wanted,
            workers=workers or available_cores(),
            tell=progress,
        )
    if merged is None:
        print(f"{output}: nothing to do: it has the lines of all {counted(len(files), 'committed file')} already")
    else:
        print("\n".join([*_summary(output, merged), *_damaged(files, wanted), *_adopted(files, wanted)]))
    return 0


def _shape_called(name: str | None) -> Shape | None:
    for shape in SHAPES:
        if shape == name:
            return shape
    if name is not None:
        raise UsageError(f"--shape {name}: expected {', '.join(SHAPES[:-1])} or {SHAPES[-1]}")
    return None


def _check_place(output: Path, output_dir: Path) -> None:
    require_file_place(output)
    if output_dir.resolve() in output.resolve().parents:
        raise UsageError(f"--output {output}: expected a place outside the run directory {output_dir}: give another")


def _summary(output: Path, merged: Merged) -> list[str]:
    before = len(merged.entries) - merged.made
    known = f", {before:,} of them merged before" if before else ""
    share = merged.bytes_out / max(merged.bytes_in, 1)
    lines = [
        f"{output}: {counted(merged.lines, 'line')} of {counted(len(merged.entries), 'file')}{known}",
        f"Bytes:    {merged.bytes_in:,} of lines became {merged.bytes_out:,} ({share:.1%})",
    ]
    if merged.left_out:
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in merged.left_out.items())
        lines.append(f"Left out: {counted(sum(merged.left_out.values()), 'clip')} ({kinds})")
    return lines


def _damaged(files: Sequence[CommittedFile], shape: Shape | None) -> list[str]:
    """A line about damaged clips, which lines of a shape cannot mark."""
    damaged = sum(file.manifest.damaged_clips for file in files)
    if not damaged:
        return []
    lost = sum(file.manifest.damaged_seconds for file in files)
    return [f"Damaged:  {counted(damaged, 'clip')} of the run (kept, {lost:,.3f} s missing){_unmarked(shape)}"]


def _adopted(files: Sequence[CommittedFile], shape: Shape | None) -> list[str]:
    """A line about clips whose tokens another tool made."""
    adopted = sum(file.manifest.notes.get(ADOPTED, 0) for file in files)
    return [f"Adopted:  {counted(adopted, 'clip')} {describe_note(ADOPTED)}{_unmarked(shape)}"] if adopted else []


def _unmarked(shape: Shape | None) -> str:
    return f"; lines of --shape {shape} do not say which" if shape else ""


if __name__ == "__main__":
    run_command(merge)
