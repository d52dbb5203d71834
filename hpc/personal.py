"""Pure: the SBATCH_ variables of the user's environment -> settings of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hpc.launch_options import Site, SlurmValue

__all__ = ["personal_defaults"]

PERSONAL = {
    "ACCTG_FREQ": "acctg-freq",
    "CORE_SPEC": "core-spec",
    "DELAY_BOOT": "delay-boot",
    "DISTRIBUTION": "distribution",
    "GPU_BIND": "gpu-bind",
    "GPU_FREQ": "gpu-freq",
    "GRES": "gres",
    "GRES_FLAGS": "gres-flags",
    "HINT": "hint",
    "MEM_BIND": "mem-bind",
    "MEM_PER_CPU": "mem-per-cpu",
    "MEM_PER_NODE": "mem",
    "NETWORK": "network",
    "POWER": "power",
    "PROFILE": "profile",
    "REQ_SWITCH": "switches",
    "RESERVATION": "reservation",
    "THREAD_SPEC": "thread-spec",
    "THREADS_PER_CORE": "threads-per-core",
    "WCKEY": "wckey",
}
"""Variables, after `SBATCH_`, and the options of sbatch that they set; without those that tar2tokens sets itself."""
PERSONAL_FLAGS = {
    "EXCLUSIVE": "exclusive",
    "OVERCOMMIT": "overcommit",
    "SPREAD_JOB": "spread-job",
    "USE_MIN_NODES": "use-min-nodes",
}


def personal_defaults(environment: Mapping[str, str]) -> Site:
    """The user's settings for every sbatch, as settings of a run: as variables they would override what is asked for here,
    and cron does not have them.
    """
    found = {name.removeprefix("SBATCH_"): text for name, text in environment.items() if name.startswith("SBATCH_") and text}
    wanted = {"partition": "PARTITION", "account": "ACCOUNT", "qos": "QOS", "constraint": "CONSTRAINT", "time": "TIMELIMIT"}
    wanted |= {"mem_per_gpu": "MEM_PER_GPU", "gpus_per_node": "GPUS_PER_NODE"}
    values: dict[str, Any] = {key: found[name] for key, name in wanted.items() if name in found}
    if found.get("CPUS_PER_GPU", "").isdecimal():
        values["cpus_per_gpu"] = int(found["CPUS_PER_GPU"])
    slurm: dict[str, SlurmValue] = {option: found[name] for name, option in PERSONAL.items() if name in found}
    slurm |= {option: True for name, option in PERSONAL_FLAGS.items() if name in found}
    if clusters := found.get("CLUSTERS") or environment.get("SLURM_CLUSTERS"):
        slurm["clusters"] = clusters
    if gpus := re.fullmatch(r"gpu:((?:[^:,]+:)?\d+)", found.get("GRES", "")):  # as the number that plans are made with
        values |= {"gpus_per_node": gpus[1], "gpu_request": "gres"}
        del slurm["gres"]
    return Site(**values, slurm=slurm)
