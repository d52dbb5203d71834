"""python -m jobs.tokenize_tar: one tar, here and now, in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import UsageError
from jobs.activities import Activities
from jobs.addresses import check_address, is_address, place_of, scheme_of
from jobs.commands import Verbose, number_or_auto, number_parser, parse_buffer_memory, run_command, setup_logging, writing_to
from jobs.conveyor import Feeding
from jobs.devices import available_cores, choose_device
from jobs.memory_guard import MemoryGuard, parse_memory_guard
from jobs.model_hashes import ModelHashes
from jobs.own_watch import ended_when_stuck
from jobs.progress import ProgressFile
from jobs.recipe_options import (
    Channel,
    Extensions,
    MaxDamage,
    MaxDuration,
    MaxTokensPerFragment,
    NumTokensOverlap,
    Segments,
    Settings,
    Sniff,
    TextEncoding,
    TextKeys,
)
from jobs.regular_files import kind_of
from jobs.remote_files import missing_packages
from jobs.signals import StopFlag
from jobs.spec import freeze_spec, make_spec, parse_settings, read_spec
from jobs.tar_paths import TarPaths
from jobs.tar_source import TarSource, tar_source
from jobs.tar_task import InputIdentity, TarTask
from jobs.trust import check_folder, share, trust_of
from jobs.worker import Wishes, run_tars


def tokenize_tar(
    input_tar: Annotated[str, typer.Option(help="the tar to tokenize: a path, or an address such as s3://bucket/a.tar")],
    backend: Annotated[str, typer.Option(help="preset or backend, for example higgs")],
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    model_path: Annotated[str | None, typer.Option(help="local directory or hub id of the weights")] = None,
    settings: Settings = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    gpu_id: Annotated[int, typer.Option(help="which GPU, counted among the visible ones")] = 0,
    max_tokens_per_fragment: MaxTokensPerFragment = None,
    num_tokens_overlap: NumTokensOverlap = None,
    max_duration: MaxDuration = None,
    max_damage: MaxDamage = None,
    extensions: Extensions = None,
    text_key: TextKeys = None,
    text_encoding: TextEncoding = None,
    channel: Channel = None,
    segments: Segments = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="do nothing if the tar is committed (always so; kept for scripts)")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="forget the tar's output and begin again")] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="try the clips again that have error records")
    ] = False,
    sniff: Sniff = False,
    allow_missing_end: Annotated[
        bool, typer.Option("--allow-missing-end", help="accept a tar with no end marker, or a very long one")
    ] = False,
    allow_joined: Annotated[
        bool, typer.Option("--allow-joined", help="accept a tar after whose end another one begins, and read on")
    ] = False,
    allow_pipe: Annotated[
        bool, typer.Option("--allow-pipe", help="run the command of a tar that is pipe:COMMAND, as you (docs/trust.md)")
    ] = False,
    decode_threads: Annotated[str, typer.Option(help="threads that decode; auto: one per core")] = "auto",
    buffer_memory: Annotated[str, typer.Option(help="memory for audio decoded ahead, such as 500M")] = "1G",
    memory_guard: Annotated[str, typer.Option(help="share of its memory at which it flushes and ends; 0 is off")] = "0.9",
    group: Annotated[str | None, typer.Option(help="the group that shares the run directory")] = None,
    umask: Annotated[
        str | None, typer.Option(help="of what it creates; default 022 or stricter, with --group 002 or 007")
    ] = None,
    clip_timeout: Annotated[
        float | None,
        typer.Option(
            parser=number_parser("seconds, such as 600 for ten minutes, without a unit; 0: never", 0),
            metavar="FLOAT",
            help="seconds without progress after which the command gives up; 0: never; default: by the clip",
        ),
    ] = None,
    log_file: Annotated[Path | None, typer.Option(help="log to this file too")] = None,
    verbose: Verbose = False,
) -> int:
    """Tokenize one tar, resuming where its partial ends."""
    setup_logging(verbose=verbose, log_file=log_file)
    if force and (skip_existing or retry_errors):
        raise UsageError("--force starts from nothing: it goes with neither --skip-existing nor --retry-errors")
    trust = trust_of(group, umask)
    os.umask(trust.umask)
    state = output_dir.absolute() / ".run"
    names = ("spec.yaml", "model_hashes.json", "claims", "attempts", "manifests")
    check_folder(output_dir.absolute(), (state, *(state / name for name in names)), trust)
    threads = number_or_auto("--decode-threads", decode_threads)
    feeding = Feeding(
        decode_threads=available_cores() if threads == "auto" else threads,
        buffer_bytes=parse_buffer_memory(buffer_memory),
    )
    stop = StopFlag(shortage=MemoryGuard(parse_memory_guard(memory_guard)))
    tar = _input(input_tar, allow_pipe=allow_pipe)
    options = parse_settings(settings or [])
    if model_path is not None:
        options["model_path"] = model_path
    device = choose_device(device, gpu_id)
    with writing_to(output_dir):
        begun = read_spec(output_dir)
    hashes = ModelHashes(output_dir)
    with hashes.in_use():
        spec = make_spec(
            backend,
            device=device,
            options=options,
            max_tokens_per_fragment=max_tokens_per_fragment,
            num_tokens_overlap=num_tokens_overlap,
            max_duration=max_duration,
            max_damage=max_damage,
            extensions=extensions or (),
            sniff=sniff,
            text_keys=text_key or (),
            text_encoding=text_encoding,
            begun=begun,
            channel=channel,
            segments=segments,
        )
    identity = InputIdentity.of(tar)
    task = TarTask(str(tar), TarPaths.stem(place_of(str(tar))), identity.size)
    _refuse_namesake(TarPaths(output_dir, task.name), identity, force=force)
    with writing_to(output_dir):
        if group is not None:
            state.mkdir(parents=True, exist_ok=True)
            share((output_dir.resolve(), state), (), trust)
        freeze_spec(output_dir, spec)
        hashes.save()
    reports = ProgressFile(None, total_bytes=task.bytes)
    activities = Activities(clip_timeout)
    with stop.on_signals(), ended_when_stuck(activities), reports.on_terminal(task.name):
        run_tars(
            [task],
            spec,
            output_dir,
            device=device,
            stop=stop,
            reports=reports,
            wishes=Wishes(
                retry_errors=retry_errors,
                force=force,
                allow_missing_end=allow_missing_end,
                allow_joined=allow_joined,
                allow_pipe=allow_pipe,
            ),
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
        way_out = "--force replaces its tokens" if gone else "use another --output-dir, or hpc.submit with --keep-dirs"
        raise UsageError(
            f"two tars would both become {paths.committed}: {manifest.tar_file}{' (gone)' if gone else ''} and "
            f"{identity.tar_file}; {way_out}"
        )


if __name__ == "__main__":
    run_command(tokenize_tar)
