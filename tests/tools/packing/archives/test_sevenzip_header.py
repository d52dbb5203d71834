import io
import shutil
import struct
import subprocess
import zlib
from contextlib import suppress
from pathlib import Path

import py7zr
import pytest
from support.hostile_archives import AES, COPY, LZMA2, REPARSE_POINT, Entry, link, pairs, sevenzip

from audio_tokenizers.errors import UsageError
from tools.packing.archives.listing import ArchiveMember
from tools.packing.archives.sevenzip import PROGRAMS
from tools.packing.archives.sevenzip_header import read_sevenzip_list

ARCHIVE = Path("x.7z")


def members_of(data: bytes) -> list[ArchiveMember]:
    return read_sevenzip_list(ARCHIVE, io.BytesIO(data))


def expected(entries: list[Entry]) -> list[tuple[str, int, int | None]]:
    return [(entry.name, len(entry.data or b""), zlib.crc32(entry.data) if entry.data else None) for entry in entries]


@pytest.mark.parametrize("packed_list", [False, True])
@pytest.mark.parametrize("blocks", [1, 3])
def test_every_member_is_listed_in_order(blocks: int, packed_list: bool) -> None:
    """With its size and CRC, in one block or several, from a plain list or a packed one."""
    entries = [*pairs(5), Entry("folder", None), Entry("empty.lab", b""), Entry("空 目录/你好.wav", b"x" * 300)]
    found = members_of(sevenzip(entries, blocks=blocks, packed_list=packed_list))
    assert [(member.name, member.size, member.crc) for member in found] == expected(entries)
    assert [member.kind for member in found[-3:]] == ["directory", "file", "file"]


def test_links_of_every_system_are_known() -> None:
    """Unix says so in the upper half of the attributes, Windows by one bit; a device is neither file nor link."""
    device = Entry("dev.wav", b"x", 0x8000 | 0o020666 << 16)
    entries = [link("a.wav", "/etc"), Entry("b.wav", b"x", REPARSE_POINT), device, Entry("c.wav", b"x", 0x20)]
    found = members_of(sevenzip(entries))
    assert [member.kind for member in found] == ["link", "link", "other", "file"]


@pytest.mark.parametrize("switches", ["-mx=1", "-m0=PPMd", "-ms=off -mhc=off", "-m0=BCJ2 -m1=LZMA:d=20", "-mf=Delta:2"])
def test_archives_of_the_program_are_read_as_it_meant_them(tmp_path: Path, switches: str) -> None:
    """Whatever the compression: only the list is read here."""
    program = next(where for name in PROGRAMS if (where := shutil.which(name)))
    entries = pairs(4)
    for entry in entries:
        path = tmp_path / "in" / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.data or b"")
    archive = tmp_path / "a.7z"
    subprocess.run(
        [program, "a", *switches.split(), str(archive), "."], cwd=tmp_path / "in", check=True, stdout=subprocess.DEVNULL
    )
    found = [member for member in members_of(archive.read_bytes()) if member.kind == "file"]
    assert sorted((member.name, member.size, member.crc) for member in found) == sorted(expected(entries))


def test_archives_of_py7zr_are_read(tmp_path: Path) -> None:
    """Its lists differ from 7-Zip's in what they leave away."""
    entries = [*pairs(3), Entry("空 目录/你好.lab", b"x")]
    with py7zr.SevenZipFile(tmp_path / "a.7z", "w") as archive:
        for entry in entries:
            archive.writestr(entry.data, entry.name)
    found = members_of((tmp_path / "a.7z").read_bytes())
    assert [(member.name, member.size, member.crc) for member in found] == expected(entries)


def test_an_empty_archive_has_no_members() -> None:
    """It is not damaged; that nothing is in it is said elsewhere."""
    start = struct.pack("<QQI", 0, 0, 0)
    assert members_of(b"7z\xbc\xaf\x27\x1c\x00\x04" + struct.pack("<I", zlib.crc32(start)) + start) == []
    assert members_of(sevenzip([])) == []


@pytest.mark.parametrize("packed_list", [False, True])
def test_cut_anywhere_it_is_broken(packed_list: bool) -> None:
    """One message and nothing else, at every length."""
    data = sevenzip(pairs(2, 20), packed_list=packed_list)
    for length in range(len(data)):
        with pytest.raises(UsageError, match=r"x\.7z: (broken|expected a 7z)"):
            members_of(data[:length])


def test_damage_anywhere_in_the_list_is_found() -> None:
    """By the CRCs of the start and of the list; only the version may be anything."""
    data = sevenzip(pairs(1, 20))
    of_data = len(pairs(1, 20)[0].data or b"") + len(pairs(1, 20)[1].data or b"")
    for position in [*range(6), *range(8, 32), *range(32 + of_data, len(data))]:
        with pytest.raises(UsageError):
            members_of(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :])


def test_a_forged_list_is_broken_and_no_more() -> None:
    """Any byte of the list changed with all CRCs made right again gives members or a UsageError, never another error."""
    data = sevenzip([*pairs(1, 20), Entry("d", None), Entry("e.lab", b"")])
    offset, size = struct.unpack_from("<QQ", data, 12)
    for position in range(32 + offset, 32 + offset + size):
        for value in (0x00, 0x01, 0x7F, 0xFF):
            forged = bytearray(data)
            forged[position] = value
            start = struct.pack("<QQI", offset, size, zlib.crc32(forged[32 + offset :]))
            forged[8:32] = struct.pack("<I", zlib.crc32(start)) + start
            members: list[ArchiveMember] = []
            with suppress(UsageError):
                members = members_of(bytes(forged))
            assert len(members) <= 4


@pytest.mark.parametrize("list_method", [COPY, LZMA2])
def test_a_list_of_two_gigabytes_is_refused_unread(list_method: bytes) -> None:
    """What it claims to unpack to is enough to say no."""
    with pytest.raises(UsageError, match="claims 2,147,483,648 bytes"):
        members_of(sevenzip(pairs(1), list_claims=2 << 30, list_method=list_method))


def test_a_list_that_does_not_unpack_to_what_it_claims_is_broken() -> None:
    """More or less than there is."""
    for claims in (10, 5000):
        with pytest.raises(UsageError, match="does not unpack to what it should"):
            members_of(sevenzip(pairs(1), list_claims=claims))


def test_encryption_is_named() -> None:
    """Of the data and of the names, with the way out."""
    with pytest.raises(UsageError, match="found its members encrypted: unpack it"):
        members_of(sevenzip(pairs(1), method=AES))
    with pytest.raises(UsageError, match="found the names in it encrypted: unpack it"):
        members_of(sevenzip(pairs(1), packed_list=True, list_method=AES))


def test_something_else_is_no_7z() -> None:
    """And the message shows how it begins."""
    with pytest.raises(UsageError, match="expected a 7z file, found one that begins with b'PK"):
        members_of(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UsageError, match="expected a 7z file"):
        members_of(b"")
