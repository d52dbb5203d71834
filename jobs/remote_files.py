"""Remote files through fsspec: their facts and their bytes. Any call may raise any error of a library.

fsspec and its parts are imported when first needed.
"""

from __future__ import annotations

import errno
import functools
import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import install_words, is_installed
from jobs.addresses import scheme_of

__all__ = ["RemoteFacts", "ask", "find_remote", "missing_packages", "open_remote"]

PACKAGES = {
    "s3": ("fsspec", "s3fs"),
    "https": ("fsspec", "aiohttp"),
    "http": ("fsspec", "aiohttp"),
    "hf": ("fsspec", "huggingface_hub"),
}
EXTRA = "remote"
SILENT_SECONDS = 60.0
"""A connection that is silent for this long counts as broken, as does one that takes half as long to open."""
VERSION_KEYS = ("ETag", "VersionId", "xet_hash", "blob_id", "Content-MD5", "Digest", "LastModified", "Last-Modified")
PAST_CACHES: Mapping[str, Mapping[str, object]] = {"hf": {"refresh": True, "expand_info": True}, "s3": {"refresh": True}}
_own = threading.local()


class _FileSystem(Protocol):
    def info(self, path: str, **options: object) -> Mapping[str, Any]: ...

    def glob(self, path: str, *, detail: bool) -> Mapping[str, Mapping[str, Any]]: ...

    def open(self, path: str, mode: str, **options: object) -> IO[bytes]: ...


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """A server's facts about a tar."""

    size: int
    """Bytes."""
    version: str
    """An ETag, version, hash or time that changes with the content; empty if the server gives none."""
    ranges: bool = True
    """Whether range requests work, according to the server."""


def missing_packages(schemes: Collection[str]) -> str | None:
    """What to install for tars at addresses with these schemes; None if nothing is missing."""
    wanted = {package for scheme in schemes for package in PACKAGES.get(scheme, ())}
    missing = sorted(package for package in wanted if not is_installed(package))
    if not missing:
        return None
    shown = ", ".join(f"{scheme}://" for scheme in sorted(schemes))
    return f"tars at {shown} need {', '.join(missing)}: {install_words(EXTRA)}"


def ask(url: str) -> RemoteFacts:
    """Ask the server about a file, bypassing all caches. Raises UsageError if it does not report the size."""
    scheme = scheme_of(url)
    info = _filesystem(scheme).info(url, **(PAST_CACHES.get(scheme or "", {})))
    if info.get("type") != "file":
        raise FileNotFoundError(errno.ENOENT, "a folder", url)
    size = info.get("size")
    if size is None:
        raise UsageError(
            f"{url}: its server does not say how large it is, so that a broken connection looks like the end: copy it, or "
            "read it by a command that fails then (pipe:curl -sf ..., --allow-pipe)"
        )
    version = next((f"{key}: {info[key]}" for key in VERSION_KEYS if info.get(key)), "")
    return RemoteFacts(int(size), version, ranges=bool(info.get("partial", True)))


def find_remote(glob: str) -> list[str]:
    """The addresses of the files that match."""
    scheme = scheme_of(glob)
    found: Mapping[str, Mapping[str, Any]] = _filesystem(scheme).glob(glob, detail=True)
    return [f"{scheme}://{path}" for path, info in found.items() if info.get("type") == "file"]


def open_remote(url: str, size: int, block_bytes: int) -> IO[bytes]:
    """Open a file: seekable, by ranges of `block_bytes` or a little more; as a stream if `block_bytes` is 0.

    Reading raises ValueError if the server does not support ranges.
    """
    scheme = scheme_of(url)
    options: dict[str, object] = {"block_size": block_bytes}
    if block_bytes:
        options["cache_type"] = "readahead"
    if scheme != "s3":  # s3fs needs more than the size to notice that the tar was replaced
        options["size"] = size
    return _filesystem(scheme).open(url, "rb", **options)


def _filesystem(scheme: str | None) -> _FileSystem:
    """One file system per scheme for all threads; one per thread for the hub, where it is only a cache."""
    if scheme != "hf":
        return _shared_filesystem("s3" if scheme == "s3" else "http", os.getpid())
    if not hasattr(_own, "hub"):
        import fsspec

        _own.hub = fsspec.filesystem("hf", skip_instance_cache=True)
    hub: _FileSystem = _own.hub
    return hub


@functools.cache
def _shared_filesystem(protocol: str, _process: int) -> _FileSystem:
    """Our own cache: fsspec's would keep one, with its connections, for every thread that ever read a tar."""
    import fsspec

    found: Any
    if protocol == "s3":
        found = fsspec.filesystem("s3", **_s3_options())
        found.retries = 1  # RemoteTar retries, and reports it
        return cast("_FileSystem", found)
    import aiohttp

    waits = aiohttp.ClientTimeout(total=None, sock_connect=SILENT_SECONDS / 2, sock_read=SILENT_SECONDS)
    client = {
        "timeout": waits,
        "trust_env": True,  # proxies, and credentials in ~/.netrc
        "auto_decompress": False,  # a tar.gz must arrive as stored, whatever its Content-Encoding
        "headers": {"Accept-Encoding": "identity"},
    }
    found = fsspec.filesystem("http", client_kwargs=client, skip_instance_cache=True)
    return cast("_FileSystem", found)


def _s3_options() -> dict[str, object]:
    import botocore.session

    config = {
        "connect_timeout": SILENT_SECONDS / 2,
        "read_timeout": SILENT_SECONDS,
        "retries": {"total_max_attempts": 1},
    }
    options: dict[str, object] = {"config_kwargs": config, "use_listings_cache": False, "skip_instance_cache": True}
    if botocore.session.get_session().get_credentials() is None:
        options["anon"] = True  # for public buckets
    return options
