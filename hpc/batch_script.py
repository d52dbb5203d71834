"""The batch script of an array. Pure, except for the interpreter's path."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

from audio_tokenizers.errors import UsageError
from hpc.gpu_request import gpu_options
from hpc.launch import Launch
from hpc.plan import stop_margin_s
from hpc.submissions import Job, Submission
from jobs.run_module import module_command

__all__ = ["batch_text", "check_path"]

WATCHED_LIMIT_MIN = 10
"""Below that Slurm sends no warning signal, which may be a minute early and cost too much; tasks watch the clock anyway."""


def check_path(output_dir: Path) -> None:
    """Raise UsageError if submitit or Slurm would interpret a part of the path."""
    if "%" in str(output_dir) or "\\" in str(output_dir) or "\n" in str(output_dir):
        raise UsageError(
            f"--output-dir {output_dir}: Slurm gives % and \\ in paths a meaning of its own: choose another folder"
        )


def batch_text(submission: Submission, launch: Launch, job: Job, exclude: Collection[str] = ()) -> str:
    """The script for sbatch, written by submitit; only the command is ours.

    submitit's own command unpickles a function from a file that is moved into place after sbatch has answered. Tasks of an
    array whose submitter died in between, or whose sbatch wrongly reported a failure, would never find it.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    limit_min = launch.time_limit_min
    avoided = [*filter(None, [str(launch.slurm.get("exclude", ""))]), *sorted(exclude)]
    cpus = launch.cpus_per_process
    srun = ["--kill-on-bad-exit=0", "--wait=0"]  # one worker's end is not the end of the others
    if cpus:
        srun.append(f"--cpus-per-task={cpus}")  # since Slurm 22.05 srun does not inherit it from the job
    gpus = gpu_options(launch.gpus_per_node, launch.gpu_type, launch.gpu_request, launch.mem_per_gpu, launch.slurm)
    command = module_command("hpc.task", submission.plan_file, "--elements", job.elements)
    command += ["--umask", launch.umask] if launch.umask else []
    parameters: dict[str, Any] = {
        "command": f'{shlex.join(command)} --started "$job_started"',
        "folder": submission.logs,
        "job_name": job.name,
        "map_count": job.elements,
        "array_parallelism": job.parallel,
        "time": limit_min,
        "ntasks_per_node": launch.processes,
        "cpus_per_task": cpus,
        "gpus_per_node": gpus.gpus_per_node,
        "wckey": None,  # submitit would set its own, which sites that use wckeys refuse
        "mem_per_gpu": gpus.mem_per_gpu,
        "mem": gpus.mem,
        "partition": launch.partition,
        "account": launch.account,
        "qos": launch.qos,
        "constraint": launch.constraint,
        "signal_delay_s": round(stop_margin_s(60 * limit_min)) if limit_min >= WATCHED_LIMIT_MIN else 0,
        "stderr_to_stdout": True,
        "setup": ["printf -v job_started '%(%s)T' -1", *launch.setup],  # Slurm sets SLURM_JOB_END_TIME only since 23.02
        "srun_args": srun,
        "additional_parameters": {
            "no-requeue": True,  # the controller resubmits what is left
            "chdir": str(submission.folder),
            **launch.slurm,
            **gpus.further,
            **({"exclude": ",".join(avoided)} if avoided else {}),
        },
    }
    return _make_sbatch_string(**parameters)
