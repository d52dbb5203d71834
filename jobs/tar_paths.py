"""The files of one tar in a run directory: their names, and whether a committed one is ours."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted
from jobs.any_json import decode_json
from jobs.manifest import VERDICT_COMPLETE, Manifest

__all__ = [
    "TarPaths",
    "UntrustedFileError",
    "committed_fault",
    "is_attempt",
    "read_manifest",
]

PARTIAL_SUFFIX = ".partial"
ATTEMPT_DIGITS = 12
HEAD_BYTES, READ_BYTES, LAST_BYTES = 1 << 13, 1 << 16, 8
TOKENS = b',\n  "tokens": {'
"""In a manifest that jobs/ledger.py wrote: no other key is indented like this, and no string holds a line break."""
ATTEMPT = re.compile(rf"[0-9a-f]{{{ATTEMPT_DIGITS}}}")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst")


class UntrustedFileError(UsageError):
    """A file of a tar's output is not what this run left there. The user has to remove it; after that, failures that it
    caused no longer count.
    """


@dataclass(frozen=True, slots=True)
class TarPaths:
    """Where one tar's output lives in a run directory. `name` may hold folders (--keep-dirs)."""

    output_dir: Path
    name: str

    @property
    def committed(self) -> Path:
        """The committed file: complete by construction."""
        return Path(self._committed)

    @property
    def partial(self) -> Path:
        """Lines so far, resumable at the next clip."""
        return Path(self._committed + PARTIAL_SUFFIX)

    def private_partial(self, attempt: str) -> Path:
        """The partial under the name that only this attempt uses. `attempt` has ATTEMPT_DIGITS characters."""
        partial = self.partial
        return partial.with_name(f".{partial.name}.{attempt}")

    def private_partials(self) -> list[Path]:
        """All existing private partials, of any attempt."""
        return self._private(self.partial)

    def private_feature_files(self) -> list[Path]:
        """All existing private files of features, of any attempt."""
        return self._private(self.features_partial) + self._private(self.features)

    @staticmethod
    def _private(path: Path) -> list[Path]:
        return list(path.parent.glob(f".{_escape(path.name)}.{'?' * ATTEMPT_DIGITS}"))

    def private_sums(self, attempt: str) -> Path:
        """The sums of one attempt's lines (jobs/line_sums.py). The file is never renamed."""
        return self._sums.with_name(f".{self._sums.name}.{attempt}")

    def all_private_sums(self) -> list[Path]:
        """Those that there are, of whatever attempt."""
        return self._private(self._sums)

    def private_journal(self, attempt: str) -> Path:
        """What one attempt has encoded of a long clip that has no line yet (jobs/clip_journal.py)."""
        return self._journal.with_name(f".{self._journal.name}.{attempt}")

    def private_journals(self) -> list[Path]:
        """Those that there are, of whatever attempt."""
        return self._private(self._journal)

    @property
    def _journal(self) -> Path:
        return self.output_dir / ".run" / "attempts" / f"{self.name}.clip"

    @property
    def _sums(self) -> Path:
        return self.output_dir / ".run" / "attempts" / f"{self.name}.sums"

    def temporary_files(self) -> list[Path]:
        """All existing private files, of any attempt, and temporary files of atomic writes."""
        whole = (self.manifest, self.attempt, self.claim, self.previous, self.previous_sums)
        private = self.private_partials() + self.private_feature_files()
        private += self.all_private_sums() + self.private_journals()
        return private + [path for each in whole for path in self._private(each)]

    @property
    def features(self) -> Path:
        """The floats of a committed file, where its backend gives any."""
        return Path(self._features)

    @property
    def features_partial(self) -> Path:
        """The arrays of the partial's lines, without a header."""
        return Path(self._features + PARTIAL_SUFFIX)

    def private_features(self, attempt: str, *, finished: bool = False) -> Path:
        """The same under the name that only this attempt uses; `finished`: with its header, ready for the commit."""
        path = self.features if finished else self.features_partial
        return path.with_name(f".{path.name}.{attempt}")

    @property
    def previous(self) -> Path:
        """The file from which --retry-errors takes good lines."""
        return Path(f"{self._committed}.previous")

    def private_previous(self, attempt: str) -> tuple[Path, Path]:
        """The file of this name and its sums while an attempt writes them."""
        found = [path.with_name(f".{path.name}.{attempt}") for path in (self.previous, self.previous_sums)]
        return found[0], found[1]

    @property
    def previous_sums(self) -> Path:
        """The sums of its lines, if they were those of a partial; a committed file's manifest has the whole file's."""
        return self.output_dir / ".run" / "attempts" / f"{self.name}.previous-sums"

    @property
    def manifest(self) -> Path:
        """Vouches for the committed file; written right before it, and at no other time."""
        return Path(self._manifest)

    @property
    def attempt(self) -> Path:
        """What is known about a partial: a manifest too, until the commit."""
        return Path(self._attempt)

    @property
    def claim(self) -> Path:
        """Which worker has the tar."""
        return self.output_dir / ".run" / "claims" / f"{self.name}.json"

    # Text, because a scan of a run asks for these once per tar, and a Path costs as much as the system call.
    @property
    def _committed(self) -> str:
        return f"{self.output_dir}/{self.name}.jsonl"

    @property
    def _features(self) -> str:
        return f"{self.output_dir}/{self.name}.safetensors"

    @property
    def _manifest(self) -> str:
        return f"{self.output_dir}/.run/manifests/{self.name}.json"

    @property
    def _attempt(self) -> str:
        return f"{self.output_dir}/.run/attempts/{self.name}.json"

    def read_unfinished(self) -> Manifest | None:
        """What is known about a tar without a committed file: about its partial, or a file that was committed once.

        Raises UsageError if a manifest cannot be read.
        """
        return read_manifest(self._attempt) or read_manifest(self._manifest)

    def read_committed(self, tar: str) -> tuple[Manifest | None, str | None]:
        """The committed file's manifest, and why the file cannot be trusted, if so.

        Raises FileNotFoundError if there is no committed file, UsageError if its manifest cannot be read. The file is looked
        at before its manifest, which is written first, so a commit in between does not look like a fault.
        """
        size = os.stat(self._committed).st_size  # noqa: PTH116 (text, see above)
        manifest = read_manifest(self._manifest)
        return manifest, _fault(self._committed, size, self._features, tar, manifest)

    @staticmethod
    def stem(tar: Path) -> str:
        """`a/000001.tar.gz` -> `000001`."""
        for suffix in TAR_SUFFIXES:
            if tar.name.lower().endswith(suffix) and len(tar.name) > len(suffix):
                return tar.name[: -len(suffix)]
        return tar.stem


def read_manifest(path: Path | str) -> Manifest | None:
    """The manifest, or None if there is none. Raises UntrustedFileError if the file is not a manifest.

    The statistics of tokens, most of a manifest, come last and are not read here (jobs/token_statistics.py does); but where
    the file is cut within them, its end is missing.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        data = os.read(fd, HEAD_BYTES)
        end = data.find(TOKENS)
        if end >= 0:
            last = os.pread(fd, LAST_BYTES, max(0, os.fstat(fd).st_size - LAST_BYTES))
            data = data[:end] + (b"}" if last.rstrip().endswith(b"\n}") else b"")
        while end < 0 and (piece := os.read(fd, READ_BYTES)):
            data += piece
    finally:
        os.close(fd)
    try:
        return decode_json(data, Manifest)
    except msgspec.DecodeError as error:
        raise UntrustedFileError(
            f"{path}: expected a manifest, found something else ({error}): delete it to start over"
        ) from None


def is_attempt(text: str) -> bool:
    """Whether unchecked text from a claim or a manifest can be the name of an attempt."""
    return ATTEMPT.fullmatch(text) is not None


def committed_fault(paths: TarPaths, tar: Path, manifest: Manifest | None) -> str | None:
    """Why a committed file cannot be trusted, or None. Raises FileNotFoundError if there is none.

    A manifest is written before its file is committed, so a file without a matching one is foreign or was changed. A tar
    with another size than it had is another tar. Its time alone says nothing, because copies do not keep it. A missing tar
    is no fault of its tokens.
    """
    return _fault(str(paths.committed), paths.committed.stat().st_size, str(paths.features), str(tar), manifest)


def _fault(committed: str, size: int, features: str, tar: str, manifest: Manifest | None) -> str | None:
    if manifest is None:
        found = "it has no manifest, so this run did not commit it"
    elif manifest.verdict != VERDICT_COMPLETE:
        found = "its manifest speaks of an unfinished attempt"
    elif size != manifest.output_bytes:
        found = f"it has {counted(size, 'byte')}, its manifest says {manifest.output_bytes:,}"
    elif manifest.features_bytes and (found_bytes := _size(features)) != manifest.features_bytes:
        found = f"{features} has {counted(found_bytes or 0, 'byte')}, its manifest says {manifest.features_bytes:,}"
    elif (tar_size := _size(tar)) not in (None, manifest.input_bytes):
        found = f"{tar} has changed since: it had {counted(manifest.input_bytes, 'byte')} then, and has {tar_size:,} now"
    else:
        return None
    return f"{committed}: {found}: move it away to have it made again"


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (text: once per tar of a scan)
    except OSError:
        return None


def _escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
