"""The line shapes of older tools: which runs can take one, and the conversion of lines. Pure.

    higgs             {"tar_file","audio_file","num_samples","sample_rate","tokens","token_shape"}
    bicodec           {"language","text","global_tokens","semantic_tokens"}
    text_audio_pairs  {"id","text","tokens","rel_wav","rel_lab","sr"}

Exactly these keys, in this order, as compact JSON in UTF-8: the result of `json.dumps(...,
ensure_ascii=False, separators=(",", ":"))`. Tokens are copied as text and never parsed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from audio_tokenizers.base import Field
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from jobs.records import ErrorRecord, decode_record

__all__ = ["NO_TEXT", "SHAPES", "Shape", "check_shape", "fitting_shapes", "shape_line"]

Shape = Literal["higgs", "bicodec", "text_audio_pairs"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

NO_TEXT = "no_text"
"""Why a clip with tokens but no text is left out of shapes with texts; also the name of the error kind."""

NEEDED: Mapping[Shape, Mapping[str, str]] = {
    "higgs": {"tokens": "codes"},
    "bicodec": {"global_tokens": "list", "semantic_tokens": "list"},
    "text_audio_pairs": {"tokens": "audio_string"},
}
"""The keys of a record that a shape takes, and their forms."""

HIGGS = b'{"tar_file":%b,"audio_file":%b,"num_samples":%d,"sample_rate":%d,"tokens":%b,"token_shape":%b}\n'
BICODEC = b'{"language":%b,"text":%b,"global_tokens":%b,"semantic_tokens":%b}\n'
TEXT_AUDIO_PAIRS = b'{"id":%b,"text":%b,"tokens":%b,"rel_wav":%b,"rel_lab":%b,"sr":%d}\n'

_string = json.JSONEncoder(ensure_ascii=False).encode


class _TextLine(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that shapes with texts need. Parsed in one pass; `decode_record` needs several if tokens are flat."""

    error_kind: str | None = None
    text: str | None = None


class _BiCodecLine(_TextLine, frozen=True, kw_only=True):
    language: str | None = None
    global_tokens: msgspec.Raw = msgspec.Raw()
    semantic_tokens: msgspec.Raw = msgspec.Raw()


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The user's metadata may have these keys, with any value."""

    id: Any = None
    source: Any = None


class _PairLine(_TextLine, frozen=True, kw_only=True):
    tar_file: str
    audio_file: str
    sample_rate: int = 0
    tokens: msgspec.Raw = msgspec.Raw()
    metadata: _Metadata = _Metadata()


_bicodec_decoder = msgspec.json.Decoder(_BiCodecLine)
_pair_decoder = msgspec.json.Decoder(_PairLine)


def fitting_shapes(fields: Sequence[Field]) -> list[Shape]:
    """The shapes that records with these fields can take."""
    forms = {field.name: field.form for field in fields}
    return [shape for shape, needed in NEEDED.items() if all(forms.get(key) == form for key, form in needed.items())]


def check_shape(shape: Shape, fields: Sequence[Field]) -> None:
    """Raise UsageError, with the possible shapes, if records with these fields cannot take this one."""
    fitting = fitting_shapes(fields)
    if shape not in fitting:
        needed = ", ".join(f"{key} ({form})" for key, form in NEEDED[shape].items())
        has = ", ".join(f"{field.name} ({field.form})" for field in fields)
        others = f"give --shape {' or '.join(fitting)}, or none" if fitting else "merge them without --shape"
        raise UsageError(f"--shape {shape}: expected records with {needed}; those of this run have {has}: {others}")


def shape_line(shape: Shape, line: bytes) -> bytes | str:
    """A run's line as a line of this shape, with its newline; or, if it is left out, its kind of error or NO_TEXT.

    Raises msgspec.DecodeError where `line` is no record, UsageError where `text_audio_pairs` needs the sample rate of the
    clip's file and the record does not have it.
    """
    if shape == "higgs":
        return _higgs_line(line)
    if shape == "bicodec":
        return _bicodec_line(_bicodec_decoder.decode(line))
    return _pair_line(_pair_decoder.decode(line))


def _higgs_line(line: bytes) -> bytes | str:
    record = decode_record(line)
    if isinstance(record, ErrorRecord):
        return record.error_kind
    return HIGGS % (
        _json(record.tar_file),
        _json(record.audio_file),
        record.num_samples,
        record.sample_rate,
        record.values["tokens"],
        record.values["token_shape"],
    )


def _left_out(line: _TextLine) -> str | None:
    if line.error_kind is not None:
        return line.error_kind
    return None if line.text is not None and line.text.strip() else NO_TEXT


def _bicodec_line(line: _BiCodecLine) -> bytes | str:
    if (reason := _left_out(line)) is not None:
        return reason
    # "", not null, for an unknown language: readers that infer types from lines keep a column of strings
    return BICODEC % (_json(line.language or ""), _json(line.text or ""), line.global_tokens, line.semantic_tokens)


def _pair_line(line: _PairLine) -> bytes | str:
    if (reason := _left_out(line)) is not None:
        return reason
    source = line.metadata.source if isinstance(line.metadata.source, dict) else {}
    rate = source.get("sample_rate")
    if not isinstance(rate, int) or isinstance(rate, bool):
        raise UsageError(
            f"--shape text_audio_pairs: {line.audio_file} of {line.tar_file}: expected its file's rate for the key sr, "
            f"found only the backend's ({line.sample_rate} Hz): {called('tools.pack')} notes it, as source.sample_rate in "
            "the .json beside each clip: pack the audio with it, as WAV, FLAC, Ogg or MP3, and tokenize those tars, or "
            "merge without --shape"
        )
    wav = _nonempty(source.get("audio")) or line.audio_file
    return TEXT_AUDIO_PAIRS % (
        _json(_clip_id(source.get("id")) or _clip_id(line.metadata.id) or _stem(line.audio_file)),
        _json(line.text or ""),
        line.tokens,
        _json(wav),
        _json(_nonempty(source.get("text")) or f"{_stem(wav)}.lab"),
        rate,
    )


def _clip_id(found: object) -> str | None:
    """Ids of a data set may be numbers; those of the pairs are strings."""
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else _nonempty(found)


def _nonempty(found: object) -> str | None:
    return found if isinstance(found, str) and found else None


def _stem(name: str) -> str:
    """`a/b.c.wav` -> `a/b.c`."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


def _json(text: str) -> bytes:
    return _string(text).encode()
