"""The files of one tar in a run directory: their names, which tar they speak of, and whether a committed one is ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from jobs.records import VERDICT_COMPLETE, Manifest

__all__ = ["InputIdentity", "TarPaths", "TarTask", "committed_fault", "read_manifest"]

PARTIAL_SUFFIX = ".partial"
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst")


@dataclass(frozen=True, slots=True)
class TarPaths:
    """Where one tar's output lives in a run directory. `name` may hold folders (--keep-dirs)."""

    output_dir: Path
    name: str

    @property
    def committed(self) -> Path:
        """Complete by construction."""
        return self.output_dir / f"{self.name}.jsonl"

    @property
    def partial(self) -> Path:
        """Resumable at the next clip."""
        return self.output_dir / f"{self.name}.jsonl{PARTIAL_SUFFIX}"

    @property
    def previous(self) -> Path:
        """What --retry-errors takes good lines from."""
        return self.output_dir / f"{self.name}.jsonl.previous"

    @property
    def manifest(self) -> Path:
        """What is known of the output."""
        return self.output_dir / ".run" / "manifests" / f"{self.name}.json"

    @property
    def claim(self) -> Path:
        """Who works on it."""
        return self.output_dir / ".run" / "claims" / f"{self.name}.json"

    @staticmethod
    def stem(tar: Path) -> str:
        """`a/000001.tar.gz` -> `000001`."""
        for suffix in TAR_SUFFIXES:
            if tar.name.lower().endswith(suffix) and len(tar.name) > len(suffix):
                return tar.name[: -len(suffix)]
        return tar.stem


class TarTask(msgspec.Struct, frozen=True):
    """One tar to tokenize, and the name of its output."""

    tar: str
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class InputIdentity:
    """Which tar this is: a partial made from another one is of no use."""

    tar_file: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, tar: Path) -> InputIdentity:
        """The identity of a tar on disk."""
        status = tar.stat()
        return cls(str(tar), status.st_size, status.st_mtime_ns)

    def matches(self, manifest: Manifest) -> bool:
        """Whether `manifest` speaks of the same bytes, wherever they lay then."""
        return (self.size, self.mtime_ns) == (manifest.input_bytes, manifest.input_mtime_ns)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest, or None if there is none. Raises UsageError if the file is something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: expected a manifest, found something else ({error}): delete it to start over") from None


def committed_fault(paths: TarPaths, tar: Path, manifest: Manifest | None) -> str | None:
    """Why a committed file cannot be trusted, or None. Raises FileNotFoundError if there is none.

    A manifest is written before its file is committed, so a file without a fitting one is not ours, or was changed. Tokens
    of a tar that has another size by now are another tar's. Its time alone says nothing: copies do not keep it. A tar that
    is gone is no fault of its tokens.
    """
    size = paths.committed.stat().st_size
    if manifest is None:
        found = "it has no manifest, so this run did not commit it"
    elif manifest.verdict != VERDICT_COMPLETE:
        found = "its manifest speaks of an unfinished attempt"
    elif size != manifest.output_bytes:
        found = f"it has {size:,} bytes, its manifest says {manifest.output_bytes:,}"
    elif (tar_size := _size(tar)) not in (None, manifest.input_bytes):
        found = f"{tar} has changed since: it had {manifest.input_bytes:,} bytes then, and has {tar_size:,} now"
    else:
        return None
    return f"{paths.committed}: {found}: move it away to have it made again"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
