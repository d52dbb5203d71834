import gc
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.hostile_archives import Entry, link, pairs, zip_of
from support.sentences import SENTENCES

from audio_tokenizers.errors import UsageError
from tools.packing.archives import zip_archive
from tools.packing.archives.zip_archive import ZipSource, list_zip
from tools.packing.pairs import LeftOut, Pair, SourceOptions

EXTERNAL, FLAGS, CRC, PACKED, UNPACKED, OFFSET = 38, 8, 16, 20, 24, 42
"""Where the fields of an entry of a zip's list are."""


def source_of(folder: Path, data: bytes, *, without_text: bool = False) -> ZipSource:
    path = folder / "a.zip"
    path.write_bytes(data)
    return ZipSource(path, "a", SourceOptions(scratch=folder, without_text=without_text), list_zip(path))


def test_the_encoding_is_that_of_all_texts(tmp_path: Path) -> None:
    """Read by themselves before the first of them is needed."""
    entries = [Entry("0.wav", b"x"), Entry("0.lab", "はい".encode("euc_jp"))]
    for number, sentence in enumerate(SENTENCES["ja"], 1):
        entries += [Entry(f"{number}.wav", b"x"), Entry(f"{number}.lab", sentence.encode("euc_jp"))]
    found = read(source_of(tmp_path, zip_of(entries)))
    assert [item.text for item in found if isinstance(item, Pair)] == ["はい", *SENTENCES["ja"]]


def read(source: ZipSource, start: int = 0) -> list[Pair | LeftOut]:
    return [item() for item in source.items(start)]


def forged(data: bytes, name: str, field: int, value: bytes) -> bytes:
    """A zip with one field of the list's entry of `name` changed."""
    at = data.rindex(name.encode()) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    return data[: at + field] + value + data[at + field + len(value) :]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_pairs_come_with_their_bytes_and_texts(tmp_path: Path, method: int) -> None:
    """In the order of the archive, whatever the compression, and from any number on."""
    source = source_of(tmp_path, zip_of(pairs(6), method))
    found = read(source)
    assert [(pair.id, pair.audio, pair.text) for pair in found if isinstance(pair, Pair)] == [
        (entry.name[:-4], entry.data, f"第{number}句") for number, entry in enumerate(pairs(6)[::2])
    ]
    assert (source.items_total, source.bytes_total) == (6, sum(len(entry.data or b"") for entry in pairs(6)[::2]))
    assert read(source, 4) == found[4:]
    assert read(source, 6) == []


def test_many_threads_may_read_at_once(tmp_path: Path) -> None:
    """In any order, from one open archive."""
    source = source_of(tmp_path, zip_of(pairs(60, 20_000)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: item(), reversed(list(source.items(0)))))
    assert found[::-1] == read(source)


@pytest.mark.slow
def test_the_archive_is_closed_before_anything_of_a_dropped_source_is_finalized(tmp_path: Path) -> None:
    """A source is part of a cycle, which the garbage collector finalizes in any order: no open file may be left to it."""

    class Finalized:
        """Older than the source, and so finalized before it."""

        source: ZipSource

        def __del__(self) -> None:
            closed.append(file.closed)

    closed: list[bool] = []
    finalized = Finalized()
    finalized.source = source_of(tmp_path, zip_of(pairs(1)))
    opened = finalized.source._zip.fp
    assert opened is not None
    file = opened
    assert not file.closed
    finalized.source.finalized = finalized  # type: ignore[attr-defined]
    del finalized
    gc.collect()
    assert closed == [True]


def test_a_large_clip_is_an_open_file_that_nobody_else_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its beginning, and gone when it is closed."""
    monkeypatch.setattr(zip_archive, "AUDIO_IN_MEMORY", 1000)
    entries = [Entry("a.wav", b"a" * 1001), Entry("a.lab", b"text")]
    source = source_of(tmp_path, zip_of(entries))
    [pair] = read(source)
    assert isinstance(pair, Pair)
    assert not isinstance(pair.audio, bytes)
    with pair.audio as file:
        assert file.read() == b"a" * 1001
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_names_of_chinese_windows_pair_and_read_right(tmp_path: Path) -> None:
    """Its zips have GBK names and do not say so, and may have backslashes."""
    entries = [Entry("语音\\第一句.wav", b"audio"), Entry("语音\\第一句.lab", "第一句".encode("gb18030"))]
    [pair] = read(source_of(tmp_path, zip_of(entries, encoding="gb18030")))
    assert isinstance(pair, Pair)
    assert (pair.id, pair.audio, pair.text) == ("语音/第一句", b"audio", "第一句")


def test_tables_are_read_when_the_archive_is_opened(tmp_path: Path) -> None:
    """So that a line without audio is known from the start."""
    table = "LJ1|一|一。\nLJ2|二|二。".encode()
    source = source_of(tmp_path, zip_of([Entry("LJ/wavs/LJ1.wav", b"audio"), Entry("LJ/metadata.csv", table)]))
    assert [(left.reason, left.name) for left in source.left_out] == [("text_without_audio", "LJ/wavs/LJ2")]
    [pair] = read(source)
    assert isinstance(pair, Pair)
    assert pair.text == "一。"


def test_links_are_left_out(tmp_path: Path) -> None:
    """Whatever they lead to."""
    source = source_of(tmp_path, zip_of([Entry("a.wav", b"audio"), Entry("a.lab", b"a"), link("b.wav", "/etc/passwd")]))
    assert [left.reason for left in source.left_out] == ["link"]
    assert source.items_total == 1


def test_a_damaged_member_is_never_a_pair(tmp_path: Path) -> None:
    """Damage in the packed bytes, or a CRC that is not theirs; the other members can be read."""
    data = zip_of(pairs(3), zipfile.ZIP_STORED)
    audio = pairs(3)[2].data or b""
    damaged = bytearray(data)
    damaged[data.index(audio) + 5] ^= 0xFF
    for bad in (bytes(damaged), forged(data, "s1/c0001.wav", CRC, b"\1\2\3\4")):
        items = list(source_of(tmp_path, bad).items(0))
        with pytest.raises(UsageError, match=r"a\.zip: broken: .*s1/c0001\.wav"):
            items[1]()
        assert isinstance(items[0](), Pair)
        assert isinstance(items[2](), Pair)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_packed_data_is_a_message(tmp_path: Path, method: int) -> None:
    """Each library has its own error for it."""
    data = bytearray(zip_of([Entry("a.wav", b"abc" * 1000), Entry("a.lab", b"a")], method))
    for at in range(35 + 3, 35 + 13):
        data[at] ^= 0xA5
    with pytest.raises(UsageError, match=r"broken: a\.wav"):
        read(source_of(tmp_path, bytes(data)))


def test_a_size_that_is_a_lie_is_never_believed(tmp_path: Path) -> None:
    """More than is there, or less: never a byte beyond what is listed, never a pair."""
    data = zip_of([Entry("a.wav", b"abc" * 1000), Entry("a.lab", b"a")])
    for size in (10, 2999, 3001, 5_000_000):
        source = source_of(tmp_path, forged(data, "a.wav", UNPACKED, struct.pack("<I", size)))
        with pytest.raises(UsageError, match=r"broken: .*a\.wav"):
            read(source)


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Such archives need no ratio to be bombs."""
    data = zip_of([Entry("a.wav", b"a" * 3000), Entry("b.wav", b"a" * 3000), Entry("b.lab", b"b")])
    with pytest.raises(UsageError, match=r"refused: .* is packed in the same bytes as another member"):
        source_of(tmp_path, forged(data, "b.wav", OFFSET, struct.pack("<I", 0)))


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    """By what it lists, whether that is true or not."""
    data = forged(zip_of([Entry("a.wav", b"a")]), "a.wav", UNPACKED, struct.pack("<I", 0xFFFFFFF0))
    with pytest.raises(UsageError, match="look like a bomb"):
        source_of(tmp_path, data)


def test_encryption_is_named_before_anything_is_read(tmp_path: Path) -> None:
    """With the member and the way out."""
    with pytest.raises(UsageError, match=r"found 'a\.wav' encrypted: unpack it"):
        source_of(tmp_path, forged(zip_of([Entry("a.wav", b"a"), Entry("a.lab", b"a")]), "a.wav", FLAGS, b"\x01\x08"))


def test_a_compression_that_python_cannot_read_is_named(tmp_path: Path) -> None:
    """Such as Deflate64, which Windows uses for large files."""
    data = forged(zip_of([Entry("a.wav", b"a" * 100), Entry("a.lab", b"a")]), "a.wav", 10, b"\x09\x00")
    with pytest.raises(UsageError, match=r"a\.wav: .*compression.*: unpack the archive"):
        read(source_of(tmp_path, data))


def test_a_long_list_is_refused_unread(tmp_path: Path) -> None:
    """By what the end of the archive claims, in the fields of zip64 too."""
    data = zip_of(pairs(1))
    end = data.rindex(b"PK\x05\x06")
    with pytest.raises(UsageError, match="claims 2,147,483,648 bytes"):
        source_of(tmp_path, data[: end + 12] + struct.pack("<I", 2 << 30) + data[end + 16 :])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 9_000_000, 1000, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    with pytest.raises(UsageError, match="claims 9,000,000 members"):
        source_of(tmp_path, data[:end] + record + locator + data[end:])


def test_cut_anywhere_it_is_broken(tmp_path: Path) -> None:
    """One message at every length."""
    data = zip_of(pairs(2, 100))
    for length in range(4, len(data), 7):
        with pytest.raises(UsageError, match=r"a\.zip: broken: "):
            source_of(tmp_path, data[:length])


def test_something_else_is_no_zip(tmp_path: Path) -> None:
    """And the message shows how it begins."""
    with pytest.raises(UsageError, match="expected a zip, found a file that begins with b'Rar!'"):
        source_of(tmp_path, b"Rar!" + bytes(100))
    with pytest.raises(UsageError, match="expected a zip"):
        source_of(tmp_path, b"")


def test_an_empty_zip_has_no_items(tmp_path: Path) -> None:
    """That is for others to say."""
    source = source_of(tmp_path, zip_of([]))
    assert (source.items_total, read(source), source.found.total()) == (0, [], 0)
