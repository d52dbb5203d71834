"""jobs/sidecars.py: what transcripts and metadata become, and that a bad sidecar costs nothing but itself."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import sidecars
from jobs.sidecars import Annotations, Reading, decode_text, read_sidecars, reading_of, too_large
from jobs.text_rules import TEXT_KEYS, TextRules

BEFORE = Reading()
NOW = Reading(TEXT_KEYS, decode_text)
"""As runs that begin now read them."""


def read(reading: Reading = BEFORE, **files: bytes) -> Annotations:
    return read_sidecars({extension: (f"clip.{extension}", data) for extension, data in files.items()}, reading)


def test_nothing() -> None:
    """No sidecars, no annotations."""
    assert read() == Annotations(None, None, None, 0)


def test_emilia_json() -> None:
    """`text` and `language` are taken out, the rest stays under metadata, with its numbers as they are."""
    data = {"id": "EN_1", "text": " Hi. ", "language": "en", "dnsmos": 3.25, "speaker": {"a": [1, None]}, "big": 10**25}
    said = read(json=json.dumps(data).encode())
    assert (said.text, said.language, said.faults) == (" Hi. ", "en", 0)
    assert said.metadata == {"id": "EN_1", "dnsmos": 3.25, "speaker": {"a": [1, None]}, "big": 10**25}


def test_json_of_text_and_language_alone() -> None:
    """With nothing left, there is no metadata."""
    assert read(json=b'{"text": "a", "language": "b"}') == Annotations("a", "b", None, 0)


def test_values_of_another_type_stay_in_metadata() -> None:
    """A text that is no string is not made one."""
    assert read(json=b'{"text": 5, "language": ["en"]}') == Annotations(None, None, b'{"text":5,"language":["en"]}', 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_encodings(encoding: str) -> None:
    """Transcripts and JSON are read in UTF-8, UTF-8 with a byte order mark, and GB18030."""
    words = "你好 语音 é"
    assert read(txt=f" {words}\r\n".encode(encoding)).text == words
    assert read(lab=words.encode(encoding)).text == words
    assert read(json=f'{{"text": "{words}"}}'.encode(encoding)).text == words


def test_order_of_preference() -> None:
    """The text of .json wins over .txt, and .txt over .lab, but only if it has one."""
    assert read(json=b'{"text": "j"}', txt=b"t", lab=b"l").text == "j"
    assert read(json=b'{"id": 1}', txt=b"t", lab=b"l").text == "t"
    assert read(lab=b"l").text == "l"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "truncated"),
        (b"not json", "malformed"),
        (b'{"a": NaN}', "malformed"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": "\\ud800"}', "clip.json"),
        (b"[1, 2]", "expected a JSON object, found list"),
        (b"\xff\xfe{\x00}\x00", "neither UTF-8 nor GB18030"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "100 deep"),
        (b"[" * 100_000, "100 deep"),
    ],
)
def test_bad_json(data: bytes, words: str) -> None:
    """A sidecar that is not a JSON object is named in the metadata; the transcript beside it still counts."""
    said = read(json=data, txt=b"words")
    assert said.text == "words"
    assert said.faults == 1
    assert said.metadata is not None
    assert list(said.metadata) == ["sidecar_errors"]
    assert "clip.json" in said.metadata["sidecar_errors"][0]
    assert words in said.metadata["sidecar_errors"][0]


def test_nesting_that_fits() -> None:
    """JSON as deep as the limit is kept, and can be written again."""
    deep = b'{"a":' * 100 + b"1" + b"}" * 100
    said = read(json=deep)
    assert said.faults == 0
    assert msgspec.json.encode(said.metadata) == deep


def test_bad_text() -> None:
    """Text in no known encoding is named, and the next sidecar gives the text; good metadata stays."""
    said = read(json=b'{"id": 1}', txt=b"\xff\xff", lab=b"from lab")
    assert (said.text, said.faults) == ("from lab", 1)
    assert said.metadata == {"id": 1, "sidecar_errors": ["clip.txt: neither UTF-8 nor GB18030 text"]}


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sidecar over the limit is named rather than cut short without a word."""
    monkeypatch.setattr(sidecars, "LARGEST_SIDECAR", 10)
    assert read(txt=b"x" * 10).text == "x" * 10
    said = read(txt=b"x" * 11, lab=b"short")
    assert (said.text, said.faults) == ("short", 1)
    assert said.metadata == {"sidecar_errors": ["clip.txt: larger than 10 bytes"]}
    assert read_sidecars({"txt": ("clip.txt", too_large())}) == read(txt=b"x" * 11)


@pytest.mark.slow
def test_size_is_that_in_memory() -> None:
    """What is kept of a sidecar takes about its bytes, even where its objects would take twenty times as many."""
    data = b'{"text":"' + b"a" * 1000 + b'","m":[' + b"{}," * 100_000 + b"{}]}"
    tracemalloc.start()
    try:
        said = read(json=data)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data) - 100 < said.size < len(data) + 500
    assert said.size <= held < said.size + 20_000
    assert said.metadata == {"m": [{}] * 100_001}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), values, max_size=4), st.sampled_from([Reading(), Reading(("text",), decode_text)]))
def test_any_json_object_survives(data: dict[str, Any], reading: Reading) -> None:
    """Every JSON object comes back: as text, language and metadata that can be written as JSON."""
    said = read(reading, json=json.dumps(data).encode())
    assert said.faults == 0
    back = json.loads(msgspec.json.encode(said.metadata or {}))
    language = next((key for key in ("language", "lang", "locale") if key not in back and key in data), "language")
    for key, value in (("text", said.text), (language, said.language)):
        if value is not None:
            back[key] = value
    assert back == data


@given(st.binary(max_size=200), st.sampled_from([Reading(), NOW]))
def test_no_bytes_raise(data: bytes, reading: Reading) -> None:
    """Whatever a sidecar holds, what comes of it can be written as a JSON line."""
    said = read(reading, json=data, txt=data)
    msgspec.json.encode([said.text, said.language, said.metadata])
    try:
        reading.decode(data)
    except UnicodeDecodeError:
        assert said.faults == 2


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999"])
def test_json_as_python_writes_it(value: str) -> None:
    """Text, language and all else that JSON can say are kept; the key of what it cannot say is named."""
    said = read(NOW, json=f'{{"text": "x", "language": "en", "snr": {value}, "id": 1}}'.encode())
    assert (said.text, said.language, said.faults) == ("x", "en", 1)
    word = value if value != "1e999" else "1e999"
    assert said.metadata == {"snr": None, "id": 1, "sidecar_errors": [f"clip.json: snr: {word} is no value of JSON: null"]}


def test_surrogates_and_control_characters() -> None:
    """A lone surrogate is named in JSON and in a text alike; a raw control character is one of the text."""
    said = read(NOW, json=b'{"text": "a\\ud83d\tb\x01"}')
    assert (said.text, said.faults) == ("a\ufffd\tb\x01", 1)
    said = read(NOW, txt=b"a\xed\xa0\xbdb", lab=b"not needed")
    assert (said.text, said.faults) == ("a\ufffdb", 1)
    assert said.metadata == {"sidecar_errors": ["clip.txt: a lone surrogate is no character: U+FFFD"]}


def test_where_the_text_stands() -> None:
    """Under the first key that has one, the language likewise; a run from before there was a choice knows `text` alone."""
    json_ = b'{"sentence": "s", "locale": "fr", "up_votes": 2}'
    assert read(NOW, json=json_, txt=b"t") == Annotations("s", "fr", b'{"up_votes":2}', 0)
    assert read(json=json_, txt=b"t") == Annotations("t", None, b'{"sentence":"s","locale":"fr","up_votes":2}', 0)
    said = read(Reading(("transcript",), decode_text), json=b'{"text": "a", "transcript": "b"}')
    assert said == Annotations("b", None, b'{"text":"a"}', 0)


def test_an_encoding_is_that_of_all_texts() -> None:
    """What a source's texts show together, or what a person says; what is not sure is named and is no text."""
    texts = [text.encode("shift_jis") for text in ("今日はとても良い天気ですね。", "明日は雨が降るかもしれません。")]
    reading = reading_of(TextRules(), lambda: texts)
    assert read(reading, txt="はい".encode("shift_jis")).text == "はい"
    said = read(reading_of(TextRules(), lambda: [b"\xe9"]), txt=b"\xe9", json=b'{"id": 1}')
    assert (said.text, said.faults) == (None, 1)
    assert said.metadata is not None
    assert "say it with --text-encoding" in said.metadata["sidecar_errors"][0]
    assert read(reading_of(TextRules(encoding="cp1252"), list), txt=b"\xe9").text == "é"


def test_what_was_found_out_before_stays() -> None:
    """tools.pack has written down what it could not read; a fault that comes later does not take its place."""
    said = read(NOW, json=b'{"text": "t", "sidecar_errors": ["x"], "a": NaN}')
    assert said.metadata == {"sidecar_errors": ["x", "clip.json: a: NaN is no value of JSON: null"], "a": None}


def test_one_file_is_counted_once() -> None:
    """Whatever is wrong with it."""
    said = read(NOW, json=b'{"a": NaN, "b": 1e999}', txt=b"t")
    assert (said.faults, said.text) == (1, "t")
