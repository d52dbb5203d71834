"""tools/packing/folder.py: a folder as a source of pairs."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sentences import SENTENCES

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.tar_reader import AUDIO_IN_MEMORY
from jobs.text_rules import TextRules
from tools.packing.folder import FolderSource, list_folder, read_audio, with_progress
from tools.packing.pairs import LeftOut, Pair, SourceOptions


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def options(*exclude: str, without_text: bool = False) -> SourceOptions:
    return SourceOptions(exclude=exclude, without_text=without_text, scratch=Path("scratch"))


def source_of(root: Path, *exclude: str, without_text: bool = False, follow_links: bool = False) -> FolderSource:
    listing = list_folder(root, follow_links=follow_links)
    return FolderSource(listing, options(*exclude, without_text=without_text))


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


def test_the_encoding_is_that_of_all_texts(tmp_path: Path) -> None:
    """Whichever is read first; one that a person says goes before."""
    files: dict[str, bytes] = {}
    for number, sentence in enumerate(SENTENCES["ja"]):
        files |= {f"{number}.wav": b"x", f"{number}.txt": sentence.encode("euc_jp")}
    files["0.txt"] = "はい".encode("euc_jp")
    source = source_of(write(tmp_path / "set", files))
    texts = ["はい", *SENTENCES["ja"][1:]]
    assert [item.text for item in reversed(read(source)) if isinstance(item, Pair)] == texts[::-1]
    said = SourceOptions(scratch=tmp_path, texts=TextRules(encoding="utf-8"))
    refused = read(FolderSource(list_folder(tmp_path / "set"), said))
    assert {item.reason for item in refused if isinstance(item, LeftOut)} == {"unreadable_text"}


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
    write(tmp_path, {"metadata.csv": b"lj|1|one|more\n"})
    with pytest.raises(UsageError, match=f"{tmp_path}/metadata.csv: line 1: expected"):
        source_of(tmp_path)


def test_links(tmp_path: Path) -> None:
    """Linked files are followed; linked folders are listed, not entered; a link that leads nowhere is bad data."""
    root = write(tmp_path / "set", {"b.wav": b"b", "c.wav": b"c", "c.lab": b"c", "d.wav": b"d"})
    write(root, {"blobs/1": b"linked", "blobs/2": b"text"})
    (root / "a.wav").symlink_to("blobs/1")
    (root / "a.lab").symlink_to(root / "blobs" / "2")
    (root / "b.lab").symlink_to("../blobs/none")
    (root / "c.wav").unlink()
    (root / "c.wav").symlink_to("c.wav")
    (root / "folder.wav").symlink_to("blobs")
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
    write(tmp_path, {"blobs/none": b"there by now"})
    assert read(source)[1] == LeftOut("unreadable_text", "b.wav", "b.lab: its link leads nowhere")
    (tmp_path / "blobs" / "none").unlink()
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
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO, logger="tar2tokens"):
        assert list(with_progress(range(1000), "listing x", "file")) == list(range(1000))
    assert "listing x: 256 files so far" in caplog.text


class TestLinksThatLeadOut:
    """A file that nobody has named, such as a key, must not become a transcript."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        write(tmp_path, {"secret": b"root:x:0", "far/x.wav": b"far", "far/x.txt": b"far", "far/deep/y.wav": b"deep"})
        return write(tmp_path / "set", {"a.wav": b"a", "a.txt": b"a", "b.wav": b"b", "sub/c.wav": b"c", "sub/c.txt": b"c"})

    @pytest.mark.parametrize(
        ("name", "target"),
        [
            ("b.txt", "../secret"),
            ("b.txt", "{}/secret"),
            ("b.json", "../secret"),
            ("d.wav", "../secret"),
            ("metadata.csv", "../secret"),
            ("sub/e.wav", "../../secret"),
            ("b.txt", "chain"),
            ("more", "../far"),
            ("more", ".."),
            ("more.wav", "{}/far"),
        ],
    )
    def test_refused(self, root: Path, name: str, target: str) -> None:
        """Text, audio, a table or a folder: the message says which link, where it leads, and the two ways out."""
        write(root, {"wavs/lj.wav": b"lj"})
        (root / "chain").symlink_to("chain2")
        (root / "chain2").symlink_to("../secret")
        (root / name).symlink_to(target.format(root.parent))
        with pytest.raises(UsageError, match=rf"{root}: refused: .*{name} -> {root.parent}.*--follow-links.*--exclude"):
            source_of(root, without_text=True)

    def test_what_nobody_would_read_is_no_matter(self, root: Path) -> None:
        """Links to the outside that are no clips, or that --exclude names, are left where they are."""
        for name, target in {"README": "../secret", "b.txt": "../secret", "more": "../far", "zero.wav": "/dev/zero"}.items():
            (root / name).symlink_to(target)
        source = source_of(root, "b", "more")
        assert [found.id for found in read(source) if isinstance(found, Pair)] == ["a", "sub/c"]
        assert ("more", "link") in [(left.name, left.reason) for left in source.left_out]

    def test_many(self, root: Path) -> None:
        """The first of them are named, the others counted."""
        for number in range(9):
            (root / f"l{number}.wav").symlink_to("../secret")
        with pytest.raises(UsageError, match=r"l0\.wav -> .*l2\.wav -> [^,]*/secret and 6 more\. If"):
            source_of(root, without_text=True)

    def test_followed_if_asked_for(self, root: Path) -> None:
        """With --follow-links files and folders come from anywhere, each folder once, in an order of their names."""
        (root / "b.txt").symlink_to("../secret")
        for name in ("more", "again", "sub/again"):
            (root / name).symlink_to(root.parent / "far")
        (root / "inside").symlink_to("sub")
        (root.parent / "far" / "back").symlink_to("../set")
        (root.parent / "far" / "up").symlink_to("..")
        source = source_of(root, without_text=True, follow_links=True)
        found = {item.id: item.audio for item in read(source) if isinstance(item, Pair)}
        assert found == {
            "a": b"a",
            "b": b"b",
            "sub/c": b"c",
            "again/x": b"far",
            "again/deep/y": b"deep",
        }
        assert [left.name for left in source.left_out if left.reason == "link"] == [
            "again/back",
            "inside",
            "more",
            "sub/again",
        ]

    def test_a_source_that_is_a_link_itself(self, root: Path) -> None:
        """The folder that a person names may be a link; it is its target that nothing may leave."""
        (root.parent / "link").symlink_to("set")
        (root / "b.txt").symlink_to(root / "a.txt")
        assert len(read(source_of(root.parent / "link"))) == 3

    def test_a_snapshot_of_the_hubs_cache(self, tmp_path: Path, root: Path) -> None:
        """Its files are links to blobs beside the snapshots, which belong to it; those of another repository do not."""
        repository = tmp_path / "hub" / "datasets--lab--speech"
        write(repository, {"blobs/1": b"audio", "blobs/2": b"text", "snapshots/abc/README.md": b""})
        snapshot = repository / "snapshots" / "abc"
        (snapshot / "a.wav").symlink_to("../../blobs/1")
        (snapshot / "a.txt").symlink_to("../../blobs/2")
        assert read(source_of(snapshot)) == [pair("a.wav", b"audio", "text", "a.txt")]
        (snapshot / "b.wav").symlink_to(root / "a.wav")
        with pytest.raises(UsageError, match="refused"):
            source_of(snapshot, without_text=True)
