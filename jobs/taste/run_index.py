"""Where the clips of one run stand: its committed lines and floats by byte offsets, so that no clip is kept in memory."""

from __future__ import annotations

import hashlib
import json
import struct
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Field
from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from jobs.manifest import VERDICT_COMPLETE, Manifest
from jobs.record_fields import codes_shape
from jobs.records import ErrorRecord, TokenRecord, decode_record
from jobs.same_clips import KeyedLines, RunTar
from jobs.spec import TokenizeSpec, read_spec
from jobs.tar_paths import TarPaths, read_manifest
from jobs.token_arrays import read_ref

__all__ = ["ClipName", "FloatPlaces", "RunHead", "RunIndex", "contents_of", "index_run", "open_run"]

HEADER_LENGTH = 8
ClipName = tuple[str, str, int]
"""A clip of a run: the output name of its tar, its `audio_file`, and how many lines with that name stand before its own."""


@dataclass(frozen=True, slots=True)
class FloatPlaces:
    """The arrays of one key, clip by clip."""

    offsets: npt.NDArray[np.int64]
    """In the clip's .safetensors."""
    rows: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.int64]
    """CRC-32"""
    width: int
    dtype: str


@dataclass(frozen=True, slots=True)
class RunHead:
    """What a finished run has, without its clips."""

    folder: Path
    spec: TokenizeSpec

    def fields(self) -> dict[str, Field]:
        """The run's keys."""
        return {one.name: one for one in self.spec.fields}


@dataclass(frozen=True, slots=True)
class RunIndex(RunHead):
    """A finished run. Arrays have an item per clip with tokens."""

    tars: list[RunTar]
    files: list[Path]
    names: list[ClipName]
    file_numbers: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    """Of its line."""
    lengths: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]
    """Items of the key `tokens`, or 0."""
    floats: Mapping[str, FloatPlaces]
    errors: Counter[str]
    """Clips without tokens, by the kind of their error."""


@dataclass(slots=True)
class _Columns:
    names: list[ClipName] = field(default_factory=list)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    """File, offset, length, samples and units of each clip, one after the other."""
    floats: dict[str, array[int]] = field(default_factory=dict)
    """Offset, rows and checksum of each clip."""
    errors: Counter[str] = field(default_factory=Counter)


def open_run(folder: Path) -> tuple[RunHead, list[tuple[str, Manifest]]]:
    """A finished run, and the names and manifests of its tars. Raises UsageError if there is none, or it is not finished."""
    spec = read_spec(folder)
    if spec is None:
        raise UsageError(f"{folder}: no run here: expected its .run/spec.yaml; give the folder of a run as --data")
    return RunHead(folder, spec), _committed(folder)


def contents_of(committed: Sequence[tuple[str, Manifest]]) -> str:
    """Hex digest of what the files of a run's tars hold, by their manifests."""
    digest = hashlib.sha256()
    for name, manifest in sorted(committed, key=lambda one: one[0]):
        digest.update(f"{name}\0{manifest.output_sha256}\n".encode())
    return digest.hexdigest()


def index_run(folder: Path, wanted: set[str]) -> RunIndex:
    """Read all lines of a finished run, checking them, and note where the `wanted` keys are.

    Raises UsageError if there is no run or it is not finished, InfrastructureError where a file is not as it was committed.
    """
    head, committed = open_run(folder)
    spec = head.spec
    keys = {one.name: one for one in spec.fields if one.name in wanted}
    columns = _Columns(floats={name: array("q") for name, one in keys.items() if one.form == "features"})
    files: list[Path] = []
    tars: list[RunTar] = []
    for name, manifest in committed:
        paths = TarPaths(folder, name)
        starts = _tensor_starts(paths.features) if columns.floats else {}
        _read_file(paths, manifest, keys, starts, len(files), columns)
        files.append(paths.committed)
        tars.append(RunTar(name, manifest.tar_file, manifest.input_bytes))
    numbers = np.frombuffer(columns.numbers, np.int64).reshape(-1, 5)
    floats = {name: np.frombuffer(found, np.int64).reshape(-1, 3) for name, found in columns.floats.items()}
    return RunIndex(
        folder=folder,
        spec=spec,
        tars=tars,
        files=files,
        names=columns.names,
        file_numbers=numbers[:, 0],
        offsets=numbers[:, 1],
        lengths=numbers[:, 2],
        samples=numbers[:, 3],
        units=numbers[:, 4],
        floats={
            name: FloatPlaces(found[:, 0], found[:, 1], found[:, 2], keys[name].width or 0, keys[name].dtype or "float32")
            for name, found in floats.items()
        },
        errors=columns.errors,
    )


def _committed(folder: Path) -> list[tuple[str, Manifest]]:
    """Names and manifests of the run's tars, in the order of its list. Raises UsageError if one is not committed."""
    listed = _listed(folder)
    found, missing = list[tuple[str, Manifest]](), list[str]()
    for name in listed:
        paths = TarPaths(folder, name)
        manifest = read_manifest(paths.manifest) if paths.committed.exists() else None
        if manifest is None or manifest.verdict != VERDICT_COMPLETE:
            missing.append(name)
        else:
            found.append((name, manifest))
    if missing or not listed:
        raise UsageError(
            f"{folder}: {len(missing)} of {counted(len(listed), 'tar')} not committed"
            + (f", the first of them {missing[0]}" if missing else "")
            + f": finish the run ({called('hpc.resume')}) before training on it"
        )
    return found


def _listed(folder: Path) -> list[str]:
    """The outputs of its list; of a folder that jobs.tokenize_tar wrote to, and that has none, those with a manifest."""
    with suppress(FileNotFoundError):
        lines = (folder / ".run" / "tars.txt").read_text(encoding="utf-8").split("\n")
        return [line.partition("\t")[2] for line in lines if line]
    manifests = folder / ".run" / "manifests"
    return sorted(str(path.relative_to(manifests).with_suffix("")) for path in manifests.rglob("[!.]*.json"))


def _tensor_starts(path: Path) -> dict[str, int]:
    """Tensor -> its first byte in the file."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(HEADER_LENGTH))
            header = json.loads(file.read(size if size < path.stat().st_size else 0))
            return {
                name: HEADER_LENGTH + size + int(entry["data_offsets"][0])
                for name, entry in header.items()
                if name != "__metadata__"
            }
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, FileNotFoundError):
        raise InfrastructureError(
            f"{path}: expected the floats of its .jsonl, found {'a damaged file' if path.exists() else 'nothing'}: "
            f"{called('tools.check_progress')} --check-validity says what to make again"
        ) from None


def _read_file(
    paths: TarPaths, manifest: Manifest, keys: Mapping[str, Field], starts: Mapping[str, int], number: int, columns: _Columns
) -> None:
    digest, offset, keyed = hashlib.sha256(), 0, KeyedLines()
    with paths.committed.open("rb") as lines:
        for line in lines:
            digest.update(line)
            try:
                record = decode_record(line)
                key = keyed.key(record.audio_file)
                if isinstance(record, ErrorRecord):
                    columns.errors[record.error_kind] += 1
                else:
                    columns.names.append((paths.name, *key))
                    _note(record, (number, offset, len(line)), keys, starts, columns)
            except (msgspec.DecodeError, ValueError, KeyError) as error:
                raise InfrastructureError(
                    f"{paths.committed}: byte {offset}: expected a record of this run: {error}"
                ) from None
            offset += len(line)
    if digest.hexdigest() != manifest.output_sha256:
        raise InfrastructureError(
            f"{paths.committed}: its bytes are not those that were committed: move it away and run "
            f"{called('hpc.submit')} again to have it made again"
        )


def _note(
    record: TokenRecord,
    place: tuple[int, int, int],
    keys: Mapping[str, Field],
    starts: Mapping[str, int],
    columns: _Columns,
) -> None:
    units = 0
    for key, one in keys.items():
        if one.form == "features":
            ref = read_ref(bytes(record.values[key]))
            columns.floats[key].extend((starts[ref.key], ref.shape[0], ref.crc32))
        elif one.form == "codes" and (shape := codes_shape(one, record.values)) is not None:
            units = shape[1]
    columns.numbers.extend((*place, record.num_samples, units))
