import gzip
import io
import logging
import sys
import tarfile
from pathlib import Path

import pytest
from support.hostile_archives import Entry, link, pairs, tar_of

from audio_tokenizers.errors import UsageError
from tools.common import byte_progress
from tools.packing.archives import safety
from tools.packing.archives.tar_archive import list_tar, open_tar

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MODES = ["w", "w:gz", "w:bz2", "w:xz"]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def zstd_of(entries: list[Entry]) -> bytes:
    return zstd.compress(tar_of(entries, "w"))


def check(path: Path, entries: list[Entry]) -> None:
    members, _ = list_tar(path)
    assert [(member.name, member.size) for member in members] == [(entry.name, len(entry.data or b"")) for entry in entries]
    wanted = frozenset(range(1, len(entries), 2))
    with open_tar(path, members, wanted) as passing:
        found = {index: data.read_all() for index, data in passing}
    assert found == {index: entries[index].data for index in wanted}


@pytest.mark.parametrize("mode", MODES)
def test_tars_of_every_compression_are_listed_and_read(tmp_path: Path, mode: str) -> None:
    """Whatever the file is called, what it begins with decides."""
    check(write(tmp_path / "a", tar_of(pairs(6), mode)), pairs(6))


def test_zstd_tars_are_read_too(tmp_path: Path) -> None:
    """As the runs read them."""
    check(write(tmp_path / "a", zstd_of(pairs(6))), pairs(6))


@pytest.mark.parametrize("mode", MODES)
def test_a_cut_tar_is_broken(tmp_path: Path, mode: str) -> None:
    """At any length; nothing is taken for the end that is not."""
    data = tar_of(pairs(3, 2000), mode)
    end = len(data) if mode != "w" else 3 * 512 * 2 + 3 * (2048 + 512)
    for length in range(1, end - 1, max(1, end // 25)):
        with pytest.raises(UsageError, match="broken: "):
            list_tar(write(tmp_path / "a", data[:length]))


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_damaged_tar_is_broken(tmp_path: Path, mode: str) -> None:
    """A turned byte in compressed data is a message, not a traceback."""
    data = bytearray(tar_of(pairs(3, 2000), mode))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UsageError, match="broken: "):
        list_tar(write(tmp_path / "a", bytes(data)))


def test_links_have_no_data_and_are_known_as_such(tmp_path: Path) -> None:
    """Symbolic and hard ones."""
    entries = [Entry("a.wav", b"audio"), link("b.wav", "/etc/passwd"), Entry("d", None)]
    members, _ = list_tar(write(tmp_path / "a", tar_of(entries, hardlink=("c.wav", "a.wav"))))
    assert [(member.name, member.kind, member.size) for member in members] == [
        ("a.wav", "file", 5),
        ("b.wav", "link", 0),
        ("d/", "directory", 0),
        ("c.wav", "link", 0),
    ]


def test_names_are_what_they_would_be_in_a_folder(tmp_path: Path) -> None:
    """`tar c .` puts `./` before all of them; Chinese systems wrote GBK."""
    data = bytearray(tar_of([Entry("./a/b.wav", b"1"), Entry("X" * 8, b"2")], "w"))
    members, _ = list_tar(write(tmp_path / "a", bytes(data)))
    assert [member.name for member in members] == ["a/b.wav", "X" * 8]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", encoding="gb18030", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("第一句.wav"))
    members, _ = list_tar(write(tmp_path / "a", file.getvalue()))
    assert [member.name for member in members] == ["第一句.wav"]


def test_tables_are_kept_from_the_first_pass(tmp_path: Path) -> None:
    """Those of LibriSpeech and LJSpeech, by position; other texts are not."""
    entries = [
        Entry("a/1-2.trans.txt", b"t"),
        Entry("a/x.txt", b"x"),
        Entry("LJ/METADATA.csv", b"m"),
        Entry("metadata.csv.wav", b""),
    ]
    _, tables = list_tar(write(tmp_path / "a", tar_of(entries)))
    assert tables == {0: b"t", 2: b"m"}


def test_a_tar_that_changed_since_it_was_listed_is_broken(tmp_path: Path) -> None:
    """In the size or in the data of a member."""
    path = write(tmp_path / "a", tar_of([Entry("a.wav", b"audio")]))
    members, _ = list_tar(path)
    for data in (b"audi0", b"longer audio"):
        write(path, tar_of([Entry("a.wav", data)]))
        with open_tar(path, members, [0]) as passing, pytest.raises(UsageError, match=r"a\.wav"):
            next(passing)[1].read_all()


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """By what its member claims, before that is unpacked."""
    monkeypatch.setattr(safety, "SURELY_HARMLESS", 1 << 20)
    with pytest.raises(UsageError, match="look like a bomb"):
        list_tar(write(tmp_path / "a", tar_of([Entry("a.wav", bytes(2 << 20))], mode)))


def test_zeros_after_the_end_are_a_bomb_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not passed over for hours."""
    monkeypatch.setattr(safety, "SURELY_HARMLESS", 1 << 20)
    data = gzip.compress(tar_of(pairs(1), "w") + bytes(4 << 20))
    with pytest.raises(UsageError, match="look like a bomb"):
        list_tar(write(tmp_path / "a", data))


def test_something_else_is_no_tar(tmp_path: Path) -> None:
    """The message says what was found."""
    with pytest.raises(UsageError, match="found zip data"):
        list_tar(write(tmp_path / "a", b"PK\x03\x04" + bytes(600)))
    with pytest.raises(UsageError, match="expected a tar header"):
        list_tar(write(tmp_path / "a", b"hello" * 200))


def test_the_first_pass_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a terminal a line now and then, which ends at the size of the file."""
    monkeypatch.setattr(byte_progress, "LOG_SECONDS", 0.0)
    path = write(tmp_path / "a.tar.gz", tar_of([Entry("a.wav", bytes(range(256)) * 20_000)]))
    with caplog.at_level(logging.INFO, "tar2tokens"):
        list_tar(path)
    assert caplog.messages[-1].startswith("listing a.tar.gz: 0 of 0 MB")
