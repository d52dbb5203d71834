"""What of a person's environment a run keeps, so that cron and another shell find what its tasks need, and nothing else."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Mapping
from pathlib import Path

import audio_tokenizers.errors
from hpc.launch import Launch

__all__ = ["KEPT_VARIABLES", "kept_environment", "restored_environment", "task_environment"]

KEPT_VARIABLES = {
    "PATH": "Slurm's commands are on it, and programs that tasks call; cron's own is bare",
    "LD_LIBRARY_PATH": "where modules put the libraries of an interpreter or of CUDA",
    "PYTHONPATH": "backends of packages that nobody has installed",
    "VIRTUAL_ENV": "setup lines name it",
    "CONDA_PREFIX": "setup lines name it, and libraries look there for CUDA",
    "MODULEPATH": "`module load` in setup lines looks there",
    "SLURM_CONF": "where a site's Slurm has its configuration",
    "SLURM_CONF_SERVER": "the same, of sites that have it on a server only",
    "CUDA_HOME": "compilers of kernels look there",
    "HF_HOME": "where weights are, and whether the hub may be asked",
    "HF_HUB_CACHE": "the same",
    "HF_HUB_OFFLINE": "the same",
    "TORCH_HOME": "the same",
    "XDG_CACHE_HOME": "the same",
    "HF_ENDPOINT": "which hub tars at hf:// come from",
    "AWS_PROFILE": "which of a person's own credentials open tars at s3://",
    "AWS_REGION": "where those are",
    "AWS_DEFAULT_REGION": "the same",
    "AWS_ENDPOINT_URL": "the same, of stores that are not Amazon's",
    "AWS_ENDPOINT_URL_S3": "the same",
    "LANG": "the encoding of names in messages",
    "LC_ALL": "the same",
}
"""Variable -> why. Everything else comes from the process at hand: HOME, USER and LOGNAME are those of whoever runs it, of
what decides which code runs (LD_PRELOAD, PYTHONSTARTUP, BASH_ENV and so on) a run folder says nothing, and secrets stay out.
"""
PATHS = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
"""Of their folders only absolute ones: any other is the folder in which somebody happens to stand."""
PRIVATE = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_")
"""Variables of a job that we may be in, and what a person likes to see or to leave out, such as SQUEUE_STATES."""
WAYS_TO_SLURM = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_SOCKET")
"""Without them there may be no Slurm that answers: where it is, and who asks."""


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What to keep for tasks and for later rounds; the folder of sbatch is on the kept PATH if it is on this one."""
    given = dict(environment)
    if "PYTHONPATH" in given:  # what is relative is meant from here
        folders = [folder for folder in given["PYTHONPATH"].split(os.pathsep) if folder]
        given["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders)
    kept = _allowed(given)
    sbatch = shutil.which("sbatch", path=environment.get("PATH"))
    if sbatch is not None and (folder := str(Path(sbatch).absolute().parent)) not in _folders(kept.get("PATH", "")):
        kept["PATH"] = os.pathsep.join(filter(None, [kept.get("PATH"), folder]))
    return kept


def restored_environment(own: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """The process's own variables, and over them those that a run has kept and may keep. HOME and USER are never others'."""
    found = {**own, **_allowed(kept)}
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:  # as in some containers
        return found
    return {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, **found}


def task_environment(launch: Launch) -> dict[str, str]:
    """What Slurm's commands and the tasks get: this process's variables, under those kept from whoever submitted.

    Without those that are PRIVATE: srun would take a job's variables for its own, and squeue would leave out jobs that we
    ask for. What of them is meant for sbatch is in the launch's settings. Tasks import this very code, both folders of it,
    whatever checkout the run was begun with.
    """
    found = {
        name: value
        for name, value in restored_environment(os.environ, launch.environment).items()
        if not name.startswith(PRIVATE) or name in WAYS_TO_SLURM
    }
    ours = [str(Path(file).resolve().parent.parent) for file in (__file__, audio_tokenizers.errors.__file__)]
    paths = [path for path in found.get("PYTHONPATH", "").split(os.pathsep) if path]
    found["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*ours, *paths]))
    return found


def _allowed(given: Mapping[str, str]) -> dict[str, str]:
    kept = {name: given[name] for name in KEPT_VARIABLES if name in given}
    for name in PATHS:
        if name in kept:
            kept[name] = os.pathsep.join(_folders(kept[name]))
    return {name: value for name, value in kept.items() if value or name not in PATHS}


def _folders(path: str) -> list[str]:
    return [folder for folder in path.split(os.pathsep) if folder.startswith("/")]
