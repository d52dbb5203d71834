"""What hpc.submit --train decides and writes before the first round."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted
from hpc.batch_script import batch_text, check_path
from hpc.begin_run import cleared_state, plan_launch
from hpc.launch import Launch
from hpc.launch_options import LaunchOptions
from hpc.run import Run
from hpc.submissions import Job, Submission
from hpc.training import describe_training, is_done, ranks_of
from hpc.trust import share_run
from jobs.commands import WHAT, writing_to
from jobs.devices import CUDA_ONLY
from jobs.option_struct import Option, option_words
from jobs.spec import spec_path
from jobs.taste.corpus import check_runs
from jobs.taste.lm_files import find_language_model
from jobs.taste.settings import Settings, read_settings
from jobs.taste.status import CHECKPOINT, other_training, read_status, refuse_training
from jobs.taste.training import Training
from jobs.trust import Trust
from jobs.worker_options import WishOptions

__all__ = ["BegunTraining", "TrainOptions", "begin_training", "check_no_training", "refuse_others"]

_What = functools.partial(Option, group=WHAT)


class TrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to train, instead of tokenizing tars."""

    train: Annotated[
        Path | None, _What("train TASTE with the settings of this YAML, on --data, instead of tokenizing (docs/taste.md)")
    ] = None
    data: Annotated[
        tuple[str, ...],
        _What("with --train: a run with text, speech and units; or several over the same tars, one --data each"),
    ] = ()
    test_data: Annotated[tuple[str, ...], _What("with --train: runs to test on, instead of a share of --data")] = ()


@dataclass(frozen=True)
class BegunTraining:
    """A training that can be submitted."""

    run: Run
    launch: Launch
    training: Training
    done: bool
    """Its last epoch is over."""

    def summary(self, *, show_script: bool) -> str:
        """What is trained, where, and how far it is."""
        settings, launch = self.training.chosen(), self.launch
        what = (
            f"{counted(settings.epochs, 'epoch')}, {settings.batch_size} clips a step, data {', '.join(self.training.data)}"
        )
        state = msgspec.structs.replace(self.run.read_state(), training=self.training)
        lines = [f"{self.run.output_dir}: training on {launch.device}, {what}", describe_training(self.run, state)]
        if self.done:
            return "\n".join([*lines, "nothing to do"])
        if launch.cluster == "slurm":
            gpus = counted(launch.gpus_per_node, "GPU") if launch.gpus_per_node else "no GPU"
            each = f"each on one node with {gpus} and {counted(ranks_of(launch), 'worker')}"
            lines.append(f"on Slurm: one job after another of {launch.time_limit_min} min, {each}")
            if show_script:
                job = Job(name="tar2tokens-dry-run", elements=1, parallel=1, host="", intended_at=0.0)
                lines += ["", batch_text(Submission(self.run.submissions_folder / "0000"), launch, job)]
        return "\n".join(lines)


def refuse_others(options: TrainOptions, *others: tuple[msgspec.Struct, msgspec.Struct]) -> None:
    """Raise UsageError where options of trainings and of tokens are mixed. `others`: what was given, and what is usual."""
    given = [word for one, usual in others for word in option_words(one, usual) if word.startswith("--")]
    if options.train is not None and given:
        words = ", ".join(dict.fromkeys(given))
        raise UsageError(f"{words}: for tokens only; --train takes --data, --test-data and --model-path")
    if options.train is not None and not options.data:
        raise UsageError("--data: expected a finished run with text, speech and units to --train on (docs/taste.md)")
    if options.train is None and (options.data or options.test_data):
        raise UsageError("--data: for trainings only: give the settings with --train, or tars to tokenize with --list")


def check_no_training(run: Run) -> None:
    """Raise UsageError if the folder, which tokens shall go to, holds a training."""
    refuse_training(run.output_dir)
    if run.read_state().training is not None:
        raise UsageError(f"--output-dir {run.output_dir}: it holds a training: give another folder for tokens")


def begin_training(
    run: Run, options: TrainOptions, model_path: str | None, asked: LaunchOptions, trust: Trust, *, dry_run: bool
) -> BegunTraining:
    """Check all that was asked for, then write the run's state, unless it is a `dry_run` or nothing is left to do.

    Raises UsageError where something does not fit, before anything is written, and InfrastructureError.
    """
    settings = read_settings(options.train, {"model_path": model_path})
    files = find_language_model(settings.model_path)
    settings = msgspec.structs.replace(settings, model_path=str(files.weights.parent.absolute()))
    data, test_data = (
        [Path(folder).expanduser().absolute() for folder in folders] for folders in (options.data, options.test_data)
    )
    contents = check_runs(data, files)
    if test_data:
        check_runs(test_data, files)
    training = Training(
        settings=settings.plain(), data=tuple(map(str, data)), test_data=tuple(map(str, test_data)), contents=contents
    )
    _check_folder(run, training, settings)
    if asked.procs_per_gpu not in (None, 1) and asked.device != "cpu":
        raise UsageError(f"--procs-per-gpu {asked.procs_per_gpu}: a training has one process per GPU (docs/taste.md)")
    launch = plan_launch(asked, WishOptions(), trust, uses_gpu=True)
    if launch.device not in CUDA_ONLY:
        raise UsageError(f"--device {launch.device!r}: a training runs on cpu or cuda")
    procs = launch.procs_per_gpu if launch.device == "cpu" else 1  # a site's own number is about tokens
    launch = msgspec.structs.replace(launch, training=True, procs_per_gpu=procs)
    if launch.cluster == "slurm":
        check_path(run.output_dir)
    done = is_done(run, training)
    if not (dry_run or done):
        with writing_to(run.output_dir):
            run.output_dir.mkdir(parents=True, exist_ok=True)
            share_run(run, trust)
            run.folder.mkdir(exist_ok=True)
            run.write_state(msgspec.structs.replace(cleared_state(run, launch), training=training))
    return BegunTraining(run, launch, training, done)


def _check_folder(run: Run, training: Training, settings: Settings) -> None:
    """Raise UsageError if the folder holds something else than this training."""
    if spec_path(run.output_dir).exists():
        raise UsageError(f"--output-dir {run.output_dir}: it holds a run of tokens: give another folder for the training")
    with writing_to(run.output_dir):
        before, status = run.read_state().training, read_status(run.output_dir)
    if not (run.output_dir / CHECKPOINT).exists():
        return
    told = status.settings if status is not None else before.settings if before is not None else None
    differences = settings.differences(told) if told is not None else []
    if before is not None and before.contents != training.contents:
        differences.append("--data: other clips, or other recipes")
    if before is not None and bool(before.test_data) != bool(training.test_data):
        now, then = (", ".join(one.test_data) or "a share" for one in (training, before))
        differences.append(f"--test-data: tested on {now}, and on {then} before")
    if differences:
        raise other_training(run.output_dir, differences)
