"""python -m hpc.submit: list + backend -> run -> plan -> tasks, on Slurm or on this machine."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from audio_tokenizers.base import Field
from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.wording import counted
from hpc.batch_script import batch_text, check_path
from hpc.dispatch import Submitter, bytes_per_second
from hpc.environment import kept_environment, task_environment
from hpc.launch import (
    Launch,
    Site,
    check_cluster,
    check_gpu_request,
    check_tars_per_gpu,
    make_launch,
    overlay,
    parse_slurm_settings,
    site_defaults,
)
from hpc.list_check import describe_faults, find_faults
from hpc.personal import personal_defaults
from hpc.progress import TarState, scan
from hpc.remote_list import SizedLook, all_faults, read_sizes, unreadable, write_sizes
from hpc.rounds import EXIT_CODES, cluster_of, one_round, watch
from hpc.run import ListedTar, Run, RunState, as_task
from hpc.slurm import SlurmCluster
from hpc.slurm_words import no_answer
from hpc.submissions import Job, Submission
from hpc.tar_list import read_tar_list
from hpc.trust import DEFAULT_UMASK, check_run, of_code, share_run
from jobs.commands import Verbose, number_or_auto, number_parser, run_command, setup_logging, writing_to
from jobs.model_hashes import ModelHashes
from jobs.plain_text import warn
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
from jobs.spec import TokenizeSpec, check_spec, freeze_spec, make_spec, parse_settings, preset_name, read_spec, uses_gpu
from jobs.trust import trust_of

__all__ = ["submit"]

PATIENCE_SECONDS = 20.0
"""For a Slurm of which nobody has said that there is one."""


def submit(
    backend: Annotated[str, typer.Option(help="preset or backend, for example higgs")],
    tar_list: Annotated[
        Path | None,
        typer.Option(
            "--list", "--tar-list", help="file with a tar, a glob or a{000..127}.tar per line; default: the run's tars"
        ),
    ] = None,
    model_path: Annotated[str | None, typer.Option(help="local directory or hub id of the weights")] = None,
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    cluster: Annotated[
        str | None, typer.Option(help="auto: Slurm where there is sbatch; slurm; local: this machine")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="local: worker processes; default one per GPU or core")] = None,
    gpus_per_node: Annotated[
        str | None, typer.Option(help="Slurm: GPUs of one array task; 1 on shared nodes, 4 or a100:4 for whole ones")
    ] = None,
    gpu_request: Annotated[
        str | None, typer.Option(help="Slurm: how to ask for them: gpus-per-node (the default), gres, or none: not at all")
    ] = None,
    procs_per_gpu: Annotated[int | None, typer.Option(min=1, help="worker processes that share a GPU")] = None,
    tars_per_gpu: Annotated[str | None, typer.Option(help="Slurm: tars planned for one GPU, or auto")] = None,
    max_running: Annotated[int | None, typer.Option(min=1, help="Slurm: array tasks that may run at once")] = None,
    time: Annotated[
        str | None, typer.Option(help="Slurm: time limit of a task, as sbatch takes it; default 2:00:00")
    ] = None,
    partition: Annotated[str | None, typer.Option(help="Slurm")] = None,
    account: Annotated[str | None, typer.Option(help="Slurm")] = None,
    qos: Annotated[str | None, typer.Option(help="Slurm")] = None,
    constraint: Annotated[str | None, typer.Option(help="Slurm")] = None,
    cpus_per_gpu: Annotated[int | None, typer.Option(min=1, help="Slurm")] = None,
    mem_per_gpu: Annotated[str | None, typer.Option(help="Slurm, for example 40G")] = None,
    decode_threads: Annotated[
        str | None, typer.Option(help="threads of a worker that decode; default auto: one per core that it has")
    ] = None,
    buffer_memory: Annotated[
        str | None, typer.Option(help="memory of a worker for audio decoded ahead, such as 500M; default 1G")
    ] = None,
    memory_guard: Annotated[
        str | None, typer.Option(help="share of its memory at which a worker flushes and yields; default 0.9, 0 is off")
    ] = None,
    clip_timeout: Annotated[
        float | None,
        typer.Option(
            parser=number_parser("seconds, such as 600 for ten minutes, without a unit; 0: never", 0),
            metavar="FLOAT",
            help="seconds without progress after which a worker is ended; 0: never; default: by its clip",
        ),
    ] = None,
    setup: Annotated[list[str] | None, typer.Option(help="Slurm: a shell line before the tasks: 'module load cuda'")] = None,
    slurm: Annotated[list[str] | None, typer.Option(help="a further sbatch option, key=value")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    from_index: Annotated[int, typer.Option(min=0, help="first tar of the list, from 0")] = 0,
    to_index: Annotated[int | None, typer.Option(min=0, help="the tar after the last one")] = None,
    keep_dirs: Annotated[bool, typer.Option("--keep-dirs", help="keep the tars' folders in the output names")] = False,
    settings: Settings = None,
    max_tokens_per_fragment: MaxTokensPerFragment = None,
    num_tokens_overlap: NumTokensOverlap = None,
    max_duration: MaxDuration = None,
    max_damage: MaxDamage = None,
    extensions: Extensions = None,
    text_key: TextKeys = None,
    text_encoding: TextEncoding = None,
    channel: Channel = None,
    segments: Segments = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="try the clips again that have errors")] = False,
    sniff: Sniff = False,
    allow_missing_end: Annotated[
        bool, typer.Option("--allow-missing-end", help="accept tars with no end marker, or a very long one")
    ] = False,
    allow_joined: Annotated[
        bool, typer.Option("--allow-joined", help="accept tars after whose end another one begins, and read on")
    ] = False,
    allow_pipe: Annotated[
        bool, typer.Option("--allow-pipe", help="run the commands of tars that are pipe:COMMAND, as you (docs/trust.md)")
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="leave out tars that are missing, unreadable or no tars, and go on")
    ] = False,
    group: Annotated[
        str | None, typer.Option(help="a group to share the run with: its members can run commands in your name")
    ] = None,
    umask: Annotated[
        str | None, typer.Option(help="of what the run creates; default 022 or stricter, with --group 002 or 007")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and change nothing")] = False,
    verbose: Verbose = False,
) -> int:
    """Tokenize every tar of a list. Run it again at any time: it goes on where the files say it stopped."""
    setup_logging(verbose=verbose, quiet=True)
    trust = trust_of(group, umask)
    os.umask(trust.umask)
    run = Run(output_dir.absolute(), trust)
    check_run(run, trust)
    tars = _asked_for(
        run, tar_list, slice(from_index, to_index), keep_dirs=keep_dirs, allow_pipe=allow_pipe, skip_missing=skip_missing
    )
    asked = Site(
        cluster=check_cluster(cluster),
        partition=partition,
        account=account,
        qos=qos,
        constraint=constraint,
        time=time,
        gpus_per_node=gpus_per_node,
        gpu_request=check_gpu_request(gpu_request),
        procs_per_gpu=procs_per_gpu,
        tars_per_gpu=check_tars_per_gpu(tars_per_gpu),
        cpus_per_gpu=cpus_per_gpu,
        mem_per_gpu=mem_per_gpu,
        decode_threads=None if decode_threads is None else number_or_auto("--decode-threads", decode_threads),
        buffer_memory=buffer_memory,
        memory_guard=memory_guard,
        clip_timeout=clip_timeout,
        max_running=max_running,
        setup=tuple(setup or ()),
        slurm=parse_slurm_settings(slurm or ()),
    )
    site = overlay(overlay(personal_defaults(os.environ), site_defaults(trust=of_code(trust))), asked)
    launch = make_launch(
        site,
        device=device,
        workers=workers,
        allow_missing_end=allow_missing_end,
        allow_joined=allow_joined,
        environment=kept_environment(os.environ),
        uses_gpu=uses_gpu(backend),
    )
    if launch.cluster == "slurm":
        launch = _fit_to_slurm(launch, site, device)
    with writing_to(run.output_dir):
        begun = read_spec(run.output_dir)
    hashes = ModelHashes(output_dir)
    with hashes.in_use():
        spec = make_spec(
            backend,
            device=launch.device,
            options={**parse_settings(settings or []), **({"model_path": model_path} if model_path is not None else {})},
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
    launch = msgspec.structs.replace(
        launch,
        allow_pipe=allow_pipe,
        options=spec.options,
        group=trust.group_name,
        umask="" if trust.umask == DEFAULT_UMASK else f"{trust.umask:04o}",
    )
    if launch.cluster == "slurm":
        check_path(run.output_dir)
    with writing_to(run.output_dir):
        check_spec(run.output_dir, spec)
        listed = _named(run, tars, keep_dirs=keep_dirs, allow_pipe=allow_pipe)  # a list that is refused leaves no trace
    if faults := _new_faults(run, listed, look := SizedLook()):
        tars = _leave_out(tars, faults, tar_list, skip_missing=skip_missing)
        listed = run.add_to_list(tars, keep_dirs=keep_dirs, dry_run=True)
    with writing_to(run.output_dir):
        if not dry_run:
            share_run(run, trust)
            freeze_spec(run.output_dir, spec)
            hashes.save()
            listed = run.add_to_list(tars, keep_dirs=keep_dirs)
            write_sizes(run.sizes_file, look.sizes)
    states = list(scan(run, listed))
    todo = [tar for tar, state in zip(listed, states, strict=True) if _needs_work(state, retry_errors=retry_errors)]
    if dry_run:
        print("dry run: this is what would run; nothing is written and nothing is submitted")
    print(_summary(run, spec, states, todo, launch, look.sizes, show_script=dry_run))
    if dry_run:
        return 0
    if not todo:
        _keep_sharing(run, launch)
        return 0
    with writing_to(run.output_dir):
        run.write_state(_new_state(run, launch, states, retry_errors=retry_errors))
    return watch(run, launch) if launch.cluster == "local" else _submit_to_slurm(run)


def _named(run: Run, tars: Sequence[str], *, keep_dirs: bool, allow_pipe: bool) -> list[ListedTar]:
    """The tars with the names that they would have. Raises UsageError, naming all that is wrong with them."""
    try:
        return run.add_to_list(tars, keep_dirs=keep_dirs, dry_run=True)
    except UsageError as error:
        faults = all_faults(tars, allow_pipe=allow_pipe, known={tar.tar for tar in run.listed()})
        raise UsageError("\n".join([str(error), *faults])) from None


def _new_faults(run: Run, listed: Sequence[ListedTar], look: SizedLook) -> dict[str, str]:
    """Tar -> why it cannot be tokenized, of those that are new to the run and have no tokens yet.

    The others were looked at when they came, and what became of them since is for their workers to say.
    """
    known = {tar.tar for tar in run.listed()}
    new = {tar.tar: tar.name for tar in listed if tar.tar not in known}
    faults = find_faults(list(new), look)
    return {tar: fault for tar, fault in faults.items() if not run.paths(new[tar]).committed.exists()}


def _leave_out(tars: Sequence[str], faults: Mapping[str, str], tar_list: Path | None, *, skip_missing: bool) -> list[str]:
    """The tars to go on with. Raises UsageError if that was not asked for, or there are none."""
    words = describe_faults(faults, len(tars))
    left = [tar for tar in tars if tar not in faults]
    if not (skip_missing and left):
        raise UsageError(f"--list {tar_list}: {words}\nmend the list, or go on without them: --skip-missing")
    warn(f"--skip-missing: {words}\nleft out; {counted(len(left), 'tar')} to go on with")
    return left


def _fit_to_slurm(launch: Launch, site: Site, device: str) -> Launch:
    """The launch as this Slurm can take it, where that was left to us. Raises InfrastructureError if no Slurm answers."""
    slurm = SlurmCluster(task_environment(launch), PATIENCE_SECONDS)
    if site.cluster in (None, "auto"):
        try:
            slurm.check_answers(launch)
        except InfrastructureError as error:
            later = (
                "if Slurm is only away for now, try again later, or let --cluster slurm wait for it"
                if no_answer(str(error))
                else "if there is a Slurm, is SLURM_CONF right? python -m tools.doctor asks more"
            )
            raise InfrastructureError(
                f"there is an sbatch here, but no Slurm answers: {error}\n--cluster local tokenizes on this machine; {later}"
            ) from None
    left_to_us = device == "auto" and site.gpus_per_node is None and launch.gpu_request != "none"
    if left_to_us and launch.device != "cpu" and not slurm.has_gpus(launch):
        warn(
            "no node has a GPU that Slurm knows of: planned for CPUs; where there are GPUs all the same, say --device cuda "
            "--gpu-request none"
        )
        return msgspec.structs.replace(launch, device="cpu", gpus_per_node=0)
    return launch


def _needs_work(state: TarState, *, retry_errors: bool) -> bool:
    has_errors = state.manifest is not None and bool(state.manifest.errors)
    return state.state != "committed" or (retry_errors and has_errors)


def _new_state(run: Run, launch: Launch, states: Sequence[TarState], *, retry_errors: bool) -> RunState:
    """What the controller is to know. A person who submits lets everything in again, whatever counted against it."""
    before = run.read_state()
    retry = {
        tar.name: tar.manifest.attempt
        for tar in states
        if retry_errors and tar.state == "committed" and tar.manifest is not None and tar.manifest.errors
    }
    return RunState(
        run_id=before.run_id or _new_run_id(),
        launch=launch,
        amnesty=max([submission.number for submission in run.submissions()], default=0),
        retry={**before.retry, **retry},
    )


def _keep_sharing(run: Run, launch: Launch) -> None:
    """Where there is nothing to do, keep who shares the run, which the next command has to say, and that it is one."""
    state = run.read_state()
    before = state.launch
    if before is not None:
        launch = msgspec.structs.replace(before, group=launch.group, umask=launch.umask)
    if launch != before:
        with writing_to(run.output_dir):
            run.write_state(msgspec.structs.replace(state, launch=launch, run_id=state.run_id or _new_run_id()))


def _new_run_id() -> str:
    return uuid.uuid4().hex[:8]


def _asked_for(
    run: Run, tar_list: Path | None, chosen: slice, *, keep_dirs: bool, allow_pipe: bool, skip_missing: bool
) -> list[str]:
    """The tars to tokenize. Raises UsageError that names all that is wrong with the list, as far as it is known here."""
    listed = run.listed()

    def faults_of(tars: Sequence[str]) -> list[str]:
        try:
            _named(run, tars[chosen], keep_dirs=keep_dirs, allow_pipe=allow_pipe)
        except UsageError as error:
            return [str(error)]
        return all_faults(tars[chosen], allow_pipe=allow_pipe, known={tar.tar for tar in listed})

    if tar_list is not None:
        known = [tar.tar for tar in listed]
        tars = read_tar_list(tar_list, known=known, skip_missing=skip_missing, look_at_rest=faults_of)
    else:
        tars = [tar.tar for tar in listed if tar.tar != tar.name]  # but for those of which there is the name alone
        if not tars:
            raise UsageError("--list: expected a file with a tar per line; python -m tools.generate_tar_list makes one")
    if not tars[chosen]:
        to = "" if chosen.stop is None else f" --to-index {chosen.stop}"
        raise UsageError(f"--from-index {chosen.start}{to}: no tar of {tar_list or run.output_dir} is in this range")
    if unreadable(tars[chosen], allow_pipe=allow_pipe):
        raise UsageError("\n".join(faults_of(tars)))
    return tars[chosen]


def _in_words(field: Field, spec: TokenizeSpec) -> str:
    """`tokens 8 x 1024 at 25/s`."""
    what = f"{field.width} {field.dtype}" if field.form == "features" else f"{field.width} x {field.codebook_size}"
    rate = f" at {spec.sample_rate / field.samples_per_item:.4g}/s" if field.samples_per_item else ""
    return f"{field.name} {what}{rate}"


def _summary(
    run: Run,
    spec: TokenizeSpec,
    states: Sequence[TarState],
    todo: Sequence[ListedTar],
    launch: Launch,
    sizes: Mapping[str, int],
    *,
    show_script: bool,
) -> str:
    count = {name: sum(state.state == name for state in states) for name in ("committed", "partial", "invalid")}
    tars = counted(len(states), "tar")
    codes = ", ".join(_in_words(field, spec) for field in spec.fields)
    lines = [
        f"{run.output_dir}: {preset_name(spec)} on {launch.device}, {codes}, recipe {spec.fingerprint}",
        f"{tars}: {count['committed']} committed, {count['partial']} begun, {count['invalid']} invalid",
    ]
    if not todo:
        return "\n".join([*lines, "nothing to do"])
    submitter = Submitter(run, cluster_of(launch), launch, host="", clock=float)
    sizes = {**read_sizes(run.sizes_file), **sizes}
    slots = submitter.plan_slots([as_task(tar, sizes) for tar in todo], bytes_per_second(states))
    loads = [sum(task.bytes for task in slot) for slot in slots]
    lines.append(
        f"{counted(len(todo), 'tar')} ({sum(loads) / 1e6:,.1f} MB) for {counted(len(slots), 'worker')}, "
        f"{min(loads) / 1e6:,.1f} to {max(loads) / 1e6:,.1f} MB each"
    )
    if launch.cluster == "slurm":
        elements = -(-len(slots) // launch.processes)
        gpus = counted(launch.gpus_per_node, "GPU") if launch.gpus_per_node else "no GPU"
        each = f"{gpus} and {counted(launch.processes, 'worker')}"
        lines.append(f"on Slurm: {counted(elements, 'array task')} of {launch.time_limit_min} min, each with {each}")
        if show_script:
            job = Job(name="tar2tokens-dry-run", elements=elements, parallel=elements, host="", intended_at=0.0)
            lines += ["", batch_text(Submission(run.submissions_folder / "0000"), launch, job)]
    return "\n".join(lines)


def _submit_to_slurm(run: Run) -> int:
    """One round; the rest is hpc.resume's."""
    code = one_round(run, patient=False)
    if code == EXIT_CODES["running"]:
        group = f" --group {run.trust.group_name}" if run.trust is not None and run.trust.group_name else ""
        print(f"next: python -m hpc.resume --output-dir {run.output_dir}{group}   (or --once from cron, or --chain)")
        return 0
    return code


if __name__ == "__main__":
    run_command(submit)
