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
from jobs.sidecars import Annotations, decode_text, read_sidecars, too_large


def read(**files: bytes) -> Annotations:
    return read_sidecars({extension: (f"clip.{extension}", data) for extension, data in files.items()})


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


@given(st.dictionaries(st.text(), values, max_size=4))
def test_any_json_object_survives(data: dict[str, Any]) -> None:
    """Every JSON object comes back: as text, language and metadata that can be written as JSON."""
    said = read(json=json.dumps(data).encode())
    assert said.faults == 0
    back = json.loads(msgspec.json.encode(said.metadata or {}))
    for key, value in (("text", said.text), ("language", said.language)):
        if value is not None:
            back[key] = value
    assert back == data


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    """Whatever a sidecar holds, what comes of it can be written as a JSON line."""
    said = read(json=data, txt=data)
    msgspec.json.encode([said.text, said.language, said.metadata])
    try:
        decode_text(data).encode()
    except UnicodeDecodeError:
        assert said.faults == 2
