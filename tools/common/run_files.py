"""A run's committed files in list order, checked against their hashes as they are read."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.progress import scan
from hpc.run import Run
from jobs.manifest import Manifest
from jobs.spec import TokenizeSpec, read_spec
from jobs.taste.status import read_status

__all__ = ["CommittedFile", "check_hash", "committed_files", "read_lines", "spec_of"]

READ_BYTES = 1 << 20

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """One complete NAME.jsonl."""

    name: str
    tar: str
    path: Path
    manifest: Manifest

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.manifest.output_bytes


def spec_of(output_dir: Path) -> TokenizeSpec:
    """The run's spec. Raises UsageError if there is no run."""
    spec = read_spec(output_dir)
    if spec is None:
        raise _no_run(output_dir, "spec.yaml")
    return spec


def committed_files(output_dir: Path, *, partial_ok: bool = False) -> list[CommittedFile]:
    """The run's committed files, in the order of its list.

    Raises UsageError if there is none, or if some are not committed, unless `partial_ok`.
    """
    run = Run(output_dir.absolute())
    listed = run.listed()
    if not listed:
        raise _no_run(output_dir, "tars.txt")
    files, rest = [], []
    for state in scan(run, listed):
        if state.state == "committed" and state.manifest is not None:
            files.append(CommittedFile(state.name, state.tar, run.paths(state.name).committed, state.manifest))
        else:
            rest.append(state)
    if rest:
        count = Counter(state.state.replace("_", " ") for state in rest)
        missing = (
            f"{len(rest)} of {counted(len(listed), 'tar')} not committed ({', '.join(f'{n} {s}' for s, n in count.items())})"
        )
        if not partial_ok:
            raise UsageError(
                f"{output_dir}: {missing}, the first of them {rest[0].name}: finish the run ({called('hpc.resume')}), or "
                "take what is there with --partial-ok"
            )
        log.warning("%s: %s; only the others are taken", output_dir, missing)
    if not files:
        raise UsageError(
            f"{output_dir}: none of its {counted(len(listed), 'tar')} is committed yet: {called('hpc.resume')} goes on"
        )
    return files


def read_lines(file: CommittedFile) -> Iterator[bytes]:
    """Its lines, with their newlines. Raises InfrastructureError at the end if their hash is not the manifest's."""
    digest = hashlib.sha256()
    with file.path.open("rb", buffering=READ_BYTES) as lines:
        for line in lines:
            digest.update(line)
            yield line
    check_hash(file, digest.hexdigest())


def check_hash(file: CommittedFile, sha256: str) -> None:
    """Raise InfrastructureError if this is not the hash of what was committed."""
    if sha256 != file.manifest.output_sha256:
        raise InfrastructureError(
            f"{file.path}: its bytes are not those that were committed (sha256 {sha256[:16]}..., its manifest "
            f"says {file.manifest.output_sha256[:16]}...): move it away and run {called('hpc.submit')} again to have it "
            "made again"
        )


def _no_run(output_dir: Path, missing: str) -> UsageError:
    """The message for a folder that is no run of tokens."""
    if read_status(output_dir) is not None:
        look = f"{called('tools.check_progress')} shows how far it is"
        return UsageError(f"{output_dir}: expected a run of tokens, found a training: {look}")
    return UsageError(f"{output_dir}: no run here: expected its .run/{missing}; give the right --output-dir")
