"""jobs/records.py: how lines are written and read, and that tokens are checked as a slow reader would check them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.damage import Damage
from jobs.records import (
    ErrorRecord,
    Tally,
    TokenRecord,
    codes_to_json,
    decode_record,
    encode_record,
    line_parts,
    token_fault,
    tokens_are_valid,
    with_tar_file,
)

KEYS = ["tar_file", "audio_file", "num_samples", "sample_rate", "tokens", "token_shape", "text", "language", "metadata"]


def record(**changes: Any) -> TokenRecord:
    fields: dict[str, Any] = {
        "tar_file": "/t/1.tar",
        "audio_file": "a.wav",
        "num_samples": 4,
        "sample_rate": 8000,
        "values": {"tokens": msgspec.Raw(b"[[1,2],[3,4]]"), "token_shape": msgspec.Raw(b"[2,2]")},
    }
    return TokenRecord(**{**fields, **changes})


@pytest.mark.parametrize("before", ["/t/1.tar", 'with "quotes", é 語 and \\.tar', ""])
def test_only_the_path_of_the_tar_becomes_another(before: str) -> None:
    """The line is the one that would have been written, whatever the paths hold; a line that is not ours has no other."""
    for told in (
        record(tar_file=before, metadata={"tar_file": before}),
        ErrorRecord(tar_file=before, audio_file=before, error="no", error_kind="empty"),
    ):
        line = encode_record(told)
        moved = msgspec.structs.replace(told, tar_file="/t/2 é.tar")
        assert with_tar_file(line, told, "/t/2 é.tar") == encode_record(moved)
        assert with_tar_file(line, told, before) == line
        assert with_tar_file(b"{ " + line[1:], told, "/t/2.tar") is None


def test_keys_in_order() -> None:
    """A line has its nine keys in the promised order; those that say nothing are left out."""
    line = encode_record(record(text="t", language="en", metadata={"b": 1, "a": None}))
    assert list(json.loads(line)) == KEYS
    assert json.loads(line)["metadata"] == {"b": 1, "a": None}
    assert list(json.loads(encode_record(record()))) == KEYS[:6]
    assert b"\n" not in encode_record(record(text="two\nlines\r\u2028"))


def test_damage_stands_before_the_tokens() -> None:
    """Where something of a clip is missing its line says so, before its tokens, and comes back whatever the words are."""
    for nasty in ["a frame", *NASTY]:
        told = record(damage=Damage(0.72, nasty), text="t", metadata={"damage": 1})
        line = encode_record(told)
        assert list(json.loads(line)) == [*KEYS[:4], "damage", *KEYS[4:7], "metadata"]
        assert json.loads(line)["damage"] == {"seconds": 0.72, "what": nasty}
        assert decode_record(line) == told
        flat = record(damage=Damage(0.72, nasty), values={"tokens": msgspec.Raw(b"[1,2]")})
        assert decode_record(encode_record(flat)) == flat


@pytest.mark.parametrize(
    "damage", ["1", "{}", '{"seconds":-1.0,"what":"x"}', '{"seconds":1.0,"what":""}', '{"seconds":1,"x":1}']
)
def test_damage_of_another_form_is_refused(damage: str) -> None:
    """A line of which nobody can tell what is missing is no record."""
    line = encode_record(record(damage=Damage(0.5, "x"))).replace(b'{"seconds":0.5,"what":"x"}', damage.encode())
    with pytest.raises(msgspec.DecodeError):
        decode_record(line)


def test_notes() -> None:
    """They stand after the tokens, come back, and are left out where there are none."""
    noted = record(notes=("opposite_phase",), text="t")
    line = encode_record(noted)
    assert list(json.loads(line)) == [*KEYS[:6], "notes", "text"]
    assert decode_record(line) == noted
    assert decode_record(encode_record(record())) == record()


def test_error_keys_in_order() -> None:
    """So has an error."""
    error = ErrorRecord(tar_file="t", audio_file="a", error="words", error_kind="decode")
    line = encode_record(error)
    assert list(json.loads(line)) == ["tar_file", "audio_file", "error", "error_kind"]
    assert decode_record(line) == error


NASTY = [
    '"tokens":[]',
    '\\"tokens":[]',
    '"tokens":[],"tokens":[]',
    "\\",
    '"',
    "é語\x00\x1f\u2028",
    "[]",
    "]]",
    "\\xff",
    "😀",
]


def with_tokens(original: TokenRecord, tokens: bytes) -> bytes:
    """The line of `original` with other tokens, given in two pieces."""
    values = {"tokens": (tokens[:3], tokens[3:]), "token_shape": (b"[2,2]",)}
    return b"".join(line_parts(original, values.items()))


@pytest.mark.parametrize("nasty", NASTY)
def test_values_in_pieces(nasty: str) -> None:
    """The pieces of a value stand in their key's place, whatever stands in names, text and metadata."""
    original = record(tar_file=nasty, audio_file=nasty, text=nasty, language=nasty, metadata={nasty: [nasty], "tokens": []})
    assert with_tokens(original, b"[[1,2],[3,4]]") == encode_record(original)
    back = decode_record(with_tokens(original, b"[[9]]"))
    assert isinstance(back, TokenRecord)
    assert bytes(back.values["tokens"]) == b"[[9]]"
    assert (back.tar_file, back.text, back.metadata) == (nasty, nasty, original.metadata)


def test_metadata_that_is_json_already() -> None:
    """It gives the same line as what it was made from, and what the record says counts where none is given."""
    metadata = {"id": 1, "é": [None, {"a": 2.5}], "big": 10**25}
    expected = b"".join(line_parts(record(metadata=metadata), ()))
    assert b"".join(line_parts(record(metadata=None), (), msgspec.json.encode(metadata))) == expected
    assert b'"metadata"' not in b"".join(line_parts(record(metadata=None), ()))


@given(st.text(), st.text(), st.none() | st.text())
def test_any_text_comes_back(name: str, text: str, language: str | None) -> None:
    """Every string that UTF-8 has survives a line."""
    back = decode_record(with_tokens(record(audio_file=name, text=text, language=language), b"[]"))
    assert isinstance(back, TokenRecord)
    assert (back.audio_file, back.text, back.language) == (name, text, language)


def test_keys_of_any_backend_come_back() -> None:
    """Keys that no codec has are kept as they are, in their order, for those who know the run's fields."""
    values = {"vq02": msgspec.Raw(b"[1,2]"), "tokens": msgspec.Raw(b'"<audio_1>"'), "mid": msgspec.Raw(b'{"key":"0/mid"}')}
    original = record(values=values, text="t", metadata={"vq02": [[1]]})
    back = decode_record(encode_record(original))
    assert isinstance(back, TokenRecord)
    assert list(back.values) == list(values)
    assert encode_record(back) == encode_record(original)


GOOD_LINE = encode_record(record(text="t"))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        GOOD_LINE[:-1],
        GOOD_LINE + b"x",
        GOOD_LINE.replace(b"8000", b'"8000"'),
        GOOD_LINE.replace(b"a.wav", b"\xff.wav"),
        GOOD_LINE.replace(b'"text"', b'"\xff"'),
        GOOD_LINE[:-1] + b',"metadata":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"tar_file":"t","audio_file":"a","error":"e","error_kind":"unheard_of"}',
        b'{"tar_file":"t","audio_file":"a","error":"e","error_kind":"decode","more":1}',
        b"\0" * 100,
    ],
)
def test_lines_that_are_no_records(line: bytes) -> None:
    """Cut lines, unknown kinds, wrong types, text that is not UTF-8 and absurd nesting are all DecodeErrors."""
    with pytest.raises(msgspec.DecodeError):
        decode_record(line)


@pytest.mark.parametrize(
    "tokens", [b"[[01,2],[3,4]]", b"[[1,,2],[3,4]]", b"[[1,2],[3,4]", b"[[1,2],[3,nan]]", b'[["]],[[",2],[3,4]]']
)
def test_damaged_tokens(tokens: bytes) -> None:
    """Damage inside the tokens is found by one of the two that look: the line's reader or the tokens' check."""
    line = GOOD_LINE.replace(b"[[1,2],[3,4]]", tokens)
    try:
        back = decode_record(line)
    except msgspec.DecodeError:
        return
    assert isinstance(back, TokenRecord)
    assert token_fault(bytes(back.values["tokens"]), (2, 2), 256) is not None


def test_metadata_that_looks_like_tokens() -> None:
    """Keys and lists in the metadata that look like the line's own are not taken for them."""
    for metadata in (
        {"x": [[1]], "token_shape": [2, 2]},
        {"tokens": [[5]], "token_shape": [1, 1]},
        {"a": {"b": [[1]], "token_shape": 1}},
    ):
        original = record(metadata=metadata)
        back = decode_record(encode_record(original))
        assert isinstance(back, TokenRecord)
        assert {key: bytes(value) for key, value in back.values.items()} == {
            "tokens": b"[[1,2],[3,4]]",
            "token_shape": b"[2,2]",
        }
        assert back.metadata == metadata


def test_tally() -> None:
    """Counts are of lines, errors by kind, and seconds of audio that became tokens."""
    tally = Tally()
    for kind in ("decode", "empty", "decode"):
        tally.add(ErrorRecord(tar_file="t", audio_file="a", error="e", error_kind=kind))
    tally.add(record(num_samples=12_000, notes=("opposite_phase", "x")))
    assert (tally.clips, tally.errors, tally.audio_seconds) == (4, {"decode": 2, "empty": 1}, 1.5)
    assert tally.notes == {"opposite_phase": 1, "x": 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64])
def test_codes_to_json(dtype: type) -> None:
    """Codes of every integer type, in any memory layout, become plain JSON without spaces."""
    codes: npt.NDArray[Any] = np.arange(12).reshape(3, 4).astype(dtype)
    assert codes_to_json(codes) == b"[[0,1,2,3],[4,5,6,7],[8,9,10,11]]"
    assert codes_to_json(codes[:, ::2]) == b"[[0,2],[4,6],[8,10]]"
    assert codes_to_json(codes.T) == json.dumps(codes.T.tolist(), separators=(",", ":")).encode()


def slow_oracle(text: bytes, shape: tuple[int, int], codebook_size: int) -> bool:
    """Whether the text is what json.dumps writes for a list of lists of integers in range."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(found, list)
        and len(found) == shape[0]
        and all(isinstance(row, list) and len(row) == shape[1] for row in found)
        and all(type(token) is int and 0 <= token < codebook_size for row in found for token in row)
        and json.dumps(found, separators=(",", ":")).encode() == text
    )


SIZES = [1, 2, 9, 10, 11, 100, 101, 256, 1000, 1001, 1024, 6561, 65536, 10**6 + 1, 10**9]


@pytest.mark.parametrize("size", SIZES)
def test_tokens_at_the_edges(size: int) -> None:
    """The largest token passes, the next does not, alone and among others, with any codebook size."""
    for shape in ((1, 1), (1, 3), (4, 2)):
        for value, good in ((0, True), (size - 1, True), (size, False), (size * 10, False), (10**18, False)):
            for place in range(shape[0] * shape[1]):
                codes = np.zeros(shape, np.int64)
                codes.flat[place] = value
                assert (token_fault(codes_to_json(codes), shape, size) is None) == (good or value < size)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_tokens_as_the_slow_oracle_finds(data: st.DataObject) -> None:
    """Tokens that were written, and tokens with characters changed, added or lost, are judged as a JSON reader does."""
    size = data.draw(st.sampled_from(SIZES))
    codebooks, frames = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    rows = st.lists(st.integers(0, size - 1), min_size=frames, max_size=frames)
    codes = data.draw(st.lists(rows, min_size=codebooks, max_size=codebooks))
    text = bytearray(codes_to_json(np.array(codes)))
    assert token_fault(bytes(text), (codebooks, frames), size) is None
    for place, new, lost in data.draw(
        st.lists(
            st.tuples(st.integers(0, 200), st.sampled_from([b"", *(bytes([c]) for c in b"0159,[]- .e")]), st.integers(0, 2))
        )
    ):
        place = place % (len(text) + 1)  # noqa: PLW2901
        text[place : place + lost] = new
    shape = data.draw(
        st.sampled_from([(codebooks, frames), (frames, codebooks), (codebooks, frames + 1), (1, codebooks * frames)])
    )
    assert (token_fault(bytes(text), shape, size) is None) == slow_oracle(bytes(text), shape, size)


@settings(max_examples=300)
@given(st.binary(max_size=60), st.tuples(st.integers(-2, 5), st.integers(-2, 5)), st.sampled_from(SIZES))
def test_no_bytes_raise(text: bytes, shape: tuple[int, int], size: int) -> None:
    """Whatever the text and the shape, the check answers."""
    if token_fault(text, shape, size) is None:
        assert min(shape) > 0


@pytest.mark.parametrize("shape", [(0, 5), (-3, 0), (1, 0), (1, -1), (1, 10**15), (10**15, 1), (10**9, 10**9)])
def test_shapes_that_lie(shape: tuple[int, int]) -> None:
    """A shape without frames, or one so large that no memory would hold its tokens, is a fault and costs nothing."""
    for text in (b"[[]]", b"[[1]]", b"[]"):
        assert token_fault(text, shape, 256) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"[[,]]",
        b"[[1,]]",
        b"[[,1]]",
        b"[[12]]",
        b"[[1 ,2]]",
        b"[1,2]",
        b'[["1","2"]]',
        b"[[-1,2]]",
        b"[[1,]2]",
        b"[1[,2]]",
        b"1[[,2]]",
        b"[[1,]]2",
        b"[[1,2]]3",
        b"[[1,02]]",
    ],
)
def test_empty_places_and_foreign_characters(text: bytes) -> None:
    """Tokens must be integers, all of them there."""
    assert token_fault(text, (1, 2), 256) is not None


FAULTY = [b"[[1,]2]", b"1[[,2]]", b"[[1,]]2", b"[[,1]]", b"[[1,256]]", b"[[1,2]", b"[[1,2],[3,4]]", b"[1,2]"]


@pytest.mark.parametrize("faulty", FAULTY)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_fault_among_many(faulty: bytes, place: int) -> None:
    """Many clips' tokens are valid together only if each is, wherever the faulty one stands."""
    texts = [b"[[0,255]]", b"[[7,8]]"]
    assert tokens_are_valid(texts, [(1, 2)] * 2, 256)
    texts.insert(place, faulty)
    assert not tokens_are_valid(texts, [(1, 2)] * 3, 256)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(0, 300)), max_size=6),
    st.sampled_from([2, 256, 1024]),
)
@pytest.mark.slow
def test_many_clips_at_once(clips: list[tuple[int, int, int]], size: int) -> None:
    """Together as one by one, for clips of any shapes."""
    texts = [codes_to_json(np.full((codebooks, frames), value)) for codebooks, frames, value in clips]
    shapes = [(codebooks, frames) for codebooks, frames, _ in clips]
    alone = [token_fault(text, shape, size) is None for text, shape in zip(texts, shapes, strict=True)]
    assert tokens_are_valid(texts, shapes, size) == all(alone) == all(value < size for _, _, value in clips)


@pytest.mark.parametrize("change", [(b'"sample_rate":8000', b'"sample_rate":0'), (b'"num_samples":4', b'"num_samples":-4')])
@pytest.mark.parametrize("values", [b'"tokens":[[1]],"token_shape":[1,1]', b'"semantic":[1]'])
def test_impossible_numbers_are_no_record(values: bytes, change: tuple[bytes, bytes]) -> None:
    """Readers divide by the sample rate: a damaged line is told as one, and never ends a command in a traceback."""
    line = b'{"tar_file":"a.tar","audio_file":"a.wav","num_samples":4,"sample_rate":8000,%s}' % values
    decode_record(line)
    with pytest.raises(msgspec.DecodeError):
        decode_record(line.replace(*change))
