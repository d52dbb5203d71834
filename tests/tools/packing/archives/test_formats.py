import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hostile_archives import AES, LZMA2, Entry, link, pairs, sevenzip, tar_of, zip_of

from audio_tokenizers.errors import Tar2TokensError, UsageError
from tools.packing.archives import formats
from tools.packing.archives.formats import ARCHIVE_ENDINGS, ending_of, open_archive
from tools.packing.archives.streamed import StreamedSource
from tools.packing.pairs import LeftOut, Pair, Source, SourceOptions

MAKERS: dict[str, Callable[[list[Entry]], bytes]] = {
    ".7z": lambda entries: sevenzip(entries, method=LZMA2, packed_list=True),
    ".zip": zip_of,
    ".tar.gz": tar_of,
}
ENDINGS = list(MAKERS)
BOMB = [Entry("a.wav", bytes(66 << 20)), Entry("a.lab", b"a")]
"""Packs to less than a thousandth, in 7z to a ten-thousandth."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With one file in it that must stay as it is, and a scratch folder."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "precious").write_text("precious")
    return tmp_path


def opened(folder: Path, ending: str, data: bytes) -> Source:
    path = folder / f"set{ending}"
    path.write_bytes(data)
    return open_archive(path, SourceOptions(scratch=folder / "scratch"))


def read(source: Source) -> list[Pair | LeftOut]:
    return [item() for item in source.items(0)]


def refused(folder: Path, ending: str, data: bytes) -> str:
    """The message of an archive that is refused before it gives a pair or while it does; nothing else may be left of it."""
    with pytest.raises(UsageError) as refusal:
        read(opened(folder, ending, data))
    assert sorted(path.name for path in folder.iterdir()) == ["precious", "scratch", f"set{ending}"]
    assert (folder / "precious").read_text() == "precious"
    message = str(refusal.value)
    assert message.startswith(f"{folder / ('set' + ending)}: ")
    assert "\n" not in message
    return message


def a_list_of_two_gigabytes(ending: str) -> bytes:
    if ending == ".7z":
        return sevenzip(pairs(1), list_claims=2 << 30)
    data = zip_of(pairs(1))
    end = data.rindex(b"PK\x05\x06")
    return data[: end + 12] + struct.pack("<I", 2 << 30) + data[end + 16 :]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_pair_of_an_archive_is_there_once(folder: Path, ending: str) -> None:
    """With its id, its bytes and its text, and what is no pair is left out; nothing is left in the scratch folder."""
    entries = [*pairs(7), Entry("d", None), Entry("lonely.wav", b"x"), Entry("lonely.lab.txt", b"x"), Entry("x.pdf", b"x")]
    source = opened(folder, ending, MAKERS[ending](entries))
    found = [item for item in read(source) if isinstance(item, Pair)]
    assert [(pair.id, pair.audio, pair.size, pair.text, pair.text_name) for pair in found] == [
        (entry.name[:-4], entry.data, len(entry.data or b""), f"第{number}句", f"{entry.name[:-4]}.lab")
        for number, entry in enumerate(pairs(7)[::2])
    ]
    assert (source.name, source.items_total, source.found[".pdf"]) == ("set", 7, 1)
    assert [(left.reason, left.name) for left in source.left_out] == [
        ("text_without_audio", "lonely.lab.txt"),
        ("audio_without_text", "lonely.wav"),
    ]
    assert list((folder / "scratch").iterdir()) == []


def test_both_ways_to_unpack_a_7z_give_the_same_items(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From several blocks, with links, empty files and files that nobody wants between them."""
    entries = [
        *pairs(8),
        link("l.wav", "s0/c0000.wav"),
        Entry("x.bin", b"x" * 999),
        Entry("e.wav", b"e"),
        Entry("e.lab", b""),
    ]
    data = sevenzip(entries, method=LZMA2, blocks=3, packed_list=True)
    programs = opened(folder, ".7z", data)
    monkeypatch.setattr(formats, "require_unpacker", lambda _: None)
    librarys = opened(folder, ".7z", data)
    assert read(librarys) == read(programs)
    assert len(read(librarys)) == 9
    assert librarys.left_out == programs.left_out
    assert librarys.fingerprint == programs.fingerprint


@pytest.mark.parametrize("ending", ENDINGS)
def test_another_archive_has_another_fingerprint(folder: Path, ending: str) -> None:
    """Another byte of audio in the same place is another data set; the same archive elsewhere is not."""
    entries = [Entry("a.wav", b"audio"), Entry("a.lab", b"a")]
    first = opened(folder, ending, MAKERS[ending](entries)).fingerprint
    assert opened(folder, ending, MAKERS[ending](entries)).fingerprint == first
    assert opened(folder, ending, MAKERS[ending]([Entry("a.wav", b"audiO"), entries[1]])).fingerprint != first


@pytest.mark.parametrize("name", ["/tmp/evil.wav", "../evil.wav", "a/../../evil.wav", "C:\\evil.wav", "a\nb.wav"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_names_that_lead_elsewhere_refuse_the_archive(folder: Path, ending: str, name: str) -> None:
    """Whatever else is in it, with the name in the message."""
    message = refused(folder, ending, MAKERS[ending]([*pairs(2), Entry(name, b"evil"), Entry("z.lab", b"z")]))
    assert "refused: expected relative names" in message
    assert repr(name.replace("\\", "/") if ending == ".zip" else name) in message


@pytest.mark.parametrize("ending", ENDINGS)
def test_links_are_left_out_and_the_rest_is_packed(folder: Path, ending: str) -> None:
    """A link to a file gives nothing of that file, nor does one to a folder take what is below it there."""
    precious = str(folder / "precious")
    entries = [
        *pairs(1),
        link("b.wav", precious),
        Entry("b.lab", b"b"),
        link("c", str(folder)),
        Entry("c/precious.lab", b"c"),
    ]
    source = opened(folder, ending, MAKERS[ending](entries))
    assert [item.id for item in read(source) if isinstance(item, Pair)] == ["s0/c0000"]
    assert {left.name for left in source.left_out if left.reason == "link"} == {"b.wav", "c"}


def test_a_hard_link_in_a_tar_is_left_out(folder: Path) -> None:
    """It has no data of its own."""
    source = opened(folder, ".tar.gz", tar_of(pairs(1), hardlink=("b.wav", "/etc/passwd")))
    assert [(left.reason, left.name) for left in source.left_out] == [("link", "b.wav")]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_bombs_are_refused(folder: Path, ending: str) -> None:
    """Before they are unpacked."""
    data = MAKERS[ending](BOMB)
    assert len(data) * 900 < len(BOMB[0].data or b"")
    assert "look like a bomb" in refused(folder, ending, data)


@pytest.mark.parametrize("ending", [".7z", ".zip"])
def test_lists_of_two_gigabytes_are_refused(folder: Path, ending: str) -> None:
    """Before they are read."""
    assert "claims 2,147,483,648 bytes" in refused(folder, ending, a_list_of_two_gigabytes(ending))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_wrong_byte_in_the_middle_is_one_message(folder: Path, ending: str) -> None:
    """In data that is not compressed, where only a checksum can tell."""
    entries = pairs(4)
    at = sum(len(entry.data or b"") for entry in entries[:4]) + 10
    data = bytearray(
        {".7z": sevenzip(entries), ".zip": zip_of(entries, zipfile.ZIP_STORED), ".tar.gz": tar_of(entries)}[ending]
    )
    at = data.index(entries[4].data or b"") + 10 if ending != ".tar.gz" else len(data) // 2
    data[at] ^= 0xFF
    assert "broken" in refused(folder, ending, bytes(data))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cut_archive_is_one_message(folder: Path, ending: str) -> None:
    """Wherever it is cut."""
    data = MAKERS[ending](pairs(3))
    for length in (10, len(data) // 3, len(data) // 2, len(data) - 5):
        assert "broken" in refused(folder, ending, data[:length])


def test_encrypted_archives_are_named_as_such(folder: Path) -> None:
    """With what to do."""
    data = bytearray(zip_of(pairs(1)))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    for message in (
        refused(folder, ".7z", sevenzip(pairs(1), method=AES)),
        refused(folder, ".7z", sevenzip(pairs(1), packed_list=True, list_method=AES)),
    ):
        assert "without a password" in message
    (folder / "set.7z").unlink()
    assert "without a password" in refused(folder, ".zip", bytes(data))


@pytest.mark.parametrize("ending", ENDINGS)
def test_something_else_under_that_name_is_one_message(folder: Path, ending: str) -> None:
    """It says what was found."""
    other = MAKERS[".zip" if ending != ".zip" else ".7z"](pairs(1))
    assert "expected" in refused(folder, ending, other)
    refused(folder, ending, b"")
    refused(folder, ending, b"hello world")


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_empty_archive_has_nothing(folder: Path, ending: str) -> None:
    """Which is for others to say, with what was found."""
    source = opened(folder, ending, MAKERS[ending]([Entry("d", None)]))
    assert (source.items_total, source.bytes_total, source.found.total(), read(source)) == (0, 0, 0, [])


def test_archives_inside_are_files_like_others(folder: Path) -> None:
    """They are counted, and never opened."""
    source = opened(folder, ".zip", zip_of([Entry("inner.zip", zip_of(pairs(1)))]))
    assert (source.items_total, source.found) == (0, {".zip": 1})


def test_the_ending_says_what_it_is(folder: Path) -> None:
    """In any case; the rest of the name is what its tars are called after."""
    assert [ending_of(Path(name)) for name in ("a.7Z", "b.tar.GZ", "c.tgz", "d.tar", "e.gz", "f")] == [
        *(".7z", ".tar.gz", ".tgz", ".tar"),
        *(None, None),
    ]
    (folder / "v1.0.TAR.gz").write_bytes(tar_of(pairs(1)))
    source = open_archive(folder / "v1.0.TAR.gz", SourceOptions(scratch=folder / "scratch"))
    assert isinstance(source, StreamedSource)
    assert source.name == "v1.0"
    with pytest.raises(UsageError, match=r"expected a name that ends with \.7z, \.zip, .*found '\.rar'"):
        open_archive(folder / "a.rar", SourceOptions(scratch=folder / "scratch"))
    assert ".tar.bz2" in ARCHIVE_ENDINGS


def test_a_file_that_cannot_be_read_is_one_message(folder: Path) -> None:
    """A folder, or nothing at all, under such a name."""
    for ending in ENDINGS:
        (folder / f"d{ending}").mkdir()
        for name in (f"d{ending}", f"nothing{ending}"):
            with pytest.raises(Tar2TokensError, match=rf"{name}: (cannot be read|expected a tar, found a folder)"):
                open_archive(folder / name, SourceOptions(scratch=folder / "scratch"))


def test_spotlight_is_kept_out_of_the_scratch_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, and nowhere else is anything put there."""
    opened(folder, ".zip", zip_of(pairs(1)))
    assert list((folder / "scratch").iterdir()) == []
    monkeypatch.setattr(sys, "platform", "darwin")
    opened(folder, ".zip", zip_of(pairs(1)))
    assert [path.name for path in (folder / "scratch").iterdir()] == [".metadata_never_index"]
