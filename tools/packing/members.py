"""One clip in a tar: the names of its members, and the JSON beside its audio."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec

from tools.packing.pairs import Pair

__all__ = ["Loaded", "member_key", "safe_name", "sidecar"]

UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pair with its audio's header."""

    pair: Pair
    sample_rate: int | None
    """Hz; None if libsndfile does not know the format."""
    seconds: float


def safe_name(name: str) -> str:
    """A name that is valid in lists and on any file system."""
    return UNSAFE.sub("_", name)


def member_key(clip_id: str) -> str:
    """The name of a clip's members without extension: its id, if that is a WebDataset key that can be unpacked anywhere.

    A key ends at the first dot after the last slash, so `spk/0001.a` would share its key with `spk/0001.b`. An id that has
    to be changed gets its checksum at the end, which keeps it unique.
    """
    parts = [safe_name(part) for part in clip_id.split("/") if part not in ("", ".", "..")]
    if parts:
        parts[-1] = parts[-1].replace(".", "_")
    key = "/".join(parts)
    return key if key and key == clip_id else f"{key or 'clip'}-{zlib.crc32(clip_id.encode('utf-8', 'surrogatepass')):08x}"


def sidecar(loaded: Loaded) -> bytes:
    """The JSON beside a clip's audio: `text`, `language`, other metadata under its own keys, and the clip's origin.

    An `id` of the data set, which may not be unique, is kept: ours is in `source` then. A `source` of the data set is kept
    inside ours, as `was`; values that stood where text and language stand now are kept as `text_was` and so on.
    """
    pair = loaded.pair
    source: dict[str, Any] = {"audio": pair.audio_name}
    if pair.text_name is not None:
        source["text"] = pair.text_name
    if loaded.sample_rate is not None:
        source["sample_rate"] = loaded.sample_rate
    found = {"id": pair.id, **(pair.metadata or {})}
    if found["id"] != pair.id:
        source["id"] = pair.id
    if "source" in found:
        source["was"] = found.pop("source")
    for key, value in (("text", pair.text), ("language", pair.language)):
        if value is not None:
            if str(found.get(key) or "").strip():  # for example a number, where the text stood under another key
                source[key + "_was"] = found[key]
            found[key] = value
    return msgspec.json.encode({**_printable(found), "source": _printable(source)})


def _printable(value: Any) -> Any:  # noqa: ANN401 (JSON)
    r"""File names that are not UTF-8 contain surrogates, which JSON cannot hold: they become \xNN."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
