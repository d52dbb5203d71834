"""tools/packing/folder.py: a folder as a source of pairs."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.tar_reader import AUDIO_IN_MEMORY
from tools.packing import folder as folder_module
from tools.packing.folder import FolderSource, list_folder, read_audio, told
from tools.packing.pairs import LeftOut, Pair, SourceOptions


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def options(*exclude: str, without_text: bool = False) -> SourceOptions:
    return SourceOptions(exclude=exclude, without_text=without_text, scratch=Path("scratch"))


def source_of(root: Path, *exclude: str, without_text: bool = False) -> FolderSource:
    return FolderSource(list_folder(root), options(*exclude, without_text=without_text))


def read(source: FolderSource, start: int = 0) -> list[Pair | LeftOut]:
    return [item() for item in source.items(start)]


def pair(name: str, audio: bytes, text: str | None, text_name: str | None = None) -> Pair:
    stem = name.rpartition(".")[0]
    return Pair(id=stem, audio_name=name, audio=audio, size=len(audio), text=text, text_name=text_name)


PAIRS = {
    "b/deep/down/1.wav": b"one",
    "b/deep/down/1.lab": "带变量语音".encode("gb18030"),
    "a/2.flac": b"second",
    "a/2.txt": b"\xef\xbb\xbfbyte order mark\r\n",
    "a/3.wav": b"",
    "a/3.json": b'{"text": "json", "speaker": 3}',
    "a/带变量语音 - Placeholder/4.wav": b"four",
    "a/带变量语音 - Placeholder/4.lab": b"four",
}


def test_pairs_of_any_depth(tmp_path: Path) -> None:
    """Pairs come sorted by id, with their bytes and decoded texts, from any number on; sizes are known beforehand."""
    source = source_of(write(tmp_path / "set", PAIRS), "带变量语音 - Placeholder")
    expected = [
        pair("a/2.flac", b"second", "byte order mark", "a/2.txt"),
        Pair(
            id="a/3",
            audio_name="a/3.wav",
            audio=b"",
            size=0,
            text="json",
            text_name="a/3.json",
            metadata={"speaker": 3},
        ),
        pair("b/deep/down/1.wav", b"one", "带变量语音", "b/deep/down/1.lab"),
    ]
    assert read(source) == expected
    assert read(source, 2) == expected[2:]
    assert (source.name, source.items_total, source.bytes_total) == ("set", 3, 9)
    assert [left.reason for left in source.left_out] == ["excluded", "excluded"]
    assert source.found == {".wav": 3, ".lab": 2, ".flac": 1, ".txt": 1, ".json": 1}


def test_tables_are_read_with_the_list(tmp_path: Path) -> None:
    """LibriSpeech and LJSpeech lines without audio are known at once; a table that is none is one error with its path."""
    files = {
        "L/84/1/84-1.trans.txt": b"84-1-0000 GO\n84-1-0001 GONE\n",
        "L/84/1/84-1-0000.flac": b"flac",
        "metadata.csv": b"lj|1|one\n",
        "wavs/lj.wav": b"wav",
    }
    source = source_of(write(tmp_path, files))
    assert read(source) == [
        pair("L/84/1/84-1-0000.flac", b"flac", "GO"),
        Pair(id="wavs/lj", audio_name="wavs/lj.wav", audio=b"wav", size=3, text="one", metadata={"raw_text": "1"}),
    ]
    assert [(left.name, left.reason) for left in source.left_out] == [("L/84/1/84-1-0001", "text_without_audio")]
    write(tmp_path, {"metadata.csv": b"file_name,text\n"})
    with pytest.raises(UsageError, match=f"{tmp_path}/metadata.csv: line 1: expected"):
        source_of(tmp_path)


def test_links(tmp_path: Path) -> None:
    """Linked files are followed, also out of the folder; linked folders are listed; one that leads nowhere is bad data."""
    root = write(tmp_path / "set", {"b.wav": b"b", "c.wav": b"c", "c.lab": b"c", "d.wav": b"d"})
    write(tmp_path, {"blobs/1": b"linked", "blobs/2": b"text"})
    (root / "a.wav").symlink_to("../blobs/1")
    (root / "a.lab").symlink_to("../blobs/2")
    (root / "b.lab").symlink_to("../blobs/none")
    (root / "c.wav").unlink()
    (root / "c.wav").symlink_to("c.wav")
    (root / "folder.wav").symlink_to("../blobs")
    os.mkfifo(root / "pipe.wav")
    source = source_of(root)
    assert read(source) == [
        pair("a.wav", b"linked", "text", "a.lab"),
        LeftOut("unreadable_text", "b.wav", "b.lab: its link leads nowhere"),
        LeftOut("unreadable_audio", "c.wav", os.strerror(errno.ELOOP)),
    ]
    assert [(left.name, left.reason) for left in source.left_out] == [
        ("d.wav", "audio_without_text"),
        ("folder.wav", "link"),
        ("pipe.wav", "link"),
    ]
    assert read(source_of(root, without_text=True))[1] == pair("b.wav", b"b", None)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """Their bytes stand in the id as they do in messages, and the files are found."""
    name = os.fsdecode("语音".encode("gb18030"))
    write(tmp_path, {f"{name}/语.wav": b"wav", f"{name}/语.lab": b"lab"})
    shown = "".join(f"\\x{byte:02x}" for byte in "语音".encode("gb18030"))
    assert read(source_of(tmp_path)) == [pair(f"{shown}/语.wav", b"wav", "lab", f"{shown}/语.lab")]


def test_large_audio_comes_as_an_open_file(tmp_path: Path) -> None:
    """Memory does not grow with a clip's length: above 8 MiB whoever takes the pair reads the file."""
    write(tmp_path, {"x.wav": bytes(AUDIO_IN_MEMORY) + b"1", "x.lab": b"x"})
    [found] = read(source_of(tmp_path))
    assert isinstance(found, Pair)
    assert not isinstance(found.audio, bytes)
    with found.audio as file:
        assert (file.tell(), found.size) == (0, AUDIO_IN_MEMORY + 1)
        file.seek(-1, os.SEEK_END)
        assert file.read() == b"1"


def test_fingerprint(tmp_path: Path) -> None:
    """It is the same for a copy that keeps the times, and for other litter; any change of a pair makes it another."""
    root = write(tmp_path / "set", {**PAIRS, "metadata.csv": b"lj|1|one\n", "wavs/lj.wav": b"wav"})
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))
    first = source_of(root).fingerprint
    os.utime(root / "a/2.flac", (2e9, 2e9))
    write(root, {"litter.pdf": b"", "orphan.lab": b"orphan"})
    assert source_of(root).fingerprint == first
    seen = {first, source_of(root, "b").fingerprint}
    write(root, {"b/deep/down/1.wav": b"ones"})
    seen.add(source_of(root).fingerprint)
    write(root, {"metadata.csv": b"lj|2|two\n"})
    seen.add(source_of(root).fingerprint)
    write(root, {"a/2.txt": b"\xef\xbb\xbfByte order mark\r\n"})
    seen.add(source_of(root).fingerprint)
    (root / "a/3.json").rename(root / "a/3.txt")
    seen.add(source_of(root).fingerprint)
    assert len(seen) == 6


def test_output_of_pack_in_the_folder(tmp_path: Path) -> None:
    """Tars made within the source are no part of it, and what is left of a try to make them in the folder itself is not."""
    root = write(tmp_path, PAIRS)
    before = source_of(root)
    write(
        root, {"out/tars/.pack/000000.json": b"{}", "out/tars/tars.txt": b"", "out/tars/x.wav": b"", ".pack/plan.json": b""}
    )
    after = source_of(root)
    assert (after.fingerprint, after.left_out, after.found) == (before.fingerprint, before.left_out, before.found)


def test_a_file_that_goes_meanwhile_ends_the_attempt(tmp_path: Path) -> None:
    """A lost mount must not turn every clip that is left into bad data."""
    source = source_of(write(tmp_path, {"x.wav": b"x", "x.lab": b"x", "y.wav": b"y", "y.lab": b"y"}))
    (tmp_path / "x.wav").unlink()
    (tmp_path / "y.lab").unlink()
    for item in source.items(0):
        with pytest.raises(InfrastructureError, match=r"was there when the data set was listed"):
            item()


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_trouble_with_the_machine_is_never_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A failing disk or too many open files end the attempt; what is wrong with the file itself is listed."""

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    write(tmp_path, {"x.wav": b"x", "x.lab": b"x"})
    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(InfrastructureError, match=os.strerror(code)):
        read_audio(tmp_path / "x.wav", "x.wav")
    monkeypatch.undo()
    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(InfrastructureError, match=os.strerror(code)):
        list_folder(tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clips would be missing without a word."""
    write(tmp_path, {"x.wav": b"x", "closed/y.wav": b"y"})
    scandir = os.scandir

    def guarded(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(UsageError, match=f"{tmp_path}/closed: cannot be read: Permission denied"):
        list_folder(tmp_path)


def test_long_listings_say_how_far_they_are(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without a terminal a line comes now and then; all items go through."""
    monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)  # commands of other tests may have changed it
    clock = iter(range(0, 10**6, 20))
    monkeypatch.setattr(folder_module.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO, logger="tar2tokens"):
        assert list(told(range(1000), "listing x", "file")) == list(range(1000))
    assert "listing x: 256 files so far" in caplog.text
