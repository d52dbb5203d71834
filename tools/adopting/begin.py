"""What tools.adopt decides before it reads a line: the tars, the places, and the recipe that says what is mixed."""

from __future__ import annotations

import os
from pathlib import Path

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.begin_run import ListOptions
from hpc.environment import kept_environment
from hpc.launch import make_launch
from hpc.launch_options import LaunchOptions
from hpc.list_check import describe_faults, find_faults
from hpc.remote_list import unreadable
from hpc.run import Run
from hpc.tar_list import read_tar_list
from jobs.addresses import is_pipe
from jobs.channels import SPLIT
from jobs.commands import writing_to
from jobs.model_hashes import ModelHashes
from jobs.plain_text import warn
from jobs.recipe_options import BackendOptions
from jobs.spec import TokenizeSpec, adopting, make_spec, read_spec, uses_gpu
from tools.adopting.old_lines import kind_for

__all__ = ["adopting_spec", "check_places", "choose_tars"]


def check_places(old: Path, output_dir: Path) -> None:
    """Raise UsageError if the run would be made inside the old output, whose files stay as they are, or around it."""
    inside, outside = output_dir.resolve(), old.resolve()
    if inside == outside or inside in outside.parents or outside in inside.parents:
        raise UsageError(
            f"--output-dir {output_dir}: expected a folder outside the old output {old}, which stays as it is: give another"
        )


def choose_tars(run: Run, which: ListOptions) -> list[str]:
    """The tars of the list, or else of the run. Raises UsageError that names those that cannot be read."""
    listed = run.listed()
    own = [tar.tar for tar in listed if tar.tar != tar.name]  # of the others only the name is known
    if which.tar_list is not None:
        known = [tar.tar for tar in listed]
        source = f"--list {which.tar_list}"
        found = read_tar_list(which.tar_list, known=known, skip_missing=which.skip_missing)
    elif own:
        source, found = f"--output-dir {run.output_dir}", own
    else:
        raise UsageError(f"--list: expected a file with a tar per line; {called('tools.generate_tar_list')} makes one")
    tars = found[which.from_index : which.to_index]
    if not tars:
        raise UsageError(f"{source}: no tar of it is in the range of --from-index and --to-index")
    command = next(filter(is_pipe, tars), None)
    if command is not None:
        raise UsageError(f"{source}: {command}: tars are read twice here: write its output into a file")
    if words := unreadable(tars, allow_pipe=False):
        raise UsageError("\n".join(words))
    faults = find_faults(tars)
    left = [tar for tar in tars if tar not in faults]
    if not faults:
        return tars
    described = describe_faults(faults, len(tars))
    if not (which.skip_missing and left):
        raise UsageError(f"{source}: {described}\ncorrect the list, or go on without them: --skip-missing")
    warn(f"--skip-missing: {described}\nleft out; {counted(len(left), 'tar')} to go on with")
    return left


def adopting_spec(run: Run, recipe: BackendOptions, device: str, hashes: ModelHashes) -> TokenizeSpec:
    """The recipe of the run, marked as one whose tokens may be adopted.

    Raises UsageError if members are cut into clips, which older tools did not do, if no older tool makes such records, and
    if the run has begun without adopted lines.
    """
    with writing_to(run.output_dir):
        begun = read_spec(run.output_dir)
    if begun is not None and device == "auto":
        device = begun.device
    asked = LaunchOptions(device=device)
    launch = make_launch(asked, environment=kept_environment(os.environ), uses_gpu=uses_gpu(recipe.backend))
    with hashes.in_use():
        spec = make_spec(recipe.backend, device=launch.device, options=recipe.options, asked=recipe, begun=begun)
    if spec.segments or spec.channel_rule == SPLIT:
        raise UsageError(
            "--segments and --channel split make several clips of a member: older tools' lines are of whole ones"
        )
    marked = adopting(spec, kind_for(spec.fields))
    if begun is not None and begun.adopted is None and begun.fingerprint == spec.fingerprint:
        raise UsageError(
            f"{run.output_dir} holds tokens of its own recipe alone: adopted lines would mix with them: use another "
            "--output-dir"
        )
    return marked
