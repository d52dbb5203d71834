"""Files at addresses, by fsspec: what their servers say of them, and their bytes. Any call may raise any error of a library.

fsspec and its parts are imported when the first such file is asked for.
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
"""A connection on which nothing comes for so long counts as broken; so does one that takes half as long to be made."""
VERSION_KEYS = ("ETag", "VersionId", "xet_hash", "blob_id", "Content-MD5", "Digest", "LastModified", "Last-Modified")
PAST_CACHES: Mapping[str, Mapping[str, object]] = {"hf": {"refresh": True, "expand_info": True}, "s3": {"refresh": True}}
_own = threading.local()


class _FileSystem(Protocol):
    def info(self, path: str, **options: object) -> Mapping[str, Any]: ...

    def glob(self, path: str, *, detail: bool) -> Mapping[str, Mapping[str, Any]]: ...

    def open(self, path: str, mode: str, **options: object) -> IO[bytes]: ...


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """What a server says of a tar."""

    size: int
    """Bytes."""
    version: str
    """What changes with the content: an ETag, a version, a hash or a time; empty where the server says nothing."""
    ranges: bool = True
    """Whether parts may be asked for, as far as it says."""


def missing_packages(schemes: Collection[str]) -> str | None:
    """What to install for tars at addresses with these schemes; None if all is here."""
    wanted = {package for scheme in schemes for package in PACKAGES.get(scheme, ())}
    missing = sorted(package for package in wanted if not is_installed(package))
    if not missing:
        return None
    shown = ", ".join(f"{scheme}://" for scheme in sorted(schemes))
    return f"tars at {shown} need {', '.join(missing)}: {install_words(EXTRA)}"


def ask(url: str) -> RemoteFacts:
    """What the server says of a file now, past all caches. Raises UsageError if it does not say how large it is."""
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
    """The file's bytes: by ranges of `block_bytes` or a little more, which can be sought in, or where that is 0 as a stream.

    To read where no ranges are to be had raises ValueError.
    """
    scheme = scheme_of(url)
    options: dict[str, object] = {"block_size": block_bytes}
    if block_bytes:
        options["cache_type"] = "readahead"
    if scheme != "s3":  # which has to know more than the size, so that it notices if the tar is replaced
        options["size"] = size
    return _filesystem(scheme).open(url, "rb", **options)


def _filesystem(scheme: str | None) -> _FileSystem:
    """One of each for all threads; that of the hub, which is no more than a cache, is each thread's own."""
    if scheme != "hf":
        return _shared_filesystem("s3" if scheme == "s3" else "http", os.getpid())
    if not hasattr(_own, "hub"):
        import fsspec

        _own.hub = fsspec.filesystem("hf", skip_instance_cache=True)
    hub: _FileSystem = _own.hub
    return hub


@functools.cache
def _shared_filesystem(protocol: str, _process: int) -> _FileSystem:
    """The cache of fsspec would keep one, with its connections, for every thread that has ever read a tar."""
    import fsspec

    found: Any
    if protocol == "s3":
        found = fsspec.filesystem("s3", **_s3_options())
        found.retries = 1  # it is RemoteTar that tries again, and says so
        return cast("_FileSystem", found)
    import aiohttp

    waits = aiohttp.ClientTimeout(total=None, sock_connect=SILENT_SECONDS / 2, sock_read=SILENT_SECONDS)
    client = {
        "timeout": waits,
        "trust_env": True,  # proxies, and credentials in ~/.netrc
        "auto_decompress": False,  # a tar.gz is wanted as it lies there, whatever the server says of it
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
        options["anon"] = True  # as for a public bucket
    return options
