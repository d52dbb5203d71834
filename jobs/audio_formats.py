"""Names of the formats that jobs/audio.py decodes, and of its resampler, for planning code that must not load a decoder."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["AUDIO_EXTENSIONS", "FORMER_EXTENSIONS", "MAY_BE_FILMS", "RESAMPLER", "normalise_extensions"]

RESAMPLER = "soxr HQ"
AUDIO_EXTENSIONS = (
    *("3g2", "3gp", "aac", "ac3", "adts", "aif", "aifc", "aiff", "amr", "ape", "au", "awb", "bwf", "caf", "dts", "eac3"),
    *("ec3", "flac", "gsm", "ircam", "m4a", "m4b", "m4r", "m4v", "mka", "mkv", "mov", "mp2", "mp3", "mp4", "mpa", "mpc"),
    *("mpga", "oga", "ogg", "ogx", "opus", "rf64", "snd", "sph", "spx", "tak", "tta", "voc", "w64", "wav", "wave", "weba"),
    *("webm", "wma", "wv"),
)
"""Formats that occur in speech data sets and that our decoders read. Not `ts`, which is as often TypeScript. Of the video
containers, only the mp4 and Matroska families: the sound of an `avi` or `mpg` mostly lies beside it in a file of its own.
"""
MAY_BE_FILMS = frozenset(("3g2", "3gp", "m4v", "mkv", "mov"))
"""Possibly video: an audio file of the same name is preferred, because it was extracted from the video."""
FORMER_EXTENSIONS = (
    (
        *("aac", "ac3", "aif", "aifc", "aiff", "amr", "au", "caf", "flac", "m4a", "m4b", "mka"),
        *("mp2", "mp3", "mp4", "oga", "ogg", "opus", "sph", "w64", "wav", "webm", "wma"),
    ),
)
"""Earlier values of AUDIO_EXTENSIONS: a run that started with one of them keeps it."""


def normalise_extensions(given: Sequence[str]) -> tuple[str, ...]:
    """`[".MP3", "flac,wav"]` -> `("flac", "mp3", "wav")`: lower case, no dots, sorted, no duplicates."""
    parts = (part.strip().lstrip(".").lower() for item in given for part in item.split(","))
    return tuple(sorted({part for part in parts if part}))
