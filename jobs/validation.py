"""Checks a committed file without trusting it: types of lines, ranges of tokens, counts and hashes of the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.base import Field
from audio_tokenizers.shared.wording import counted
from jobs.channels import ADOPTED
from jobs.features import features_fault
from jobs.manifest import Manifest
from jobs.record_fields import FeatureRef, check_counts, codes_shape, count_fault, feature_refs, value_keys, values_fault
from jobs.records import Tally, TokenRecord, decode_record, token_fault, tokens_are_valid
from jobs.spec import TokenizeSpec

__all__ = ["Validation", "validate_file"]

READ_BYTES = 1 << 20
HELD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Validation:
    """The clips of a committed file, and its first fault."""

    clips: int
    fault: str | None


def validate_file(path: Path, manifest: Manifest, spec: TokenizeSpec) -> Validation:
    """Check a committed file against its manifest and its run's spec. Raises OSError if it cannot be read."""
    tally = Tally()
    digest = hashlib.sha256()
    held = _HeldTokens(spec.fields)
    refs: list[FeatureRef] = []
    with path.open("rb", buffering=READ_BYTES) as file:
        for number, line in enumerate(file, 1):
            digest.update(line)
            fault = _line_fault(line, number, spec, tally, held, refs)
            if fault is not None or held.bytes >= HELD_BYTES:
                earlier = held.fault()  # of a line before this one
                if earlier or fault:
                    return Validation(tally.clips, earlier or f"line {number}: {fault}")
    fault = held.fault() or _totals_fault(tally, digest.hexdigest(), manifest, spec)
    if fault is None and any(field.form == "features" for field in spec.fields):
        fault = features_fault(path.with_suffix(".safetensors"), refs, manifest.features_sha256)
    return Validation(tally.clips, fault)


class _HeldTokens:
    """Tokens of lines that are otherwise valid, kept until there are enough to check at once. For codecs only."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.field = fields[0] if len(fields) == 1 and fields[0].form == "codes" else None
        self.keys = value_keys(fields)
        self._lines: list[tuple[int, str]] = []
        self._texts: list[bytes] = []
        self._shapes: list[tuple[int, int]] = []
        self.bytes = 0

    def add(self, number: int, name: str, text: bytes, shape: tuple[int, int]) -> None:
        self._lines.append((number, name))
        self._texts.append(text)
        self._shapes.append(shape)
        self.bytes += len(text)

    def fault(self) -> str | None:
        """The first fault among the tokens held, which are then dropped."""
        found = None
        size = self.field.codebook_size if self.field is not None else 0
        if not tokens_are_valid(self._texts, self._shapes, size):
            for (number, name), text, shape in zip(self._lines, self._texts, self._shapes, strict=True):
                wrong = token_fault(text, shape, size)
                if wrong is not None:
                    found = f"line {number}: {name}: {wrong}"
                    break
        self._lines, self._texts, self._shapes, self.bytes = [], [], [], 0
        return found


def _line_fault(
    line: bytes, number: int, spec: TokenizeSpec, tally: Tally, held: _HeldTokens, refs: list[FeatureRef]
) -> str | None:
    if not line.endswith(b"\n"):
        return "it has no newline: the file is cut short"
    try:
        record = decode_record(line)
    except msgspec.DecodeError as error:
        return f"not a record: {error}"
    if isinstance(record, TokenRecord):
        fault = _values_fault(record, number, spec, held) or _recipe_fault(record, spec)
        if fault is not None:
            return f"{record.audio_file}: {fault}"
        if held.field is None:
            refs += feature_refs(spec.fields, record.values)
    elif not record.error:
        return f"{record.audio_file}: an error without words"
    tally.add(record)
    return None


def _recipe_fault(record: TokenRecord, spec: TokenizeSpec) -> str | None:
    """Why a record cannot be of a run with this recipe, whatever its tokens are."""
    if record.damage is not None and not spec.max_damage:
        return f"it lacks {record.damage.seconds:.3f} s, and the run keeps no damaged clip"
    if ADOPTED in record.notes and spec.adopted is None:
        return "another tool made its tokens, and the run's recipe does not say that it adopts any"
    return None


def _values_fault(record: TokenRecord, number: int, spec: TokenizeSpec, held: _HeldTokens) -> str | None:
    if record.sample_rate != spec.sample_rate:
        return f"sample_rate is {record.sample_rate}, expected {spec.sample_rate}"
    field = held.field
    shape = codes_shape(field, record.values) if field is not None and list(record.values) == held.keys else None
    if field is None or shape is None:
        return values_fault(spec.fields, record.values) or check_counts(spec.fields, record.values, record.num_samples)
    held.add(number, record.audio_file, bytes(record.values[field.name]), shape)
    return count_fault(field, shape[1], record.num_samples)


def _totals_fault(tally: Tally, sha256: str, manifest: Manifest, spec: TokenizeSpec) -> str | None:
    if manifest.fingerprint != spec.fingerprint:
        return f"made with the recipe {manifest.fingerprint}, the run has {spec.fingerprint}"
    if (tally.clips, tally.errors) != (manifest.clips, manifest.errors):
        return (
            f"it has {counted(tally.clips, 'clip')} with errors {tally.errors or 'none'}, its manifest says "
            f"{manifest.clips} with {manifest.errors or 'none'}"
        )
    damaged = tally.damaged_clips, round(tally.damaged_seconds, 3)
    if damaged != (manifest.damaged_clips, manifest.damaged_seconds):
        return (
            f"it has {counted(damaged[0], 'damaged clip')} that lack {damaged[1]:.3f} s, its manifest says "
            f"{manifest.damaged_clips} that lack {manifest.damaged_seconds:.3f} s"
        )
    if tally.notes != manifest.notes:
        return f"its clips note {tally.notes or 'nothing'}, its manifest says {manifest.notes or 'nothing'}"
    if sha256 != manifest.output_sha256:
        return f"its sha256 is {sha256[:16]}..., its manifest says {manifest.output_sha256[:16]}..."
    return None
