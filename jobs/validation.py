"""Reads a committed file as a stranger would: every line by its type, every token in range, counts and hash as promised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jobs.records import Manifest, Tally, TokenRecord, decode_record, token_fault, tokens_are_valid
from jobs.spec import TokenizeSpec

__all__ = ["Validation", "validate_file"]

READ_BYTES = 1 << 20
HELD_BYTES = 1 << 16
FRAMES_SLACK = 2
"""Codecs differ by about a frame in how many they make of a clip's samples; more means that audio is missing."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What a committed file holds, and the first thing that is wrong with it."""

    clips: int
    fault: str | None


def validate_file(path: Path, manifest: Manifest, spec: TokenizeSpec) -> Validation:
    """Check a committed file against its manifest and its run's spec. Raises OSError if it cannot be read."""
    tally = Tally()
    digest = hashlib.sha256()
    held = _HeldTokens(spec.codebook_size)
    with path.open("rb", buffering=READ_BYTES) as file:
        for number, line in enumerate(file, 1):
            digest.update(line)
            fault = _line_fault(line, number, spec, tally, held)
            if fault is not None or held.bytes >= HELD_BYTES:
                earlier = held.fault()  # of a line before this one
                if earlier or fault:
                    return Validation(tally.clips, earlier or f"line {number}: {fault}")
    fault = held.fault() or _totals_fault(tally, digest.hexdigest(), manifest, spec)
    return Validation(tally.clips, fault)


class _HeldTokens:
    """Tokens of lines that are otherwise right, kept until there are enough to check at once."""

    def __init__(self, codebook_size: int) -> None:
        self._codebook_size = codebook_size
        self._lines: list[tuple[int, str]] = []
        self._texts: list[bytes] = []
        self._shapes: list[tuple[int, int]] = []
        self.bytes = 0

    def add(self, number: int, record: TokenRecord) -> None:
        self._lines.append((number, record.audio_file))
        self._texts.append(bytes(record.tokens))
        self._shapes.append(record.token_shape)
        self.bytes += len(self._texts[-1])

    def fault(self) -> str | None:
        """The first fault among the tokens held, which are then dropped."""
        found = None
        if not tokens_are_valid(self._texts, self._shapes, self._codebook_size):
            for (number, name), text, shape in zip(self._lines, self._texts, self._shapes, strict=True):
                wrong = token_fault(text, shape, self._codebook_size)
                if wrong is not None:
                    found = f"line {number}: {name}: {wrong}"
                    break
        self._lines, self._texts, self._shapes, self.bytes = [], [], [], 0
        return found


def _line_fault(line: bytes, number: int, spec: TokenizeSpec, tally: Tally, held: _HeldTokens) -> str | None:
    if not line.endswith(b"\n"):
        return "it has no newline: the file is cut short"
    try:
        record = decode_record(line)
    except msgspec.DecodeError as error:
        return f"not a record: {error}"
    if isinstance(record, TokenRecord):
        fault = _shape_fault(record, spec)
        if fault is not None:
            return f"{record.audio_file}: {fault}"
        held.add(number, record)
    elif not record.error:
        return f"{record.audio_file}: an error without words"
    tally.add(record)
    return None


def _shape_fault(record: TokenRecord, spec: TokenizeSpec) -> str | None:
    codebooks, frames = record.token_shape
    if codebooks != spec.codebooks or frames < 1:
        return f"token_shape is {list(record.token_shape)}, expected [{spec.codebooks}, frames]"
    if record.sample_rate != spec.sample_rate:
        return f"sample_rate is {record.sample_rate}, expected {spec.sample_rate}"
    if abs(frames * spec.hop_length - record.num_samples) > FRAMES_SLACK * spec.hop_length:
        return f"{record.num_samples} samples became {frames} frames, expected about one per {spec.hop_length}"
    return None


def _totals_fault(tally: Tally, sha256: str, manifest: Manifest, spec: TokenizeSpec) -> str | None:
    if manifest.fingerprint != spec.fingerprint:
        return f"made with the recipe {manifest.fingerprint}, the run has {spec.fingerprint}"
    if (tally.clips, tally.errors) != (manifest.clips, manifest.errors):
        return (
            f"it has {tally.clips} clips with errors {tally.errors or 'none'}, its manifest says {manifest.clips} with "
            f"{manifest.errors or 'none'}"
        )
    if sha256 != manifest.output_sha256:
        return f"its sha256 is {sha256[:16]}..., its manifest says {manifest.output_sha256[:16]}..."
    return None
