"""python -m hpc.submit: list + backend -> run -> plan -> tasks, on Slurm or on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.base import Field
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.batch_script import batch_text
from hpc.begin_run import Begun, ListOptions, SubmitRecipe, begin_run, keep_sharing, new_state
from hpc.begin_training import BegunTraining, TrainOptions, begin_training, check_no_training, refuse_others
from hpc.dispatch import Submitter, bytes_per_second
from hpc.launch import Launch
from hpc.launch_options import LaunchOptions
from hpc.rounds import EXIT_CODES, cluster_of, one_round, watch
from hpc.run import Run, as_task
from hpc.submissions import Job, Submission
from hpc.trust import check_run
from jobs.commands import OutputDir, Verbose, run_command, setup_logging, writing_to
from jobs.option_struct import with_options
from jobs.spec import TokenizeSpec, preset_name
from jobs.worker_options import SharingOptions, WishOptions

__all__ = ["submit"]

STATES = ("committed", "partial", "invalid")


@with_options
def submit(
    *,
    which: ListOptions,
    recipe: SubmitRecipe,
    wishes: WishOptions,
    training: TrainOptions,
    output_dir: OutputDir = Path("tokens"),
    launch: LaunchOptions,
    sharing: SharingOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and change nothing")] = False,
    verbose: Verbose = False,
) -> int:
    """Tokenize every tar of a list, or --train. Run it again at any time: it continues from what is on disk.

    Example: --list tars.txt --backend higgs --output-dir tokens --partition gpu --time 4:00:00
    """
    setup_logging(verbose=verbose, quiet=True)
    usual = SubmitRecipe(model_path=recipe.model_path)
    refuse_others(training, (which, ListOptions()), (recipe, usual), (wishes, WishOptions()))
    if training.train is None and not recipe.backend:
        raise UsageError("--backend: expected a preset or backend, for example higgs; or --train with a training's settings")
    trust = sharing.trust()
    os.umask(trust.umask)
    run = Run(output_dir.absolute(), trust)
    check_run(run, trust)
    if training.train is not None:
        return _train(begin_training(run, training, recipe.model_path, launch, trust, dry_run=dry_run), dry_run=dry_run)
    with writing_to(run.output_dir):
        check_no_training(run)
    begun = begin_run(run, which, recipe, wishes, launch, trust, dry_run=dry_run)
    _say(_summary(begun, show_script=dry_run), dry_run=dry_run)
    if dry_run:
        return 0
    if not begun.todo:
        keep_sharing(begun)
        return 0
    with writing_to(run.output_dir):
        run.write_state(new_state(begun, retry_errors=wishes.retry_errors))
    return _go(run, begun.launch)


def _train(begun: BegunTraining, *, dry_run: bool) -> int:
    _say(begun.summary(show_script=dry_run), dry_run=dry_run)
    return 0 if dry_run or begun.done else _go(begun.run, begun.launch)


def _say(summary: str, *, dry_run: bool) -> None:
    if dry_run:
        print("dry run: this is what would run; nothing is written and nothing is submitted")
    print(summary)


def _go(run: Run, launch: Launch) -> int:
    return watch(run, launch) if launch.cluster == "local" else _submit_to_slurm(run)


def _describe(field: Field, spec: TokenizeSpec) -> str:
    """`tokens 8 x 1024 at 25/s`."""
    what = f"{field.width} {field.dtype}" if field.form == "features" else f"{field.width} x {field.codebook_size}"
    rate = f" at {spec.sample_rate / field.samples_per_item:.4g}/s" if field.samples_per_item else ""
    return f"{field.name} {what}{rate}"


def _summary(begun: Begun, *, show_script: bool) -> str:
    run, spec, launch, states = begun.run, begun.spec, begun.launch, begun.states
    committed, begun_before, invalid = (sum(state.state == name for state in states) for name in STATES)
    fields = ", ".join(_describe(field, spec) for field in spec.fields)
    lines = [
        f"{run.output_dir}: {preset_name(spec)} on {launch.device}, {fields}, recipe {spec.fingerprint}",
        f"{counted(len(states), 'tar')}: {committed} committed, {begun_before} begun, {invalid} invalid",
    ]
    if not begun.todo:
        return "\n".join([*lines, "nothing to do"])
    submitter = Submitter(run, cluster_of(launch), launch, host="", clock=float)
    slots = submitter.plan_slots([as_task(tar, begun.sizes) for tar in begun.todo], bytes_per_second(states))
    loads = [sum(task.bytes for task in slot) for slot in slots]
    lines.append(
        f"{counted(len(begun.todo), 'tar')} ({sum(loads) / 1e6:,.1f} MB) for {counted(len(slots), 'worker')}, "
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
    """Do one round; hpc.resume does the others."""
    code = one_round(run, patient=False)
    if code == EXIT_CODES["running"]:
        group = f" --group {run.trust.group_name}" if run.trust is not None and run.trust.group_name else ""
        print(f"next: {called('hpc.resume')} --output-dir {run.output_dir}{group}   (or --once from cron, or --chain)")
        return 0
    return code


if __name__ == "__main__":
    run_command(submit)
