"""How a run is launched: what a person said once, kept in the run directory so that cron need not say it again."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import yaml

from audio_tokenizers.base import Scalar
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.yaml_loading import describe_yaml_error, load_yaml
from hpc.gpu_request import GPU_REQUESTS, GpuRequest
from jobs.commands import number_or_auto, parse_buffer_memory
from jobs.devices import choose_device
from jobs.memory_guard import parse_memory_guard
from jobs.trust import Trust, check_files, owned

__all__ = [
    "Launch",
    "Site",
    "check_cluster",
    "check_gpu_request",
    "check_tars_per_gpu",
    "make_launch",
    "overlay",
    "parse_gpus",
    "parse_minutes",
    "parse_slurm_settings",
    "site_defaults",
]

SITE_FILE = "cluster.yaml"
Count = Annotated[int, msgspec.Meta(ge=1)]
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
"""sbatch options that we set ourselves: another value would break what depends on them."""


MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
"""Options of which sbatch takes one."""


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a site wants of every job. Keys of cluster.yaml."""

    cluster: Literal["auto", "slurm", "local"] | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | int | None = None
    """As sbatch takes it, for example `2:00:00`."""
    gpus_per_node: str | int | None = None
    """As sbatch takes it: `4` or `a100:4`."""
    gpu_request: GpuRequest | None = None
    """How sbatch is asked for them."""
    procs_per_gpu: Count | None = None
    tars_per_gpu: Count | Literal["auto"] | None = None
    cpus_per_gpu: Count | None = None
    mem_per_gpu: str | None = None
    decode_threads: Count | Literal["auto"] | None = None
    buffer_memory: str | int | None = None
    """As `1G`, or in bytes."""
    memory_guard: str | int | None = None
    """As `0.9`."""
    clip_timeout: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Seconds; 0 for never."""
    max_running: Count | None = None
    setup: tuple[str, ...] = ()
    """Shell lines before the tasks, such as `module load cuda`."""
    slurm: dict[str, str | int | float | bool] = {}
    """Further sbatch options."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How the run's tasks are started. The latest hpc.submit decides; every round of the controller reads it."""

    cluster: Literal["slurm", "local"]
    device: str
    """`cpu` or `cuda`."""
    gpus_per_node: int
    """GPUs of one array task; 0 for the CPU."""
    gpu_type: str | None = None
    gpu_request: GpuRequest = "gpus-per-node"
    procs_per_gpu: int = 1
    workers: int | None = None
    """Processes on this machine, where it is no cluster."""
    tars_per_gpu: int | Literal["auto"] = 1
    max_running: int | None = None
    time_limit_min: int = 120
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    cpus_per_gpu: int | None = None
    mem_per_gpu: str | None = None
    decode_threads: int | Literal["auto"] = "auto"
    """Of each worker; `auto` is one per core that it may use."""
    buffer_memory: int | None = None
    """Bytes of decoded audio, and of what it became, that each worker may hold; None leaves it to the worker."""
    memory_guard: float | None = None
    """Share of its memory at which a worker yields, 0 for never; None leaves it to the worker."""
    clip_timeout: float | None = None
    """Seconds without progress after which a worker is ended; 0 for never, None for a time that fits what it is at."""
    setup: tuple[str, ...] = ()
    slurm: dict[str, str | int | float | bool] = {}
    allow_missing_end: bool = False
    allow_joined: bool = False
    allow_pipe: bool = False
    """Whether workers run the commands that the list names in place of tars."""
    options: dict[str, Scalar] = {}
    """How to load the backend: its weights may have moved since the run's spec was frozen."""
    environment: dict[str, str] = {}
    group: str = ""
    """The group that shares the run; who goes on with it has to name it too."""
    umask: str = ""
    """Of what tasks create, in octal; empty for 0022."""

    @property
    def clusters(self) -> str:
        """Which of a site's clusters to ask, as `--clusters` takes them; empty for the one that is asked anyway."""
        return str(self.slurm.get("clusters", ""))

    @property
    def processes(self) -> int:
        """Worker processes of one array task."""
        return max(1, self.gpus_per_node) * self.procs_per_gpu


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


def parse_slurm_settings(settings: Sequence[str]) -> dict[str, str | int | float | bool]:
    """`["reservation=big", "exclusive"]` -> `{"reservation": "big", "exclusive": True}`. Raises UsageError."""
    found: dict[str, str | int | float | bool] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        found[key.strip().lstrip("-").replace("_", "-")] = value if equals else True
    return check_slurm_settings(found)


def check_slurm_settings(settings: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """The settings, or UsageError if one is not a user's to set."""
    for key in settings:
        if key in OURS or not re.fullmatch(r"[a-z][a-z0-9-]*", key):
            if key == "time":
                raise UsageError("--slurm time: give --time instead")
            raise UsageError(
                f"--slurm {key}: expected a long option of sbatch without its dashes, but none that tar2tokens sets itself: "
                f"{', '.join(sorted(OURS))}"
            )
    return dict(settings)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes `2:00:00` for a number in base 60; here a number is digits only."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[0-9]+$"), list("0123456789"))


def site_defaults(places: Sequence[Path] | None = None, *, trust: Trust | None = None) -> Site:
    """The first cluster.yaml among the current folder and the user's configuration folder. Raises UsageError.

    Its setup lines are commands: who submits gives `trust`, and refuses a file that others may have written.
    """
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path(os.environ.get("HOME", "/")) / ".config")
    for folder in places if places is not None else (Path(), home / "tar2tokens"):
        path = folder / SITE_FILE
        if path.is_file():
            return read_site(path, trust)
    return Site()


def read_site(path: Path, trust: Trust | None = None) -> Site:
    """A site's defaults. Raises UsageError that names the key at fault."""
    with path.open("rb") as file:
        if trust is not None:
            check_files([owned(path, os.fstat(file.fileno()))], trust)
        data = file.read()
    try:
        values: Any = load_yaml(data.decode(), _Loader) or {}
        site = msgspec.convert(values, Site)
        _check_words(site)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        keys = ", ".join(Site.__struct_fields__)
        reason = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else str(error)
        raise UsageError(f"{path}: not a site's defaults: {reason}; its keys are {keys}") from None
    return site


def _check_words(site: Site) -> None:
    """Raise UsageError if a setting that is words, and not a number, cannot be understood."""
    check_slurm_settings(site.slurm)
    if site.time is not None:
        parse_minutes(site.time)
    if site.gpus_per_node is not None:
        parse_gpus(site.gpus_per_node)
    if site.buffer_memory is not None:
        parse_buffer_memory(site.buffer_memory)
    if site.memory_guard is not None:
        parse_memory_guard(site.memory_guard)


def check_cluster(name: str | None) -> Literal["auto", "slurm", "local"] | None:
    """The name, or UsageError."""
    if name is None or name in ("auto", "slurm", "local"):
        return cast("Literal['auto', 'slurm', 'local'] | None", name)
    raise UsageError(f"--cluster {name!r}: expected auto, slurm or local")


def check_tars_per_gpu(text: str | None) -> int | Literal["auto"] | None:
    """A number from 1, or `auto`; UsageError on anything else."""
    return None if text is None else number_or_auto("--tars-per-gpu", text)


def check_gpu_request(name: str | None) -> GpuRequest | None:
    """The name, or UsageError."""
    if name is None or name in GPU_REQUESTS:
        return name
    raise UsageError(f"--gpu-request {name!r}: expected one of {', '.join(GPU_REQUESTS)}")


def overlay(site: Site, asked: Site) -> Site:
    """A site's defaults with what a person asked for on top; setup lines and further options add up, but memory that is
    asked for in one way takes the place of that which was in another.
    """
    values = {name: getattr(asked, name) for name in Site.__struct_fields__ if getattr(asked, name) not in (None, (), {})}
    memory = asked.mem_per_gpu is not None or not asked.slurm.keys().isdisjoint(MEMORY)
    if memory and asked.mem_per_gpu is None:
        values["mem_per_gpu"] = None
    values["setup"] = (*site.setup, *asked.setup)
    values["slurm"] = {name: value for name, value in site.slurm.items() if not (memory and name in MEMORY)} | asked.slurm
    return msgspec.structs.replace(site, **values)


def make_launch(
    site: Site,
    *,
    device: str,
    workers: int | None,
    allow_missing_end: bool,
    environment: Mapping[str, str],
    allow_joined: bool = False,
    uses_gpu: bool = True,
) -> Launch:
    """How to launch a backend that `uses_gpu`, given the settings. Raises UsageError where they do not fit together."""
    cluster = site.cluster or "auto"
    if cluster == "auto":
        cluster = "slurm" if shutil.which("sbatch", path=environment.get("PATH")) else "local"
    gpus, gpu_type = parse_gpus(site.gpus_per_node) if site.gpus_per_node is not None else (None, None)
    if device == "auto" and not uses_gpu and not gpus:
        device = "cpu"
    if cluster == "local":
        device = choose_device(device).partition(":")[0]
        gpus = 0
    elif device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device!r}: expected auto, cpu or cuda")
    elif device == "cpu":
        gpus = gpus or 0
    else:  # this node need not have what the cluster's have
        if gpus == 0:
            raise UsageError("--gpus-per-node 0: expected GPUs for --device cuda; --device cpu does without")
        device, gpus = "cuda", gpus or 1
    return Launch(
        cluster=cluster,
        device=device,
        gpus_per_node=gpus,
        gpu_type=gpu_type,
        gpu_request=site.gpu_request or "gpus-per-node",
        procs_per_gpu=site.procs_per_gpu or 1,
        workers=workers,
        tars_per_gpu=site.tars_per_gpu or 1,
        max_running=site.max_running,
        time_limit_min=parse_minutes(site.time) if site.time is not None else 120,
        partition=site.partition,
        account=site.account,
        qos=site.qos,
        constraint=site.constraint,
        cpus_per_gpu=site.cpus_per_gpu,
        mem_per_gpu=site.mem_per_gpu,
        decode_threads=site.decode_threads or "auto",
        buffer_memory=None if site.buffer_memory is None else parse_buffer_memory(site.buffer_memory),
        memory_guard=None if site.memory_guard is None else parse_memory_guard(site.memory_guard),
        clip_timeout=site.clip_timeout,
        setup=site.setup,
        slurm=site.slurm,
        allow_missing_end=allow_missing_end,
        allow_joined=allow_joined,
        environment=dict(environment),
    )
