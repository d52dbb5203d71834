"""A committed file -> a folder with one KEY.npz per clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from jobs.records import TokenRecord
from jobs.spec import TokenizeSpec
from tools.common.run_files import CommittedFile
from tools.exporting.batches import Tell, read_batches
from tools.exporting.keys import ClipKeys

__all__ = ["write_npz"]


def write_npz(file: CommittedFile, folder: Path, spec: TokenizeSpec, tell: Tell) -> int:
    """Write one file per record with tokens: an array per key, the rest as 0-d arrays. Returns their bytes.

    np.load reads them without pickle. Missing values are left out; metadata is JSON. The bytes depend on the record alone,
    since NumPy sets all times to 1980. Raises InfrastructureError if the file is not what was committed.
    """
    keys = ClipKeys()
    folders = set()
    written = 0
    for batch in read_batches(file, spec.fields, tell):
        arrays = [batch.columns[field.name].clips() for field in spec.fields]
        for record, *values in zip(batch.records, *arrays, strict=True):
            path = folder / f"{keys.key(record.audio_file)}.npz"
            if path.parent not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.add(path.parent)
            tokens = dict(zip((field.name for field in spec.fields), values, strict=True))
            with path.open("xb") as out:
                np.savez(out, **_head(record), **tokens, **_tail(record))
                written += out.tell()
    return written


def _head(record: TokenRecord) -> dict[str, Any]:
    return {
        "tar_file": np.array(record.tar_file),
        "audio_file": np.array(record.audio_file),
        "num_samples": np.int64(record.num_samples),
        "sample_rate": np.int32(record.sample_rate),
    }


def _tail(record: TokenRecord) -> dict[str, Any]:
    metadata = None if record.metadata is None else msgspec.json.encode(record.metadata).decode()
    damage = {} if record.damage is None else {"damage_seconds": record.damage.seconds, "damage": record.damage.what}
    notes = {"notes": list(record.notes)} if record.notes else {}
    found = {"text": record.text, "language": record.language, "metadata": metadata, **damage, **notes}
    return {key: np.array(value) for key, value in found.items() if value is not None}
