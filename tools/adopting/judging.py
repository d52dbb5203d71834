"""One clip and the old lines that name it: the line of our record, or why the clip is made again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from audio_tokenizers.errors import ClipError
from jobs.audio import decode
from jobs.channels import ADOPTED, Mixer
from jobs.clip_group import Clip
from jobs.losses import Losses
from jobs.record_fields import check_counts
from jobs.records import TokenRecord, line_parts
from jobs.spec import TokenizeSpec
from tools.adopting.old_lines import OldLine, UnfitError, values_of

__all__ = ["REASONS", "Adopted", "MadeAgain", "Reason", "judge_clip"]

Reason = Literal["no_line", "error", "ambiguous", "contradiction", "tokens", "length", "text", "audio"]
REASONS: Mapping[Reason, str] = {
    "no_line": "without a line",
    "error": "on which the older tool failed",
    "ambiguous": "that cannot be told from another clip",
    "contradiction": "with several lines that differ",
    "tokens": "with tokens that the backend cannot have made",
    "length": "with tokens or a length that do not fit the audio",
    "text": "with another text",
    "audio": "with audio that is damaged, too short or too long",
}
"""Why clips are made again, as the continuation of `3 clips`."""
SLACK_SECONDS = 0.1
"""How much the lengths of two decoders may differ: of an MP3 some keep the encoder's delay and padding, three frames of at
most 26 ms and half a frame."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A clip with a line for the partial."""

    line: bytes
    """Without its newline."""
    seconds: float
    """Of audio."""


@dataclass(frozen=True, slots=True)
class MadeAgain:
    """A clip for the normal run."""

    reason: Reason
    words: str


@dataclass(frozen=True, slots=True)
class _Heard:
    """What was decoded of a clip."""

    samples: int
    sample_rate: int
    """The file's, in Hz."""

    @property
    def seconds(self) -> float:
        """Of audio."""
        return self.samples / self.sample_rate


class _NotThisOneError(Exception):
    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason: Reason = reason


def judge_clip(clip: Clip, lines: Sequence[OldLine | UnfitError], spec: TokenizeSpec, tar_file: str) -> Adopted | MadeAgain:
    """Judge a clip, whose audio is there, by all lines that name it and no other clip; a line may be unreadable by now.

    The audio is decoded to its end only if a line passes all other checks. Raises what the machine is to blame for.
    """
    try:
        line, values = _only_one(lines, spec)
        _check_text(clip, line)
        heard = _hear(clip, spec)
        samples = _samples(line, heard, spec)
        fault = check_counts(spec.fields, values, samples)
        if fault is not None:
            raise _NotThisOneError("length", fault)
    except _NotThisOneError as error:
        return MadeAgain(error.reason, str(error))
    said = clip.annotations
    record = TokenRecord(
        tar_file=tar_file,
        audio_file=clip.name,
        num_samples=samples,
        sample_rate=spec.sample_rate,
        values={},
        text=said.text,
        language=said.language,
        notes=(ADOPTED,),
    )
    parts = ((key, (bytes(value),)) for key, value in values.items())
    ours = b"".join(line_parts(record, parts, said.metadata_json))
    return Adopted(ours, record.num_samples / record.sample_rate)


def _only_one(lines: Sequence[OldLine | UnfitError], spec: TokenizeSpec) -> tuple[OldLine, dict[str, msgspec.Raw]]:
    """The line with tokens, if all lines that can be used agree. An older tool that tried again appended another line."""
    if not lines:
        raise _NotThisOneError("no_line", "no line names it")
    found: list[tuple[OldLine, dict[str, msgspec.Raw]]] = []
    refused: list[_NotThisOneError] = []
    for line in lines:
        if isinstance(line, UnfitError):
            refused.append(_NotThisOneError("tokens", str(line)))
        elif line.error is not None:
            refused.append(_NotThisOneError("error", line.error))
        else:
            try:
                found.append((line, values_of(line, spec.fields)))
            except UnfitError as error:
                refused.append(_NotThisOneError("tokens", str(error)))
    if not found:
        raise refused[-1]
    (line, values), *others = found
    keys = ("num_samples", "sample_rate", "sr")
    for other, its_values in others:
        if its_values != values or any(other.integer_of(key) != line.integer_of(key) for key in keys):
            raise _NotThisOneError("contradiction", "it has lines with different tokens or lengths")
    return line, values


def _check_text(clip: Clip, line: OldLine) -> None:
    """A line of pairs says which text was beside the audio; that of BiCodec is found by its text."""
    if line.kind != "text_audio_pairs":
        return
    said, told = (clip.annotations.text or "").strip(), (line.text_of("text") or "").strip()
    if said != told:
        raise _NotThisOneError("text", f"its text is {said[:30]!r}, its line has {told[:30]!r}")


def _hear(clip: Clip, spec: TokenizeSpec) -> _Heard:
    if clip.fault is not None:
        raise _NotThisOneError("audio", str(clip.fault))
    assert clip.audio is not None, "it was not skipped"
    samples, rate, losses = 0, 1, Losses()
    try:
        mixer = Mixer(spec.channel_rule)
        for wave, its_rate in decode(clip.audio, mono=mixer, max_seconds=spec.longest_seconds, losses=losses):
            samples, rate = samples + len(wave), its_rate
    except ClipError as error:
        raise _NotThisOneError("audio", f"{error.kind}: {error}") from None
    if losses.what:
        raise _NotThisOneError("audio", f"{losses.seconds:.3f} s of it are missing: {losses.what[0]}")
    if (found := round(samples * spec.sample_rate / rate)) < spec.min_samples:
        raise _NotThisOneError("audio", f"{found} samples at {spec.sample_rate} Hz, expected at least {spec.min_samples}")
    return _Heard(samples, rate)


def _samples(line: OldLine, heard: _Heard, spec: TokenizeSpec) -> int:
    """The clip's length at the backend's rate: what its line says, if that fits the audio, or else the audio's."""
    if line.kind == "text_audio_pairs" and line.integer_of("sr") != heard.sample_rate:
        raise _NotThisOneError("length", f"its line has the rate {_told(line, 'sr')}, its file {heard.sample_rate} Hz")
    if line.kind == "text_audio_pairs":
        return math.ceil(heard.samples * spec.sample_rate / heard.sample_rate)  # as torchaudio resamples
    if line.kind == "bicodec":
        return round(heard.samples * spec.sample_rate / heard.sample_rate)  # as soxr does
    samples, rate = line.integer_of("num_samples"), line.integer_of("sample_rate")
    if rate != spec.sample_rate:
        raise _NotThisOneError("length", f"sample_rate is {_told(line, 'sample_rate')}, expected {spec.sample_rate}")
    if samples is None or samples < 0 or abs(samples / rate - heard.seconds) > SLACK_SECONDS:
        expected = round(heard.samples * spec.sample_rate / heard.sample_rate)
        raise _NotThisOneError("length", f"num_samples is {_told(line, 'num_samples')}, its audio has about {expected}")
    return samples


def _told(line: OldLine, key: str) -> str:
    return bytes(line.values.get(key, msgspec.Raw(b"nothing")))[:30].decode(errors="backslashreplace")
