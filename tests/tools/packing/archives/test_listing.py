import hashlib
import io
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.sidecars import LARGEST_SIDECAR
from tools.packing.archives import listing as module
from tools.packing.archives.listing import (
    ArchiveMember,
    MemberData,
    Tables,
    list_members,
    pair_of,
    read_text,
)
from tools.packing.pairs import LeftOut, Pair, SourceOptions

ARCHIVE = Path("x.7z")


def data_of(content: bytes, size: int, crc: int | None, most: int = 1 << 30) -> tuple[MemberData, io.BytesIO]:
    """A member listed with `size` and `crc`, in a stream that gives at most `most` bytes at once."""
    stream = io.BytesIO(content)
    return MemberData(ARCHIVE, ArchiveMember("a.wav", size, crc), lambda wanted: stream.read(min(wanted, most))), stream


@pytest.mark.parametrize("most", [1, 3, 100])
def test_never_a_byte_beyond_the_listed_size_is_read(most: int) -> None:
    """What follows in the stream is the next member's, in whatever pieces it comes."""
    data, stream = data_of(b"abcdefNEXT", 6, zlib.crc32(b"abcdef"), most)
    assert data.read_all() == b"abcdef"
    assert stream.read() == b"NEXT"
    assert data.read_all() == b""


def test_a_wrong_crc_is_found_with_the_last_byte() -> None:
    """So nobody ever has the whole of a member that is not what was listed."""
    data, _ = data_of(b"abcdef", 6, zlib.crc32(b"abcdeX"))
    assert data.read(5) == b"abcde"
    with pytest.raises(UsageError, match=r"x\.7z: broken: the CRC of a\.wav is"):
        data.read(5)


def test_a_stream_that_ends_too_early_is_broken() -> None:
    """The message says how far it came."""
    data, _ = data_of(b"abc", 6, None)
    with pytest.raises(UsageError, match=r"a\.wav ends after 3 of 6 bytes"):
        data.read_all()


def test_skipping_and_copying_check_too(tmp_path: Path) -> None:
    """A member is checked whatever is done with it."""
    for use in (MemberData.skip, lambda data: data.copy_to(io.BytesIO())):
        with pytest.raises(UsageError, match="CRC"):
            use(data_of(b"abcdef", 6, 1)[0])


def test_a_text_that_is_too_large_stays_too_large_and_small() -> None:
    """Of a huge sidecar as little is kept as shows that it is one, and it is still checked to its end."""
    content = bytes(LARGEST_SIDECAR + 1000)
    data, _ = data_of(content, len(content), zlib.crc32(content))
    assert len(read_text(data)) == LARGEST_SIDECAR + 1
    with pytest.raises(UsageError, match="CRC"):
        read_text(data_of(content, len(content), 1)[0])


def test_links_and_sparse_files_are_left_out_and_never_paired(tmp_path: Path) -> None:
    """A link has no data of its own, and a sparse file is not stored as it reads."""
    members = [
        ArchiveMember("a.wav", 5, 1),
        ArchiveMember("a.lab", 2, 2, "link"),
        ArchiveMember("b.wav", 5, 3, "sparse"),
        ArchiveMember("b.lab", 5, 4),
        ArchiveMember("d", 0, None, "directory"),
    ]
    listing = list_members(ARCHIVE, members, SourceOptions(scratch=tmp_path))
    assert listing.planned == ()
    assert [(left.reason, left.name) for left in listing.left_out] == [
        ("link", "a.lab"),
        ("audio_without_text", "a.wav"),
        ("text_without_audio", "b.lab"),
        ("unreadable_audio", "b.wav"),
    ]


def test_of_members_with_one_name_the_first_is_taken(tmp_path: Path) -> None:
    """And the other is counted as a duplicate."""
    members = [ArchiveMember("a.wav", 5, 1), ArchiveMember("a.lab", 2, 2), ArchiveMember("a.wav", 7, 3)]
    listing = list_members(ARCHIVE, members, SourceOptions(scratch=tmp_path))
    assert (listing.positions["a.wav"], listing.size("a.wav"), listing.bytes_total) == (0, 5, 5)
    assert [(left.reason, left.name) for left in listing.left_out] == [("duplicate", "a.wav")]


def test_the_fingerprint_changes_with_anything_that_is_listed(tmp_path: Path) -> None:
    """Name, size, CRC, kind and order, each alone."""
    first, second = ArchiveMember("a.wav", 5, 1), ArchiveMember("a.lab", 2, 2)
    lists = [
        [first, second],
        [second, first],
        [first],
        [ArchiveMember("b.wav", 5, 1), second],
        [ArchiveMember("a.wav", 6, 1), second],
        [ArchiveMember("a.wav", 5, 3), second],
        [ArchiveMember("a.wav", 5, 1, "link"), second],
    ]
    options = SourceOptions(scratch=tmp_path)
    prints = {list_members(ARCHIVE, members, options).fingerprint for members in lists}
    assert len(prints) == len(lists)
    assert list_members(ARCHIVE, list(lists[0]), options).fingerprint in prints


def test_packs_of_older_versions_go_on_unless_subtitles_count_now(tmp_path: Path) -> None:
    """Those had the list alone as the fingerprint, and made no segments of subtitles: one pack never has both."""
    audio, text = ArchiveMember("a.wav", 5, 1), ArchiveMember("a.lab", 2, 2)
    own, foreign = ArchiveMember("a.srt", 9, 3), ArchiveMember("b.srt", 9, 3)

    def same_as_before(*members: ArchiveMember, exclude: tuple[str, ...] = ()) -> bool:
        digest = hashlib.sha256()
        for member in members:
            digest.update(f"{member.name}\0{member.size}\0{member.crc}\0{member.kind}\n".encode())
        options = SourceOptions(scratch=tmp_path, exclude=exclude)
        return list_members(ARCHIVE, members, options).fingerprint == digest.hexdigest()

    assert same_as_before(audio, text)
    assert same_as_before(audio, text, foreign)
    assert same_as_before(audio, text, own, exclude=("*.srt",))
    assert not same_as_before(audio, text, own)


def test_audio_is_opened_only_for_a_pair(tmp_path: Path) -> None:
    """An item that its text leaves out costs no read of its audio."""
    members = [ArchiveMember("a.wav", 5, 1), ArchiveMember("a.lab", 2, 2)]
    listing = list_members(ARCHIVE, members, SourceOptions(scratch=tmp_path))
    opened = []

    def audio() -> bytes:
        opened.append(1)
        return b"audio"

    left = pair_of(listing.planned[0], listing.layout, {"a.lab": b" \n"}, audio, 5)
    assert isinstance(left, LeftOut)
    assert left.reason == "empty_text"
    assert not opened
    pair = pair_of(listing.planned[0], listing.layout, {"a.lab": "第一句".encode("gb18030")}, audio, 5)
    assert pair == Pair(id="a", audio_name="a.wav", audio=b"audio", size=5, text="第一句", text_name="a.lab")


def test_long_tables_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike a sidecar, one has a line per clip: those that are too many for memory wait in one file without a name."""
    monkeypatch.setattr(module, "TABLES_IN_MEMORY", 300)
    contents = {f"{number}.tsv": bytes([number]) * (number * 40) for number in range(1, 9)}
    with closing(Tables(ARCHIVE, tmp_path)) as tables:
        for name, content in contents.items():
            tables.keep(name, data_of(content, len(content), zlib.crc32(content))[0])
        tables.keep("known.tsv", b"abc")
        for _ in range(2):
            files = {name: tables.open(name) for name in contents}
            assert {name: file.read(100) + file.read() for name, file in files.items()} == contents
            assert {name: file.tell() for name, file in files.items()} == {name: len(one) for name, one in contents.items()}
            for file in files.values():
                file.close()
        with tables.open("known.tsv") as file:
            assert file.read() == b"abc"
        assert list(tmp_path.iterdir()) == []


def test_a_table_for_which_there_is_no_room(tmp_path: Path) -> None:
    """The machine is too small for it: the message says how much it needs, before anything is written."""
    with closing(Tables(ARCHIVE, tmp_path)) as tables, pytest.raises(InfrastructureError, match=r"room|space"):
        tables.keep("x.tsv", data_of(b"", 1 << 60, None)[0])
