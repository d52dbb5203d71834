"""Facts of one host: cores, temporary space, open files, GPUs and their driver, torch, a backend's weights.

python -m tools.doctoring.host_probe CHECK... prints an answer per check; `weights` needs `--backend NAME`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from audio_tokenizers.errors import ModelFilesError, Tar2TokensError, UsageError
from audio_tokenizers.registry import complete_options, get_factory
from audio_tokenizers.shared.extras import install_words
from hpc.list_check import find_faults as find_tar_faults
from hpc.remote_list import SizedLook, all_faults
from hpc.tar_list import read_tar_list
from jobs.addresses import is_address, scheme_of
from jobs.commands import command_parser
from jobs.devices import available_cores
from jobs.recipe_options import parse_settings
from jobs.remote_files import missing_packages
from jobs.spec import load_preset
from tools.doctoring.bounded import Answer
from tools.fetching.model_manifest import find_faults, read_manifest

__all__ = ["SHARED_MEMORY", "Driver", "Host", "Seen", "Tars", "Torch", "Weights", "main", "parse_driver"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (it is not written to)
FAULTS_TOLD = 5
TARS_SILENT_SECONDS = 60.0
"""Less than the doctor waits for the whole check: tars without an answer can be named."""
NVIDIA_SECONDS = 60.0


class Host(msgspec.Struct, frozen=True):
    """Needed by workers, merge, export and data loaders."""

    python: str
    cores: int
    open_files: int
    """The soft limit; -1 if there is none."""
    temporary: str
    """The folder of temporary files."""
    temporary_free: int | None
    """Bytes; None if it cannot be written."""
    shared_free: int | None
    """Bytes of /dev/shm; None if there is none."""


class Driver(msgspec.Struct, frozen=True):
    """The answer of nvidia-smi."""

    gpus: tuple[str, ...] = ()
    """Names."""
    version: str = ""
    cuda: str = ""
    """The newest CUDA that the driver supports, such as 12.4."""
    error: str = ""


class Torch(msgspec.Struct, frozen=True):
    """torch on this host."""

    installed: bool
    version: str = ""
    cuda: str = ""
    """The version that it was built for; empty for a build without CUDA."""
    gpus: int = 0
    error: str = ""
    mps: str = ""
    """A Mac's GPU: `available`, `built` (not available), or empty for a build without MPS."""


class Weights(msgspec.Struct, frozen=True):
    """A backend's check of its files."""

    error: str = ""
    checked: str = ""
    """A description of the result."""
    needs_torch: bool = False


class Tars(msgspec.Struct, frozen=True):
    """The tars of a list, as seen from this host."""

    tars: int
    first: str
    bytes: int
    bad: tuple[str, ...]
    """The first few tars that cannot be tokenized, with reasons."""
    bad_count: int


class Seen(msgspec.Struct, frozen=True):
    """Paths that must be visible here."""

    missing: tuple[str, ...]


def host(_given: argparse.Namespace) -> Host:
    """Of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"?")
        free = shutil.disk_usage(folder).free
    except OSError:
        free = None
    try:
        shared = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        shared = None
    return Host(
        platform.python_version(), available_cores(), -1 if soft == resource.RLIM_INFINITY else soft, folder, free, shared
    )


def driver(_given: argparse.Namespace) -> Driver:
    """Ask nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        listed, table = (
            subprocess.run(words, capture_output=True, text=True, timeout=NVIDIA_SECONDS, check=False)  # noqa: S603
            for words in (query, query[:1])
        )
    except OSError:
        return Driver(error="there is no nvidia-smi")
    except subprocess.TimeoutExpired:
        return Driver(error=f"nvidia-smi gives no answer in {NVIDIA_SECONDS:g} s")
    if listed.returncode:
        return Driver(error=(listed.stdout + listed.stderr).strip().partition("\n")[0])
    return parse_driver(listed.stdout, table.stdout)


def parse_driver(listed: str, table: str) -> Driver:
    """Parse lines of `name, driver version`, and nvidia-smi's own table, the only one with the supported CUDA. Pure."""
    rows = [line.rsplit(",", 1) for line in listed.splitlines() if "," in line]
    cuda = re.search(r"CUDA Version:\s*([0-9.]+)", table)
    return Driver(tuple(row[0].strip() for row in rows), rows[0][1].strip() if rows else "", cuda[1] if cuda else "")


def torch(_given: argparse.Namespace) -> Torch:
    """Import torch, and let it look for GPUs."""
    try:
        import torch as module
    except ImportError:
        return Torch(installed=False)
    cuda = module.version.cuda or ""
    error = ""
    if cuda:
        try:
            module.cuda.init()
        except (RuntimeError, AssertionError) as refused:
            error = str(refused).strip().partition("\n")[0]
    gpus = module.cuda.device_count() if cuda and not error else 0
    backend = module.backends.mps
    mps = "available" if backend.is_available() else "built" if backend.is_built() else ""
    return Torch(True, str(module.__version__), cuda, gpus, error, mps)


def weights(given: argparse.Namespace) -> Weights:
    """The backend's own check of its files, and the manifest of tools.fetch_model, if any. Downloads nothing."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    preset = load_preset(given.backend)
    factory = get_factory(preset.backend)
    path = {} if given.model_path is None else {"model_path": given.model_path}
    options = complete_options(factory, {**preset.options, **parse_settings(given.set), **path})
    needs_torch = _needs_torch(factory.name)
    try:
        factory.describe(options, "cpu")
        directory = options.get("model_path")
        manifest = None
        if isinstance(directory, str) and Path(directory).is_dir():
            manifest = read_manifest(Path(directory), given.backend)
        if manifest is None:
            checked = (
                f"{directory} is whole by the backend's own look; there are no hashes" if directory else "it needs none"
            )
            return Weights(checked=checked, needs_torch=needs_torch)
        if faults := list(find_faults(Path(str(directory)), manifest)):
            return Weights(error="; ".join(faults[:FAULTS_TOLD]), needs_torch=needs_torch)
        return Weights(checked=f"{directory}: {len(manifest.files)} files, sizes and hashes right", needs_torch=needs_torch)
    except ImportError as error:
        raise Tar2TokensError(f"{error}: {install_words(factory.name)}") from None
    except ModelFilesError as error:
        return Weights(error=str(error), needs_torch=needs_torch)


def _needs_torch(backend: str) -> bool:
    """Whether the package's extra of this name installs it. True for all in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("tar2tokens") or []
    except PackageNotFoundError:
        return True
    return any(line.startswith("torch") for line in lines if f'extra == "{backend}"' in line.replace("'", '"'))


def tars(given: argparse.Namespace) -> Tars:
    """Check each tar of a list, as hpc.submit does; only regular files are opened."""
    listed = read_tar_list(given.list, look_at_rest=lambda tars: all_faults(tars, allow_pipe=True))
    if words := missing_packages({scheme for tar in listed if (scheme := scheme_of(tar)) is not None}):
        raise UsageError(words)
    look = SizedLook()
    bad = find_tar_faults(listed, look, silent_seconds=TARS_SILENT_SECONDS)
    files = [tar for tar in listed if tar not in bad and not is_address(tar)]
    size = sum(Path(tar).stat().st_size for tar in files) + sum(look.sizes.values())
    told = tuple(f"{tar}: {why}" for tar, why in list(bad.items())[:FAULTS_TOLD])
    return Tars(len(listed), listed[0], size, told, len(bad))


def see(given: argparse.Namespace) -> Seen:
    """Look for paths."""
    return Seen(tuple(path for path in given.see if not Path(path).exists()))


CHECKS: Mapping[str, Callable[[argparse.Namespace], msgspec.Struct]] = {
    "host": host,
    "driver": driver,
    "torch": torch,
    "weights": weights,
    "tars": tars,
    "see": see,
}


def main(arguments: Sequence[str]) -> int:
    """One host, for tools.doctor: answer the given checks."""
    parser = command_parser(main.__doc__)
    parser.add_argument("checks", nargs="+", choices=sorted(CHECKS))
    parser.add_argument("--backend")
    parser.add_argument("--model-path")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--list", type=Path)
    parser.add_argument("--see", action="append", default=[])
    given = parser.parse_args(arguments)
    node = os.environ.get("SLURMD_NODENAME", "")
    for check in given.checks:
        try:
            answer = Answer(check, msgspec.Raw(msgspec.json.encode(CHECKS[check](given))), node=node)
        except (OSError, Tar2TokensError) as error:
            answer = Answer(check, error=str(error), usage=type(error) is UsageError, node=node)
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")  # in one piece: several tasks may share this stream
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
