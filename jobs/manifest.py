"""What is known about one tar's output, kept in a file of its own."""

from __future__ import annotations

import msgspec

from jobs.progress import DeviceSeconds

__all__ = ["VERDICT_COMPLETE", "VERDICT_IN_PROGRESS", "Findings", "Manifest"]

MANIFEST_FORMAT = 1
VERDICT_COMPLETE = "complete"
VERDICT_IN_PROGRESS = "in_progress"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one tar's output. Written when an attempt starts and ends, for the last time before the commit."""

    format: int = MANIFEST_FORMAT
    tar_file: str
    input_bytes: int
    input_mtime_ns: int
    input_version: str = ""
    """Of a tar at an address, which has no times: its ETag or the like."""
    fingerprint: str
    verdict: str = VERDICT_IN_PROGRESS
    """`complete`, `in_progress`, or how the tar is broken (tar_reader.Verdict)."""
    verdict_detail: str = ""
    verdict_offset: int | None = None
    """Byte of the uncompressed tar at which it broke."""
    clips: int = 0
    errors: dict[str, int] = {}
    """Error records by kind."""
    damaged_clips: int = 0
    """Clips that were kept although part of them is missing, as their records say."""
    damaged_seconds: float = 0.0
    """How much is missing of them."""
    notes: dict[str, int] = {}
    """Records with notes, by note."""
    audio_seconds: float = 0.0
    """Seconds of audio that became tokens."""
    wall_seconds: float = 0.0
    """Duration of all attempts that ended by themselves."""
    device_seconds: DeviceSeconds = DeviceSeconds()
    """What the workers' devices did in these attempts, since the previous tar ended. Sums over tars give the whole."""
    output_bytes: int = 0
    output_sha256: str = ""
    features_bytes: int = 0
    """Of NAME.safetensors, where the backend gives features."""
    features_sha256: str = ""
    attempt: str = ""
    ignored_members: dict[str, int] = {}
    """Members that are not clips, by reason: directory, link, appledouble, sparse_sidecar, other."""
    linked_clips: int | None = None
    """Clips that are links in the tar; None in manifests from before links became clips."""
    left_out: dict[str, int] = {}
    """Ignored members that may be data, by suffix (jobs/left_out.py)."""
    orphan_sidecars: int = 0
    """Sidecar files for which no audio was found by name: their texts are in no record."""
    sidecar_faults: int = 0
    """Sidecar files that could not be read completely; the records of their clips say so."""
    text_encoding: str = ""
    """Encoding of the sidecars that are not UTF-8 and do not declare theirs, detected over all of them; empty if unsure."""
    versions: dict[str, str] = {}

    @property
    def is_damage(self) -> bool:
        """Whether the verdict is that the tar itself is broken."""
        return self.verdict not in (VERDICT_COMPLETE, VERDICT_IN_PROGRESS)


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt found out about its tar. Each field is that of the same name in `Manifest`."""

    verdict: str = VERDICT_IN_PROGRESS
    verdict_detail: str = ""
    verdict_offset: int | None = None
    ignored_members: dict[str, int] = {}
    linked_clips: int | None = None
    left_out: dict[str, int] = {}
    orphan_sidecars: int = 0
    sidecar_faults: int = 0
    text_encoding: str = ""
    versions: dict[str, str] = {}
