"""jobs/text_rules.py: one judgement of where text and language stand, for sidecars, manifests and Parquet."""

from __future__ import annotations

from typing import Any

import pytest

from audio_tokenizers.errors import UsageError
from jobs.text_rules import TEXT_KEYS, check_text_keys, take_language, take_text


@pytest.mark.parametrize(
    ("said", "text", "left"),
    [
        ({"text": "a", "sentence": "b"}, "a", {"sentence": "b"}),
        ({"sentence": "b", "transcript": "t"}, "t", {"sentence": "b"}),
        ({"raw_text": "r", "normalized_text": "n"}, "n", {"raw_text": "r"}),
        ({"text": "  ", "transcription": "t"}, "t", {"text": "  "}),
        ({"text": "", "sentence": " "}, "", {"sentence": " "}),
        ({"text": 5, "sentence": "s"}, "s", {"text": 5}),
        ({"text": None, "n": 1}, None, {"text": None, "n": 1}),
    ],
)
def test_the_first_key_with_a_text(said: dict[str, Any], text: str | None, left: dict[str, Any]) -> None:
    """In the documented order; what is blank or no string does not stand before a text, and the others stay."""
    assert take_text(said) == text
    assert said == left


def test_keys_that_a_person_names() -> None:
    """They are the only ones, in their order."""
    keys = check_text_keys(["transcript", "a, transcript"])
    assert keys == ("transcript", "a")
    assert take_text({"text": "x", "a": "y"}, keys) == "y"
    assert take_text({"text": "x"}, keys) is None
    assert check_text_keys([]) == ()
    with pytest.raises(UsageError, match="expected the key"):
        check_text_keys(["a,"])


def test_language() -> None:
    """Under the names that data sets have for it."""
    said = {"locale": "fr", "lang": "", "language": ["en"]}
    assert take_language(said) == "fr"
    assert said == {"lang": "", "language": ["en"]}


def test_the_order_is_a_promise() -> None:
    """Another order would give another text to the same data."""
    assert ", ".join(TEXT_KEYS) == "text, transcript, transcription, sentence, normalized_text, raw_transcription, raw_text"
