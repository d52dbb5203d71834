"""Reading tokens from Python: records with numpy arrays, from a run directory or a merged file.

    from tools.reader import read_run

    for clip in read_run("tokens"):            # or read_run("all.jsonl.gz")
        clip.tokens                            # int64 [codebooks, frames]
        clip.text, clip.seconds, clip.arrays["global_tokens"]

Clips with errors are skipped. tools/torch_dataset.py has the same for torch's DataLoader.
"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Form
from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.command_names import called
from jobs.damage import Damage
from jobs.features import StoredFeatures
from jobs.record_fields import shape_key
from jobs.records import Record, TokenRecord, decode_record
from jobs.token_arrays import forms_of, read_integers, read_ref, split_integers
from tools.common.run_files import committed_files, read_lines

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

__all__ = ["TokenizedClip", "read_clips", "read_run", "to_torch"]

BATCH_BYTES = 1 << 17
"""Bytes of lines that are converted together: large enough to amortize numpy's calls, small enough for the CPU's cache."""
READ_BYTES = 1 << 20
OTHERWISE = ("arrays", "damage", "notes")
"""Fields of a clip that have another form in torch."""

Array = npt.NDArray[np.integer[Any]] | npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedClip:
    """One record with tokens."""

    tar_file: str
    audio_file: str
    num_samples: int
    """Samples at `sample_rate`, after resampling."""
    sample_rate: int
    """Hz: the backend's rate, not the file's."""
    arrays: Mapping[str, Array]
    """By key: int64 [codebooks, frames] of codes, int64 [items] of lists and of <audio_N> strings, float16 or float32
    [rows, width] of features."""
    text: str | None
    language: str | None
    metadata: Mapping[str, Any] | None
    damage: Damage | None = None
    """The audio that is missing, if any: `damage.seconds`, and `damage.what` as text."""
    notes: tuple[str, ...] = ()
    """The record's notes, such as `opposite_phase`."""

    @property
    def tokens(self) -> Array:
        """`arrays["tokens"]`: int64 [codebooks, frames], or [items] where the backend gives a string of <audio_N>.

        Raises KeyError where it gives other keys.
        """
        return self.arrays["tokens"]

    @property
    def seconds(self) -> float:
        """Duration of the audio."""
        return self.num_samples / self.sample_rate


def read_run(
    source: str | os.PathLike[str], *, partial_ok: bool = False, damaged: bool = True, part: int = 0, parts: int = 1
) -> Iterator[TokenizedClip]:
    """The clips with tokens of a run directory, in list order, or of a merged .jsonl, .jsonl.gz or .jsonl.zst.

    With `parts`, a share of them: over all `part` in 0..parts-1 each clip comes exactly once. `partial_ok` accepts a run
    that is not finished. `damaged=False` leaves out clips with missing audio. Raises UsageError if `source` is neither a run
    nor a merged file, or the run is not finished, InfrastructureError if a file is damaged. A run's files are checked
    against their hashes when they are read whole (`parts=1`).
    """
    path = Path(source)
    if not 0 <= part < parts:
        raise UsageError(f"part {part} of {parts}: expected a number from 0 to {parts - 1}")
    if path.is_dir():
        clips = _read_directory(path, part, parts, partial_ok=partial_ok)
    elif path.is_file():
        clips = read_clips(_merged_lines(path, part, parts), str(path), None)
    else:
        raise UsageError(f"{path}: expected a run directory or a merged file, found neither")
    yield from (clip for clip in clips if damaged or clip.damage is None)


def _read_directory(path: Path, part: int, parts: int, *, partial_ok: bool) -> Iterator[TokenizedClip]:
    files = committed_files(path, partial_ok=partial_ok)
    total = sum(file.bytes for file in files)
    first, last = total * part // parts, total * (part + 1) // parts
    for file in files:
        lines = read_lines(file) if parts == 1 else _lines_between(file.path, first, min(last, file.bytes))
        yield from read_clips(lines, str(file.path), file.path.with_suffix(".safetensors"))
        first, last = max(first - file.bytes, 0), max(last - file.bytes, 0)


def _lines_between(path: Path, first: int, last: int) -> Iterator[bytes]:
    """The lines that start within bytes first..last-1: over adjacent ranges, each line comes once."""
    if first >= last:
        return
    with path.open("rb", buffering=READ_BYTES) as file:
        if first:
            file.seek(first - 1)
            first += len(file.readline()) - 1
        for line in file:
            if first >= last:
                return
            yield line
            first += len(line)


def _merged_lines(path: Path, part: int, parts: int) -> Iterator[bytes]:
    """A share of a merged file's lines: a byte range of a plain file, which can be entered anywhere, else each n-th line."""
    if path.name.endswith(".jsonl"):
        size = path.stat().st_size
        yield from _lines_between(path, size * part // parts, size * (part + 1) // parts)
        return
    openers: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".zst": ZstdFile}
    opener = openers.get(path.suffix)
    if opener is None:
        raise UsageError(f"{path}: expected a .jsonl, .jsonl.gz or .jsonl.zst file, as {called('tools.merge')} makes them")
    try:
        with io.BufferedReader(opener(path), READ_BYTES) as lines:
            yield from itertools.islice(lines, part, None, parts)
    except (gzip.BadGzipFile, EOFError, zlib.error, ZstdError) as error:
        raise InfrastructureError(f"{path}: cut or damaged ({error}): make it again with {called('tools.merge')}") from None


def _has_tokens(record: Record) -> bool:
    return isinstance(record, TokenRecord)


def read_clips(
    lines: Iterable[bytes], name: str, features: Path | None, wanted: Callable[[Record], bool] = _has_tokens
) -> Iterator[TokenizedClip]:
    """The clips of a file's `lines`, without errors; `name` is for messages, `features` is its .safetensors file. `wanted`
    is called once for each line, in order. Floats are read one clip at a time.
    """
    source = None
    try:
        for batch in _batches(lines, name, wanted):
            forms = _forms(batch[0], name)
            if source is None and "features" in forms.values():
                source = _open_features(name, features)
            yield from _typed(batch, forms, name, source)
    finally:
        if source is not None:
            source.close()


def _open_features(name: str, features: Path | None) -> StoredFeatures:
    if features is None:
        raise UsageError(f"{name}: its floats are in the run's .safetensors files: read the run directory instead")
    return StoredFeatures(features)


def _batches(lines: Iterable[bytes], name: str, wanted: Callable[[Record], bool]) -> Iterator[list[TokenRecord]]:
    """Consecutive records with the same keys, BATCH_BYTES at a time; errors are left out."""
    batch: list[TokenRecord] = []
    size = 0
    for line in lines:
        try:
            record = decode_record(line)
        except msgspec.DecodeError as error:
            raise UsageError(
                f"{name}: expected records as a run or {called('tools.merge')} without --shape has them: {error}"
            ) from None
        if not wanted(record) or not isinstance(record, TokenRecord):
            continue
        if batch and (size >= BATCH_BYTES or record.values.keys() != batch[0].values.keys()):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(line)
    if batch:
        yield batch


def _forms(record: TokenRecord, name: str) -> dict[str, Form]:
    try:
        return forms_of(record.values)
    except ValueError as error:
        raise UsageError(f"{name}: {record.audio_file}: {error}") from None


def _typed(
    batch: Sequence[TokenRecord], forms: Mapping[str, Form], name: str, features: StoredFeatures | None
) -> Iterator[TokenizedClip]:
    columns: dict[str, Sequence[Array]] = {}
    try:
        for key, form in forms.items():
            if form != "features":
                texts = [bytes(record.values[key]) for record in batch]
                shapes = [record.values[shape_key(key)] for record in batch] if form == "codes" else None
                columns[key] = split_integers(*read_integers(texts, form), shapes)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{name}: near {batch[0].audio_file}: {error}") from None
    for number, record in enumerate(batch):
        arrays: dict[str, Array] = {}
        for key in forms:
            arrays[key] = columns[key][number] if key in columns else _floats(record, key, name, features)
        yield TokenizedClip(
            tar_file=record.tar_file,
            audio_file=record.audio_file,
            num_samples=record.num_samples,
            sample_rate=record.sample_rate,
            arrays=arrays,
            text=record.text,
            language=record.language,
            metadata=record.metadata,
            damage=record.damage,
            notes=record.notes,
        )


def _floats(record: TokenRecord, key: str, name: str, features: StoredFeatures | None) -> Array:
    """Read only when their clip is due: the floats of a batch of lines may be gigabytes."""
    assert features is not None, "opened where a form is features"
    try:
        return features.read(read_ref(bytes(record.values[key])))
    except ValueError as error:
        raise UsageError(f"{name}: near {record.audio_file}: {error}") from None


def to_torch(clip: TokenizedClip) -> dict[str, Any]:
    """The clip as a dict for a collate function: a tensor per key of `arrays`, of the same type, and the rest as it is.

    For torch's collate, damage is a number and a string, `damage_seconds` and `damage`: 0 and "" for undamaged clips.
    `notes` are one string, separated by spaces.
    """
    import torch

    tensors = {key: torch.tensor(array) for key, array in clip.arrays.items()}
    rest = {name: getattr(clip, name) for name in TokenizedClip.__dataclass_fields__ if name not in OTHERWISE}
    lost, what = (0.0, "") if clip.damage is None else (clip.damage.seconds, clip.damage.what)
    return {**tensors, **rest, "damage_seconds": lost, "damage": what, "notes": " ".join(clip.notes)}
