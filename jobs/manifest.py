"""What is known of one tar's output: a file beside it."""

from __future__ import annotations

import msgspec

from jobs.progress import DeviceSeconds

__all__ = ["VERDICT_COMPLETE", "VERDICT_IN_PROGRESS", "Findings", "Manifest"]

MANIFEST_FORMAT = 1
VERDICT_COMPLETE = "complete"
VERDICT_IN_PROGRESS = "in_progress"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one tar's output. Written when an attempt starts and ends; its last version before the commit."""

    format: int = MANIFEST_FORMAT
    tar_file: str
    input_bytes: int
    input_mtime_ns: int
    input_version: str = ""
    """Of a tar at an address, which has no time: its ETag or the like."""
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
    """Clips with tokens that lack something, and say so."""
    damaged_seconds: float = 0.0
    """What they lack."""
    notes: dict[str, int] = {}
    """Records by what they note."""
    audio_seconds: float = 0.0
    """Audio that became tokens."""
    wall_seconds: float = 0.0
    """Time of all attempts that ended by themselves."""
    device_seconds: DeviceSeconds = DeviceSeconds()
    """Of the same attempts: what their workers' devices did since the tar before had ended. Sums over tars are the whole."""
    output_bytes: int = 0
    output_sha256: str = ""
    features_bytes: int = 0
    """Of NAME.safetensors, where the backend gives features."""
    features_sha256: str = ""
    attempt: str = ""
    ignored_members: dict[str, int] = {}
    """Members that are no clips, by reason: directory, link, appledouble, sparse_sidecar, other."""
    linked_clips: int | None = None
    """Clips that are links in the tar; None from when links were no clips."""
    left_out: dict[str, int] = {}
    """Those of them that may be data, by suffix (jobs/left_out.py)."""
    orphan_sidecars: int = 0
    """Sidecar files that belong to no audio by their names, or were not found to: their texts are in no record."""
    sidecar_faults: int = 0
    """Sidecar files that could not be read, or not all of them; their clips' records say so."""
    text_encoding: str = ""
    """Of sidecars that are neither UTF-8 nor say what they are, as it was told from all of them; empty if none was sure."""
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
