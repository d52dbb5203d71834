"""python -m jobs.tokenize_tar: one tar, here and now, in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from jobs.activities import Activities
from jobs.addresses import check_address, is_address, place_of, scheme_of
from jobs.commands import WHAT, WHERE, Device, OutputDir, Verbose, run_command, setup_logging, writing_to
from jobs.conveyor import DEFAULT_BUFFER_BYTES, Feeding
from jobs.devices import available_cores, choose_device
from jobs.memory_guard import DEFAULT_GUARD, MemoryGuard
from jobs.model_hashes import ModelHashes
from jobs.option_struct import with_options
from jobs.own_watch import ended_when_stuck
from jobs.progress import ProgressFile
from jobs.recipe_options import BackendOptions
from jobs.regular_files import kind_of
from jobs.remote_files import missing_packages
from jobs.signals import StopFlag
from jobs.spec import freeze_spec, make_spec, read_spec
from jobs.tar_paths import TarPaths
from jobs.tar_source import TarSource, tar_source
from jobs.tar_task import InputIdentity, TarTask
from jobs.taste.status import refuse_training
from jobs.trust import check_folder, share
from jobs.worker import Wishes, run_tars
from jobs.worker_options import SharingOptions, WishOptions, WorkerOptions


@with_options
def tokenize_tar(
    *,
    input_tar: Annotated[
        str,
        typer.Option(help="the tar to tokenize: a path, or an address such as s3://bucket/a.tar", rich_help_panel=WHAT),
    ],
    recipe: BackendOptions,
    wishes: WishOptions,
    force: Annotated[
        bool, typer.Option("--force", help="forget the tar's output and begin again", rich_help_panel=WHAT)
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing", help="do nothing if the tar is committed (always so; kept for scripts)", rich_help_panel=WHAT
        ),
    ] = False,
    output_dir: OutputDir = Path("tokens"),
    device: Device = "auto",
    gpu_id: Annotated[int, typer.Option(help="which GPU, counted among the visible ones", rich_help_panel=WHERE)] = 0,
    sharing: SharingOptions,
    worker: WorkerOptions,
    log_file: Annotated[Path | None, typer.Option(help="log to this file too")] = None,
    verbose: Verbose = False,
) -> int:
    """Tokenize one tar, resuming where its partial ends.

    Example: --input-tar 000001.tar --backend higgs --output-dir tokens
    """
    setup_logging(verbose=verbose, log_file=log_file)
    if force and (skip_existing or wishes.retry_errors):
        raise UsageError("--force starts from nothing: it goes with neither --skip-existing nor --retry-errors")
    trust = sharing.trust()
    os.umask(trust.umask)
    state = output_dir.absolute() / ".run"
    names = ("spec.yaml", "model_hashes.json", "claims", "attempts", "manifests")
    check_folder(output_dir.absolute(), (state, *(state / name for name in names)), trust)
    threads = worker.decode_threads or "auto"
    feeding = Feeding(
        decode_threads=available_cores() if threads == "auto" else threads,
        buffer_bytes=worker.buffer_bytes or DEFAULT_BUFFER_BYTES,
    )
    stop = StopFlag(shortage=MemoryGuard(DEFAULT_GUARD if worker.guard is None else worker.guard))
    tar = _input(input_tar, allow_pipe=wishes.allow_pipe)
    device = choose_device(device, gpu_id)
    with writing_to(output_dir):
        begun = read_spec(output_dir)
        if begun is None:
            refuse_training(output_dir)
    hashes = ModelHashes(output_dir)
    with hashes.in_use():
        spec = make_spec(recipe.backend, device=device, options=recipe.options, asked=recipe, begun=begun)
    identity = InputIdentity.of(tar)
    task = TarTask(str(tar), TarPaths.stem(place_of(str(tar))), identity.size)
    _refuse_namesake(TarPaths(output_dir, task.name), identity, force=force)
    with writing_to(output_dir):
        if sharing.group is not None:
            state.mkdir(parents=True, exist_ok=True)
            share((output_dir.resolve(), state), (), trust)
        freeze_spec(output_dir, spec)
        hashes.save()
    reports = ProgressFile(None, total_bytes=task.bytes)
    activities = Activities(worker.clip_timeout)
    with stop.on_signals(), ended_when_stuck(activities), reports.on_terminal(task.name):
        run_tars(
            [task],
            spec,
            output_dir,
            device=device,
            stop=stop,
            reports=reports,
            wishes=Wishes(**msgspec.structs.asdict(wishes), force=force),
            feeding=feeding,
            activities=activities,
        )
    if stop.signal is not None:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return 128 + stop.signal
    undone = any(attempt.outcome in ("left_alone", "yielded") for attempt in reports.progress.tries)
    return 1 if reports.progress.problems or undone else 0


def _input(given: str, *, allow_pipe: bool) -> TarSource:
    """Raises UsageError if it is no file, or no address that can be read here."""
    if is_address(given):
        check_address(given)
        if words := missing_packages({scheme_of(given) or ""}):
            raise UsageError(f"--input-tar {given}: {words}")
        return tar_source(given, allow_pipe=allow_pipe)
    tar = Path(given).absolute()
    found = kind_of(tar) if tar.exists() else "nothing"
    if found is not None:
        raise UsageError(f"--input-tar {given}: expected a tar, found {found} there")
    return tar


def _refuse_namesake(paths: TarPaths, identity: InputIdentity, *, force: bool) -> None:
    """Raise UsageError if the output belongs to another tar of the same name. A tar that has moved is the same one."""
    manifest = paths.read_unfinished()
    if manifest is None or manifest.tar_file == identity.tar_file or identity.matches(manifest):
        return
    gone = not is_address(manifest.tar_file) and not Path(manifest.tar_file).exists()
    if not (gone and force):
        way_out = (
            "--force replaces its tokens"
            if gone
            else f"use another --output-dir, or {called('hpc.submit')} with --keep-dirs"
        )
        raise UsageError(
            f"two tars would both become {paths.committed}: {manifest.tar_file}{' (gone)' if gone else ''} and "
            f"{identity.tar_file}; {way_out}"
        )


if __name__ == "__main__":
    run_command(tokenize_tar)
