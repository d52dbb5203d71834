"""python -m tools.adopt: the output of an older tool into a run, each line checked against its tar."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.shared.wording import counted
from hpc.begin_run import ListOptions
from hpc.begin_training import check_no_training
from hpc.resubmit_command import resubmit_command
from hpc.run import Run, as_task
from hpc.site_file import site_defaults
from hpc.trust import check_run, share_run
from jobs.commands import OutputDir, Verbose, run_command, setup_logging, writing_to
from jobs.devices import available_cores
from jobs.model_hashes import ModelHashes
from jobs.option_struct import with_options
from jobs.recipe_options import BackendOptions
from jobs.spec import check_spec, freeze_spec
from jobs.worker_options import SharingOptions
from tools.adopting.adoption import adopt_output
from tools.adopting.begin import adopting_spec, check_places, choose_tars
from tools.adopting.summary import render
from tools.common.byte_progress import ByteProgress

__all__ = ["adopt"]


@with_options
def adopt(
    *,
    old_output: Annotated[Path, typer.Argument(help="folder or file of an older tool: .jsonl, .jsonl.partial, .jsonl.gz")],
    which: ListOptions,
    recipe: BackendOptions,
    output_dir: OutputDir = Path("tokens"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps, as the run will use it")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: one per core")] = None,
    sharing: SharingOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and count, and write nothing")] = False,
    verbose: Verbose = False,
) -> int:
    """Take over the tokens that an older tool has made, each line checked against its tar. hpc.submit makes the rest.

    Example: /data/old-tokens --list tars.txt --backend higgs --output-dir tokens
    """
    setup_logging(verbose=verbose)
    trust = sharing.trust()
    os.umask(trust.umask)
    run = Run(output_dir.absolute(), trust)
    check_run(run, trust)
    with writing_to(run.output_dir):
        check_no_training(run)
    check_places(old_output, output_dir)
    tars = choose_tars(run, which)
    hashes = ModelHashes(run.output_dir)
    spec = adopting_spec(run, recipe, device, hashes)
    with writing_to(run.output_dir):
        check_spec(run.output_dir, spec)
        listed = run.add_to_list(tars, keep_dirs=which.keep_dirs, dry_run=True)

    def prepare() -> None:
        with writing_to(run.output_dir):
            share_run(run, trust)
            freeze_spec(run.output_dir, spec)
            hashes.save()
            run.add_to_list(tars, keep_dirs=which.keep_dirs)

    progress = ByteProgress("adopting", sum(as_task(tar, {}).bytes for tar in listed))
    with progress.on_terminal():
        found = adopt_output(
            old_output,
            listed,
            run.output_dir,
            spec,
            workers=workers or available_cores(),
            dry_run=dry_run,
            prepare=prepare,
            tell=progress,
        )
    if dry_run:
        print("dry run: nothing is written")
    print(render(found, old_output, dry_run=dry_run))
    if not dry_run and found.committed + found.left_alone < len(listed):
        flags = ["--keep-dirs"] if which.keep_dirs else []
        command = resubmit_command(spec, None, site_defaults(), which.tar_list, output_dir, flags)
        print(f"next: {command}   (for {counted(len(listed) - found.committed - found.left_alone, 'tar')})")
    return 1 if found.problems else 0


if __name__ == "__main__":
    run_command(adopt)
