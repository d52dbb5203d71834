import gc
import importlib.util
import io
import os
import shutil
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.hostile_archives import LZMA2, Entry, link, pairs, sevenzip

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.packing.archives import sevenzip as module
from tools.packing.archives.listing import ArchiveMember
from tools.packing.archives.sevenzip import PROGRAMS, open_sevenzip, require_unpacker
from tools.packing.archives.sevenzip_header import read_sevenzip_list

ODD_NAMES = [
    *("-rf.wav", "@list.wav", "*?.wav", "空 目录/你好.wav", "a b/c d.WAV", "no_extension", ".wav", "a.tar.wav", "x.wav.bak"),
    *("[a].wav", "!.wav", "é\u0301.wav", "back\\slash.wav", "wav", "end.wav ", "q:1.wav"),
]


@pytest.fixture(params=["program", "library"])
def program(request: pytest.FixtureRequest) -> str | None:
    """Each of the ways to unpack; both must be installed where this is tested."""
    if request.param == "library":
        return None
    return next(found for name in PROGRAMS if (found := shutil.which(name)))


def write(path: Path, data: bytes) -> list[ArchiveMember]:
    path.write_bytes(data)
    return read_sevenzip_list(path, io.BytesIO(data))


def contents(
    path: Path, members: list[ArchiveMember], wanted: Iterable[int], program: str | None
) -> list[tuple[str, bytes]]:
    with open_sevenzip([path], members, frozenset(wanted), program, path.parent) as passing:
        return [(members[index].name, data.read_all()) for index, data in passing]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("blocks", [1, 4])
def test_the_wanted_members_come_in_order_and_whole(tmp_path: Path, program: str | None, blocks: int) -> None:
    """From one solid block or several, with empty members where the list has them, and no others."""
    entries = [*pairs(9), Entry("empty.lab", b""), Entry("movie.bin", b"b" * 5000), Entry("last.wav", b"w" * 3000)]
    members = write(tmp_path / "a.7z", sevenzip(entries, method=LZMA2, blocks=blocks, packed_list=True))
    unwanted = ("movie.bin", "s0/c0004.lab", "s1/c0001.wav")
    wanted = [index for index, entry in enumerate(entries) if entry.name not in unwanted]
    found = contents(tmp_path / "a.7z", members, wanted, program)
    assert found == [(entries[index].name, entries[index].data) for index in wanted]


def test_odd_names_shift_nothing(tmp_path: Path, program: str | None) -> None:
    """Wildcards, dashes, at signs, other scripts, other cases and no extension at all: each alone and all together."""
    entries = [Entry(name, name.encode() * 7) for name in ODD_NAMES]
    members = write(tmp_path / "-a*?名.7z", sevenzip(entries))
    for wanted in (*([index] for index in range(len(entries))), range(len(entries)), range(0, len(entries), 2)):
        found = contents(tmp_path / "-a*?名.7z", members, wanted, program)
        assert found == [(entries[index].name, entries[index].data) for index in wanted]


def test_a_folder_that_is_named_as_a_file_shifts_nothing(tmp_path: Path, program: str | None) -> None:
    """7z takes a folder that matches with all that is in it."""
    entries = [
        Entry("d/foo.wav", None),
        Entry("d/foo.wav/notes.bin", b"notes"),
        Entry("d/x.wav", b"audio"),
        Entry("y.bin", b"y"),
    ]
    members = write(tmp_path / "a.7z", sevenzip(entries))
    assert contents(tmp_path / "a.7z", members, [2], program) == [("d/x.wav", b"audio")]
    members = write(tmp_path / "b.7z", sevenzip(entries[1:]))
    assert contents(tmp_path / "b.7z", members, [1], program) == [("d/x.wav", b"audio")]


def test_links_pass_without_being_followed(tmp_path: Path, program: str | None) -> None:
    """The target of a link is data like any other, and nobody asked for it."""
    entries = [Entry("a.wav", b"audio a"), link("b.wav", "/etc/passwd"), Entry("c.wav", b"audio c")]
    members = write(tmp_path / "a.7z", sevenzip(entries))
    assert contents(tmp_path / "a.7z", members, [0, 2], program) == [("a.wav", b"audio a"), ("c.wav", b"audio c")]


def test_two_members_with_one_name_are_two(tmp_path: Path, program: str | None) -> None:
    """Members are told apart by where they are."""
    members = write(
        tmp_path / "a.7z", sevenzip([Entry("a.wav", b"first"), Entry("a.wav", b"second!"), Entry("b.wav", b"b")])
    )
    assert contents(tmp_path / "a.7z", members, [1, 2], program) == [("a.wav", b"second!"), ("b.wav", b"b")]


def test_a_damaged_byte_is_found_at_its_member(tmp_path: Path, program: str | None) -> None:
    """Members before it are whole; the message names the archive and what is wrong."""
    entries = pairs(4)
    at = sum(len(entry.data or b"") for entry in entries[:4]) + 10
    members = write(tmp_path / "a.7z", sevenzip(entries, damage=at))
    found = []
    with open_sevenzip([tmp_path / "a.7z"], members, range(8), program, tmp_path) as passing:
        for _ in range(4):
            number, data = next(passing)
            found.append((number, data.read_all()))
        _, data = next(passing)
        with pytest.raises(UsageError, match=r"a\.7z: broken: .*[Cc][Rr][Cc].*Get the archive again"):
            data.read_all()
    assert found == [(index, entries[index].data) for index in range(4)]


def test_damage_in_compressed_data_is_found(tmp_path: Path, program: str | None) -> None:
    """Wherever it is, nothing but whole members and one message comes."""
    entries = [Entry(f"{i}.wav", bytes(range(i, 200)) * 20) for i in range(5)]
    size = len(sevenzip(entries, method=LZMA2)) - len(sevenzip(entries)) + sum(len(entry.data or b"") for entry in entries)
    for at in range(8, size - 8, size // 6):
        members = write(tmp_path / "a.7z", sevenzip(entries, method=LZMA2, damage=at))
        with pytest.raises(UsageError, match=r"a\.7z: .*broken: "):
            contents(tmp_path / "a.7z", members, range(5), program)


def test_a_wrong_crc_in_the_list_alone_is_found(tmp_path: Path, program: str | None) -> None:
    """Who is right does not matter."""
    members = write(tmp_path / "a.7z", sevenzip([Entry("a.wav", b"audio", crc=1), Entry("b.wav", b"b")]))
    with pytest.raises(UsageError, match="broken"):
        contents(tmp_path / "a.7z", members, [0, 1], program)


def children() -> set[str]:
    """Processes that this one has started and that are not gone."""
    return set(Path("/proc/thread-self/children").read_text().split())


@pytest.mark.slow
def test_stopping_early_leaves_no_process_thread_or_descriptor(tmp_path: Path, program: str | None) -> None:
    """Although there is more than any pipe holds."""
    entries = [Entry(f"{i}.wav", os.urandom(1 << 20)) for i in range(12)]
    members = write(tmp_path / "a.7z", sevenzip(entries))
    gc.collect()  # what other tests have left open would be closed meanwhile
    threads, descriptors, before = threading.active_count(), len(list(Path("/dev/fd").iterdir())), children()
    with open_sevenzip([tmp_path / "a.7z"], members, range(12), program, tmp_path) as passing:
        index, data = next(passing)
        assert (index, data.read(10)) == (0, (entries[0].data or b"")[:10])
    assert threading.active_count() == threads
    assert len(list(Path("/dev/fd").iterdir())) == descriptors
    assert children() == before


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    """Its own words are in the message, even if it wrote more than a pipe holds; lack of memory is the machine's trouble."""
    members = write(tmp_path / "a.7z", sevenzip(pairs(1)))
    chatty = script(
        tmp_path / "chatty", "head -c 300000 /dev/zero | tr '\\0' '\\n' >&2; echo ERROR: Data Error : x >&2; exit 2"
    )
    with pytest.raises(UsageError, match=r"chatty says: ERROR: Data Error : x"):
        contents(tmp_path / "a.7z", members, [0], chatty)
    for ending in ("exit 8", 'echo "ERROR: Can\'t allocate required memory!" >&2; exit 2', "kill -9 $$"):
        with pytest.raises(InfrastructureError, match="could not unpack it on this machine"):
            contents(tmp_path / "a.7z", members, [0], script(tmp_path / "weak", ending))


def test_a_program_that_gives_more_than_the_list_is_not_believed(tmp_path: Path) -> None:
    """Even where every listed member was right."""
    members = write(tmp_path / "a.7z", sevenzip([Entry("a.wav", b"audio")]))
    with pytest.raises(UsageError, match="more data than its list says"):
        contents(tmp_path / "a.7z", members, [0], script(tmp_path / "more", "printf 'audio and more'"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_the_program_has_a_limit_to_its_memory(tmp_path: Path) -> None:
    """So that a list that asks for all of it costs nobody else."""
    members = write(tmp_path / "a.7z", sevenzip([Entry("a.wav", b"9" * 30)]))
    slow = script(
        tmp_path / "slow", "while [ $(ulimit -v) = unlimited ]; do sleep 0.01; done; ulimit -v | tr -d '\\n'; exit 3"
    )
    with open_sevenzip([tmp_path / "a.7z"], members, [0], slow, tmp_path) as passing:
        _, data = next(passing)
        assert int(data.read(30)) >= module.PROGRAM_MEMORY // 1024


def test_programs_are_preferred_and_one_way_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that is installed; py7zr without any; and without that, what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert require_unpacker(tmp_path / "a.7z") is None
    expected = script(tmp_path / "7za", "exit 0")
    assert require_unpacker(tmp_path / "a.7z") == expected
    expected = script(tmp_path / "7zz", "exit 0")
    assert require_unpacker(tmp_path / "a.7z") == expected
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"install 7-Zip .* or pip install -e '\.\[pack\]'"):
        require_unpacker(tmp_path / "a.7z")


def test_what_only_the_program_can_unpack_is_not_called_broken(tmp_path: Path) -> None:
    """BCJ2, which 7-Zip uses for programs among other files, is no damage."""
    members = write(tmp_path / "a.7z", sevenzip([Entry("a.wav", b"audio")], method=b"\x03\x03\x01\x1b"))
    with pytest.raises(UsageError, match=r"a\.7z: py7zr cannot unpack it .*: install 7-Zip"):
        contents(tmp_path / "a.7z", members, [0], None)


def test_the_fallback_unpacks_while_it_is_read(tmp_path: Path) -> None:
    """It does not unpack all before giving the first member: nothing is read ahead but what the pipe holds."""
    entries = [Entry(f"{i}.wav", os.urandom(1 << 20)) for i in range(8)]
    members = write(tmp_path / "a.7z", sevenzip(entries))
    with open_sevenzip([tmp_path / "a.7z"], members, range(8), None, tmp_path) as passing:
        _, data = next(passing)
        data.read(1)
        assert any(thread.name == "py7zr" for thread in threading.enumerate())
        assert data.read_all() == (entries[0].data or b"")[1:]
