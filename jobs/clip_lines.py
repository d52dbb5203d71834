"""What line a clip becomes: its record in the partial."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from audio_tokenizers.base import Codes
from audio_tokenizers.errors import ClipError
from jobs.clip_group import Clip
from jobs.ledger import Ledger
from jobs.pending import Pending
from jobs.record_fields import to_json
from jobs.records import ErrorRecord, Record, TokenRecord, decode_record, encode_record, line_parts
from jobs.spec import TokenizeSpec

__all__ = ["known_error", "write_line"]

CRASH_WORDS = "workers died with this clip in hand; their logs say how, and --retry-errors tries it again"
"""The same whatever the signals were: a committed file must not depend on luck."""
TIMEOUT_WORDS = (
    "two workers made no progress with this clip until they were ended; --retry-errors tries it again, with a longer "
    "--clip-timeout if it only is slow"
)
RECORDING_WORDS = "workers died with two parts of this recording in hand, one after the other: the rest of it is not tried"


def known_error(clip: Clip, crash_clips: Collection[int], timed_out: Collection[int]) -> ClipError | None:
    """The error that a clip has before it is decoded, if it has one: it killed workers, or cannot be read."""
    if clip.index in crash_clips:
        return ClipError("timeout", TIMEOUT_WORDS) if clip.index in timed_out else ClipError("crash", CRASH_WORDS)
    if crashed_before(clip, crash_clips):
        return ClipError("crash", RECORDING_WORDS)
    return clip.fault


def crashed_before(clip: Clip, crash_clips: Collection[int]) -> bool:
    """Whether two clips in a row of the clip's recording, both before it, have killed workers: what kills them is then most
    likely in the recording, which has to be decoded for all clips after them, and each would cost two workers more.
    """
    first = clip.index - clip.number
    return any(first <= one and one + 1 < clip.index and one + 1 in crash_clips for one in crash_clips)


def write_line(ledger: Ledger, pending: Pending, tar_file: str, spec: TokenizeSpec) -> Record:
    """Append the line of a finished clip to its tar's partial. Returns its record, without the values."""
    name = pending.clip.name
    if pending.kept_line is not None:
        record = decode_record(pending.kept_line)
        ledger.append(record, (pending.kept_line,), kept=True)
        return record
    if pending.error is not None:
        record = ErrorRecord(tar_file=tar_file, audio_file=name, error=str(pending.error), error_kind=pending.error.kind)
        ledger.append(record, (encode_record(record),))
        return record
    said = pending.clip.annotations
    record = TokenRecord(
        tar_file=tar_file,
        audio_file=name,
        num_samples=pending.samples,
        sample_rate=spec.sample_rate,
        values={},
        damage=pending.damage,
        text=said.text,
        language=said.language,
        notes=pending.notes,
    )
    if pending.values is None:
        shape = b"[%d,%d]" % (spec.fields[0].width, pending.sink.frames)
        values = (("tokens", pending.sink.json_parts()), ("token_shape", (shape,)))
        sink = pending.sink
        ledger.append(record, line_parts(record, values, said.metadata_json), tokens=lambda: {"tokens": sink.counted()})
        return record
    json, features = to_json(spec.fields, pending.values, pending.clip.index)
    parts = ((key, (text,)) for key, text in json.items())
    arrays = {field.name: cast("Codes", pending.values[field.name]) for field in spec.fields if field.form != "features"}
    ledger.append(record, line_parts(record, parts, said.metadata_json), features, tokens=lambda: arrays)
    return record
