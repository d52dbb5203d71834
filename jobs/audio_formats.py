"""Names of what jobs/audio.py decodes and how, for those who plan and must not load a decoder."""

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
"""What our decoders decode and speech data sets have. Not `ts`, which are programs as often; and of the containers that
films are in, only the families of mp4 and Matroska: beside an `avi` or `mpg` mostly stands its sound in a file of its own.
"""
MAY_BE_FILMS = frozenset(("3g2", "3gp", "m4v", "mkv", "mov"))
"""Where a sound file has the same name it is the better one: it is what somebody made of the film."""
FORMER_EXTENSIONS = (
    (
        *("aac", "ac3", "aif", "aifc", "aiff", "amr", "au", "caf", "flac", "m4a", "m4b", "mka"),
        *("mp2", "mp3", "mp4", "oga", "ogg", "opus", "sph", "w64", "wav", "webm", "wma"),
    ),
)
"""What AUDIO_EXTENSIONS has been: a run that was begun so goes on so."""


def normalise_extensions(given: Sequence[str]) -> tuple[str, ...]:
    """`[".MP3", "flac,wav"]` -> `("flac", "mp3", "wav")`: lower case, no dots, sorted, no duplicates."""
    parts = (part.strip().lstrip(".").lower() for item in given for part in item.split(","))
    return tuple(sorted({part for part in parts if part}))
