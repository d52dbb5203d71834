"""Transcripts and metadata beside a clip: `.json` (WebDataset, Emilia), `.txt` and `.lab`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["LARGEST_SIDECAR", "SIDECAR_EXTENSIONS", "Annotations", "read_sidecars"]

SIDECAR_EXTENSIONS = ("json", "txt", "lab")  # in the order in which they may give the text

LARGEST_SIDECAR = 16 << 20
DEEPEST_JSON = 100
"""Far below where a JSON library of any language gives up, at whatever depth of calls it stands."""
FAULTS_KEY = "sidecar_errors"


@dataclass(frozen=True, slots=True)
class Annotations:
    """What the sidecars say of a clip, ready for its record."""

    text: str | None = None
    language: str | None = None
    metadata: dict[str, Any] | None = None
    faults: int = field(default=0)
    size: int = field(default=0, compare=False)
    """Bytes of the sidecars."""


def decode_text(data: bytes) -> str:
    """Text in UTF-8, UTF-8 with a byte order mark, or GB18030. Raises UnicodeDecodeError on anything else."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030")


def read_sidecars(files: dict[str, tuple[str, bytes]]) -> Annotations:
    """Merge sidecars, given as extension -> (member name, content).

    The text of a `.json` wins over `.txt`, and that over `.lab`. A sidecar that cannot be read costs nothing but itself:
    `metadata` names it under `sidecar_errors`.
    """
    text: str | None = None
    language: str | None = None
    metadata: dict[str, Any] = {}
    faults: list[str] = []
    for extension in SIDECAR_EXTENSIONS:
        if extension not in files:
            continue
        name, data = files[extension]
        if len(data) > LARGEST_SIDECAR:
            faults.append(f"{name}: larger than {LARGEST_SIDECAR:,} bytes")
            continue
        try:
            if extension == "json":
                metadata = _json_object(data)
                text = _take_string(metadata, "text")
                language = _take_string(metadata, "language")
            elif text is None:
                text = decode_text(data).strip()
        except UnicodeDecodeError:
            faults.append(f"{name}: neither UTF-8 nor GB18030 text")
        except RecursionError:
            faults.append(f"{name}: nested more than {DEEPEST_JSON} deep")
        except msgspec.DecodeError as error:
            faults.append(f"{name}: {error}")
    if faults:
        metadata[FAULTS_KEY] = faults
    size = sum(len(data) for _, data in files.values())
    return Annotations(text, language, metadata or None, len(faults), size)


def _json_object(data: bytes) -> dict[str, Any]:
    found = msgspec.json.decode(decode_text(data).encode())
    if not isinstance(found, dict):
        raise msgspec.DecodeError(f"expected a JSON object, found {type(found).__name__}")
    layer: list[Any] = [found]
    for _ in range(DEEPEST_JSON):
        layer = [value for holder in layer for value in _values(holder)]
        if not layer:
            return found
    raise RecursionError


def _values(holder: dict[str, Any] | list[Any]) -> list[Any]:
    values = holder.values() if isinstance(holder, dict) else holder
    return [value for value in values if isinstance(value, dict | list)]


def _take_string(metadata: dict[str, Any], key: str) -> str | None:
    """Remove and return a string value; anything else stays where it is."""
    return metadata.pop(key) if isinstance(metadata.get(key), str) else None
