"""The manifest: facts about one tar's output, in its own file."""

from __future__ import annotations

import msgspec

from jobs.progress import DeviceSeconds

__all__ = ["VERDICT_COMPLETE", "VERDICT_IN_PROGRESS", "Findings", "Maker", "Manifest"]

MANIFEST_FORMAT = 1
VERDICT_COMPLETE = "complete"
VERDICT_IN_PROGRESS = "in_progress"


class Maker(msgspec.Struct, frozen=True, kw_only=True):
    """What made a number of a tar's lines, one after the other."""

    node: str
    device: str = "cpu"
    """`cpu`, or the GPU's name."""
    gpu: str = ""
    """Its UUID, or where that is not known what CUDA_VISIBLE_DEVICES calls it; empty on a CPU."""
    task: str = ""
    """The array task, as SUBMISSION/SLOT; empty for a worker that was started by hand."""
    clips: int = 0


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt's findings about its tar."""

    verdict: str = VERDICT_IN_PROGRESS
    """`complete`, `in_progress`, or how the tar is broken (tar_reader.Verdict)."""
    verdict_detail: str = ""
    verdict_offset: int | None = None
    """Byte of the uncompressed tar at which it broke."""
    ignored_members: dict[str, int] = {}
    """Members that are not clips, by reason: directory, link, appledouble, sparse_sidecar, other."""
    linked_clips: int | None = None
    """Clips that are links in the tar; None in manifests from before links became clips."""
    left_out: dict[str, int] = {}
    """Ignored members that may be data, by suffix (jobs/left_out.py)."""
    outside_subset: int = 0
    """Audio members outside of the run's share (--subset-ratio): they have no lines."""
    orphan_sidecars: int = 0
    """Sidecar files for which no audio was found by name: their texts are in no record."""
    sidecar_faults: int = 0
    """Sidecar files that could not be read completely; the records of their clips say so."""
    text_encoding: str = ""
    """Encoding of the sidecars that are not UTF-8 and do not declare theirs, detected over all of them; empty if unsure."""
    versions: dict[str, str] = {}


class Manifest(Findings, frozen=True, kw_only=True):
    """Facts about one tar's output. Written when an attempt starts and ends; the last time before the commit."""

    format: int = MANIFEST_FORMAT
    tar_file: str
    input_bytes: int
    input_mtime_ns: int
    input_version: str = ""
    """For a tar at an address, which has no file times: its ETag or similar."""
    fingerprint: str
    clips: int = 0
    errors: dict[str, int] = {}
    """Error records by kind."""
    damaged_clips: int = 0
    """Clips kept with a part missing, as their records say."""
    damaged_seconds: float = 0.0
    """Seconds missing from them."""
    notes: dict[str, int] = {}
    """Records with notes, by note."""
    audio_seconds: float = 0.0
    """Seconds of audio that became tokens."""
    wall_seconds: float = 0.0
    """Duration of all attempts that ended by themselves."""
    device_seconds: DeviceSeconds = DeviceSeconds()
    """Device time of the workers in these attempts, since the previous tar ended. Sums over tars give the total."""
    output_bytes: int = 0
    output_sha256: str = ""
    features_bytes: int = 0
    """Size of NAME.safetensors, if the backend produces features."""
    features_sha256: str = ""
    attempt: str = ""
    made_by: tuple[Maker, ...] = ()
    """Which workers made the lines, in their order. Lines that --retry-errors kept, that were adopted, or that
    versions wrote which did not note this, are not among their clips."""

    @property
    def is_damage(self) -> bool:
        """Whether the verdict is that the tar itself is broken."""
        return self.verdict not in (VERDICT_COMPLETE, VERDICT_IN_PROGRESS)
