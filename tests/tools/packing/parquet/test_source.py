"""tools/packing/parquet/source.py: Parquet files as a data set: order, ids, what is read, bytes that stay as they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.small_run import wav

from audio_tokenizers.errors import UsageError
from tools.packing.pairs import LeftOut, Pair, Source, SourceOptions, is_outside
from tools.packing.parquet.source import open_parquet

SPEECH = Path(__file__).parents[4] / "examples/speech"
FILES = ("austen-0870.flac", "austen-0880.wav", "austen-0890.mp3", "austen-0920.ogg")
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, rows: Sequence[dict[str, Any]], group: int = 2, **kinds: pa.DataType) -> Path:
    """A file with bare pyarrow; a row's `audio` may be a path, whose bytes then differ from all others'."""
    rows = [{"text": f"text {number}"} | row for number, row in enumerate(rows)]
    for number, row in enumerate(rows):
        if not isinstance(row.get("audio"), dict):
            row["audio"] = {"bytes": wav(40, seed=number), "path": row.get("audio")}
    first = {name: pa.array([value]).type for row in rows[:1] for name, value in row.items() if name != "audio"}
    table = pa.Table.from_pylist(rows, pa.schema([("audio", AUDIO), *({"text": pa.string()} | first | kinds).items()]))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


@pytest.fixture
def options(tmp_path: Path) -> SourceOptions:
    """As the command gives them where nothing is asked for."""
    return SourceOptions(scratch=tmp_path / "scratch")


def read(source: Source, start: int = 0) -> list[Pair | LeftOut]:
    """All items from number `start` on."""
    return [item() for item in source.items(start)]


def ids(source: Source) -> list[str]:
    """Of the pairs, in order."""
    return [found.id for found in read(source) if isinstance(found, Pair)]


class TestRoundTrip:
    @pytest.mark.slow
    def test_a_data_set_that_datasets_wrote(self, tmp_path: Path, options: SourceOptions) -> None:
        """Every file comes out with the bytes, the text and the name that it went in with."""
        from datasets import Audio, Dataset

        given = {name: (SPEECH / name).read_bytes() for name in FILES}
        rows = {
            "audio": [{"bytes": data, "path": name} for name, data in given.items()],
            "sentence": [f"words of {name}" for name in FILES],
            "locale": ["en"] * 4,
            "speaker": [1, 2, 3, 4],
        }
        data_set = Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))
        data_set.to_parquet(tmp_path / "train-00000-of-00001.parquet", batch_size=3)
        source = open_parquet([tmp_path / "train-00000-of-00001.parquet"], "austen", options)
        assert (source.name, source.items_total) == ("austen", 4)
        assert 1.0 <= source.bytes_total / sum(map(len, given.values())) < 1.01
        for start in range(5):
            found = read(source, start)
            assert [(p.id, p.audio, p.text, p.language, p.metadata) for p in found if isinstance(p, Pair)] == [
                (name[:11], data, f"words of {name}", "en", {"speaker": number + 1, "split": "train"})
                for number, (name, data) in enumerate(given.items())
            ][start:]
            assert [p.audio_name for p in found if isinstance(p, Pair)] == list(given)[start:]

    def test_a_data_set_of_paths(self, tmp_path: Path, options: SourceOptions) -> None:
        """As `datasets` makes it of files, which it leaves where they are."""
        from datasets import Audio, Dataset

        rows = {"audio": [str(SPEECH / name) for name in FILES], "text": list(FILES)}
        Dataset.from_dict(rows).cast_column("audio", Audio(decode=False)).to_parquet(tmp_path / "data.parquet")
        pairs = read(open_parquet([tmp_path / "data.parquet"], "austen", options))
        assert [p.audio for p in pairs if isinstance(p, Pair)] == [(SPEECH / name).read_bytes() for name in FILES]

    def test_audio_beside_the_file(self, tmp_path: Path, options: SourceOptions) -> None:
        """Paths are relative to the Parquet file; what is not there is left out."""
        (tmp_path / "set/clips").mkdir(parents=True)
        (tmp_path / "set/clips/a.wav").write_bytes(wav(40))
        rows = [{"audio": {"bytes": None, "path": path}} for path in ("clips/a.wav", "clips/b.wav", "clips")]
        path = write(tmp_path / "set/train.parquet", rows)
        first, *others = read(open_parquet([path], "set", options))
        assert isinstance(first, Pair)
        assert (first.id, first.audio) == ("clips/a", wav(40))
        assert [(found.reason, found.name) for found in others if isinstance(found, LeftOut)] == [
            ("unreadable_audio", "clips/b"),
            ("unreadable_audio", "clips"),
        ]


class TestOrder:
    def test_files_in_natural_order_and_from_any_item_on(self, tmp_path: Path, options: SourceOptions) -> None:
        """However the shell sorts them; an empty file has no rows."""
        counts = {"p-1": 3, "p-2": 0, "p-9": 5, "p-10": 4}
        paths = [write(tmp_path / f"{name}.parquet", [{}] * rows) for name, rows in counts.items()]
        source = open_parquet(sorted(paths), "p", options)
        whole = [f"{name}-{row:09}" for name, rows in counts.items() for row in range(rows)]
        assert ids(source) == whole
        assert source.items_total == 12
        for start in range(13):
            assert [found.id for found in read(source, start) if isinstance(found, Pair)] == whole[start:]

    def test_rows_are_numbered_within_their_split(self, tmp_path: Path, options: SourceOptions) -> None:
        """Over all files of the split, so that how it is cut does not matter."""
        names = ("data/test-00000-of-00001", "data/train-00000-of-00002", "data/train-00001-of-00002-0123abcd")
        paths = [write(tmp_path / f"{name}.parquet", [{}] * 2) for name in names]
        found = read(open_parquet(paths, "p", options))
        assert [(p.id, p.metadata) for p in found if isinstance(p, Pair)] == [
            (f"{split}-{row:09}", {"split": split}) for split, rows in (("test", 2), ("train", 4)) for row in range(rows)
        ]

    @pytest.mark.parametrize(
        ("name", "split"),
        [
            ("train.parquet", "train"),
            ("data/dev_clean_03.parquet", "dev_clean"),
            ("default/train.360/0000.parquet", "train.360"),
            ("default/validation/part-1.parquet", "validation"),
            ("trained/0000.parquet", None),
            ("words.parquet", None),
        ],
    )
    def test_what_a_split_looks_like(self, tmp_path: Path, options: SourceOptions, name: str, split: str | None) -> None:
        """It is in the name of the file or of its folder; other words are none."""
        paths = [write(tmp_path / name, [{}]), write(tmp_path / "other.parquet", [{}])]
        found = read(open_parquet(paths, "p", options))
        splits = {(row.metadata or {}).get("split") for row in found if isinstance(row, Pair)}
        assert splits == {split, None}


class TestIds:
    def test_a_column_that_names_each_row(self, tmp_path: Path, options: SourceOptions) -> None:
        """Numbers are as good; the paths stay the files' names. It is no metadata then."""
        rows = [{"audio": f"{number}.wav", "id": 100 + number, "n": 1} for number in range(3)]
        found = read(open_parquet([write(tmp_path / "a.parquet", rows)], "a", options))
        assert [(p.id, p.audio_name, p.metadata) for p in found if isinstance(p, Pair)] == [
            (str(100 + number), f"{number}.wav", {"n": 1}) for number in range(3)
        ]

    @pytest.mark.parametrize("repeated", [1, None])
    def test_a_column_that_does_not(self, tmp_path: Path, options: SourceOptions, repeated: int | None) -> None:
        """Ids of sentences, of which there are several readings: the paths name the clips, over all files."""
        one = write(tmp_path / "1.parquet", [{"audio": "x/a.wav", "id": 1}, {"audio": "x/b.wav", "id": 2}])
        two = write(tmp_path / "2.parquet", [{"audio": "x/c.wav", "id": repeated}], id=pa.int64(), text=pa.string())
        source = open_parquet([one, two], "a", options)
        assert ids(source) == ["x/a", "x/b", "x/c"]
        found = read(source)[0]
        assert isinstance(found, Pair)
        assert found.metadata == {"id": 1}

    def test_a_column_that_not_all_files_have(self, tmp_path: Path, options: SourceOptions) -> None:
        """It names nothing; the next one may."""
        one = write(tmp_path / "1.parquet", [{"id": 1, "audio_id": "p"}])
        two = write(tmp_path / "2.parquet", [{"audio_id": "q"}])
        assert ids(open_parquet([one, two], "a", options)) == ["p", "q"]

    def test_a_path_that_comes_again_is_a_duplicate(self, tmp_path: Path, options: SourceOptions) -> None:
        """The first stays; an extension makes no other clip."""
        rows = [{"audio": f"{number}.wav"} for number in range(20)] + [{"audio": "3.flac"}]
        source = open_parquet([write(tmp_path / "a.parquet", rows)], "a", options)
        assert ids(source) == [str(number) for number in range(20)]
        assert read(source, 20) == [LeftOut("duplicate", "3", "a.parquet, row 20: an earlier row has this id")]

    def test_paths_that_say_nothing(self, tmp_path: Path, options: SourceOptions) -> None:
        """`audio.wav` in each row is no duplicate of anything: rows are numbered, and none is lost."""
        source = open_parquet([write(tmp_path / "a.parquet", [{"audio": "audio.wav"}] * 5)], "a", options)
        assert ids(source) == [f"a-{number:09}" for number in range(5)]

    def test_the_same_paths_in_two_splits(self, tmp_path: Path, options: SourceOptions) -> None:
        """They are two clips, and a row without path has a number."""
        paths = [write(tmp_path / f"{name}.parquet", [{"audio": "a.wav"}, {"audio": None}]) for name in ("test", "train")]
        assert ids(open_parquet(paths, "a", options)) == ["test/a", "test-000000001", "train/a", "train-000000001"]

    def test_exclude(self, tmp_path: Path) -> None:
        """By the id, or by the path and its folders."""
        rows = [{"audio": "x/a.wav", "id": "1"}, {"audio": "y/b.wav", "id": "2"}, {"audio": "y/c.wav", "id": "3"}]
        options = SourceOptions(scratch=tmp_path, exclude=("x", "3"))
        found = read(open_parquet([write(tmp_path / "a.parquet", rows)], "a", options))
        assert [p.reason if isinstance(p, LeftOut) else p.id for p in found] == ["excluded", "2", "excluded"]

    def test_a_share_of_the_clips(self, tmp_path: Path) -> None:
        """By the id, whatever the row's place."""
        rows = [{"audio": "x/a.wav", "id": str(number)} for number in range(12)]
        options = SourceOptions(scratch=tmp_path, subset_ratio=0.5)
        found = read(open_parquet([write(tmp_path / "a.parquet", rows)], "a", options))
        names = [p.reason if isinstance(p, LeftOut) else p.id for p in found]
        assert names == ["outside_subset" if is_outside(str(n), options) else str(n) for n in range(12)]
        assert 0 < names.count("outside_subset") < 12


class TestListing:
    def test_it_reads_no_audio(self, tmp_path: Path, options: SourceOptions) -> None:
        """Listing a file whose audio is damaged shows nothing; reading it does."""
        path = write(tmp_path / "a.parquet", [{"audio": f"{number}.wav"} for number in range(4)], group=4)
        chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
        data = bytearray(path.read_bytes())
        start = chunk.dictionary_page_offset
        data[start : start + 40] = bytes(40)
        path.write_bytes(data)
        source = open_parquet([path], "a", options)
        assert source.items_total == 4
        with pytest.raises(UsageError, match=r"a\.parquet: expected a whole Parquet file, found damage"):
            read(source)

    def test_the_fingerprint_is_of_the_data_not_of_its_place(self, tmp_path: Path, options: SourceOptions) -> None:
        """A moved folder is the same data set; another name, row or type is another."""

        def fingerprint(folder: str, names: Sequence[str] = ("a", "b"), **change: Any) -> str:
            paths = [write(tmp_path / folder / f"{name}.parquet", [{"audio": "1.wav"} | change]) for name in names]
            return open_parquet(paths, folder, options).fingerprint

        first = fingerprint("one")
        assert first == fingerprint("two")
        others = {fingerprint("three", text="other words"), fingerprint("four", ("a", "c")), fingerprint("five", n=1)}
        assert len({first, *others}) == 4

    @pytest.mark.parametrize("data", [b"", b"PAR1", b"hello world, hello", hashlib.sha256().digest() + b"\xff\0\0\0PAR1"])
    def test_no_parquet(self, tmp_path: Path, options: SourceOptions, data: bytes) -> None:
        """One message with the file's name."""
        (tmp_path / "a.parquet").write_bytes(data)
        with pytest.raises(UsageError, match=r"a\.parquet: expected a whole Parquet file, found damage: .*: fetch or write"):
            open_parquet([tmp_path / "a.parquet"], "a", options)

    def test_what_was_found(self, tmp_path: Path, options: SourceOptions) -> None:
        """For the message that there is no pair."""
        source = open_parquet([write(tmp_path / "a.parquet", [{"text": ""}, {"text": " "}])], "a", options)
        assert source.found == {".parquet": 1, "rows": 2}
        assert [found.reason for found in read(source) if isinstance(found, LeftOut)] == ["empty_text"] * 2

    def test_without_text(self, tmp_path: Path) -> None:
        """A data set of audio alone is taken if that is asked for, and refused with its columns if not."""
        table = pa.table({"audio": pa.array([{"bytes": wav(40), "path": "a.wav"}], AUDIO)})
        pq.write_table(table, tmp_path / "a.parquet")
        (found,) = read(open_parquet([tmp_path / "a.parquet"], "a", SourceOptions(scratch=tmp_path, without_text=True)))
        assert isinstance(found, Pair)
        assert found.text is None
        with pytest.raises(
            UsageError, match=r"found audio \(struct of bytes, path\): say which with --text-key, or give --without-text"
        ):
            open_parquet([tmp_path / "a.parquet"], "a", SourceOptions(scratch=tmp_path))


class TestAudioBeside:
    @pytest.mark.parametrize("named", ["link.wav", "folder/far.wav", "sub/../link.wav", "../far.wav", "{}/far.wav"])
    def test_links_that_lead_out(self, tmp_path: Path, options: SourceOptions, named: str) -> None:
        """A path below the Parquet file stays there, or is followed if a person says so; others say where they lead."""
        (tmp_path / "set" / "sub").mkdir(parents=True)
        (tmp_path / "far.wav").write_bytes(wav(40))
        (tmp_path / "set" / "link.wav").symlink_to("../far.wav")
        (tmp_path / "set" / "folder").symlink_to("..")
        path = write(tmp_path / "set" / "a.parquet", [{"audio": {"bytes": None, "path": named.format(tmp_path)}}])
        if not named.endswith("/far.wav") or named.startswith("folder"):
            with pytest.raises(UsageError, match=rf"a\.parquet: refused: .*{named} -> {tmp_path}/far.wav.*--follow-links"):
                read(open_parquet([path], "set", options))
            options = dataclasses.replace(options, follow_links=True)
        (pair,) = read(open_parquet([path], "set", options))
        assert isinstance(pair, Pair)
        assert pair.audio == wav(40)

    def test_nothing_there(self, tmp_path: Path, options: SourceOptions) -> None:
        """A path of the machine that wrote the file leads nowhere on this one: bad data, and no more."""
        rows = [{"audio": {"bytes": None, "path": path}} for path in ("/nowhere/a.wav", "../none.wav", "a\0.wav")]
        found = read(open_parquet([write(tmp_path / "a.parquet", rows)], "set", options))
        assert [item.reason for item in found if isinstance(item, LeftOut)] == ["unreadable_audio"] * 3
