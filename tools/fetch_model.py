"""python -m tools.fetch_model: download a backend's files, check them, and try them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from jobs.commands import Verbose, run_command, setup_logging
from tools.fetching.consent import choose_hub, consent
from tools.fetching.model_download import fetch
from tools.fetching.model_manifest import ModelManifest, write_manifest
from tools.fetching.model_sources import PARTS, Hub, ModelSource, find_source
from tools.fetching.verification import is_right, tell_all_right

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
        bool, typer.Option("--accept-licence", help="agree to a licence that restricts use, without being asked")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="only check the directory, without network")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="also load the backend and encode one second")] = False,
    verbose: Verbose = False,
) -> int:
    """Download a backend's files and check them. Interrupted, the same command resumes."""
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
            if not is_right(part, folder):
                return 1
        elif not _download(part, folder, files, choose_hub(source, files), accept=accept_licence):
            return 1
    if deep:
        _try_out(name, directory)
    path = shlex.quote(str(directory))
    print(f"To use it:\n  {called('hpc.submit')} --list tars.txt --backend {name} --model-path {path}")
    return 0


def _download(name: str, directory: Path, files: ModelSource, hub: Hub, *, accept: bool) -> bool:
    """False where consent was refused."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--to {directory}: expected a folder, found a file")
    repository = files.repository_on(hub) or ""
    print(f"{name}: {repository}, about {files.size:g} GB, into {directory}", flush=True)
    if not consent(files.licences, accept=accept):
        print("nothing was downloaded")
        return False
    directory.mkdir(parents=True, exist_ok=True)
    try:
        fetched = fetch(files, hub, directory)
    except KeyboardInterrupt:
        print("interrupted: the same command resumes here", file=sys.stderr)
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
    tell_all_right(directory, manifest)
    return True


def _try_out(name: str, directory: Path | None) -> None:
    from tools.fetching.model_check import encode_one_second

    print(f"{name}: one second becomes", flush=True)
    for line in encode_one_second(name, directory):
        print(f"  {line}")


if __name__ == "__main__":
    run_command(fetch_model)
