"""tools/adopting/old_lines.py: lines of three tools, told from anything else, and their tokens as our records write them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.committed_runs import CODES
from support.envelope import FIELDS as ENVELOPE_FIELDS
from support.old_output import BICODEC, PAIRS, bicodec_line, pair_line, say

from audio_tokenizers.base import Field
from audio_tokenizers.errors import UsageError
from jobs.record_fields import values_fault
from tools.adopting.old_lines import OldLine, UnfitError, kind_for, member_names, read_old_line, values_of

HIGGS = (Field(name="tokens", form="codes", width=2, codebook_size=1024),)
LINE: dict[str, Any] = {
    "tar_file": "/d/1.tar",
    "audio_file": "a.mp3",
    "num_samples": 2880,
    "sample_rate": 24000,
    "tokens": [[1, 2, 3], [4, 5, 1023]],
    "token_shape": [2, 3],
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.sampled_from(["<audio_1>", 10**30]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def codec(**changed: object) -> dict[str, Any]:
    return {**LINE, **changed}


def fault(line: object, fields: tuple[Field, ...] = HIGGS) -> str:
    """Why a line cannot be taken over."""
    with pytest.raises(UnfitError) as error:
        values_of(read_old_line(line if isinstance(line, bytes) else say(line)), fields)
    return str(error.value)


def test_a_codec_line() -> None:
    """It names its tar and member; tokens become our compact form, whatever spaces the old tool wrote."""
    line = read_old_line(say(codec(audio_file="./x/a.mp3")))
    assert (line.kind, line.name, line.tar, line.error) == ("higgs", "x/a.mp3", "/d/1.tar", None)
    assert (line.integer_of("num_samples"), line.integer_of("tokens"), line.integer_of("sr")) == (2880, None, None)
    values = values_of(line, HIGGS)
    assert {key: bytes(value) for key, value in values.items()} == {
        "tokens": b"[[1,2,3],[4,5,1023]]",
        "token_shape": b"[2,3]",
    }


def test_a_line_of_a_failure() -> None:
    """The old tool's message, whatever its type."""
    head = {"tar_file": "1.tar", "audio_file": "a.mp3"}
    assert read_old_line(say({**head, "error": "cut"})).error == "cut"
    assert read_old_line(say({**head, "error": None})).error == "null"


def test_a_line_of_bicodec() -> None:
    """Nothing but its text says of which clip it is."""
    line = read_old_line(say(bicodec_line(" é 語 ", 80)))
    assert (line.kind, line.name, line.tar) == ("bicodec", "é 語", "")
    assert bytes(values_of(line, BICODEC)["semantic_tokens"]) == b"[0,1,2,3,4,5,6,7,8,9]"


def test_a_line_of_pairs() -> None:
    """Its path says of which clip it is; its tokens are a string in turns of two and three."""
    line = read_old_line(say(pair_line("a", "é", 80)))
    assert (line.kind, line.name, line.text_of("text"), line.integer_of("sr")) == (
        "text_audio_pairs",
        "voices/a.wav",
        "é",
        8000,
    )
    assert bytes(values_of(line, PAIRS)["tokens"]).startswith(b'"<audio_0><audio_5><audio_1024>')


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"tar_file":"1.tar","audio_fi', "not a JSON object"),
        (b'{"tar_file":"1.tar","audio_file":"\xe8\xaa', "not a JSON object"),
        (b'{"tar_file":"1.tar","audio_file":"\xe8"}', "its audio_file is"),
        (b'{"tar_file":"1.tar","audio_file":"a","tokens":[[NaN]]}', "not a JSON object"),
        (b"[1,2]", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"a":' * 100_000, "not a JSON object"),
        (b"{}", "its keys (none) are those of no older tool"),
        (b'{"tokens":[[1]]}', "its keys (tokens) are those of no older tool"),
        (b'{"tar_file":3,"audio_file":"a"}', "its tar_file is 3, expected a name"),
        (b'{"tar_file":"t","audio_file":""}', 'its audio_file is "", expected a name'),
        (b'{"text":" ","global_tokens":[],"semantic_tokens":[]}', "which does not say of which clip it is"),
    ],
)
def test_what_is_no_line_of_these_tools(data: bytes, words: str) -> None:
    """Cut lines, half characters, NaN, other JSON, and keys without a use."""
    assert words in fault(data)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tokens": [[1, 4], [2, 5], [3, 6]]}, "expected 2 lists of integers in 0..1023, found 3 lists of 2 in 1..6"),
        ({"tokens": [[1, 2, 3], [4, 5, 1024]]}, "found 2 lists of 3 in 1..1024"),
        ({"tokens": [[1, 2, 3], [4, 5, -1]]}, "found 2 lists of 3 in -1..5"),
        ({"tokens": [[1, 2, 3], [4, 5, 6.0]]}, "found [[1, 2, 3], [4, 5, 6.0]]..."),
        ({"tokens": [[1, 2, 3], [4, 5, True]]}, "found [[1, 2, 3], [4, 5, true]]..."),
        ({"tokens": [[1, 2, 3], [4, 5, "6"]]}, 'found [[1, 2, 3], [4, 5, "6"]]...'),
        ({"tokens": [[1, 2, 3], [4, 5, None]]}, "found [[1, 2, 3], [4, 5, null]]..."),
        ({"tokens": [[1, 2, 3], [4, 5, 10**30]]}, "found [[1, 2, 3], [4, 5, 1000000"),
        ({"tokens": [[1, 2, 3], [4, 5, 2**63]]}, "expected 2 lists of integers in 0..1023, found"),
        ({"tokens": [[1, 2, 3], [4, 5]]}, "found [[1, 2, 3], [4, 5]]..."),
        ({"tokens": [[], []]}, "found [[], []]..."),
        ({"tokens": [1, 2]}, "found [1, 2]..."),
        ({"tokens": [[[1]]]}, "found [[[1]]]..."),
        ({"tokens": "12"}, 'found "12"...'),
        ({"tokens": None}, "found null..."),
        ({"token_shape": [3, 2]}, "token_shape is [3, 2], tokens have [2, 3]"),
        ({"token_shape": "x"}, 'token_shape is "x", tokens have [2, 3]'),
    ],
)
def test_tokens_that_the_backend_cannot_have_made(changed: dict[str, object], words: str) -> None:
    """Transposed arrays, codes out of range, floats, booleans, texts, huge and ragged ones: what was expected and found."""
    assert words in fault(codec(**changed))


def test_a_missing_key() -> None:
    """A line without tokens and without an error."""
    assert fault({"tar_file": "1.tar", "audio_file": "a"}) == "it has no tokens"


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("<audio_65536><audio_65537>", "found 65536..65537: ids with the shift of 65536"),
        ("<audio_1><audio_2><audio_1024><audio_1024><audio_5120>", "found 1..5120"),
        ("<audio_1024><audio_2><audio_1024><audio_1024><audio_5119>", "expected 2 codes below 1024, then 3 from there on"),
        ("<audio_1><audio_2><audio_1024>", "in turns"),
        ("<audio_1> <audio_2>", "expected <audio_N>, N in 0..5119, found"),
        ("<audio_\u0661>", "expected <audio_N>"),
        ("", "expected <audio_N>"),
        ([1, 2], "expected <audio_N>"),
    ],
)
def test_strings_of_tokens_that_step_audio_cannot_have_made(tokens: object, words: str) -> None:
    """Shifted ids, codes of another codebook's place, groups that are cut, and other texts."""
    assert words in fault(pair_line("a", "x", 40, tokens=tokens), PAIRS)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """They are a fault, never an exception of another kind."""
    with pytest.raises(UnfitError):
        read_old_line(data)


@given(st.sampled_from(["tokens", "token_shape", "num_samples", "tar_file", "audio_file"]), ANYTHING)
def test_any_value_of_a_codec_line(key: str, value: object) -> None:
    """A line gives valid values or a fault, whatever a key holds."""
    data = json.dumps({**LINE, key: value}).encode()
    try:
        line = read_old_line(data)
        line.integer_of("num_samples")
        values = values_of(line, HIGGS)
    except UnfitError:
        return
    assert values_fault(HIGGS, values) is None


@given(st.sampled_from(["text", "global_tokens", "semantic_tokens"]), ANYTHING)
def test_any_value_of_a_bicodec_line(key: str, value: object) -> None:
    """Likewise."""
    try:
        values = values_of(read_old_line(json.dumps({**bicodec_line("a", 80), key: value}).encode()), BICODEC)
    except UnfitError:
        return
    assert values_fault(BICODEC, values) is None


@given(st.sampled_from(["id", "text", "tokens", "rel_wav", "sr"]), ANYTHING)
def test_any_value_of_a_line_of_pairs(key: str, value: object) -> None:
    """Likewise."""
    try:
        line = read_old_line(json.dumps({**pair_line("a", "x", 80), key: value}).encode())
        line.text_of("text")
        values = values_of(line, PAIRS)
    except UnfitError:
        return
    assert values_fault(PAIRS, values) is None


def test_which_lines_a_backend_continues() -> None:
    """Those with all keys of its records and no others: records with more keys cannot be made of old lines."""
    assert [kind_for(fields) for fields in (HIGGS, BICODEC, PAIRS)] == ["higgs", "bicodec", "text_audio_pairs"]
    more = (*PAIRS, Field(name="vq02", form="list", codebook_size=1024))
    for fields in (more, ENVELOPE_FIELDS):
        with pytest.raises(UsageError, match="no older tool's lines have just these"):
            kind_for(fields)


def test_names_by_which_a_line_may_mean_a_member() -> None:
    """Its whole name, or its last part: old tools kept either."""
    assert member_names("./a/b/c.wav") == ("a/b/c.wav", "c.wav")
    assert member_names("c.wav") == ("c.wav",)


def test_codes_are_those_of_our_records() -> None:
    """The values of a line of ours come back as they are."""
    line = OldLine("higgs", "a", values={key: msgspec.Raw(value) for key, value in CODES.items()})
    assert {key: bytes(value) for key, value in values_of(line, HIGGS).items()} == CODES
