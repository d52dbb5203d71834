"""Names of what jobs/audio.py decodes and how, for those who plan and must not load a decoder."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["AUDIO_EXTENSIONS", "RESAMPLER", "normalise_extensions"]

RESAMPLER = "soxr HQ"
AUDIO_EXTENSIONS = (
    *("aac", "ac3", "aif", "aifc", "aiff", "amr", "au", "caf", "flac", "m4a", "m4b", "mka"),
    *("mp2", "mp3", "mp4", "oga", "ogg", "opus", "sph", "w64", "wav", "webm", "wma"),
)


def normalise_extensions(given: Sequence[str]) -> tuple[str, ...]:
    """`[".MP3", "flac,wav"]` -> `("flac", "mp3", "wav")`: lower case, no dots, sorted, no duplicates."""
    parts = (part.strip().lstrip(".").lower() for item in given for part in item.split(","))
    return tuple(sorted({part for part in parts if part}))
