"""What stands in a tar for one clip: how its members are named, and the JSON beside its audio."""

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
    """A pair that has been read, and what its audio's header says."""

    pair: Pair
    sample_rate: int | None
    """Hz, of the file; None where libsndfile does not know its format."""
    seconds: float


def safe_name(name: str) -> str:
    """A name that lists and any file system can hold."""
    return UNSAFE.sub("_", name)


def member_key(clip_id: str) -> str:
    """The name of a clip's members without extension: its id, where that is a WebDataset key that can be unpacked anywhere.

    A key ends at the first dot after the last slash, so `spk/0001.a` would share its key with `spk/0001.b`. An id that has
    to be changed gets its checksum at the end, so that it stays the only one of its name.
    """
    parts = [safe_name(part) for part in clip_id.split("/") if part not in ("", ".", "..")]
    if parts:
        parts[-1] = parts[-1].replace(".", "_")
    key = "/".join(parts)
    return key if key and key == clip_id else f"{key or 'clip'}-{zlib.crc32(clip_id.encode('utf-8', 'surrogatepass')):08x}"


def sidecar(loaded: Loaded) -> bytes:
    """The JSON beside a clip's audio: what its source says, under `text`, `language` and its own keys, and where it was.

    An `id` of the data set's own, which may be no clip's alone, stays what it is: ours is in `source` then. A `source` of
    its own is kept inside ours, as `was`, and so is what stood where text and language stand now, as `text_was`.
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
            if str(found.get(key) or "").strip():  # such as a number, where the text stood under another key
                source[key + "_was"] = found[key]
            found[key] = value
    return msgspec.json.encode({**_printable(found), "source": _printable(source)})


def _printable(value: Any) -> Any:  # noqa: ANN401 (JSON)
    r"""File names that are not UTF-8 hold surrogates, which JSON cannot: they become \xNN."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
