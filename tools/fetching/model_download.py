"""Files from the Hugging Face hub, ModelScope or an address, into a directory: resumed, and checked by size and hash.

huggingface_hub's own snapshot_download restarts an unfinished file in each process (its temporary names are random since
pull request 4228), and does not check existing files. Here a file grows under a name that contains its hash: the next
command resumes it, and no file gets its final name before its hash is right.
"""

from __future__ import annotations

import errno
import fnmatch
import importlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from audio_tokenizers.errors import InfrastructureError, ModelFilesError, UsageError
from audio_tokenizers.shared.wording import counted
from tools.common.file_hash import hash_file
from tools.common.hub_errors import client_errors, first_line, gated, is_of_the_disk
from tools.fetching.model_manifest import FileEntry
from tools.fetching.model_sources import ExtraFile, Hub, ModelSource

__all__ = ["Fetched", "fetch"]

SAY_EVERY_S = 30.0
"""Between two log lines about one file, without a terminal."""
NAMES_SHOWN = 8

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The contents of a directory after a fetch."""

    revision: str
    files: dict[str, FileEntry]


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    path: str
    url: str
    size: int
    digest: str
    is_git: bool = False
    """`digest` is git's SHA-1 of the blob, the only hash that the hub has of a file outside LFS; else a SHA-256."""
    headers: dict[str, str] | None = None

    def fault(self, path: Path) -> str | None:
        """What is wrong with the local copy, or None."""
        if (size := path.stat().st_size) != self.size:
            return f"expected {counted(self.size, 'byte')}, found {size:,}"
        kind, prefix = ("sha1", b"blob %d\0" % self.size) if self.is_git else ("sha256", b"")
        found = hash_file(path, kind, prefix)
        return None if found == self.digest else f"expected {kind} {self.digest}, found {found}"

    def sha256(self, path: Path) -> str:
        """Hash of a correct local copy."""
        return hash_file(path) if self.is_git else self.digest


def fetch(source: ModelSource, hub: Hub, directory: Path) -> Fetched:
    """Fetch all files of `source` into `directory`; correct files stay.

    Raises InfrastructureError where the network, the hub or the disk fails, ModelFilesError where the repository does not
    have what is needed, UsageError where something is not installed.
    """
    revision, files = (_fetch_huggingface if hub == "huggingface" else _fetch_modelscope)(source, directory)
    for extra in source.extra:
        files |= _fetch_extra(extra, directory)
    return Fetched(revision, dict(sorted(files.items())))


def _fetch_extra(extra: ExtraFile, directory: Path) -> dict[str, FileEntry]:
    file = _RemoteFile(extra.path, extra.url, extra.size, extra.sha256)
    try:
        return _fetch_all([file], directory, extra.url, None)
    except InfrastructureError as error:
        raise InfrastructureError(f"{error}; or put this file into {directory} by other means") from error


def _fetch_huggingface(source: ModelSource, directory: Path) -> tuple[str, dict[str, FileEntry]]:
    repository = str(source.huggingface)
    with _hub_errors(repository, source):
        from huggingface_hub import HfApi, get_token, hf_hub_url

        # Explicit, because huggingface_hub reads the variable only at import.
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        info = api.model_info(repository, revision=source.revision, files_metadata=True)
        token = get_token()
        headers = {"authorization": f"Bearer {token}"} if token else None
        remote = [
            _RemoteFile(
                path=item.rfilename,
                url=hf_hub_url(repository, item.rfilename, revision=info.sha, endpoint=api.endpoint),
                size=(item.lfs.size if item.lfs else item.size) or 0,
                digest=(item.lfs.sha256 if item.lfs else item.blob_id) or "",
                is_git=not item.lfs,
                headers=headers,
            )
            for item in info.siblings or []
        ]
    wanted = set(_select(source, [file.path for file in remote], f"{repository} at {info.sha}"))
    return str(info.sha), _fetch_all([file for file in remote if file.path in wanted], directory, repository, source)


def _select(source: ModelSource, there: Sequence[str], place: str) -> list[str]:
    """The wanted paths of a repository. Raises ModelFilesError if a required one is missing."""
    missing = [name for name in source.files if name not in there]
    if missing:
        found = ", ".join(sorted(there)[:NAMES_SHOWN]) or "no file"
        raise ModelFilesError(f"{place}: expected {', '.join(missing)}, found {found}: has the repository been changed?")
    return [path for path in there if path in source.files or any(fnmatch.fnmatchcase(path, p) for p in source.optional)]


def _fetch_all(
    files: Sequence[_RemoteFile], directory: Path, place: str, source: ModelSource | None
) -> dict[str, FileEntry]:
    todo = []
    for file in files:
        path = directory / file.path
        if path.is_file() and file.fault(path) is None:
            log.info("%s: here already", file.path)
        else:
            todo.append(file)
    _check_room(todo, directory)
    for file in todo:
        with _hub_errors(place, source), _disk_errors(directory):
            _fetch_file(file, directory)
    return {file.path: FileEntry(file.size, file.sha256(directory / file.path)) for file in files}


def _part(file: _RemoteFile, directory: Path) -> Path:
    path = directory / file.path
    return path.with_name(f".{path.name}.{file.digest[:16]}.part")


def _check_room(files: Sequence[_RemoteFile], directory: Path) -> None:
    parts = [_part(file, directory) for file in files]
    needed = sum(file.size for file in files) - sum(part.stat().st_size for part in parts if part.is_file())
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise InfrastructureError(
            f"{directory}: expected room for {_size(needed)} more, found {_size(free)} free: make room"
        )


def _fetch_file(file: _RemoteFile, directory: Path) -> None:
    from huggingface_hub.file_download import http_get

    path, part = directory / file.path, _part(file, directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    there = part.stat().st_size if part.is_file() else 0
    if there > file.size:
        part.unlink()
        there = 0
    log.info("%s: %s%s", file.path, _size(file.size), f", resuming after {_size(there)}" if there else "")
    with part.open("ab") as raw:
        http_get(
            file.url,
            _Reported(raw, file, there),  # type: ignore[arg-type]
            resume_size=there,
            headers=file.headers,
            expected_size=file.size,
            displayed_filename=file.path,
        )
    fault = file.fault(part)
    if fault is not None:
        part.unlink()
        raise InfrastructureError(f"{file.url}: {fault}: damaged in transfer, and deleted: run the same command again")
    part.replace(path)
    for stale in path.parent.glob(f".{path.name}.*.part"):  # of another revision
        stale.unlink()


class _Reported:
    """A writable file that logs a line now and then, unless a terminal shows a progress bar."""

    def __init__(self, raw: BinaryIO, file: _RemoteFile, there: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._raw, self._file, self._done, self._clock = raw, file, there, clock
        self._silent = sys.stderr.isatty()
        self._said = clock()

    def write(self, data: bytes) -> int:
        count = self._raw.write(data)
        self._done += count
        if not self._silent and self._clock() - self._said >= SAY_EVERY_S:
            self._said = self._clock()
            log.info("%s: %s of %s", self._file.path, _size(self._done), _size(self._file.size))
        return count

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # seek, tell, truncate ...
        return getattr(self._raw, name)


def _fetch_modelscope(source: ModelSource, directory: Path) -> tuple[str, dict[str, FileEntry]]:
    """ModelScope's own downloader resumes, and checks each file's SHA-256 against the repository's list."""
    try:
        snapshot_download = importlib.import_module("modelscope").snapshot_download
    except ImportError:
        raise UsageError("--source modelscope needs its package: pip install modelscope") from None
    with _disk_errors(directory):
        try:
            snapshot_download(source.modelscope, local_dir=str(directory), allow_patterns=[*source.files, *source.optional])
        except Exception as error:  # its errors share no class across releases
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InfrastructureError(
                f"{source.modelscope} could not be downloaded from ModelScope ({first_line(error)}): its lines above may "
                "say more; is there network, and is MODELSCOPE_API_TOKEN set if it asks for one? The same command "
                "resumes"
            ) from error
    there = [str(path.relative_to(directory)) for path in sorted(directory.rglob("*")) if path.is_file()]
    files = _select(source, there, f"{directory}, downloaded from {source.modelscope}")
    return "master", {name: FileEntry((directory / name).stat().st_size, hash_file(directory / name)) for name in files}


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise InfrastructureError(
                f"{directory}: {error.strerror}: make room and run the same command again: it resumes"
            ) from error
        raise


@contextmanager
def _hub_errors(place: str, source: ModelSource | None) -> Iterator[None]:
    """Turns errors of huggingface_hub and its HTTP client into one message."""
    try:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled
    except ImportError:
        raise UsageError("this needs huggingface_hub: pip install huggingface_hub") from None
    try:
        yield
    except GatedRepoError as error:
        raise gated(place, place) from error
    except HfHubHTTPError as error:
        raise _http_error(place, getattr(error.response, "status_code", None), error, source) from error
    except OfflineModeIsEnabled as error:
        raise UsageError(f"{place}: HF_HUB_OFFLINE is set: unset it, or give --verify to check what is there") from error
    except client_errors() as error:
        if is_of_the_disk(error):
            raise
        other = f" (or from --source modelscope: {source.modelscope})" if source is not None and source.modelscope else ""
        raise InfrastructureError(
            f"{place} cannot be reached, or the connection broke: {first_line(error)}: run the same command again with a "
            f"network{other}: it resumes"
        ) from error


def _http_error(place: str, status: int | None, error: Exception, source: ModelSource | None) -> Exception:
    if status in {401, 403, 404} and source is not None:
        what = f"{place} at {source.revision}" if source.revision else place
        other = f", or give --source modelscope ({source.modelscope})" if source.modelscope else ""
        return UsageError(
            f"{what}: not found, or no access (HTTP {status}): `hf auth login`, or set HF_TOKEN to one that may read "
            f"it{other}"
        )
    return InfrastructureError(f"{place}: the server answered {first_line(error)}: run the same command again later")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
