"""The part of the user's environment that a run keeps for its tasks, which may be submitted from cron or another shell."""

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
    "LD_LIBRARY_PATH": "where environment modules put libraries of an interpreter or of CUDA",
    "PYTHONPATH": "backends in packages that are not installed",
    "VIRTUAL_ENV": "setup lines name it",
    "CONDA_PREFIX": "setup lines name it, and libraries look there for CUDA",
    "MODULEPATH": "`module load` in setup lines looks there",
    "SLURM_CONF": "the configuration of the site's Slurm",
    "SLURM_CONF_SERVER": "the same, at sites that keep it on a server",
    "CUDA_HOME": "compilers of kernels look there",
    "HF_HOME": "where weights are, and whether the hub may be asked",
    "HF_HUB_CACHE": "the same",
    "HF_HUB_OFFLINE": "the same",
    "TORCH_HOME": "the same",
    "XDG_CACHE_HOME": "the same",
    "HF_ENDPOINT": "which hub tars at hf:// come from",
    "AWS_PROFILE": "which of the user's credentials open tars at s3://",
    "AWS_REGION": "where those are",
    "AWS_DEFAULT_REGION": "the same",
    "AWS_ENDPOINT_URL": "the same, of stores that are not Amazon's",
    "AWS_ENDPOINT_URL_S3": "the same",
    "LANG": "the encoding of names in messages",
    "LC_ALL": "the same",
}
"""Variable -> why it is kept. All others come from the current process: HOME, USER and LOGNAME are those of its own user. A
run folder keeps no variable that decides which code runs (LD_PRELOAD, PYTHONSTARTUP, BASH_ENV and so on), and no secrets.
"""
PATHS = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
"""Only absolute folders of these are kept: any other depends on the current directory."""
PRIVATE = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_")
"""Variables of the job we may run in, and personal filters and formats such as SQUEUE_STATES."""
WAYS_TO_SLURM = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_SOCKET")
"""Exceptions: without these Slurm may not answer. They say where it is and who asks."""


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What to keep for tasks and later rounds. The folder of sbatch is on the kept PATH if sbatch is found here."""
    given = dict(environment)
    if "PYTHONPATH" in given:  # relative folders are relative to here
        folders = [folder for folder in given["PYTHONPATH"].split(os.pathsep) if folder]
        given["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders)
    kept = _allowed(given)
    sbatch = shutil.which("sbatch", path=environment.get("PATH"))
    if sbatch is not None and (folder := str(Path(sbatch).absolute().parent)) not in _folders(kept.get("PATH", "")):
        kept["PATH"] = os.pathsep.join(filter(None, [kept.get("PATH"), folder]))
    return kept


def restored_environment(own: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """The process's own variables, overridden by those that a run has kept. HOME and USER are never another user's."""
    found = {**own, **_allowed(kept)}
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:  # as in some containers
        return found
    return {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, **found}


def task_environment(launch: Launch) -> dict[str, str]:
    """The environment of Slurm's commands and of tasks: this process's variables, overridden by those kept at submission.

    PRIVATE variables are dropped: srun would apply a job's variables to itself, and squeue would hide jobs that we ask for.
    Those meant for sbatch are in the launch's settings. Tasks import this very code, both folders of it, whichever checkout
    the run was begun with.
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
