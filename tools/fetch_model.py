"""python -m tools.fetch_model: a backend's files, downloaded, checked, and tried."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.shared.wording import counted
from jobs.commands import Verbose, run_command, setup_logging
from tools.model_download import fetch
from tools.model_manifest import ModelManifest, find_faults, read_manifest, write_manifest
from tools.model_sources import PARTS, Hub, Licence, ModelSource, find_source

__all__ = ["fetch_model"]

MODELS = Path("models")


def fetch_model(
    name: Annotated[str, typer.Argument(help="backend or preset, for example higgs")],
    to: Annotated[Path | None, typer.Option(help="directory for the files; default: models/REPOSITORY")] = None,
    source: Annotated[
        str | None, typer.Option(help="huggingface or modelscope; default: huggingface, if it has the files")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="for example dac_16khz; default: that of the preset")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="agree to a licence that restricts use, where nobody can be asked")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="only check the directory, without network")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="also load the backend and encode one second")] = False,
    verbose: Verbose = False,
) -> int:
    """Download a backend's files and check them. The same command again goes on where it was interrupted."""
    setup_logging(verbose=verbose)
    if name in PARTS:
        if variant is not None:
            raise UsageError(f"--variant {variant!r}: {name} has none")
        directory = to or MODELS
        found = [(part, find_source(part, which)) for part, which in PARTS[name]]
        wanted = [(part, files, directory / files.folder) for part, files in found]
    else:
        files = find_source(name, variant)
        if not files.repository:
            print(files.note)
            if deep:
                _try_out(name, None)
            return 0
        directory = to or MODELS / files.folder
        wanted = [(name, files, directory)]
    for part, files, folder in wanted:
        if verify:
            if not _is_right(part, folder):
                return 1
        elif not _download(part, folder, files, _hub(source, files), accept=accept_licence):
            return 1
    if deep:
        _try_out(name, directory)
    path = shlex.quote(str(directory))
    print(f"To use it:\n  python -m hpc.submit --list tars.txt --backend {name} --model-path {path}")
    return 0


def _hub(source: str | None, files: ModelSource) -> Hub:
    if source is None:
        return "huggingface" if files.huggingface else "modelscope"
    if source not in {"huggingface", "modelscope"}:
        raise UsageError(f"--source {source!r}: expected huggingface or modelscope")
    hub: Hub = "huggingface" if source == "huggingface" else "modelscope"
    if files.repository_on(hub) is None:
        other = "modelscope" if hub == "huggingface" else "huggingface"
        raise UsageError(f"--source {hub}: {files.repository} is only known on the other one: give --source {other}")
    return hub


def _download(name: str, directory: Path, files: ModelSource, hub: Hub, *, accept: bool) -> bool:
    """False where consent was refused."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--to {directory}: expected a folder, found a file")
    repository = files.repository_on(hub) or ""
    print(f"{name}: {repository}, about {files.size:g} GB, into {directory}", flush=True)
    if not _consent(files.licences, accept=accept):
        print("nothing was downloaded")
        return False
    directory.mkdir(parents=True, exist_ok=True)
    try:
        fetched = fetch(files, hub, directory)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        raise
    manifest = ModelManifest(
        name=name,
        source=hub,
        repository=repository,
        revision=fetched.revision,
        licences=tuple(licence.name for licence in files.licences),
        files=fetched.files,
    )
    write_manifest(directory, manifest)
    _praise(directory, manifest)
    return True


def _consent(licences: Sequence[Licence], *, accept: bool) -> bool:
    """Name each licence; ask where one restricts use, unless `accept`. Raises UsageError where nobody can be asked."""
    for licence in licences:
        print(f"licence: {licence.name}, {licence.url}" + (f": {licence.restriction}" if licence.restriction else ""))
    sys.stdout.flush()
    if accept or not any(licence.restriction for licence in licences):
        return True
    if not sys.stdin.isatty():
        raise UsageError("this licence restricts use: read it, and give --accept-licence if you agree")
    print("Do you agree? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _is_right(name: str, directory: Path) -> bool:
    """Check against the manifest, or, where there is none, by what the backend itself makes of the files."""
    if not directory.is_dir():
        raise UsageError(f"{directory}: there is no such folder: give --to, or fetch it without --verify")
    manifest = read_manifest(directory, name)
    if manifest is None:
        return _looks_right(name, directory)
    faults = list(find_faults(directory, manifest))
    if faults:
        print(*faults, sep="\n")
        wrong = f"{len(faults)} of {counted(len(manifest.files), 'file')} wrong"
        print(f"{wrong}: without --verify this command fetches those again")
        return False
    _praise(directory, manifest)
    return True


def _looks_right(name: str, directory: Path) -> bool:
    from tools.model_check import describe_directory

    try:
        describe_directory(name, directory)
    except ModelFilesError as error:
        print(error)
        return False
    print(f"{directory}: what {name} needs is there and looks whole; there is no manifest, so no hash was checked")
    return True


def _praise(directory: Path, manifest: ModelManifest) -> None:
    origin = f"{manifest.repository} at {manifest.revision}"
    print(f"{directory}: {counted(len(manifest.files), 'file')} of {origin}, all sizes and hashes right")


def _try_out(name: str, directory: Path | None) -> None:
    from tools.model_check import encode_one_second

    print(f"{name}: one second becomes", flush=True)
    for line in encode_one_second(name, directory):
        print(f"  {line}")


if __name__ == "__main__":
    run_command(fetch_model)
