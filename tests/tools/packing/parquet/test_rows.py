"""tools/packing/parquet/rows.py: what the columns are, and a row as a pair."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.small_run import wav
from support.tars import audio_file, noise, pyav_file

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.packing.pairs import LeftOut, Pair
from tools.packing.parquet import rows as module
from tools.packing.parquet.forms import sniff
from tools.packing.parquet.rows import as_pair, bare_name, batches, find_columns, reading

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
WAV = wav(40)


def schema(features: dict[str, Any] | None = None, **columns: pa.DataType) -> pa.Schema:
    """Columns, with what `datasets` would say of them."""
    words = {b"huggingface": json.dumps({"info": {"features": features}}).encode()} if features is not None else None
    return pa.schema(list(columns.items()), metadata=words)


def row(audio: dict[str, Any] | None, *, kinds: dict[str, pa.DataType] | None = None, **values: Any) -> Pair | LeftOut:
    """One row with these values, as a pair named `c`."""
    types = {name: pa.array([value]).type for name, value in values.items()} | (kinds or {})
    table = schema(audio=AUDIO, **types)
    batch = module._with_plain_times(pa.RecordBatch.from_pylist([{"audio": audio, **values}], table))
    columns = find_columns(table, "t.parquet", without_text=True)
    return as_pair(columns, batch, 0, clip="c", id_column=None, split=None, locate=Path, without_text="text" not in values)


def pair(*args: Any, **values: Any) -> Pair:
    """The same, where nothing is wrong."""
    found = row(*args, **values)
    assert isinstance(found, Pair), found
    return found


class TestColumns:
    def test_what_datasets_says_counts(self) -> None:
        """An image has the same type; only the features tell the audio."""
        features = {"audio": {"_type": "Image"}, "clip": {"_type": "Audio"}, "text": {"_type": "Value"}}
        found = find_columns(schema(features, audio=AUDIO, clip=AUDIO, text=pa.string()), "t.parquet")
        assert (found.audio, found.text) == ("clip", "text")

    @pytest.mark.parametrize("features", [None, {}])
    def test_else_the_type_does(self, features: dict[str, Any] | None) -> None:
        """Files that others wrote; of several the one that is called audio."""
        large = pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())])
        assert find_columns(schema(features, x=pa.int64(), sound=large, text=pa.string()), "t").audio == "sound"
        assert find_columns(schema(features, image=AUDIO, audio=AUDIO, text=pa.string()), "t").audio == "audio"

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (
                schema(text=pa.string(), n=pa.int64()),
                r"expected one Audio column.*none among: text \(string\), n \(int",
            ),
            (schema(a=AUDIO, b=AUDIO, text=pa.string()), r"found 2 of them \(a, b\) among: a \(struct of bytes, path\)"),
            (
                schema({"a": {"_type": "Audio"}, "b": {"_type": "Audio"}}, a=AUDIO, b=AUDIO, audio=AUDIO),
                r"found 2 of them \(a, b\)",
            ),
            (schema(audio=pa.list_(pa.float32()), text=pa.string()), r"found none among: audio \(list"),
            (
                schema(audio=AUDIO, caption=pa.string()),
                r"t: expected the text in one of the columns text,.*caption",
            ),
            (schema(audio=AUDIO, text=pa.int64()), "expected the text in one of"),
        ],
    )
    def test_what_cannot_be_told(self, given: pa.Schema, words: str) -> None:
        """The message says what the columns are, and what to do."""
        with pytest.raises(UsageError, match=words):
            find_columns(given, "t")

    def test_text_language_ids_and_the_rest(self) -> None:
        """The first names that fit; bytes and what JSON cannot say are not even read."""
        columns = {name: pa.string() for name in ("raw_text", "sentence", "transcription", "locale", "utt_id")}
        more = {"id": pa.int32(), "vector": pa.binary(), "big": pa.list_(pa.binary()), "words": pa.list_(pa.string())}
        found = find_columns(schema(audio=AUDIO, language=pa.int64(), **columns, **more), "t")
        assert (found.text, found.language, found.ids) == ("transcription", "locale", ("id", "utt_id"))
        assert found.metadata == ("raw_text", "sentence", "utt_id", "id", "words")
        assert set(found.read) == {"audio", "transcription", "locale", *found.metadata}

    def test_the_column_that_somebody_names(self) -> None:
        """It is the text, and the only one that may be."""
        given = schema(audio=AUDIO, text=pa.string(), caption=pa.string())
        assert find_columns(given, "t", text_keys=("caption",)).text == "caption"
        with pytest.raises(UsageError, match=r"expected the text in one of the columns said, found .*--text-key"):
            find_columns(given, "t", text_keys=("said",))

    def test_no_text_where_none_is_asked_for(self) -> None:
        """--without-text takes such a data set."""
        assert find_columns(schema(audio=AUDIO), "t", without_text=True).text is None


class TestPair:
    def test_bytes_as_they_are(self) -> None:
        """Nothing is decoded, and the name is the source's."""
        found = pair({"bytes": WAV, "path": "a/b.WAV"}, text=" hi ", lang="en")
        assert (found.audio, found.size, found.audio_name, found.text) == (WAV, len(WAV), "a/b.wav", " hi ")
        assert (found.id, found.language, found.metadata) == ("c", "en", None)

    def test_metadata_is_what_json_can_say(self) -> None:
        """Times as ISO text, also those finer than Python has and of other zones; no vectors, no nulls."""
        finer = pa.timestamp("ns", "Asia/Shanghai")
        found = pair(
            {"bytes": WAV, "path": "a.wav"},
            kinds={"at": pa.timestamp("ns"), "there": finer},
            text="x",
            speaker=7,
            snr=1.5,
            ok=True,
            day=dt.date(2026, 1, 2),
            nothing=None,
            words=[{"w": "x", "t": 0.5}],
            vector=[0.0] * 257,
            at=1_500_000_000_123_456_789,
            there=0,
        )
        assert json.loads(json.dumps(found.metadata)) == {
            "speaker": 7,
            "snr": 1.5,
            "ok": True,
            "day": "2026-01-02",
            "words": [{"w": "x", "t": 0.5}],
            "at": "2017-07-14T02:40:00.123456",
            "there": "1970-01-01T00:00:00+00:00",
        }

    def test_numbers_that_json_cannot_say(self) -> None:
        """Null stands there, and is told: how often, and of what keys."""
        nan = float("nan")
        found = pair(
            {"bytes": WAV, "path": "a.wav"},
            text="x",
            snr=nan,
            peak=float("-inf"),
            f0=[nan, 1.5, nan, nan, nan],
            more={"q": [nan], "ok": 1.0},
            sidecar_errors=["a.txt: no text"],
        )
        assert found.metadata == {
            "snr": None,
            "peak": None,
            "f0": [None, 1.5, None, None, None],
            "more": {"q": [None], "ok": 1.0},
            "sidecar_errors": [
                "a.txt: no text",
                "snr, f0[0], f0[2] and 3 more: NaN is no value of JSON: null",
                "peak: -Infinity is no value of JSON: null",
            ],
        }

    def test_classes_by_their_names(self) -> None:
        """`datasets` keeps the numbers of classes; a language may be one of them."""
        features = {"audio": {"_type": "Audio"}, "lang": {"_type": "ClassLabel", "names": ["de", "en"]}}
        table = schema(features | {"g": {"_type": "ClassLabel", "names": ["f"]}}, audio=AUDIO, lang=pa.int64(), g=pa.int64())
        batch = pa.RecordBatch.from_pylist([{"audio": {"bytes": WAV, "path": None}, "lang": 1, "g": -1}], table)
        columns = find_columns(table, "t", without_text=True)
        found = as_pair(columns, batch, 0, clip="c", id_column=None, split="dev", locate=Path, without_text=True)
        assert isinstance(found, Pair)
        assert (found.language, found.metadata, found.audio_name) == ("en", {"g": -1, "split": "dev"}, "c.wav")

    @pytest.mark.parametrize(("text", "reason"), [(None, "audio_without_text"), ("", "empty_text"), (" \n", "empty_text")])
    def test_no_text(self, text: str | None, reason: str) -> None:
        """It is left out, and why is said."""
        found = row({"bytes": WAV, "path": "a.wav"}, kinds={"text": pa.string()}, text=text)
        assert found == LeftOut(reason, "c")  # type: ignore[arg-type]

    def test_text_that_is_not_utf8(self) -> None:
        """Other writers put anything into strings."""
        text = pa.array([b"\xff\xfe"]).view(pa.string())
        batch = pa.RecordBatch.from_arrays([pa.array([{"bytes": WAV, "path": None}], AUDIO), text], ["audio", "text"])
        columns = find_columns(batch.schema, "t")
        found = as_pair(columns, batch, 0, clip="c", id_column=None, split=None, locate=Path)
        assert isinstance(found, LeftOut)
        assert found.reason == "unreadable_text"

    @pytest.mark.parametrize(
        ("audio", "words"),
        [
            (None, "neither bytes nor a path"),
            ({"bytes": None, "path": None}, "neither bytes nor a path"),
            ({"bytes": b"", "path": "no.wav"}, "no bytes, and no file no.wav beside"),
            ({"bytes": b"hello hello", "path": "a.txt"}, "begins with 68 65 6c 6c 6f"),
            ({"bytes": None, "path": "/"}, "no bytes, and no file /"),
            ({"bytes": None, "path": "x" * 5000}, "File name too long"),
            ({"bytes": None, "path": "a\0.wav"}, "no bytes, and no file a\0.wav"),
        ],
    )
    def test_no_audio(self, audio: dict[str, Any] | None, words: str) -> None:
        """It is left out with what was found."""
        found = row(audio, text="x")
        assert isinstance(found, LeftOut)
        assert found.reason == "unreadable_audio"
        assert words in found.detail

    def test_a_large_clip_is_a_file(self, tmp_path: Path) -> None:
        """From 8 MiB on, in the row or beside it, and read from its beginning; smaller ones beside it are bytes."""
        large = WAV + bytes(8 << 20)
        (tmp_path / "x.bin").write_bytes(large)
        (tmp_path / "small.wav").write_bytes(WAV)
        for audio in ({"bytes": large, "path": "x.bin"}, {"bytes": None, "path": str(tmp_path / "x.bin")}):
            found = pair(audio, text="x")
            assert not isinstance(found.audio, bytes)
            with found.audio as file:
                assert file.read() == large
            assert found.size == len(large)
            assert found.audio_name.endswith("x.bin.wav")
        assert pair({"bytes": None, "path": str(tmp_path / "small.wav")}, text="x").audio == WAV


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.flac", "a/b"),
        ("/data/x.y.WAV", "data/x.y"),
        ("..\\up\\a.mp3", "up/a"),
        ("a/../../b", "b"),
        ("a.v2", "a.v2"),
        (".wav", ""),
        ("/", ""),
    ],
)
def test_names_are_relative(path: str, name: str) -> None:
    """Paths of other machines, of Windows and of nobody."""
    assert bare_name(path) == name


class TestSniff:
    @pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"])
    def test_files_of_libsndfile(self, kind: str) -> None:
        """Each kind that it writes has its extension."""
        data = audio_file(noise(4000), 16000, kind)
        assert sniff(data[:16]) == {"RF64": "wav"}.get(kind, kind.lower())

    @pytest.mark.parametrize(("kind", "codec"), [("mp4", "aac"), ("adts", "aac"), ("webm", "libopus"), ("mp2", "mp2")])
    def test_files_of_ffmpeg(self, kind: str, codec: str) -> None:
        """The same for what FFmpeg writes."""
        expected = {"mp4": "m4a", "adts": "aac"}.get(kind, kind)
        assert sniff(pyav_file(noise(9600), 48000, kind, codec)[:16]) == expected

    def test_tags_before_mp3_and_no_audio(self) -> None:
        """ID3 tags stand before MP3; text is nothing."""
        assert sniff(b"ID3\x04") == "mp3"
        assert [sniff(data) for data in (b"", b"\xff", b"\xff\xfeh\0", b"hello, hello")] == [None] * 4


class TestBatches:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Three row groups of 10 rows with 100 kB of noise each."""
        rng = np.random.default_rng(0)
        rows = [{"audio": {"bytes": rng.bytes(100_000), "path": None}, "text": str(number)} for number in range(30)]
        table = pa.Table.from_pylist(rows, schema(audio=AUDIO, text=pa.string()))
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=10, write_page_checksum=True)
        return tmp_path / "t.parquet"

    @staticmethod
    def texts(path: Path, start: int) -> list[tuple[int, str]]:
        columns = find_columns(pq.read_schema(path), "t")
        return [
            (row + index, text)
            for row, batch in batches(path, columns, start)
            for index, text in enumerate(batch.column("text").to_pylist())
        ]

    def test_from_any_row_on(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the size of batches, the rows are the same."""
        for size in (1, 250_000, 1 << 30):
            monkeypatch.setattr(module, "BATCH_BYTES", size)
            for start in (0, 1, 9, 10, 17, 29, 30):
                assert self.texts(path, start) == [(row, str(row)) for row in range(start, 30)]

    def test_batches_are_small_however_large_row_groups_are(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """So many rows at a time as their mean size allows."""
        monkeypatch.setattr(module, "BATCH_BYTES", 350_000)
        columns = find_columns(pq.read_schema(path), "t")
        assert [batch.num_rows for _, batch in batches(path, columns, 0)] == [3, 3, 3, 1] * 3

    def test_row_groups_before_are_not_read(self, path: Path) -> None:
        """One wrong byte in the first costs nothing from the second on, and is one message from the first on."""
        chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
        data = bytearray(path.read_bytes())
        data[chunk.dictionary_page_offset + 5000] ^= 1
        path.write_bytes(data)
        assert len(self.texts(path, 10)) == 20
        with pytest.raises(UsageError, match=r"t\.parquet: expected a whole Parquet file, found damage"):
            self.texts(path, 0)

    def test_a_disk_that_fails_is_no_damage(self) -> None:
        """The machine's errors have numbers, pyarrow's own do not."""
        with pytest.raises(InfrastructureError, match=r"x: cannot be read: Stale"), reading(Path("x")):
            raise OSError(116, "Stale file handle")
