"""tools/packing/manifests/source.py: JSONL manifests as sources of pairs."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sentences import SENTENCES

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.text_rules import TextRules
from tools.packing.manifests import source as source_module
from tools.packing.manifests.kaldi import open_kaldi
from tools.packing.manifests.source import ManifestSource, open_jsonl
from tools.packing.pairs import LeftOut, Pair, SourceOptions, is_outside

Record = dict[str, Any]


def options(*exclude: str, without_text: bool = False, follow_links: bool = False) -> SourceOptions:
    return SourceOptions(exclude=exclude, without_text=without_text, follow_links=follow_links, scratch=Path("scratch"))


def jsonl(folder: Path, *records: Record, audio: bool = True) -> Path:
    """A manifest and, where they are relative, its files, each with its name as content."""
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    for record in records if audio else ():
        write(folder, record.get("audio_path") or record["audio_filepath"])
    return path


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def read(source: ManifestSource, start: int = 0) -> list[Pair | LeftOut]:
    return [item() for item in source.items(start)]


def left_out(source: ManifestSource) -> list[tuple[str, str]]:
    return [(left.name, left.reason) for left in source.left_out]


def pair(clip_id: str, name: str, text: str | None, **more: Any) -> Pair:
    return Pair(id=clip_id, audio_name=name, audio=name.encode(), size=len(name.encode()), text=text, **more)


def test_lines_become_pairs_in_their_order(tmp_path: Path) -> None:
    """Text and language are the clip's, a string under `id` names it, and all other keys are metadata."""
    path = jsonl(
        tmp_path,
        {"audio_path": "wavs/2.wav", "text": "二", "language": "zh", "speaker": "s", "id": 5},
        {"audio_path": "wavs/1.x.wav", "text": " one\n", "id": "utt/1", "language": None},
        {"audio_filepath": "./3.FLAC", "text": "three", "duration": 1.5, "offset": 0.0},
    )
    source = open_jsonl(path, options())
    expected = [
        pair("wavs/2", "wavs/2.wav", "二", language="zh", metadata={"speaker": "s", "id": 5}),
        pair("utt/1", "wavs/1.x.wav", " one\n", metadata={"language": None}),
        Pair(
            id="3", audio_name="3.FLAC", audio=b"./3.FLAC", size=8, text="three", metadata={"duration": 1.5, "offset": 0.0}
        ),
    ]
    assert read(source) == expected
    assert read(source, 1) == expected[1:]
    assert (source.name, source.items_total, source.bytes_total) == ("train", 3, 30)
    assert source.found == {".wav": 2, ".flac": 1}


def test_a_share_of_the_clips(tmp_path: Path) -> None:
    """Lines outside of it are left out by their ids."""
    path = jsonl(tmp_path, *({"audio_path": f"{number}.wav", "text": "x"} for number in range(12)))
    chosen = SourceOptions(subset_ratio=0.5, scratch=Path("scratch"))
    source = open_jsonl(path, chosen)
    found = [item.id for item in read(source) if isinstance(item, Pair)]
    assert found == [f"{number}" for number in range(12) if not is_outside(f"{number}", chosen)]
    assert left_out(source) == [(f"{number}", "outside_subset") for number in range(12) if f"{number}" not in found]
    assert 0 < len(found) < 12


def test_what_makes_no_pair_is_listed(tmp_path: Path) -> None:
    """Missing audio, names of no audio, clips without text, ids that come again, and excluded ones; the rest stays."""
    path = jsonl(
        tmp_path,
        {"audio_path": "a.wav", "text": "a"},
        {"audio_path": "b.wav", "text": "b", "id": "a"},
        {"audio_path": "c.wav"},
        {"audio_path": "d.wav", "text": " "},
        {"audio_path": "e.wav:123", "text": "e"},
        {"audio_path": "Placeholder/f.wav", "text": "f"},
        {"audio_path": "g.wav", "text": "g"},
        {"audio_path": "h.wav", "text": "h"},
    )
    (tmp_path / "g.wav").unlink()
    source = open_jsonl(path, options("Placeholder"))
    assert left_out(source) == [
        ("a", "duplicate"),
        ("c", "audio_without_text"),
        ("d", "empty_text"),
        ("e", "unreadable_audio"),
        ("Placeholder/f", "excluded"),
        ("g", "unreadable_audio"),
    ]
    assert source.left_out[-1].detail == f"line 7: g.wav: there is no such file in {tmp_path} or {Path.cwd()}"
    assert read(source, 1) == [pair("h", "h.wav", "h")]
    assert [item.text for item in read(open_jsonl(path, options(without_text=True)))[1:3] if isinstance(item, Pair)] == [
        None,
        " ",
    ]


def test_where_audio_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the manifest first, then in the current directory; absolute paths as they are. No id leads out of its tar."""
    home, here = tmp_path / "data/lists", tmp_path / "here"
    home.mkdir(parents=True)
    write(home, "both.wav")
    write(here, "both.wav", "cwd.wav")
    (here / "both.wav").write_bytes(b"wrong")
    write(tmp_path / "data", "up.wav")
    names = ["both.wav", "cwd.wav", f"{home}/both.wav", "../up.wav", f"{here}/cwd.wav"]
    path = jsonl(home, *({"audio_path": name, "text": "t", "n": n} for n, name in enumerate(names)), audio=False)
    monkeypatch.chdir(here)
    source = open_jsonl(path, options())
    monkeypatch.chdir(tmp_path)
    found = [item for item in read(source) if isinstance(item, Pair)]
    assert [(item.id, item.audio) for item in found] == [
        ("both", b"both.wav"),
        ("cwd", b"cwd.wav"),
        ("up", b"up.wav"),
        (f"{here}/cwd".lstrip("/"), b"cwd.wav"),
    ]
    assert left_out(source) == [("both", "duplicate")]


def test_encodings_and_compression(tmp_path: Path) -> None:
    """A byte order mark, GB18030, blank lines and gzip are read through."""
    write(tmp_path, "1.wav", "2.wav")
    text = SENTENCES["zh-CN"][0]
    lines = [json.dumps({"audio_path": f"{number}.wav", "text": text}, ensure_ascii=False) for number in (1, 2)]
    data = b"\xef\xbb\xbf" + lines[0].encode() + b"\r\n\n" + lines[1].encode("gb18030")
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(data))
    source = open_jsonl(tmp_path / "train.jsonl.gz", options())
    assert read(source) == [pair("1", "1.wav", text), pair("2", "2.wav", text)]
    assert source.name == "train"
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(data)[:-9])
    with pytest.raises(UsageError, match=r"train\.jsonl\.gz: the gzip data is cut or damaged"):
        open_jsonl(tmp_path / "train.jsonl.gz", options())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"audio_path": "a.wav", "te', "expected a JSON object"),
        ('["a.wav"]', "expected a JSON object"),
        ("[" * 100_000, "expected a JSON object"),
        ('{"audio": "a.wav", "text": "a"}', "under `audio_path`, found these keys: audio, text"),
        ('{"audio_path": "", "text": "a"}', "under `audio_path`"),
        ('{"audio_path": "a.wav", "text": 5}', "expected a string under `text`, found 5"),
    ],
)
def test_one_bad_line_is_one_bad_line(tmp_path: Path, line: str, words: str) -> None:
    """It is left out with its number and what is wrong with it, and the others are packed; alone it is no manifest."""
    write(tmp_path, "a.wav", "b.wav")
    path = tmp_path / "x.jsonl"
    path.write_text('{"audio_path": "a.wav", "text": "a"}\n\n' + line + '\n{"audio_path": "b.wav", "text": "b"}\n')
    source = open_jsonl(path, options())
    assert left_out(source) == [("line 3", "unreadable_line")]
    assert re.match(f"line 3: .*{words}", source.left_out[0].detail)
    assert read(source) == [pair("a", "a.wav", "a"), pair("b", "b.wav", "b")]
    assert read(source, 1) == [pair("b", "b.wav", "b")]
    path.write_text(line)
    with pytest.raises(UsageError, match=f"x.jsonl: line 1: .*{words}.*: fix the manifest"):
        open_jsonl(path, options())


def test_json_as_python_writes_it(tmp_path: Path) -> None:
    """NaN, lone surrogates and control characters cost nothing but themselves, and are named."""
    write(tmp_path, "a.wav", "b.wav")
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"audio_path": "a.wav", "text": "x", "snr": NaN, "big": 123456789012345678901}\n'
        '{"audio_path": "b.wav", "text": "y\\ud83d\t"}'
    )
    errors = ["line 1: snr: NaN is no value of JSON: null"]
    assert read(open_jsonl(path, options())) == [
        pair("a", "a.wav", "x", metadata={"snr": None, "big": 123456789012345678901, "sidecar_errors": errors}),
        pair(
            "b",
            "b.wav",
            "y\ufffd\t",
            metadata={"sidecar_errors": ["line 2: text: a lone surrogate is no character: U+FFFD"]},
        ),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "shift_jis", "euc_jp", "gb18030"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_manifests_in_other_encodings(tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """As editors of Windows and programs of Japan write them; told from all lines together."""
    sentences = SENTENCES["ja"]
    names = [f"{number}.wav" for number in range(len(sentences))]
    write(tmp_path, *names)
    lines = [
        json.dumps({"audio_path": name, "sentence": text}, ensure_ascii=False)
        for name, text in zip(names, sentences, strict=True)
    ]
    path = tmp_path / ("x.jsonl.gz" if pack is gzip.compress else "x.jsonl")
    path.write_bytes(pack("\r\n".join(lines).encode(encoding)))
    assert [item.text for item in read(open_jsonl(path, options())) if isinstance(item, Pair)] == list(sentences)


def test_keys_of_text_and_language(tmp_path: Path) -> None:
    """Those that data sets have, in the order of sidecars; or the one that somebody names."""
    write(tmp_path, "a.wav")
    path = tmp_path / "x.jsonl"
    path.write_text('{"audio_path": "a.wav", "sentence": "s", "transcript": "t", "locale": "fr"}')
    assert read(open_jsonl(path, options())) == [pair("a", "a.wav", "t", language="fr", metadata={"sentence": "s"})]
    named = dataclasses.replace(options(), texts=TextRules(("sentence",)))
    assert read(open_jsonl(path, named)) == [pair("a", "a.wav", "s", language="fr", metadata={"transcript": "t"})]


def test_a_file_without_lines_is_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of any length does not fill the memory."""
    monkeypatch.setattr(source_module, "LONGEST_LINE", 1000)
    (tmp_path / "x.json").write_bytes(bytes(2000))
    with pytest.raises(UsageError, match="line 1: longer than 1,000 bytes"):
        open_jsonl(tmp_path / "x.json", options())


def test_fingerprint(tmp_path: Path) -> None:
    """It follows from what is said of the clips and the sizes of their files, not from how the lines are written."""
    record = {"audio_path": "a.wav", "text": "a", "speaker": 1}
    first = open_jsonl(jsonl(tmp_path, record), options()).fingerprint
    path = jsonl(tmp_path, record)
    path.write_text(path.read_text().replace(" ", "") + "\n")
    assert open_jsonl(path, options()).fingerprint == first
    seen = {
        first,
        *(open_jsonl(jsonl(tmp_path, record | other), options()).fingerprint for other in ({"text": "b"}, {"x": 1})),
    }
    path = jsonl(tmp_path, record)
    (tmp_path / "a.wav").write_bytes(b"longer than its name")
    assert len({*seen, open_jsonl(path, options()).fingerprint}) == 4


def test_what_changes_meanwhile_ends_the_attempt(tmp_path: Path) -> None:
    """A manifest written to while it is packed would move the clips; audio that has gone is no bad data."""
    path = jsonl(tmp_path, {"audio_path": "a.wav", "text": "a"})
    source = open_jsonl(path, options())
    (tmp_path / "a.wav").unlink()
    with pytest.raises(InfrastructureError, match=r"a\.wav was there when the manifest was listed"):
        read(source)
    with path.open("a") as file:
        file.write("{}\n")
    with pytest.raises(UsageError, match="has changed while it was read"):
        read(source)


def test_parts_of_files(tmp_path: Path) -> None:
    """NeMo's lines with an offset: the file is one clip with segments, in their order; other files are whole."""
    write(tmp_path, "long.wav", "short.wav")
    parts = [
        {"audio_filepath": "long.wav", "text": "two", "offset": 2.5, "duration": 1.25, "lang": "en"},
        {"audio_filepath": "short.wav", "text": "all", "duration": 3},
        {"audio_filepath": "long.wav", "text": "one", "offset": 0.0, "duration": 2.0, "id": "utt1"},
        {"audio_filepath": "long.wav", "text": "bad", "offset": 9, "duration": "x"},
        {"audio_filepath": "gone.wav", "text": "lost", "offset": 1, "duration": 1},
    ]
    source = open_jsonl(jsonl(tmp_path, *parts, audio=False), options())
    segments = [
        {"start": 2.5, "end": 3.75, "text": "two", "language": "en"},
        {"id": "utt1", "start": 0.0, "end": 2.0, "text": "one"},
    ]
    found = [pair("long", "long.wav", None, metadata={"segments": segments})]
    found.append(pair("short", "short.wav", "all", metadata={"duration": 3}))
    assert read(source) == found
    assert read(source, 1) == found[1:]
    assert left_out(source) == [("gone", "unreadable_audio"), ("long", "unreadable_text")]


def test_a_bad_line_among_parts(tmp_path: Path) -> None:
    """It is one bad line, and the recordings are those of the others."""
    write(tmp_path, "long.wav", "short.wav")
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"audio_filepath": "short.wav", "text": "all"}\n{"audio_filepath": "lo\n'
        '{"audio_filepath": "long.wav", "sentence": "one", "offset": 0, "duration": 1}\n'
        '{"audio_filepath": "long.wav", "sentence": "two", "offset": 1.5, "duration": 1}\n'
    )
    source = open_jsonl(path, options())
    assert left_out(source) == [("line 2", "unreadable_line")]
    segments = [{"start": 0.0, "end": 1.0, "text": "one"}, {"start": 1.5, "end": 2.5, "text": "two"}]
    found = [pair("short", "short.wav", "all"), pair("long", "long.wav", None, metadata={"segments": segments})]
    assert (read(source), read(source, 1)) == (found, found[1:])


def test_links_that_lead_out(tmp_path: Path) -> None:
    """What a list names below its folder stays there: a linked file or folder that leads out is refused, with both ways out.

    Absolute paths and `..` are a person's own words, and links inside are links like others.
    """
    home = tmp_path / "home"
    write(tmp_path, "far/1.wav", "far/2.wav", "home/3.wav")
    (home / "a.wav").symlink_to("../far/1.wav")
    (home / "folder").symlink_to("../far")
    (home / "inside.wav").symlink_to("3.wav")
    named = ["../far/1.wav", f"{tmp_path}/far/2.wav", "inside.wav", f"{home}/../far/1.wav"]
    rows = [{"audio_path": name, "text": "t", "id": str(number)} for number, name in enumerate(named)]
    assert len(read(open_jsonl(jsonl(home, *rows, audio=False), options()))) == 4
    for name in ("a.wav", "./a.wav", "folder/2.wav"):
        manifest = jsonl(home, *rows, {"audio_path": name, "text": "t"}, audio=False)
        with pytest.raises(UsageError, match=rf"train: refused: links lead out.*{name} -> {tmp_path}/far/..wav.*--follow"):
            open_jsonl(manifest, options())
        assert len(read(open_jsonl(manifest, options(follow_links=True)))) == 5


@pytest.mark.parametrize("table", ["wav.scp", "text", "utt2spk"])
def test_tables_that_are_links(tmp_path: Path, table: str) -> None:
    """A Kaldi folder's own tables are its words: one that is a file elsewhere is refused too."""
    write(tmp_path, "kaldi/a.wav")
    home = tmp_path / "kaldi"
    for name, text in {"wav.scp": "u a.wav", "text": "u words", "utt2spk": "u s"}.items():
        (tmp_path / name if name == table else home / name).write_text(f"{text}\n")
    (home / table).symlink_to(f"../{table}")
    with pytest.raises(UsageError, match=rf"{home}: refused: .*{table} -> {tmp_path}/{table}"):
        open_kaldi(home, options())
    assert len(read(open_kaldi(home, options(follow_links=True)))) == 1
