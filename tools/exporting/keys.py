"""Names of clips in an export: derived from audio file names, unique, and safe on any file system."""

from __future__ import annotations

import hashlib
import unicodedata

__all__ = ["ClipKeys"]

LONGEST = 200
"""Bytes of a name: file systems allow 255, and an extension follows."""


class ClipKeys:
    """Gives the clips of one tar their keys, in order.

    `a/spk.0001.wav` -> `a/spk_0001`: its name without its last extension, and dots replaced, since WebDataset takes all
    after the first dot as the extension. `x.wav#2`, a part of an audio, becomes `x#2`.
    A name that an earlier clip of the tar has gets `-2`, `-3`, ... (`x.wav` and
    `x.flac` become `x` and `x-2`), as do names that some file systems do not distinguish (`X` and `x`).
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        """A key, normalized as by the least distinguishing file system -> the last number used with it."""

    def key(self, audio_file: str) -> str:
        """The key of the next clip: no dot, no empty name between slashes, never a way out of its folder."""
        *folders, name = [part for part in audio_file.split("/") if part not in ("", ".", "..")] or [""]
        stem, _, extension = name.rpartition(".") if "." in name else (name, "", "")
        _, mark, part = extension.partition("#")
        stem += mark + part
        parts = [part.replace(".", "_") for part in (*folders, stem or "clip")]
        if parts[0].startswith("__"):  # webdataset reserves keys that start with `__x__`
            parts[0] = parts[0].lstrip("_") or "clip"
        wanted = "/".join(map(_short, parts))
        first = key = _folded(wanted)
        number = self._taken.get(first, 0)
        while key in self._taken:
            number += 1
            key = _folded(f"{wanted}-{number}")
        self._taken[key] = 1
        self._taken[first] = max(number, 1)
        return wanted if key == first else f"{wanted}-{number}"


def _folded(key: str) -> str:
    return key.lower() if key.isascii() else unicodedata.normalize("NFC", key).casefold()


def _short(name: str) -> str:
    data = name.encode("utf-8", "surrogatepass")
    if len(data) <= LONGEST:
        return name
    return f"{data[: LONGEST - 20].decode('utf-8', 'ignore')}-{hashlib.sha256(data).hexdigest()[:16]}"
