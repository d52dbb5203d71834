"""Transcripts and metadata beside a clip: `.json` (WebDataset, Emilia), `.txt` and `.lab`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jobs.foreign_json import DEEPEST_JSON, SURROGATE_FAULT, read_json_object, refuse_depth, without_surrogates
from jobs.text_encoding import TextDecoder, decode_legacy, decode_text
from jobs.text_rules import TextRules, first_of, take_language, take_text

__all__ = [
    "FAULTS_KEY",
    "LARGEST_SIDECAR",
    "LEGACY_READING",
    "SIDECAR_EXTENSIONS",
    "Annotations",
    "Reading",
    "decode_text",
    "read_sidecars",
    "reading_of",
    "too_large",
]

SIDECAR_EXTENSIONS = ("json", "txt", "lab")  # in order of precedence for the text

LARGEST_SIDECAR = 16 << 20
"""Bytes of one sidecar, and of all sidecars together in a group of members with one key."""
FAULTS_KEY = "sidecar_errors"


@dataclass(frozen=True, slots=True)
class Annotations:
    """A clip's text and metadata from its sidecars, ready for its record."""

    text: str | None = None
    language: str | None = None
    metadata_json: bytes | None = None
    """As written in the line. Python objects may take 24 times as much memory (`[{},{},...]`)."""
    faults: int = field(default=0)

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The metadata, decoded at each call."""
        return None if self.metadata_json is None else msgspec.json.decode(self.metadata_json, type=dict[str, Any])

    @property
    def size(self) -> int:
        """Bytes of memory used."""
        return sum(sys.getsizeof(one) for one in (self.text, self.language, self.metadata_json) if one is not None)


def too_large() -> str:
    """Message for a sidecar that is not read because of its size."""
    return f"larger than {LARGEST_SIDECAR:,} bytes"


@dataclass(frozen=True, slots=True)
class Reading:
    """How the sidecars of one tar or source are read."""

    keys: tuple[str, ...] | None = None
    """Keys of a `.json` that may hold the text, the first choice first. None for runs older than this choice: the text is
    under `text`, the language under `language`, and JSON is read strictly."""
    decode: Callable[[bytes], str] = decode_legacy
    """Raises UnicodeDecodeError, whose `reason` is a message for users."""


LEGACY_READING = Reading()
"""For runs older than the choice of keys and encoding."""


def reading_of(rules: TextRules, texts: Callable[[], Iterable[bytes]]) -> Reading:
    """How a source's sidecars are read; `texts` yields the contents of all of them, in order."""
    return Reading(rules.keys, TextDecoder(rules.encoding, texts).decode)


def read_sidecars(files: Mapping[str, tuple[str, bytes | str]], reading: Reading = Reading()) -> Annotations:
    """Merge sidecars, given as extension -> (member name, content as bytes, or as str the reason why it was not read).

    The text of a `.json` wins over `.txt`, which wins over `.lab`. A fault costs only the unreadable sidecar itself, or the
    value that JSON cannot represent; `metadata` names both under `sidecar_errors`.
    """
    text: str | None = None
    language: str | None = None
    metadata: dict[str, Any] = {}
    faults: list[str] = []
    faulty = 0
    for extension in SIDECAR_EXTENSIONS:
        if extension not in files:
            continue
        name, content = files[extension]
        before = len(faults)
        try:
            data = _readable(content)
            if extension == "json":
                metadata, words = _json_object(data, reading)
                faults += [f"{name}: {word}" for word in words]
                text, language = _said(metadata, reading)
            elif text is None:
                read = reading.decode(data).strip()
                text = without_surrogates(read)
                faults += [f"{name}: {SURROGATE_FAULT}"] if text != read else []
        except UnicodeDecodeError as error:
            known = reading.keys is not None
            faults.append(f"{name}: {error.reason if known else 'neither UTF-8 nor GB18030 text'}")
        except RecursionError:
            faults.append(f"{name}: nested more than {DEEPEST_JSON} deep")
        except msgspec.DecodeError as error:
            faults.append(f"{name}: {error}")
        faulty += len(faults) > before
    if faults:
        earlier = metadata.get(FAULTS_KEY) if reading.keys is not None else None  # from tools.pack
        metadata[FAULTS_KEY] = [*earlier, *faults] if isinstance(earlier, list) else faults
    # A copy: msgspec's result is over-allocated by half its size.
    encoded = bytes(memoryview(msgspec.json.encode(metadata))) if metadata else None
    return Annotations(text, language, encoded, faulty)


def _said(metadata: dict[str, Any], reading: Reading) -> tuple[str | None, str | None]:
    """Remove text and language from the metadata and return them."""
    if reading.keys is not None:
        return take_text(metadata, reading.keys), take_language(metadata)
    keys = [first_of(metadata, (key,)) for key in ("text", "language")]
    return tuple(None if key is None else metadata.pop(key) for key in keys)  # type: ignore[return-value]


def _readable(content: bytes | str) -> bytes:
    if isinstance(content, str):
        raise msgspec.DecodeError(content)
    if len(content) > LARGEST_SIDECAR:
        raise msgspec.DecodeError(too_large())
    return content


def _json_object(data: bytes, reading: Reading) -> tuple[dict[str, Any], list[str]]:
    """(the object, messages about values that JSON cannot represent).

    Raises msgspec.DecodeError, UnicodeDecodeError and RecursionError.
    """
    text = reading.decode(data)
    if reading.keys is not None:
        return read_json_object(text)
    found = msgspec.json.decode(text.encode())
    if not isinstance(found, dict):
        raise msgspec.DecodeError(f"expected a JSON object, found {type(found).__name__}")
    refuse_depth(found)
    return found, []
