"""python -m hpc.submit: list + backend -> run -> plan -> workers, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.cluster import Placement, check_path, place_workers, start_local
from hpc.monitor import Interruption, follow
from hpc.plan import Plan, make_plan
from hpc.progress import TarState, scan
from hpc.run import ListedTar, Run, as_task
from hpc.tar_list import read_tar_list
from jobs.commands import Verbose, run_command, setup_logging, writing_to
from jobs.devices import available_cores, choose_device, visible_gpus
from jobs.fileops import FileOps, write_if_absent
from jobs.reporting import clock_time, describe_rate
from jobs.spec import TokenizeSpec, check_spec, freeze_spec, make_spec, parse_settings

__all__ = ["submit"]


def submit(
    tar_list: Annotated[Path, typer.Option("--list", "--tar-list", help="file with a tar per line")],
    backend: Annotated[str, typer.Option(help="preset or backend, for example higgs")],
    model_path: Annotated[str | None, typer.Option(help="local directory or hub id of the weights")] = None,
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    cluster: Annotated[str, typer.Option(help="local: this machine")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="worker processes; default one per GPU or core")] = None,
    procs_per_gpu: Annotated[int, typer.Option(min=1, help="worker processes that share a GPU")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    from_index: Annotated[int, typer.Option(min=0, help="first tar of the list, from 0")] = 0,
    to_index: Annotated[int | None, typer.Option(min=0, help="the tar after the last one")] = None,
    keep_dirs: Annotated[bool, typer.Option("--keep-dirs", help="keep the tars' folders in the output names")] = False,
    settings: Annotated[list[str] | None, typer.Option("--set", help="a backend's option=value")] = None,
    max_tokens_per_fragment: Annotated[int | None, typer.Option(help="longest fragment, in frames")] = None,
    num_tokens_overlap: Annotated[int | None, typer.Option(help="overlap of fragments, in frames")] = None,
    max_duration: Annotated[float | None, typer.Option(help="longer clips become errors, in seconds")] = None,
    extensions: Annotated[list[str] | None, typer.Option(help="audio extensions; default: all that we decode")] = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="try the clips again that have errors")] = False,
    allow_missing_end: Annotated[
        bool, typer.Option("--allow-missing-end", help="accept tars with no end marker, or a very long one")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and change nothing")] = False,
    verbose: Verbose = False,
) -> int:
    """Tokenize every tar of a list. Run it again at any time: it goes on where the files say it stopped."""
    setup_logging(verbose=verbose, quiet=True)
    if cluster != "local":
        raise UsageError(f"--cluster {cluster!r}: this version runs on this machine only: --cluster local")
    tars = read_tar_list(tar_list)[from_index:to_index]
    if not tars:
        raise UsageError(f"--from-index {from_index} --to-index {to_index}: no tar of {tar_list} is in this range")
    device = choose_device(device)
    spec = make_spec(
        backend,
        device=device,
        options={**parse_settings(settings or []), **({"model_path": model_path} if model_path is not None else {})},
        max_tokens_per_fragment=max_tokens_per_fragment,
        num_tokens_overlap=num_tokens_overlap,
        max_duration=max_duration,
        extensions=extensions or (),
    )
    run = Run(output_dir.absolute())
    check_path(run.output_dir)
    with writing_to(run.output_dir):
        check_spec(run.output_dir, spec)
        listed = run.add_to_list(tars, keep_dirs=keep_dirs, dry_run=True)  # a list that is refused leaves no trace
        if not dry_run:
            freeze_spec(run.output_dir, spec)
            listed = run.add_to_list(tars, keep_dirs=keep_dirs)
    states = list(scan(run, listed))
    todo = [tar for tar, state in zip(listed, states, strict=True) if _needs_work(state, retry_errors=retry_errors)]
    gpus = visible_gpus() if device != "cpu" else []
    placements = place_workers(gpus, workers, procs_per_gpu, available_cores(), len(todo))
    plan = make_plan(
        [as_task(tar) for tar in todo],
        len(placements),
        spec,
        retry_errors=retry_errors,
        allow_missing_end=allow_missing_end,
    )
    print(_summary(run, spec, states, plan, device))
    if dry_run or not todo:
        return 0
    return _run_here(run, plan, placements, listed)


def _needs_work(state: TarState, *, retry_errors: bool) -> bool:
    has_errors = state.manifest is not None and bool(state.manifest.errors)
    return state.state != "committed" or (retry_errors and has_errors)


def _summary(run: Run, spec: TokenizeSpec, states: list[TarState], plan: Plan, device: str) -> str:
    count = {name: sum(state.state == name for state in states) for name in ("committed", "partial", "invalid")}
    todo = sum(len(slot) for slot in plan.slots)
    codes = f"{spec.codebooks} x {spec.codebook_size} codes at {spec.sample_rate / spec.hop_length:g}/s"
    lines = [
        f"{run.output_dir}: {spec.backend} on {device.partition(':')[0]}, {codes}, recipe {spec.fingerprint}",
        f"{len(states)} tars: {count['committed']} committed, {count['partial']} begun, {count['invalid']} invalid",
    ]
    if todo:
        loads = [sum(task.bytes for task in slot) for slot in plan.slots]
        lines.append(
            f"{todo} tars ({plan.bytes / 1e6:,.1f} MB) for {len(plan.slots)} workers, "
            f"{min(loads) / 1e6:,.1f} to {max(loads) / 1e6:,.1f} MB each"
        )
    else:
        lines.append("nothing to do")
    return "\n".join(lines)


def _run_here(run: Run, plan: Plan, placements: list[Placement], listed: list[ListedTar]) -> int:
    interruption = Interruption()
    with interruption.listening():
        with writing_to(run.output_dir):
            submission = run.next_submission()
            plan_file = submission / "plan.json"
            if not write_if_absent(FileOps(), plan_file, msgspec.json.format(msgspec.json.encode(plan))):
                raise InfrastructureError(f"{plan_file} exists already: another command took this submission")
            workers = start_local(run.output_dir, submission, plan_file, placements, interruption)
        outcome = follow(workers, submission, plan, interruption)
    committed = sum(state.state == "committed" for state in scan(run, listed))
    total = outcome.total
    print(
        f"{committed} of {len(listed)} tars committed; this time {total.clips} clips, {total.errors} errors, "
        f"{describe_rate(total.audio_seconds, outcome.wall_seconds)}, in {clock_time(outcome.wall_seconds)}"
    )
    if committed < len(listed) and not total.problems:
        print("not done: run the same command again to go on", file=sys.stderr)
    return outcome.exit_code or int(committed < len(listed))


if __name__ == "__main__":
    run_command(submit)
