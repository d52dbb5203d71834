"""Pure: how a tar ended, as a line of the log or a message."""

from __future__ import annotations

from audio_tokenizers.shared.wording import counted
from jobs.channels import describe_note
from jobs.left_out import describe_left_out
from jobs.manifest import Manifest
from jobs.progress import describe_device
from jobs.tar_format import ACCEPTABLE, looks_joined

__all__ = ["describe_broken_tar", "describe_tar"]

ORPHAN_ADVICE = "if they are texts of its clips, unpack the tar and pack the folder with tools.pack, which pairs by name"


def describe_tar(manifest: Manifest, *, committed: bool, on_gpu: bool) -> str:
    """`12 clips, 0.012 audio-h, 1 error`, and whatever else should be known about the tar."""
    errors = sum(manifest.errors.values())
    notes = f"{counted(manifest.clips, 'clip')}, {manifest.audio_seconds / 3600:.3f} audio-h, {counted(errors, 'error')}"
    if manifest.damaged_clips:
        notes += f"; {counted(manifest.damaged_clips, 'damaged clip')} kept ({manifest.damaged_seconds:,.3f} s missing)"
    if manifest.outside_subset:
        notes += f"; {counted(manifest.outside_subset, 'clip')} outside of --subset-ratio"
    elif manifest.clips == 0 and committed:
        notes += f"; no clips in it (other members: {manifest.ignored_members or 'none'}): is --extensions right?"
    if manifest.left_out:
        notes += f"; {describe_left_out(manifest.left_out)}"
    if manifest.orphan_sidecars:
        notes += f"; {counted(manifest.orphan_sidecars, 'sidecar')} without audio of its name, in no record: {ORPHAN_ADVICE}"
    if manifest.sidecar_faults:
        notes += f"; {counted(manifest.sidecar_faults, 'sidecar')} could not be read, or not all of it: see sidecar_errors"
    if manifest.text_encoding:
        notes += f"; texts in {manifest.text_encoding}"
    for note, number in manifest.notes.items():
        notes += f"; {counted(number, 'clip')} {describe_note(note)}"
    if device := describe_device(manifest.device_seconds, gpu=on_gpu):
        notes += f"; device {device}"
    return notes


def describe_broken_tar(manifest: Manifest) -> str:
    """One message for a tar that does not end properly."""
    if manifest.verdict in ACCEPTABLE:
        advice = "if it is known to be whole, accept it with --allow-missing-end"
    elif looks_joined(manifest.verdict, manifest.verdict_detail):
        advice = (
            "if it is several tars put end to end, accept that with --allow-joined, or make one tar of it: unpack it with "
            "tar --ignore-zeros -xf and pack it again"
        )
    elif manifest.verdict == "not_a_tar":
        advice = "check the list"
    else:
        advice = "copy it again from its source"
    return (
        f"{manifest.tar_file}: {manifest.verdict}: {manifest.verdict_detail}. What was read before that "
        f"({counted(manifest.clips, 'clip')}) is kept in the partial; {advice}"
    )
