"""Transcripts and metadata beside a clip: `.json` (WebDataset, Emilia), `.txt` and `.lab`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["LARGEST_SIDECAR", "SIDECAR_EXTENSIONS", "Annotations", "read_sidecars", "too_large"]

SIDECAR_EXTENSIONS = ("json", "txt", "lab")  # in the order in which they may give the text

LARGEST_SIDECAR = 16 << 20
"""Of one, and of all in a group of members with one key."""
DEEPEST_JSON = 100
"""Far below where a JSON library of any language gives up, at whatever depth of calls it stands."""
FAULTS_KEY = "sidecar_errors"


@dataclass(frozen=True, slots=True)
class Annotations:
    """What the sidecars say of a clip, ready for its record."""

    text: str | None = None
    language: str | None = None
    metadata_json: bytes | None = None
    """As it stands in the line. As objects of Python it may take 24 times as much memory (`[{},{},...]`)."""
    faults: int = field(default=0)

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The metadata, decoded anew at each call."""
        return None if self.metadata_json is None else msgspec.json.decode(self.metadata_json, type=dict[str, Any])

    @property
    def size(self) -> int:
        """Bytes of memory that they take."""
        return sum(sys.getsizeof(one) for one in (self.text, self.language, self.metadata_json) if one is not None)


def too_large() -> str:
    """Why a sidecar is not read, in words."""
    return f"larger than {LARGEST_SIDECAR:,} bytes"


def decode_text(data: bytes) -> str:
    """Text in UTF-8, UTF-8 with a byte order mark, or GB18030. Raises UnicodeDecodeError on anything else."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030")


def read_sidecars(files: Mapping[str, tuple[str, bytes | str]]) -> Annotations:
    """Merge sidecars, given as extension -> (member name, content, or in words why it was not read).

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
        name, content = files[extension]
        try:
            data = _readable(content)
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
    # A copy: what msgspec gives has half its size to spare.
    encoded = bytes(memoryview(msgspec.json.encode(metadata))) if metadata else None
    return Annotations(text, language, encoded, len(faults))


def _readable(content: bytes | str) -> bytes:
    if isinstance(content, str):
        raise msgspec.DecodeError(content)
    if len(content) > LARGEST_SIDECAR:
        raise msgspec.DecodeError(too_large())
    return content


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
