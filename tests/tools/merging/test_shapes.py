"""tools/merging/shapes.py: lines exactly as the older tools wrote them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.committed_runs import BICODEC_FIELDS, PAIR_FIELDS, error, lines_of, record

from audio_tokenizers.base import Field
from audio_tokenizers.errors import ERROR_KINDS, UsageError
from jobs.records import Record
from tools.merging.shapes import NO_TEXT, SHAPES, Shape, check_shape, fitting_shapes, shape_line

CODES_FIELDS = (Field(name="tokens", form="codes", width=8, codebook_size=1024),)
BICODEC = {"global_tokens": b"[1,2]", "semantic_tokens": b"[3,4,5]"}
PAIR = {"tokens": b'"<audio_958><audio_0>"'}
PACKED: dict[str, Any] = {
    "id": "中文 - Chinese/x/vo_1",
    "source": {"audio": "中文 - Chinese/x/vo_1.wav", "sample_rate": 48000},
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def shaped(shape: Shape, one: Record) -> bytes | str:
    return shape_line(shape, lines_of([one]))


def compact(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class TestLines:
    @given(TEXTS, TEXTS)
    def test_higgs(self, tar: str, name: str) -> None:
        """Six keys in the order of the older tool, whatever the names are made of; text and metadata stay behind."""
        found = shaped("higgs", record(tar_file=tar, audio_file=name, text="x", metadata={"tokens": [[1]]}))
        expected = {
            "tar_file": tar,
            "audio_file": name,
            "num_samples": 2880,
            "sample_rate": 24000,
            "tokens": [[1, 2, 3], [4, 5, 6]],
            "token_shape": [2, 3],
        }
        assert found == compact(expected)

    @given(TEXTS.filter(str.strip), TEXTS)
    def test_bicodec(self, text: str, language: str) -> None:
        """Four keys in the order of the older tool, with any text."""
        found = shaped("bicodec", record(BICODEC, text=text, language=language))
        expected = {"language": language, "text": text, "global_tokens": [1, 2], "semantic_tokens": [3, 4, 5]}
        assert found == compact(expected)

    def test_an_unknown_language_is_an_empty_text(self) -> None:
        """The key is always there and always a text, so that a reader may take the column's type from any line."""
        found = shaped("bicodec", record(BICODEC, text="a"))
        assert found == b'{"language":"","text":"a","global_tokens":[1,2],"semantic_tokens":[3,4,5]}\n'

    def test_text_audio_pairs_of_packed_clips(self) -> None:
        """The line that the older tool's manual shows, from what tools.pack notes beside a clip."""
        lab = {**PACKED, "source": {**PACKED["source"], "text": "中文 - Chinese/x/vo_1.lab"}}
        found = shaped("text_audio_pairs", record(PAIR, text="……", metadata=lab))
        expected = (
            '{"id":"中文 - Chinese/x/vo_1","text":"……","tokens":"<audio_958><audio_0>",'
            '"rel_wav":"中文 - Chinese/x/vo_1.wav","rel_lab":"中文 - Chinese/x/vo_1.lab","sr":48000}\n'
        )
        assert found == expected.encode()

    @given(TEXTS.filter(str.strip), TEXTS.filter(bool))
    def test_text_audio_pairs_of_any_text(self, text: str, clip_id: str) -> None:
        """Whatever text and id are made of, the line is what json.dumps makes of it."""
        found = shaped("text_audio_pairs", record(PAIR, text=text, metadata={**PACKED, "id": clip_id}))
        assert isinstance(found, bytes)
        assert found == compact(json.loads(found))
        assert (json.loads(found)["id"], json.loads(found)["text"]) == (clip_id, text)

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            ({"source": {"sample_rate": 8000}}, ("a/b.c", "a/b.c.wav", "a/b.c.lab", 8000)),
            ({"id": 17, "source": {"audio": "w/17.flac", "sample_rate": 8000}}, ("17", "w/17.flac", "w/17.lab", 8000)),
            ({"id": 1, "source": {"id": "a", "sample_rate": 1}}, ("a", "a/b.c.wav", "a/b.c.lab", 1)),  # the packer's own
            ({"id": "", "source": {"audio": "x.y/noext", "sample_rate": 1}}, ("a/b.c", "x.y/noext", "x.y/noext.lab", 1)),
            ({"id": [1], "source": {"audio": 5, "text": None, "sample_rate": 1}}, ("a/b.c", "a/b.c.wav", "a/b.c.lab", 1)),
            ({"id": True, "source": {"sample_rate": 1}}, ("a/b.c", "a/b.c.wav", "a/b.c.lab", 1)),
        ],
    )
    def test_text_audio_pairs_where_less_is_known(self, metadata: dict[str, Any], expected: tuple[object, ...]) -> None:
        """What nobody has noted comes from the clip's name; an id is always a text."""
        found = shaped("text_audio_pairs", record(PAIR, audio_file="a/b.c.wav", text="t", metadata=metadata))
        assert isinstance(found, bytes)
        line = json.loads(found)
        assert list(line) == ["id", "text", "tokens", "rel_wav", "rel_lab", "sr"]
        assert (line["id"], line["rel_wav"], line["rel_lab"], line["sr"]) == expected

    @pytest.mark.parametrize(
        "metadata",
        [None, {}, {"source": "a book"}, {"source": {}}, {"source": {"sample_rate": True}}, {"sample_rate": 48000}],
    )
    def test_an_unknown_rate_is_not_made_up(self, metadata: dict[str, Any] | None) -> None:
        """The backend's rate is not the file's: where the file's is not known, one message says so and what to do."""
        with pytest.raises(UsageError, match=r"a/b.wav of /d/1.tar: expected its file's rate .* \(24000 Hz\).* tools.pack"):
            shaped("text_audio_pairs", record(PAIR, text="t", metadata=metadata))

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("kind", ERROR_KINDS)
    def test_errors_are_left_out_by_kind(self, shape: Shape, kind: str) -> None:
        """An error is no line in any shape, and says what it counts as."""
        assert shaped(shape, error(kind)) == kind

    @pytest.mark.parametrize("text", [None, "", " \n"])
    def test_clips_without_text(self, text: str | None) -> None:
        """Where the shape is text and tokens, a clip without text is left out; where it is tokens alone, it is not."""
        assert shaped("bicodec", record(BICODEC, text=text)) == NO_TEXT
        assert shaped("text_audio_pairs", record(PAIR, text=text, metadata=PACKED)) == NO_TEXT
        assert isinstance(shaped("higgs", record(text=text)), bytes)

    def test_tokens_pass_as_they_are(self) -> None:
        """Tokens are text that goes from line to line, so nothing can round, sort or reformat them."""
        codes = b"[[" + b",".join(b"%d" % n for n in range(5000)) + b",12345678901234567890123]]"
        found = shaped("higgs", record({"tokens": codes, "token_shape": b"[1,5001]"}))
        assert isinstance(found, bytes)
        assert b'"tokens":' + codes + b',"token_shape":[1,5001]}' in found

    @pytest.mark.parametrize("shape", SHAPES)
    def test_what_is_no_record(self, shape: Shape) -> None:
        """A line that is no JSON is the caller's to report, never a line of the shape."""
        with pytest.raises(msgspec.DecodeError):
            shape_line(shape, b'{"tokens":[[1')


class TestFit:
    @pytest.mark.parametrize(
        ("fields", "shapes"), [(CODES_FIELDS, ["higgs"]), (BICODEC_FIELDS, ["bicodec"]), (PAIR_FIELDS, ["text_audio_pairs"])]
    )
    def test_which_shapes_fit(self, fields: tuple[Field, ...], shapes: list[Shape]) -> None:
        """A shape fits where its keys are there, in its form: `tokens` alone says nothing."""
        assert fitting_shapes(fields) == shapes
        check_shape(shapes[0], fields)

    def test_one_that_does_not(self) -> None:
        """The message says what was needed, what is there, and what would do."""
        with pytest.raises(
            UsageError, match=r"--shape bicodec: .*global_tokens \(list\).*have tokens \(codes\).*--shape higgs"
        ):
            check_shape("bicodec", CODES_FIELDS)
        with pytest.raises(UsageError, match="merge them without --shape"):
            check_shape("higgs", (Field(name="codes", form="codes"),))
