"""The keys of a clip's text and language in a data set's metadata: the same for sidecars, manifests and Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audio_tokenizers.errors import UsageError
from jobs.text_encoding import AUTO

__all__ = ["LANGUAGE_KEYS", "TEXT_KEYS", "TextRules", "check_text_keys", "first_of", "take_language", "take_text"]

TEXT_KEYS = ("text", "transcript", "transcription", "sentence", "normalized_text", "raw_transcription", "raw_text")
"""Common names in data sets; the first that holds more than blanks is the text."""
LANGUAGE_KEYS = ("language", "lang", "locale")


@dataclass(frozen=True, slots=True)
class TextRules:
    """How texts are read."""

    keys: tuple[str, ...] = TEXT_KEYS
    encoding: str = AUTO


def check_text_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """Split and check keys, the first choice first: `["transcript"]`, `["a,b"]`. Raises UsageError for an empty one."""
    found = tuple(dict.fromkeys(part.strip() for key in keys for part in key.split(",")))
    if "" in found:
        raise UsageError(
            f"--text-key {','.join(keys)!r}: expected the key that a clip's text stands under, such as transcript"
        )
    return found


def take_text(said: dict[str, Any], keys: Sequence[str] = TEXT_KEYS) -> str | None:
    """Remove and return the text: the first string under `keys` that is not blank, else the first string."""
    key = first_of(said, keys)
    return None if key is None else said.pop(key)


def take_language(said: dict[str, Any]) -> str | None:
    """Remove and return the language, found in the same way."""
    key = first_of(said, LANGUAGE_KEYS)
    return None if key is None else said.pop(key)


def first_of(said: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The key of the first string under `keys` that is not blank, else of the first string."""
    strings = [key for key in keys if isinstance(said.get(key), str)]
    return next((key for key in strings if said[key].strip()), strings[0] if strings else None)
