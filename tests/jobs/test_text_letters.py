"""jobs/text_letters.py: a text costs least as what it is, and noise is not taken for what people write."""

from __future__ import annotations

import random

import pytest
from support.sentences import SENTENCES

from jobs.text_letters import bits, looks_written

RIGHT = {"ja": "cp932", "ko": "cp949", "zh-TW": "big5", "zh-CN": "gb18030", "fr": "cp1252", "ru": "cp1251", "pl": "cp1250"}


@pytest.mark.parametrize(("language", "encoding"), RIGHT.items())
def test_the_right_reading_costs_least(language: str, encoding: str) -> None:
    """Of all readings that the bytes have; capitals too."""
    for change in (str, str.upper):
        text = change(" ".join(SENTENCES[language]))
        data = text.encode(encoding)
        others = {other: data.decode(other, "replace") for other in RIGHT.values() if other != encoding}
        assert all(bits(text, encoding) < bits(wrong, other) for other, wrong in others.items() if wrong != text)


@pytest.mark.parametrize(("language", "encoding"), RIGHT.items())
def test_what_people_write(language: str, encoding: str) -> None:
    """Sentences are, in small letters and in capitals; random bytes are not, in any encoding."""
    text = " ".join(SENTENCES[language])
    assert looks_written(text, encoding)
    assert looks_written(text.upper(), encoding)
    noise = bytes(random.Random(5).choices(range(128, 256), k=1000)).decode(encoding, "ignore")
    assert not looks_written(noise, encoding)


def test_letters_of_two_scripts_in_one_word_are_dear() -> None:
    """French read as Greek or Cyrillic is letters that are usual there, in words that nobody writes."""
    data = "très élève".encode("cp1252")
    assert bits(data.decode("cp1252"), "cp1252") < bits(data.decode("cp1253"), "cp1253")
    assert bits("手机 iPhone", "gb18030") < bits("手机iPhone", "gb18030") + bits(" ", "gb18030")


def test_unknown_encodings_are_for_all_languages() -> None:
    """UTF-16 says nothing of its language."""
    for sentences in SENTENCES.values():
        assert looks_written(" ".join(sentences), "utf_16_le")
