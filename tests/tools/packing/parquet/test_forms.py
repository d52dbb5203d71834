"""tools/packing/parquet/forms.py: audio as WebDataset's bytes and as arrays of samples, and texts inside `json`."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from support.made_trees import left_out_of, pairs_of
from support.sentences import SENTENCES
from support.small_run import wav

from audio_tokenizers.errors import UsageError
from jobs.text_rules import TextRules
from tools.packing.pairs import LeftOut, Pair, SourceOptions
from tools.packing.parquet.forms import form_of, record_of, wav_of
from tools.packing.sources import open_source

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
WAV = wav(400)


def opened(
    folder: Path, table: pa.Table, features: dict[str, Any] | None = None, texts: TextRules | None = None
) -> tuple[dict[str, Pair], list[LeftOut]]:
    """What tools.pack makes of a file with this table, with what `datasets` would say of its columns."""
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    options = SourceOptions(scratch=folder, texts=texts or TextRules())
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    return pairs_of(open_source(str(folder / "train-00000-of-00001.parquet"), options))


@pytest.mark.parametrize("column", ["wav", "flac", "mp3"])
@pytest.mark.parametrize("features", [True, False])
def test_what_the_hub_makes_of_webdataset(tmp_path: Path, column: str, *, features: bool) -> None:
    """Ids are WebDataset's keys; text, language and the rest are inside `json`."""
    text, speaker = pa.string(), pa.struct([("age", pa.int64())])
    said = [{"text": "one", "language": "en", "speaker": {"age": 7}}, {"text": " "}]
    table = pa.table(
        {
            column: pa.array([{"bytes": WAV, "path": f"{key}.{column}"} for key in "ab"], AUDIO),
            "json": pa.array(said, pa.struct([("text", text), ("language", text), ("speaker", speaker), ("gone", text)])),
            "__key__": ["x/a", "x/b"],
            "__url__": ["hf://datasets/o/n/0.tar"] * 2,
        }
    )
    pairs, left_out = opened(tmp_path, table, {column: {"_type": "Audio"}} if features else None)
    (pair,) = pairs.values()
    assert (pair.id, pair.audio, pair.audio_name, pair.text, pair.language) == ("x/a", WAV, f"a.{column}", "one", "en")
    assert pair.metadata == {"speaker": {"age": 7}, "__url__": "hf://datasets/o/n/0.tar", "split": "train"}
    assert left_out_of(left_out) == [("empty_text", "x/b")]


def test_bytes_alone_and_json_as_text(tmp_path: Path) -> None:
    """As others convert it: bytes in `flac`, JSON as a string or bytes, a text in `txt` where `json` has none."""
    table = pa.table(
        {
            "flac": pa.array([WAV, WAV, WAV, None], pa.binary()),
            "json": ['{"transcript": "one", "snr": NaN, "text": 5}', '{"snr": 1}', "{", "{}"],
            "txt": pa.array([b"txt", "zwei ü\n".encode(), b"three", b"four"], pa.binary()),
            "__key__": ["a", "b", "c", "d"],
        }
    )
    pairs, left_out = opened(tmp_path, table)
    assert {key: (pair.audio_name, pair.text, pair.metadata) for key, pair in pairs.items()} == {
        "a": (
            "a.flac",
            "one",
            {"text": 5, "split": "train", "sidecar_errors": ["json: snr: NaN is no value of JSON: null"]},
        ),
        "b": ("b.flac", "zwei ü", {"snr": 1, "split": "train"}),
    }
    assert left_out_of(left_out) == [("unreadable_audio", "d"), ("unreadable_text", "c")]


def test_the_key_of_the_text(tmp_path: Path) -> None:
    """--text-key holds inside `json` too; the text under another key is metadata."""
    table = pa.table({"wav": pa.array([WAV], pa.binary()), "json": ['{"text": "no", "said": "yes", "lang": "de"}']})
    pairs, _ = opened(tmp_path, table, texts=TextRules(keys=("said",)))
    assert [(pair.text, pair.language, pair.metadata) for pair in pairs.values()] == [
        ("yes", "de", {"text": "no", "split": "train"})
    ]


@pytest.mark.parametrize("column", ["json", "txt"])
def test_bytes_in_another_encoding(tmp_path: Path, column: str) -> None:
    """What columns of bytes say is told from all rows; one that a person says goes before."""
    texts = ["はい", *SENTENCES["ja"]]
    said = [json.dumps({"text": text}, ensure_ascii=False) if column == "json" else text for text in texts]
    values = pa.array([one.encode("cp932") for one in said], pa.binary())
    table = pa.table({"wav": pa.array([WAV] * len(texts), pa.binary()), column: values})
    pairs, left_out = opened(tmp_path, table)
    assert ([pair.text for pair in pairs.values()], left_out) == (texts, [])
    pairs, left_out = opened(tmp_path, table, texts=TextRules(encoding="utf-8"))
    assert (pairs, {left.reason for left in left_out}) == ({}, {"unreadable_text"})


def test_files_before_other_forms(tmp_path: Path) -> None:
    """A column that `datasets` would call Audio is the audio, whatever others look like."""
    sound = {"bytes": WAV, "path": "a.wav"}
    table = pa.table({"sound": pa.array([sound], AUDIO), "mp3": pa.array([b"x"], pa.binary()), "text": ["one"]})
    pairs, _ = opened(tmp_path, table)
    assert [pair.audio for pair in pairs.values()] == [WAV]


def samples(values: Any, kind: pa.DataType, rate: object = 16000) -> pa.StructScalar:
    rates = pa.int64() if isinstance(rate, int) else pa.float64()
    return pa.scalar({"array": values, "sampling_rate": rate}, pa.struct([("array", kind), ("sampling_rate", rates)]))


def read_back(made: bytes | str, dtype: str) -> tuple[Any, int, str]:
    assert isinstance(made, bytes)
    with soundfile.SoundFile(io.BytesIO(made)) as file:
        return file.read(dtype=dtype), file.samplerate, file.subtype


@pytest.mark.parametrize(
    ("values", "kind", "subtype"),
    [
        (np.array([0.1, -1.5, 1e-30, 0], np.float32), pa.float32(), "FLOAT"),
        (np.array([0.5, -0.25, 3 / 32768], np.float64), pa.float64(), "FLOAT"),
        (np.array([0.1, -0.3], np.float64), pa.float64(), "DOUBLE"),
        (np.array([0.1, -0.3], np.float16), pa.float16(), "FLOAT"),
        (np.array([1, -32768, 32767], np.int16), pa.int16(), "PCM_16"),
        (np.array([1, -(2**31), 2**31 - 1], np.int32), pa.int32(), "PCM_32"),
    ],
)
def test_samples_become_a_wav_without_loss(values: Any, kind: pa.DataType, subtype: str) -> None:
    """32-bit floats, which hold nearly all arrays exactly; 64-bit ones where those would round; integers as such."""
    dtype = {"FLOAT": "float32", "DOUBLE": "float64", "PCM_16": "int16", "PCM_32": "int32"}[subtype]
    found, rate, is_subtype = read_back(wav_of(samples(values.tolist(), pa.list_(kind))), dtype)
    assert (rate, is_subtype) == (16000, subtype)
    assert np.array_equal(found.astype(np.float64), values.astype(np.float64))


def test_channels_of_samples() -> None:
    """`datasets` has [channels][frames]."""
    two = samples([[0.5, 0.25, 0], [1, -1, 0.125]], pa.list_(pa.list_(pa.float64())), 44100.0)
    found, rate, _ = read_back(wav_of(two), "float32")
    assert rate == 44100
    assert found.tolist() == [[0.5, 1], [0.25, -1], [0, 0.125]]
    one, _, _ = read_back(wav_of(samples([[0.5, 0.25]], pa.list_(pa.list_(pa.float32())))), "float32")
    assert one.tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("values", "kind", "rate", "words"),
    [
        ([0.5], pa.float32(), None, "without a rate"),
        ([0.5], pa.float32(), 0, "without a rate"),
        ([0.5], pa.float32(), 16000.5, "without a rate"),
        ([], pa.float32(), 1, "no samples"),
        (None, pa.float32(), 1, "no samples"),
        ([[]], pa.list_(pa.float32()), 1, "no samples"),
        ([0.5, None], pa.float32(), 1, "null"),
        ([[0.5], None], pa.list_(pa.float32()), 1, "null"),
        ([[0.5], [0.5, 1]], pa.list_(pa.float32()), 1, "different lengths"),
        ([[0.5]] * 17, pa.list_(pa.float32()), 1, "17 channels"),
        ([[[0.5]]], pa.list_(pa.list_(pa.float32())), 1, "expected"),
        ([1], pa.int64(), 1, "type int64"),
    ],
)
def test_samples_that_are_no_audio(values: Any, kind: pa.DataType, rate: Any, words: str) -> None:
    """Said in words."""
    found = wav_of(samples(values, pa.list_(kind), rate))
    assert isinstance(found, str)
    assert words in found


def test_a_file_of_samples(tmp_path: Path) -> None:
    """Rows are named by the path if there is one, else by number; what has no samples is left out."""
    kind = pa.struct([("path", pa.string()), ("array", pa.list_(pa.float32())), ("sampling_rate", pa.int64())])
    rate = {"sampling_rate": 8000}
    rows = [{"path": "x/1.mp3", "array": [0.5, -0.5], **rate}, {"path": "2.mp3", "array": [], **rate}]
    pairs, left_out = opened(tmp_path, pa.table({"audio": pa.array([*rows, None], kind), "text": ["one", "two", "three"]}))
    (pair,) = pairs.values()
    assert (pair.id, pair.audio_name, pair.size) == ("x/1", "x/1.wav", 58 + 8)
    assert read_back(pair.audio, "float32")[0].tolist() == [0.5, -0.5]  # type: ignore[arg-type]
    assert left_out_of(left_out) == [("unreadable_audio", "2"), ("unreadable_audio", "train-000000002")]
    bare = pa.struct([("array", pa.large_list(pa.float64())), ("sampling_rate", pa.int32())])
    pairs, _ = opened(tmp_path, pa.table({"audio": pa.array([{"array": [0.5], **rate}], bare), "text": ["one"]}))
    assert list(pairs) == ["train-000000000"]


def test_forms_by_name_and_type() -> None:
    """Bytes need the name of a format; structs need their fields with their types."""
    number, text = pa.float32(), pa.string()
    assert form_of("WAV", pa.binary()) == "bytes"
    assert form_of("image", pa.binary()) is None
    assert form_of("x", AUDIO) == "file"
    assert form_of("x", pa.struct([("array", pa.list_(number)), ("sampling_rate", text)])) is None
    assert form_of("x", pa.struct([("array", pa.list_(text)), ("sampling_rate", pa.int64())])) is None
    assert form_of("x", pa.struct([("array", pa.list_(number, 3)), ("sampling_rate", pa.int64())])) == "samples"
    assert form_of("wav", pa.null()) is None


def test_a_file_without_any_form(tmp_path: Path) -> None:
    """The message says which there are."""
    with pytest.raises(UsageError, match=r"struct of bytes and path .or of array and sampling_rate"):
        opened(tmp_path, pa.table({"sound": pa.array([b"x"], pa.binary()), "text": ["one"]}))


def test_any_json_is_a_record_or_one_kind_of_error(tmp_path: Path) -> None:
    """Whatever bytes a `json` column holds."""
    chance = random.Random(5)
    pieces = ["{", "}", '"text"', ":", '"a"', ",", "[", "]", "1", "NaN", "\\ud800", "\x00"]
    for _ in range(500):
        data = "".join(chance.choice(pieces) for _ in range(chance.randrange(12)))
        for value in (data, data.encode(), data.encode("utf-16"), None, {"text": None}):
            try:
                found = record_of(value)
            except ValueError:
                continue
            json.dumps(found, allow_nan=False).encode()
