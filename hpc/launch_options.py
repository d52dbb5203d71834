"""How a run is launched: options of hpc.submit and keys of cluster.yaml."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

import msgspec

from audio_tokenizers.errors import UsageError
from hpc.gpu_request import GpuRequest
from jobs.commands import SLURM, WHERE, WORKER
from jobs.option_struct import Option, with_defaults
from jobs.worker_options import Count, WorkerOptions

__all__ = [
    "LaunchOptions",
    "Site",
    "SlurmValue",
    "TaskOptions",
    "check_slurm_settings",
    "overlay",
    "parse_gpus",
    "parse_minutes",
    "parse_slurm_settings",
]

SlurmValue = str | int | float | bool
OURS = {
    "array",
    "time",
    "job-name",
    "output",
    "error",
    "nodes",
    "ntasks",
    "ntasks-per-node",
    "gpus-per-node",
    "requeue",
    "no-requeue",
    "signal",
}
"""sbatch options that tar2tokens sets itself: another value would break what depends on them."""
MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
"""sbatch takes only one of these."""
_Slurm = functools.partial(Option, group=SLURM)
_Where = functools.partial(Option, group=WHERE)


def parse_minutes(text: str | int) -> int:
    """A time limit as sbatch takes it (`120`, `90:00`, `2:00:00`, `1-12`, `1-00:00:00`) in minutes, rounded up.

    Raises UsageError on anything else.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(text).strip())
    if match is None:
        raise UsageError(f"--time {text}: expected minutes, M:SS, H:MM:SS or D-H:MM:SS, as sbatch takes them")
    days, first, second, third = (int(part) if part else None for part in match.groups())
    if days is not None or third is not None:  # the largest unit after days is hours
        seconds = (days or 0) * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
    else:
        seconds = (first or 0) * 60 + (second or 0)
    if seconds == 0:
        raise UsageError(f"--time {text}: expected more than nothing")
    return -(-seconds // 60)


def parse_gpus(text: str | int) -> tuple[int, str | None]:
    """`4` or `a100:4` -> how many, and of which type. Raises UsageError."""
    kind, colon, number = str(text).rpartition(":")
    if not number.isdecimal() or (colon and not kind):
        raise UsageError(f"--gpus-per-node {text}: expected a number or TYPE:NUMBER, such as 4 or a100:4")
    return int(number), kind or None


def parse_slurm_settings(settings: Sequence[str]) -> dict[str, SlurmValue]:
    """`["reservation=big", "exclusive"]` -> `{"reservation": "big", "exclusive": True}`. Raises UsageError."""
    found: dict[str, SlurmValue] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        found[key.strip().lstrip("-").replace("_", "-")] = value if equals else True
    return check_slurm_settings(found)


def check_slurm_settings(settings: Mapping[str, SlurmValue]) -> dict[str, SlurmValue]:
    """The settings. Raises UsageError if one of them is not for users to set."""
    for key in settings:
        if key in OURS or not re.fullmatch(r"[a-z][a-z0-9-]*", key):
            if key == "time":
                raise UsageError("--slurm time: give --time instead")
            raise UsageError(
                f"--slurm {key}: expected a long option of sbatch without its dashes, but none that tar2tokens sets itself: "
                f"{', '.join(sorted(OURS))}"
            )
    return dict(settings)


def _slurm_setting(key: str, value: SlurmValue) -> str:
    """The word that `parse_slurm_settings` reads."""
    return key if value is True else f"{key}={value}"


class TaskOptions(WorkerOptions, frozen=True, kw_only=True):
    """Options that a launch keeps under the same name (hpc/launch.py). None: not asked for."""

    partition: Annotated[str | None, _Slurm("partition of the tasks, or several: a,b")] = None
    account: Annotated[str | None, _Slurm("account to charge")] = None
    qos: Annotated[str | None, _Slurm("quality of service")] = None
    constraint: Annotated[str | None, _Slurm("features that nodes must have, such as 'a100|h100'")] = None
    gpus_per_node: Annotated[
        str | int | None, _Slurm("GPUs of one array task; 1 on shared nodes, 4 or a100:4 for whole ones")
    ] = None
    gpu_request: Annotated[
        GpuRequest | None, _Slurm("how to ask for GPUs: gpus-per-node (the default), gres, or none: not at all")
    ] = None
    cpus_per_gpu: Annotated[Count | None, _Slurm("cores for one GPU with all its workers")] = None
    mem_per_gpu: Annotated[str | None, _Slurm("memory for one GPU with all its workers, such as 40G")] = None
    tars_per_gpu: Annotated[Count | Literal["auto"] | None, _Slurm("tars planned for one GPU, or auto; default 1")] = None
    max_running: Annotated[Count | None, _Slurm("array tasks that may run at once")] = None
    setup: Annotated[tuple[str, ...], _Slurm("a shell line before the tasks: 'module load cuda'")] = ()
    slurm: Annotated[
        dict[str, SlurmValue],
        _Slurm("a further sbatch option, key=value", parse=parse_slurm_settings, show=_slurm_setting),
    ] = msgspec.field(default_factory=dict)
    procs_per_gpu: Annotated[Count | None, Option("worker processes that share a GPU; default 1", WORKER)] = None


class Site(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a site sets for every job: the keys of cluster.yaml."""

    cluster: Annotated[
        Literal["auto", "slurm", "local"] | None, _Where("auto: Slurm where there is sbatch; slurm; local: this machine")
    ] = None
    time: Annotated[str | int | None, _Slurm("time limit of a task, as sbatch takes it; default 2:00:00")] = None
    metrics_dir: Annotated[
        str | None, _Where("write metrics there too: the folder of node_exporter's textfile collector (docs/monitoring.md)")
    ] = None


class LaunchOptions(Site, frozen=True, kw_only=True):
    """A site's options, and those that only the command line has."""

    device: Annotated[str, _Where("auto, cpu, cuda, or mps: a Mac's GPU")] = "auto"
    workers: Annotated[Count | None, _Where("local: worker processes; default one per GPU or core")] = None


AnySite = TypeVar("AnySite", bound=Site)


def overlay(site: Site, asked: AnySite) -> AnySite:
    """What was asked for, over a site's defaults. Setup lines and sbatch options add up, but memory that is asked for in one
    way replaces memory that the site asks for in another.
    """
    both = with_defaults(asked, site)
    memory = asked.mem_per_gpu is not None or not asked.slurm.keys().isdisjoint(MEMORY)
    return msgspec.structs.replace(
        both,
        mem_per_gpu=asked.mem_per_gpu if memory else site.mem_per_gpu,
        setup=(*site.setup, *asked.setup),
        slurm={name: value for name, value in site.slurm.items() if not (memory and name in MEMORY)} | asked.slurm,
    )
