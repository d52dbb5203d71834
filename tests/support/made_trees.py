"""Small copies of the layouts of data sets, read by tools.pack as a folder and from archives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from audio_tokenizers.errors import UsageError
from jobs.text_rules import TextRules
from support.hostile_archives import LZMA2, Entry, sevenzip, tar_of, zip_of
from tools.packing.pairs import LeftOut, Pair, Source, SourceOptions
from tools.packing.sources import open_source

__all__ = ["audio_of", "lay_out", "left_out_of", "pairs_of", "read_everywhere", "read_or_refuse"]


def audio_of(*names: str) -> dict[str, bytes | str]:
    """Files whose content is their name: what is audio is for the tokenizer to say."""
    return {name: f"audio of {name}".encode() for name in names}


def lay_out(root: Path, files: Mapping[str, bytes | str]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def pairs_of(source: Source) -> tuple[dict[str, Pair], list[LeftOut]]:
    """(pairs by id, all that was left out)."""
    items = [item() for item in source.items(0)]
    pairs = {item.id: item for item in items if isinstance(item, Pair)}
    return pairs, [*source.left_out, *(item for item in items if isinstance(item, LeftOut))]


def left_out_of(left_out: list[LeftOut]) -> list[tuple[str, str]]:
    """(reason, name), sorted."""
    return sorted((left.reason, left.name) for left in left_out)


def read_everywhere(
    tmp_path: Path,
    files: Mapping[str, bytes | str],
    *exclude: str,
    without_text: bool = False,
    texts: TextRules = TextRules(),  # noqa: B008 (frozen)
) -> tuple[dict[str, Pair], list[LeftOut]]:
    """What tools.pack makes of a tree; it has to be the same in a folder, a zip, a tar, a 7z, and below another folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    options = SourceOptions(exclude=exclude, without_text=without_text, scratch=scratch, texts=texts)
    found = pairs_of(open_source(str(lay_out(tmp_path / "tree", files)), options))
    entries = [Entry(name, content.encode() if isinstance(content, str) else content) for name, content in files.items()]
    below = [Entry(f"top/{entry.name}", entry.data) for entry in reversed(entries)]
    archives = {
        "set.zip": zip_of(entries),
        "set.tar.gz": tar_of(entries),
        "set.tar": tar_of(list(reversed(entries)), "w"),
        "set.7z": sevenzip(entries, method=LZMA2, packed_list=True),
    }
    for name, content in archives.items():
        path = tmp_path / name
        path.write_bytes(content)
        pairs, left_out = pairs_of(open_source(str(path), options))
        assert pairs == found[0], name
        assert sorted(left_out, key=str) == sorted(found[1], key=str), name
    (tmp_path / "below.zip").write_bytes(zip_of(below))
    pairs, left_out = pairs_of(open_source(str(tmp_path / "below.zip"), options))
    assert {name.removeprefix("top/"): pair.text for name, pair in pairs.items()} == {
        name: pair.text for name, pair in found[0].items()
    }
    assert len(left_out) == len(found[1])
    assert list(scratch.iterdir()) == []
    return found


def read_or_refuse(tmp_path: Path, files: Mapping[str, bytes | str]) -> tuple[dict[str, Pair], str]:
    """(the pairs, nothing), or (none, the message) where tools.pack refuses the tree."""
    try:
        return read_everywhere(tmp_path, files)[0], ""
    except UsageError as error:
        return {}, str(error)
