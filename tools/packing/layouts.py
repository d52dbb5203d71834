"""Which files of a tree belong together, from their names alone, and what the texts among them say of the audio.

Three layouts, which may stand in one tree and below any folder: audio with sidecars of the same stem (`a/1.5_x.wav`,
`a/1.5_x.lab`); LibriSpeech (`84/121123/84-121123-0000.flac`, all lines in `84/121123/84-121123.trans.txt`); LJSpeech
(`wavs/LJ001-0001.wav`, all lines in `metadata.csv`). Audio with a sidecar of its own takes it rather than a table's line.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from audio_tokenizers.errors import UsageError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.sidecar_names import AmbiguousName, SidecarNames
from jobs.sidecars import SIDECAR_EXTENSIONS, Reading, decode_text, read_sidecars
from jobs.text_rules import TEXT_KEYS
from tools.packing.pairs import LeftOut, Reason, SourceOptions, is_excluded

__all__ = ["Annotated", "Layout", "Plan", "Planned", "plan_tree", "split_name"]

TRANSCRIPT = ".trans"
"""What a LibriSpeech table's stem ends with: `84-121123.trans.txt` holds the lines of `84-121123-*.flac` beside it."""
METADATA, WAVS = "metadata.csv", "wavs"
"""An LJSpeech table, and the folder beside it with the audio."""
WITHOUT_EXTENSION = "without extension"


@dataclass(frozen=True, slots=True)
class Planned:
    """One item of a tree of files, known from names alone."""

    id: str
    """The audio's relative path without its extension."""
    audio: str
    texts: tuple[str, ...]
    """The names of the files that may say something of it: its sidecars, or one table (see `Layout.tables`)."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """What the texts say of one item."""

    text: str | None = None
    text_name: str | None = None
    """The sidecar that gave the text."""
    language: str | None = None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a tree: every audio and text file is in one of the items or left out."""

    items: tuple[Planned, ...]
    """Sorted by id."""
    left_out: tuple[LeftOut, ...]
    """Sorted by name."""
    found: Counter[str]
    """Files by extension, those that are neither audio nor text included."""
    layout: Layout


@dataclass(slots=True)
class _Tree:
    """The files of a tree that matter, by stem: the relative path without the extension."""

    audio: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    """Folder -> its metadata.csv."""
    excluded: set[str] = field(default_factory=set)
    """Stems of excluded audio."""
    paired: set[str] = field(default_factory=set)
    """Texts whose stem is not quite that of their audio."""
    doubts: dict[str, str] = field(default_factory=dict)
    """Stem of audio -> why none of several texts is its own."""
    left_out: list[LeftOut] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)


def plan_tree(names: Iterable[str], options: SourceOptions) -> Plan:
    """Pair the files of a tree, given as relative paths with `/`, in any order.

    Of several audio files with one stem, and of several texts with one stem and one extension (in any case), the first
    in sorted order is taken. What macOS leaves behind (`._x`, `.DS_Store`, `__MACOSX`) is passed over in silence.
    """
    tree = _sort_out(names, options)
    _pair_by_look(tree)
    items: list[Planned] = []
    tables: set[str] = set()
    for stem in sorted(tree.audio):
        audio, *others = tree.audio[stem]
        tree.left_out.extend(LeftOut("duplicate", name, f"{audio} is taken") for name in others)
        texts = tuple(_sidecars(tree, stem))
        if not texts and (table := _table(tree, stem)) is not None:
            texts = (table,)
            tables.add(table)
        if texts or options.without_text:
            items.append(Planned(stem, audio, texts))
        else:
            tree.left_out.append(LeftOut("audio_without_text", audio, tree.doubts.get(stem, "")))
    for stem in tree.texts.keys() - tree.audio.keys():
        reason: Reason = "excluded" if stem in tree.excluded else "text_without_audio"
        left = [name for name in _sidecars(tree, stem) if name not in tables and name not in tree.paired]
        tree.left_out.extend(LeftOut(reason, name) for name in left)
    stems = frozenset(tree.audio.keys() | tree.excluded) if tables else frozenset()
    layout = Layout(frozenset(tables), stems, without_text=options.without_text)
    return Plan(tuple(items), tuple(sorted(tree.left_out, key=lambda left: left.name)), tree.found, layout)


def _sort_out(names: Iterable[str], options: SourceOptions) -> _Tree:
    tree = _Tree()
    for name in sorted(names):
        folder, _, base = name.rpartition("/")
        if base == ".DS_Store" or base.startswith("._") or ("__MACOSX" in name and "__MACOSX" in name.split("/")):
            continue
        stem, extension = split_name(name)
        tree.found[f".{extension}" if extension else WITHOUT_EXTENSION] += 1
        audio, text, metadata = extension in AUDIO_EXTENSIONS, extension in SIDECAR_EXTENSIONS, base.lower() == METADATA
        if not (audio or text or metadata):
            continue
        if options.exclude and is_excluded(name, options.exclude):
            tree.left_out.append(LeftOut("excluded", name))
            if audio:
                tree.excluded.add(stem)
        elif metadata:
            tree.metadata.setdefault(folder, name)
        else:
            (tree.audio if audio else tree.texts).setdefault(stem, []).append(name)
    return tree


def split_name(name: str) -> tuple[str, str]:
    """(stem, extension in lower case). A name that begins with its only dot has no extension."""
    stem, _, extension = name.rpartition(".")
    return (stem, extension.lower()) if "/" not in extension and stem and not stem.endswith("/") else (name, "")


def _pair_by_look(tree: _Tree) -> None:
    """Give texts that have no audio of their stem to audio of nearly that name: `a.mp3.json` of `a.mp3`, `A.txt` of `a.mp3`.

    Where several would fit, none is taken, and the text is left out with the names.
    """
    left = [stem for stem in tree.texts.keys() - tree.audio.keys() - tree.excluded if not stem.endswith(TRANSCRIPT)]
    if not left:
        return
    index: SidecarNames[tuple[str, str]] = SidecarNames(keys=False)
    for stem in sorted(left):
        for name in tree.texts[stem]:
            index.add_sidecar(name, (stem, name))
    for name in (name for names in tree.audio.values() for name in names):
        index.add_audio(name)
    for stem in sorted(tree.audio):
        has = {split_name(name)[1] for name in tree.texts.get(stem, ())}
        for extension in (extension for extension in SIDECAR_EXTENSIONS if extension not in has):
            try:
                found = index.of(tree.audio[stem][0], extension)
            except AmbiguousName as error:
                tree.doubts[stem] = str(error)
                continue
            if found is not None:
                tree.texts.setdefault(stem, []).append(found[1])
                tree.paired.add(found[1])


def _sidecars(tree: _Tree, stem: str) -> Iterator[str]:
    """The texts of a stem, one for each extension; others are left out."""
    taken: dict[str, str] = {}
    for name in tree.texts.get(stem, ()):
        extension = split_name(name)[1]
        if extension in taken:
            tree.left_out.append(LeftOut("duplicate", name, f"{taken[extension]} is taken"))
        else:
            taken[extension] = name
            yield name


def _table(tree: _Tree, stem: str) -> str | None:
    """The table that ought to have a line for this audio, if its folder has one."""
    folder, slash, base = stem.rpartition("/")
    chapter = folder + slash + base.rpartition("-")[0] + TRANSCRIPT
    if chapter not in tree.audio:
        for name in tree.texts.get(chapter, ()):
            if split_name(name)[1] == "txt":
                return name
    above, _, last = folder.rpartition("/")
    return tree.metadata.get(above) if last == WAVS else None


class Layout:
    """Says what is said of the items of a plan, from the contents of the files that they name. For use in many threads."""

    def __init__(self, tables: frozenset[str], stems: frozenset[str], *, without_text: bool) -> None:
        self.tables = tables
        """Texts that many items share, each with a line per item."""
        self._stems = stems
        """Of all audio in the tree, excluded or not; empty if there are no tables."""
        self._without_text = without_text
        self.reading = Reading(TEXT_KEYS, decode_text)
        """How its texts are read. Whoever can give all of them has their encoding told from all."""
        self._rows: dict[str, dict[str, Annotated]] = {}
        self._lock = threading.Lock()

    def read_table(self, name: str, content: bytes) -> list[LeftOut]:
        """Keep a table for `annotate`, which may then do without its content.

        Gives the lines that no audio answers to, and those that name an audio again. Raises UsageError, naming the line,
        if it is no such table.
        """
        folder = name.rpartition("/")[0]
        transcript = name.lower().endswith(TRANSCRIPT + ".txt")
        below = [part for part in (folder, "" if transcript else WAVS) if part]
        rows: dict[str, Annotated] = {}
        left_out: list[LeftOut] = []
        for number, line in _lines(name, content):
            key, row = _transcript_line(line) if transcript else _metadata_line(name, number, line)
            stem = "/".join([*below, key])
            if stem in rows:
                left_out.append(LeftOut("duplicate", stem, f"line {number} of {name}: an earlier line is taken"))
            elif stem not in self._stems:
                left_out.append(LeftOut("text_without_audio", stem, f"line {number} of {name}"))
            rows.setdefault(stem, row)
        self._rows[name] = rows
        return left_out

    def annotate(self, planned: Planned, contents: Mapping[str, bytes]) -> Annotated | LeftOut:
        """What `contents`, by name, say of an item. Of a table that has been read before, the content may be absent.

        A text that is empty or cannot be read leaves the item out, unless audio without text is wanted. Raises UsageError
        as `read_table` does.
        """
        if planned.texts and planned.texts[0] in self.tables:
            said = self._row(planned, planned.texts[0], contents)
        else:
            said = _read_sidecars(planned, contents, self.reading)
        if isinstance(said, Annotated) and not (said.text or "").strip() and planned.texts:
            faults = (said.metadata or {}).get("sidecar_errors")
            detail = "; ".join(faults) if faults else f"no text in {', '.join(planned.texts)}"
            said = (
                said if self._without_text else LeftOut("unreadable_text" if faults else "empty_text", planned.audio, detail)
            )
        return said

    def _row(self, planned: Planned, table: str, contents: Mapping[str, bytes]) -> Annotated | LeftOut:
        with self._lock:
            if table not in self._rows:
                self.read_table(table, contents[table])
        row = self._rows[table].get(planned.id)
        if row is not None:
            return row
        return Annotated() if self._without_text else LeftOut("audio_without_text", planned.audio, f"no line in {table}")


def _read_sidecars(planned: Planned, contents: Mapping[str, bytes], reading: Reading) -> Annotated:
    files = {split_name(name)[1]: (name, contents[name]) for name in planned.texts}
    said = read_sidecars(files, reading)
    text_name = planned.texts[0] if said.text is not None else None
    if said.text is not None and len(files) > 1:  # the first that would give a text alone has given it
        ways = (extension for extension in SIDECAR_EXTENSIONS if extension in files)
        text_name = next(files[way][0] for way in ways if read_sidecars({way: files[way]}, reading).text is not None)
    return Annotated(said.text, text_name, said.language, said.metadata)


def _lines(name: str, content: bytes) -> Iterator[tuple[int, str]]:
    """(number, line) of a table, without blank ones."""
    try:
        text = decode_text(content)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: expected a table of texts: {error.reason}") from None
    # not splitlines: a text may hold what Unicode, but no table, takes for the end of a line
    for number, line in enumerate(text.split("\n"), 1):
        if stripped := line.strip():
            yield number, stripped


def _transcript_line(line: str) -> tuple[str, Annotated]:
    """Such as `84-121123-0000 GO DO YOU HEAR`."""
    key, _, text = line.partition(" ")
    return key, Annotated(text.strip())


def _metadata_line(name: str, number: int, line: str) -> tuple[str, Annotated]:
    """Such as `LJ001-0001|in 1963|in nineteen sixty-three`, without quoting; the last part may be absent.

    The text is the last one, in which numbers and abbreviations are written as they are spoken: that is what the audio
    says. The other one is kept as `raw_text` where it differs.
    """
    key, *texts = line.split("|")
    if not 1 <= len(texts) <= 2:
        raise UsageError(
            f"{name}: line {number}: expected the lines of LJSpeech, `id|text|normalised text`, found {line[:80]!r}; "
            f"mend it, or leave it out with --exclude '{METADATA}' if it is another kind of table"
        )
    raw, text = texts[0].strip(), texts[-1].strip()
    return key.strip(), Annotated(text or raw, metadata={"raw_text": raw} if text and raw != text else None)
