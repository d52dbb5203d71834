"""How a run is launched: asked for once and kept in the run directory, so that cron need not repeat it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from audio_tokenizers.base import Scalar
from audio_tokenizers.errors import UsageError
from hpc.gpu_request import GpuRequest
from hpc.launch_options import LaunchOptions, TaskOptions, parse_gpus, parse_minutes
from jobs.devices import choose_device
from jobs.worker_options import WishOptions

__all__ = ["Launch", "make_launch"]

NO_WISHES = WishOptions()


class Launch(TaskOptions, frozen=True, kw_only=True):
    """How the run's tasks are started. The latest hpc.submit decides; every round of the controller reads it.

    Options that are not named here are kept as they were asked for (hpc/launch_options.py).
    """

    cluster: Literal["slurm", "local"]
    device: str
    """`cpu`, `cuda` or `mps`."""
    gpus_per_node: int
    """GPUs of one array task; 0 for the CPU."""
    gpu_type: str | None = None
    gpu_request: GpuRequest = "gpus-per-node"
    procs_per_gpu: int = 1
    workers: int | None = None
    """Worker processes, if it runs on this machine."""
    tars_per_gpu: int | Literal["auto"] = 1
    time_limit_min: int = 120
    decode_threads: int | Literal["auto"] = "auto"
    """Of each worker; `auto` is one per core that it may use."""
    buffer_memory: int | None = None
    """Bytes of decoded audio, and of what it became, that each worker may hold; None leaves it to the worker."""
    memory_guard: float | None = None
    """Share of its memory at which a worker yields, 0 for never; None leaves it to the worker."""
    allow_missing_end: bool = False
    allow_joined: bool = False
    allow_pipe: bool = False
    """Whether workers run the commands that the list names in place of tars."""
    options: dict[str, Scalar] = msgspec.field(default_factory=dict)
    """How to load the backend: its weights may have moved since the run's spec was frozen."""
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    training: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    """An array task trains, and starts a process per GPU itself. Not kept of other runs."""
    metrics_dir: str | msgspec.UnsetType = msgspec.UNSET
    """A folder that gets the run's metrics too, as an absolute path."""
    group: str = ""
    """The group that shares the run; resuming it has to name the group too."""
    umask: str = ""
    """Of what tasks create, in octal; empty for 0022."""

    @property
    def clusters(self) -> str:
        """Which of a site's clusters to ask, as `--clusters` takes them; empty for the default one."""
        return str(self.slurm.get("clusters", ""))

    @property
    def processes(self) -> int:
        """Worker processes of one array task, as Slurm starts them. A training starts its own."""
        return 1 if self.training else self.ranks

    @property
    def ranks(self) -> int:
        """Processes that an array task has on its devices."""
        return max(1, self.gpus_per_node) * self.procs_per_gpu

    @property
    def cpus_per_process(self) -> int | None:
        """Cores of one of `processes`; None leaves it to the site."""
        if not self.training:
            return max(1, self.cpus_per_gpu // self.procs_per_gpu) if self.cpus_per_gpu else None
        return self.cpus_per_gpu * max(1, self.gpus_per_node) if self.cpus_per_gpu else self.ranks


def make_launch(
    asked: LaunchOptions, *, environment: Mapping[str, str], wishes: WishOptions = NO_WISHES, uses_gpu: bool = True
) -> Launch:
    """How to launch a backend that `uses_gpu`, as was `asked`. Raises UsageError where the options do not fit together."""
    cluster = asked.cluster or "auto"
    if cluster == "auto":
        cluster = "slurm" if shutil.which("sbatch", path=environment.get("PATH")) else "local"
    device, gpus, gpu_type = asked.device, None, None
    if asked.gpus_per_node is not None:
        gpus, gpu_type = parse_gpus(asked.gpus_per_node)
    if device == "auto" and not uses_gpu and not gpus:
        device = "cpu"
    if cluster == "local":
        device = choose_device(device).partition(":")[0]
        gpus = 0
    elif device == "mps":
        raise UsageError("--device mps: a Mac's GPU is used by processes on the Mac: --cluster local")
    elif device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device!r}: expected auto, cpu or cuda")
    elif device == "cpu":
        gpus = gpus or 0
    else:  # the login node may have no GPU where the compute nodes do
        if gpus == 0:
            raise UsageError("--gpus-per-node 0: expected GPUs for --device cuda; --device cpu does without")
        device, gpus = "cuda", gpus or 1
    kept: dict[str, Any] = {name: getattr(asked, name) for name in TaskOptions.__struct_fields__}
    resolved = {
        "cluster": cluster,
        "device": device,
        "gpus_per_node": gpus,
        "gpu_type": gpu_type,
        "workers": asked.workers,
        "time_limit_min": None if asked.time is None else parse_minutes(asked.time),
        "buffer_memory": asked.buffer_bytes,
        "memory_guard": asked.guard,
        "metrics_dir": None if asked.metrics_dir is None else str(Path(asked.metrics_dir).expanduser().absolute()),
    }
    said = {name: value for name, value in {**kept, **resolved}.items() if value is not None}
    return Launch(
        **said,
        allow_missing_end=wishes.allow_missing_end,
        allow_joined=wishes.allow_joined,
        allow_pipe=wishes.allow_pipe,
        environment=dict(environment),
    )
