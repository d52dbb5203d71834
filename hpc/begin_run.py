"""What hpc.submit decides and writes before the first round: which tars, which recipe, launched how, what is to do."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.batch_script import check_path
from hpc.environment import kept_environment, task_environment
from hpc.launch import Launch, make_launch
from hpc.launch_options import LaunchOptions, overlay
from hpc.list_check import describe_faults, find_faults
from hpc.personal import personal_defaults
from hpc.progress import TarState, scan
from hpc.remote_list import SizedLook, all_faults, read_sizes, unreadable, write_sizes
from hpc.run import ListedTar, Run, RunState
from hpc.site_file import site_defaults
from hpc.slurm import SlurmCluster
from hpc.slurm_words import no_answer
from hpc.tar_list import read_tar_list
from hpc.trust import DEFAULT_UMASK, of_code, share_run
from jobs.commands import WHAT, writing_to
from jobs.model_hashes import ModelHashes
from jobs.option_struct import Option
from jobs.plain_text import warn
from jobs.recipe_options import BackendOptions
from jobs.spec import TokenizeSpec, check_spec, freeze_spec, make_spec, read_spec, uses_gpu
from jobs.trust import Trust
from jobs.worker_options import WishOptions

__all__ = ["Begun", "ListOptions", "SubmitRecipe", "begin_run", "cleared_state", "keep_sharing", "new_state", "plan_launch"]

PATIENCE_SECONDS = 20.0
"""How long Slurm may take to answer if it was not asked for: there may be none."""
Index = Annotated[int, msgspec.Meta(ge=0)]
_What = functools.partial(Option, group=WHAT)


class ListOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which tars."""

    tar_list: Annotated[
        Path | None,
        _What(
            "file with a tar, a glob or a{000..127}.tar per line; default: the run's tars", flags=("--list", "--tar-list")
        ),
    ] = None
    from_index: Annotated[Index, _What("first tar of the list, from 0")] = 0
    to_index: Annotated[Index | None, _What("the tar after the last one")] = None
    keep_dirs: Annotated[bool, _What("keep the tars' folders in the output names")] = False
    skip_missing: Annotated[bool, _What("leave out tars that are missing, unreadable or no tars, and go on")] = False


class SubmitRecipe(BackendOptions, frozen=True, kw_only=True):
    """The recipe of tokens; a training has none."""

    backend: Annotated[str, _What("preset or backend, for example higgs")] = ""


@dataclass(frozen=True)
class Begun:
    """A run that can be submitted."""

    run: Run
    spec: TokenizeSpec
    launch: Launch
    states: Sequence[TarState]
    """Of the tars of this command."""
    todo: Sequence[ListedTar]
    """Those of them that need work."""
    sizes: Mapping[str, int]
    """Of tars that are no files, in bytes."""


def begin_run(
    run: Run,
    which: ListOptions,
    recipe: BackendOptions,
    wishes: WishOptions,
    asked: LaunchOptions,
    trust: Trust,
    *,
    dry_run: bool,
) -> Begun:
    """Check all that was asked for, then write the run's recipe and list, unless it is a `dry_run`.

    Raises UsageError where something does not fit, before anything is written, and InfrastructureError.
    """
    chosen = _choose_tars(run, which, allow_pipe=wishes.allow_pipe)
    launch = plan_launch(asked, wishes, trust, uses_gpu=uses_gpu(recipe.backend))
    with writing_to(run.output_dir):
        frozen = read_spec(run.output_dir)
    hashes = ModelHashes(run.output_dir)
    with hashes.in_use():
        spec = make_spec(recipe.backend, device=launch.device, options=recipe.options, asked=recipe, begun=frozen)
    if launch.cluster == "slurm":
        check_path(run.output_dir)
    with writing_to(run.output_dir):
        check_spec(run.output_dir, spec)
        listed = _name_tars(run, chosen, which, allow_pipe=wishes.allow_pipe)  # a list that is refused leaves no trace
    if faults := _new_faults(run, listed, look := SizedLook()):
        chosen = _leave_out(chosen, faults, which)
        listed = run.add_to_list(chosen, keep_dirs=which.keep_dirs, dry_run=True)
    if not dry_run:
        with writing_to(run.output_dir):
            share_run(run, trust)
            freeze_spec(run.output_dir, spec)
            hashes.save()
            listed = run.add_to_list(chosen, keep_dirs=which.keep_dirs)
            write_sizes(run.sizes_file, look.sizes)
    states = list(scan(run, listed))
    todo = [tar for tar, state in zip(listed, states, strict=True) if _needs_work(state, retry_errors=wishes.retry_errors)]
    launch = msgspec.structs.replace(launch, options=spec.options)
    return Begun(run, spec, launch, states, todo, {**read_sizes(run.sizes_file), **look.sizes})


def _choose_tars(run: Run, which: ListOptions, *, allow_pipe: bool) -> list[str]:
    """The tars to tokenize. Raises UsageError that names all that is wrong with the list, as far as it is known here."""
    listed, chosen = run.listed(), slice(which.from_index, which.to_index)
    known = [tar.tar for tar in listed]

    def faults_of(tars: Sequence[str]) -> list[str]:
        try:
            _name_tars(run, tars[chosen], which, allow_pipe=allow_pipe)
        except UsageError as error:
            return [str(error)]
        return all_faults(tars[chosen], allow_pipe=allow_pipe, known=set(known))

    if which.tar_list is not None:
        tars = read_tar_list(which.tar_list, known=known, skip_missing=which.skip_missing, look_at_rest=faults_of)
    else:
        tars = [tar.tar for tar in listed if tar.tar != tar.name]  # of the others only the name is known
        if not tars:
            raise UsageError(f"--list: expected a file with a tar per line; {called('tools.generate_tar_list')} makes one")
    if not tars[chosen]:
        to = "" if which.to_index is None else f" --to-index {which.to_index}"
        where = which.tar_list or run.output_dir
        raise UsageError(f"--from-index {which.from_index}{to}: no tar of {where} is in this range")
    if unreadable(tars[chosen], allow_pipe=allow_pipe):
        raise UsageError("\n".join(faults_of(tars)))
    return tars[chosen]


def _name_tars(run: Run, tars: Sequence[str], which: ListOptions, *, allow_pipe: bool) -> list[ListedTar]:
    """The tars with the names that they would have. Raises UsageError that names all that is wrong with them."""
    try:
        return run.add_to_list(tars, keep_dirs=which.keep_dirs, dry_run=True)
    except UsageError as error:
        faults = all_faults(tars, allow_pipe=allow_pipe, known={tar.tar for tar in run.listed()})
        raise UsageError("\n".join([str(error), *faults])) from None


def plan_launch(asked: LaunchOptions, wishes: WishOptions, trust: Trust, *, uses_gpu: bool) -> Launch:
    """The options that were asked for, over the site's defaults, over the person's SBATCH_ variables."""
    site = overlay(personal_defaults(os.environ), site_defaults(trust=of_code(trust)))
    asked = overlay(site, asked)
    launch = make_launch(asked, environment=kept_environment(os.environ), wishes=wishes, uses_gpu=uses_gpu)
    if launch.cluster == "slurm":
        launch = _fit_to_slurm(launch, asked)
    umask = "" if trust.umask == DEFAULT_UMASK else f"{trust.umask:04o}"
    return msgspec.structs.replace(launch, group=trust.group_name, umask=umask)


def _fit_to_slurm(launch: Launch, asked: LaunchOptions) -> Launch:
    """Choose what was left open by what this Slurm has. Raises InfrastructureError if no Slurm answers."""
    slurm = SlurmCluster(task_environment(launch), PATIENCE_SECONDS)
    if asked.cluster in (None, "auto"):
        try:
            slurm.check_answers(launch)
        except InfrastructureError as error:
            later = (
                "if Slurm is only away for now, try again later, or let --cluster slurm wait for it"
                if no_answer(str(error))
                else f"if there is a Slurm, is SLURM_CONF right? {called('tools.doctor')} asks more"
            )
            raise InfrastructureError(
                f"there is an sbatch here, but no Slurm answers: {error}\n--cluster local tokenizes on this machine; {later}"
            ) from None
    left_to_us = asked.device == "auto" and asked.gpus_per_node is None and launch.gpu_request != "none"
    if left_to_us and launch.device != "cpu" and not slurm.has_gpus(launch):
        warn(
            "no node has a GPU that Slurm knows of: planned for CPUs; where there are GPUs all the same, say --device cuda "
            "--gpu-request none"
        )
        return msgspec.structs.replace(launch, device="cpu", gpus_per_node=0)
    return launch


def _new_faults(run: Run, listed: Sequence[ListedTar], look: SizedLook) -> dict[str, str]:
    """Tar -> why it cannot be tokenized, of those that are new to the run and have no tokens yet.

    The others were checked when they were new; their workers report what has become of them since.
    """
    known = {tar.tar for tar in run.listed()}
    new = {tar.tar: tar.name for tar in listed if tar.tar not in known}
    faults = find_faults(list(new), look)
    return {tar: fault for tar, fault in faults.items() if not run.paths(new[tar]).committed.exists()}


def _leave_out(tars: Sequence[str], faults: Mapping[str, str], which: ListOptions) -> list[str]:
    """The tars to go on with. Raises UsageError if that was not asked for, or there are none."""
    described = describe_faults(faults, len(tars))
    left = [tar for tar in tars if tar not in faults]
    if not (which.skip_missing and left):
        raise UsageError(f"--list {which.tar_list}: {described}\ncorrect the list, or go on without them: --skip-missing")
    warn(f"--skip-missing: {described}\nleft out; {counted(len(left), 'tar')} left to tokenize")
    return left


def _needs_work(state: TarState, *, retry_errors: bool) -> bool:
    has_errors = state.manifest is not None and bool(state.manifest.errors)
    return state.state != "committed" or (retry_errors and has_errors)


def new_state(begun: Begun, *, retry_errors: bool) -> RunState:
    """What the controller has to know."""
    retry = {
        tar.name: tar.manifest.attempt
        for tar in begun.states
        if retry_errors and tar.state == "committed" and tar.manifest is not None and tar.manifest.errors
    }
    state = cleared_state(begun.run, begun.launch)
    return msgspec.structs.replace(state, retry={**state.retry, **retry})


def cleared_state(run: Run, launch: Launch) -> RunState:
    """The run's state after a command that submits: nothing that happened before counts against tars, clips and nodes."""
    before = run.read_state()
    return RunState(
        run_id=before.run_id or _new_run_id(),
        launch=launch,
        amnesty=max([submission.number for submission in run.submissions()], default=0),
        retry=before.retry,
    )


def keep_sharing(begun: Begun) -> None:
    """Where there is nothing to do: note that the folder holds a run, and who shares it, for later commands."""
    state = begun.run.read_state()
    launch = begun.launch
    if state.launch is not None:
        launch = msgspec.structs.replace(state.launch, group=launch.group, umask=launch.umask)
    if launch != state.launch:
        with writing_to(begun.run.output_dir):
            run_id = state.run_id or _new_run_id()
            begun.run.write_state(msgspec.structs.replace(state, launch=launch, run_id=run_id))


def _new_run_id() -> str:
    return uuid.uuid4().hex[:8]
