"""tools/packing/sources.py: what SOURCE is."""

from __future__ import annotations

import dataclasses
import gzip
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.tars import tar_bytes

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.text_rules import TextRules
from tools.packing import parquet
from tools.packing.folder import FolderSource
from tools.packing.manifests.source import ManifestSource
from tools.packing.pairs import Pair, Source, SourceOptions
from tools.packing.parquet import hugging_face
from tools.packing.sources import ReadyTar, check_ready_tar, find_ready_tars, open_source

AUDIO, TEXT = b"RIFF", b"what is said"


@pytest.fixture
def options(here: Path) -> SourceOptions:
    (here / "scratch").mkdir()
    return SourceOptions(scratch=here / "scratch")


def write(path: Path, data: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def texts(source: Source) -> dict[str, str | None]:
    found = [item() for item in source.items(0)]
    return {item.id: item.text for item in found if isinstance(item, Pair)}


def zip_bytes(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_folders(here: Path, options: SourceOptions) -> None:
    """A folder is one of files, or Kaldi's if it has a wav.scp; `.` has the name of where it is."""
    write(here / "files/a.wav", AUDIO)
    write(here / "files/a.lab", TEXT)
    source = open_source("files", options)
    assert isinstance(source, FolderSource)
    assert (source.name, texts(source)) == ("files", {"a": "what is said"})
    assert open_source("./files/../files/", options).fingerprint == source.fingerprint
    write(here / "files/wav.scp", b"utt a.wav\n")
    write(here / "files/text", b"utt GO\n")
    for given in ("files", "files/wav.scp"):
        kaldi = open_source(given, options)
        assert isinstance(kaldi, ManifestSource)
        assert (kaldi.name, texts(kaldi)) == ("files", {"utt": "GO"})


def test_output_in_the_source(here: Path) -> None:
    """Tars may be made below SOURCE, but not in it, where their lists would pass for texts when the command goes on."""
    write(here / "files/a.wav", AUDIO)
    write(here / "files/a.lab", TEXT)
    for output in ("files/tars", "tars"):
        assert open_source("files", SourceOptions(scratch=write(here / output / ".pack/scratch/x").parent)).items_total == 1
    with pytest.raises(UsageError, match=f"--output-dir {here}/files: is SOURCE itself"):
        open_source("files", SourceOptions(scratch=here / "files/.pack/scratch"))


@pytest.mark.parametrize("name", ["m.jsonl", "m.JSON", "m.jsonl.GZ"])
def test_manifests(here: Path, options: SourceOptions, name: str) -> None:
    """By the ending of the name, which may be NeMo's."""
    write(here / "a.wav", AUDIO)
    line = b'{"audio_filepath": "a.wav", "text": "GO"}\n'
    write(here / name, gzip.compress(line) if name.endswith("GZ") else line)
    assert texts(open_source(name, options)) == {"a": "GO"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.TGZ"])
def test_archives(here: Path, options: SourceOptions, name: str) -> None:
    """Archives of files are packed, also a .tar whose texts stand apart from the audio."""
    members = {"wav/a.wav": AUDIO, "wav/b.wav": AUDIO, "wav/a.lab": TEXT, "wav/b.lab": TEXT}
    tar = tar_bytes(members.items())
    write(here / name, zip_bytes(members) if name.endswith("zip") else tar if name.endswith("tar") else gzip.compress(tar))
    assert find_ready_tars(name) is None
    source = open_source(name, options)
    assert (source.name, texts(source)) == ("x", {"wav/a": "what is said", "wav/b": "what is said"})


def test_parquet(here: Path, options: SourceOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Parquet file, or a folder of such and of no audio, sorted; beside audio they are litter."""
    seen: list[tuple[list[str], str]] = []
    monkeypatch.setattr(
        hugging_face,
        "open_parquet",
        lambda paths, name, _: seen.append(([str(path.relative_to(here)) for path in paths], name)),
    )
    write(here / "set/data/train-2.parquet")
    write(here / "set/data/train-1.parquet")
    write(here / "set/README.md")
    open_source("set", options)
    open_source("set/data/train-1.parquet", options)
    assert seen == [
        (["set/data/train-1.parquet", "set/data/train-2.parquet"], "set"),
        (["set/data/train-1.parquet"], "train-1"),
    ]
    write(here / "set/a.wav", AUDIO)
    assert isinstance(open_source("set", options), FolderSource)


def test_hub(here: Path, options: SourceOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """owner/name that is no path goes to the hub; if it looks like a path, the error says that there is none either."""
    seen: list[str] = []
    monkeypatch.setattr(hugging_face, "open_hub", lambda repo_id, _: seen.append(repo_id))
    for given in ("owner/name-1.0", "owner/name@main", "hf://datasets/owner/name/folder"):
        assert find_ready_tars(given) is None
        open_source(given, options)
    assert seen == ["owner/name-1.0", "owner/name@main", "hf://datasets/owner/name/folder"]

    def refuse(*_: object) -> None:
        raise UsageError("owner/name: the hub has no such data set")

    monkeypatch.setattr(hugging_face, "open_hub", refuse)
    with pytest.raises(UsageError, match=r"the hub has no such data set$"):
        open_source("owner/name", options)
    (here / "owner").mkdir()
    with pytest.raises(UsageError, match=f"no such data set; nor is there a file or folder {here}/owner/name"):
        open_source("owner/name", options)


@pytest.mark.parametrize("given", ["none", "./owner/name", "/owner/name", "data/x.7z", "a/b/c", "", "a\0b"])
def test_nothing_that_is_known(here: Path, options: SourceOptions, given: str) -> None:
    """What is neither a path nor the name of a data set is one message with all the kinds; the hub is not asked."""
    if given:
        with pytest.raises(
            UsageError, match=r"there is no such file or folder; expected a folder of audio.*\.7z.*owner/name"
        ):
            open_source(given, options)
    write(here / "notes.docx")
    with pytest.raises(UsageError, match=r"notes\.docx: not a kind of data set"):
        open_source("notes.docx", options)


def test_packages_that_are_missing(here: Path, options: SourceOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet without pyarrow is one message, which says what to install."""
    write(here / "x.parquet")
    monkeypatch.delattr(parquet, "hugging_face")
    for name in ("tools.packing.parquet.hugging_face", "tools.packing.parquet.source", "tools.packing.parquet.rows"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"need pyarrow: pip install -e '\.\[pack\]'"):
        open_source("x.parquet", options)


def test_a_name_that_cannot_be_looked_at(options: SourceOptions) -> None:
    """One message, no traceback."""
    with pytest.raises(UsageError, match="File name too long"):
        open_source("x" * 300, options)


def webdataset(clips: int, *, texts: bool = True) -> bytes:
    members = [(f"{number}.mp3", AUDIO) for number in range(clips)]
    members += [(f"{number}.json", b'{"text": "said"}') for number in range(clips)] if texts else []
    return tar_bytes(sorted(members))


def test_tars_that_are_ready(here: Path) -> None:
    """One WebDataset tar, with texts or none at all, or a folder of them at any depth, by number; not beside audio."""
    one = write(here / "Emilia/ZH/ZH-10.tar", webdataset(2))
    two = write(here / "Emilia/ZH/ZH-9.tar", webdataset(2, texts=False))
    write(here / "Emilia/README.md")
    write(here / "Emilia/._x.tar")
    assert find_ready_tars("Emilia/ZH/ZH-10.tar") == [one]
    assert find_ready_tars("Emilia/ZH/ZH-9.tar") == [two]
    assert find_ready_tars("Emilia") == [two, one]
    assert find_ready_tars("Emilia/README.md") is None
    write(here / "Emilia/x.wav", AUDIO)
    assert find_ready_tars("Emilia") is None
    (here / "empty").mkdir()
    assert find_ready_tars("empty") is None


def test_links_that_lead_out_of_a_folder(here: Path, options: SourceOptions) -> None:
    """Tars and Parquet files that are only linked there are refused, and taken where a person says so."""
    write(here / "far" / "a.tar", webdataset(2))
    for name in ("a.tar", "a.parquet"):
        folder = here / name.partition(".")[2]
        folder.mkdir()
        (folder / name).symlink_to(here / "far" / "a.tar")
    with pytest.raises(UsageError, match=r"refused: links lead out of it.*a\.tar -> .*far/a\.tar.*--follow-links"):
        find_ready_tars("tar")
    assert find_ready_tars("tar", follow_links=True) == [here / "tar" / "a.tar"]
    with pytest.raises(UsageError, match=r"refused: links lead out of it.*a\.parquet -> "):
        open_source("parquet", options)
    with pytest.raises(UsageError, match="expected a whole Parquet file"):
        open_source("parquet", dataclasses.replace(options, follow_links=True))


@pytest.mark.parametrize("table", ["en/train.tsv", "en/clips/metadata.jsonl", "recordings.jsonl.gz"])
def test_a_tar_with_a_table_of_texts_is_not_ready(here: Path, table: str) -> None:
    """Its clips would be without text; in a folder of tars the message says so, and alone it is an archive."""
    path = write(here / "cv" / "cv.tar", tar_bytes([("en/clips/1.wav", AUDIO), (table, b"x")]))
    assert find_ready_tars(str(path)) is None
    with pytest.raises(UsageError, match=rf"cv\.tar: expected a WebDataset tar.*1 clip without text and {table}.*by itself"):
        check_ready_tar(path, TextRules())
    path = write(here / "cv" / "cv.tar", tar_bytes([("1.wav", AUDIO), ("1.txt", b"text"), (table, b"x")]))
    assert find_ready_tars(str(path)) == [path]
    assert check_ready_tar(path, TextRules()) == ReadyTar(clips=1, without_text=0)


@pytest.mark.parametrize(
    ("members", "texts"),
    [
        ([("1.wav", AUDIO), ("1.json", b'{"transcript": "said"}')], TextRules()),
        ([("1.wav", AUDIO), ("1.json", b'{"said": "said", "snr": NaN}')], TextRules(keys=("said",))),
        ([("1.wav", AUDIO), ("1.wav.json", b'{"text": "said"}')], TextRules()),
        ([("1.wav", AUDIO), ("1.txt", "はい".encode("cp932"))], TextRules(encoding="cp932")),
    ],
)
def test_what_a_text_is_the_options_say(here: Path, members: list[tuple[str, bytes]], texts: TextRules) -> None:
    """A tar is ready, whatever table lies in it, if its texts stand beside the audio, by the rules that a run goes by."""
    path = write(here / "x.tar", tar_bytes([*members, ("metadata.csv", b"x")]))
    assert find_ready_tars(str(path), texts=texts) == [path]
    assert check_ready_tar(path, texts) == ReadyTar(clips=1, without_text=0)


def test_a_tar_in_which_some_texts_stand_apart_is_packed(here: Path, options: SourceOptions) -> None:
    """A run would find them, with a look over the whole tar; side by side they are read in one pass."""
    path = write(here / "x.tar", tar_bytes([("a.wav", AUDIO), ("b.wav", AUDIO), ("a.txt", TEXT), ("b.txt", TEXT)]))
    assert find_ready_tars(str(path)) is None
    assert texts(open_source(str(path), options)) == {"a": "what is said", "b": "what is said"}


def test_ready_tars_are_counted(here: Path) -> None:
    """Clips, and those without a text."""
    members = [("a.mp3", AUDIO), ("a.json", b'{"text": "said"}'), ("b.mp3", AUDIO), ("c.mp3", AUDIO), ("c.txt", b" ")]
    assert check_ready_tar(write(here / "x.tar", tar_bytes(members)), TextRules()) == ReadyTar(clips=3, without_text=2)
    assert check_ready_tar(write(here / "y.tar", tar_bytes([("README", b"x")])), TextRules()) == ReadyTar(
        clips=0, without_text=0
    )


def test_tars_that_are_not_what_they_seem(here: Path) -> None:
    """Damage, texts that stand apart, a tar that is a folder: one message each, with the path."""
    whole = webdataset(3)
    for data, words in ((whole[:2000], "cut: the file ends"), (b"x" * 2000, "not_a_tar: expected a tar header")):
        write(here / "x.tar", data)
        assert find_ready_tars("x.tar") == [here / "x.tar"]
        with pytest.raises(UsageError, match=f"x.tar: {words}.*copy it again"):
            check_ready_tar(here / "x.tar", TextRules())
    write(here / "x.tar", whole + whole)
    with pytest.raises(UsageError, match=r"data_after_end: .*unpack it with tar --ignore-zeros"):
        check_ready_tar(here / "x.tar", TextRules())
    apart = [("a.wav", AUDIO), ("b.wav", AUDIO), ("a.lab", TEXT), ("b.lab", TEXT)]
    assert check_ready_tar(write(here / "x.tar", tar_bytes(apart)), TextRules()) == ReadyTar(clips=2, without_text=0)
    members = [("a.wav", AUDIO), ("b.wav", AUDIO), ("texts/a.lab", TEXT), ("texts/b.lab", TEXT)]
    write(here / "x.tar", tar_bytes(members, tarfile.GNU_FORMAT))
    with pytest.raises(UsageError, match="found 2 clips without text and 2 texts without audio: pack it by itself"):
        check_ready_tar(here / "x.tar", TextRules())
    with pytest.raises(UsageError, match="expected a tar, found a folder"):
        check_ready_tar(here, TextRules())


def test_a_failing_disk_is_no_damage(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble with the machine is said to be that."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    path = write(here / "x.tar", webdataset(1))
    monkeypatch.setattr("tools.packing.sources.TarReader", fail)
    with pytest.raises(InfrastructureError, match=r"x\.tar: cannot be read: Input/output error"):
        check_ready_tar(path, TextRules())
    with pytest.raises(InfrastructureError, match="Input/output error"):
        find_ready_tars("x.tar")
