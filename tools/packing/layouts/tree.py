"""Pairs the files of a tree by their names alone, and reads the annotations of the audio.

Several layouts may be in one tree and below any folder: audio with sidecars of the same stem (`a/1.5_x.wav`, `a/1.5_x.lab`);
LibriSpeech (`84/121123/84-121123-0000.flac`, all lines in `84/121123/84-121123.trans.txt`); LJSpeech
(`wavs/LJ001-0001.wav`, all lines in `metadata.csv`); those of speech_corpora.py, long_recordings.py and lhotse.py. Audio
with a text of its own takes it rather than a table's line. Two layouts with a line for one file are an error that names
both. Subtitles beside audio are its segments, wherever its text is from.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from jobs.audio_formats import AUDIO_EXTENSIONS, MAY_BE_FILMS
from jobs.sidecar_names import AmbiguousName, SidecarNames
from jobs.sidecars import SIDECAR_EXTENSIONS, read_sidecars
from jobs.sidecars import Reading as SidecarReading
from jobs.subtitles import SUBTITLE_EXTENSIONS
from jobs.text_encoding import decode_text
from tools.packing.layouts.audiobooks import WAVS, read_audiofolder, read_metadata, read_transcript
from tools.packing.layouts.lhotse import is_lhotse_table, lhotse_books
from tools.packing.layouts.long_recordings import is_recordings_table, recording_books
from tools.packing.layouts.speech_corpora import (
    METADATA,
    corpus_books,
    is_corpus_table,
    kin,
    read_kin,
)
from tools.packing.layouts.subtitle_files import pair_subtitles, with_cues
from tools.packing.layouts.tables import Annotated, Book, Shelf
from tools.packing.pairs import LeftOut, Reason, SourceOptions, is_excluded, is_outside

__all__ = ["Annotated", "Layout", "Plan", "Planned", "is_table_name", "plan_tree", "split_name"]

TRANSCRIPT = ".trans"
"""Suffix of the stem of LibriSpeech tables: `84-121123.trans.txt` has the lines of `84-121123-*.flac` beside it."""
TABLE_EXTENSIONS = ("txt", "json", "jsonl", "gz", "csv", "tsv")
WITHOUT_EXTENSION = "without extension"


@dataclass(frozen=True, slots=True)
class Planned:
    """One item of a tree of files, known from names alone."""

    id: str
    """The audio's relative path without its extension."""
    audio: str
    texts: tuple[str, ...]
    """The names of files that may annotate it: its sidecars, or tables (see `Layout.tables`)."""
    kin: str = ""
    """The layout, if the texts are its own files under other names: `libritts` or `vctk`."""
    subtitles: str = ""
    """The name of its subtitles, if any."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that may annotate it."""
        return (*self.texts, self.subtitles) if self.subtitles else self.texts

    def without(self, name: str) -> Planned:
        """The same without one of these files."""
        texts = tuple(text for text in self.texts if text != name)
        return replace(self, texts=texts, subtitles="" if name == self.subtitles else self.subtitles)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a tree: every audio and text file is in an item or left out."""

    items: tuple[Planned, ...]
    """Sorted by id."""
    left_out: tuple[LeftOut, ...]
    """Sorted by name."""
    found: Counter[str]
    """All files by extension, including other kinds."""
    layout: Layout


@dataclass(slots=True)
class _Tree:
    """The relevant files of a tree, by stem: the relative path without extension."""

    audio: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    """Files that may be tables, by their names."""
    subtitles: list[str] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)
    """Stems of excluded audio."""
    paired: set[str] = field(default_factory=set)
    """Texts whose stem differs slightly from that of their audio."""
    doubts: dict[str, str] = field(default_factory=dict)
    """Stem of audio -> why none of several texts was chosen."""
    left_out: list[LeftOut] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)


def plan_tree(names: Iterable[str], options: SourceOptions) -> Plan:
    """Pair the files of a tree, given as relative paths with `/`, in any order.

    Of several audio files with one stem, and of several texts with one stem and one extension (in any case), the first
    in sorted order is taken, with films after other audio. Litter of macOS (`._x`, `.DS_Store`, `__MACOSX`) is skipped
    silently.
    """
    tree = _sort_out(names, options)
    _pair_by_look(tree)
    library = _Library(tree)
    items: list[Planned] = []
    used: set[str] = set()
    files = {stem: sorted(names, key=lambda name: split_name(name)[1] in MAY_BE_FILMS) for stem, names in tree.audio.items()}
    subtitles, others_subtitles = pair_subtitles(
        tree.subtitles, {stem: names[0] for stem, names in files.items()}, tree.excluded
    )
    tree.left_out.extend(others_subtitles)
    for stem, (audio, *others) in sorted(files.items()):
        tree.left_out.extend(LeftOut("duplicate", name, f"{audio} is taken") for name in others)
        texts = tuple(_sidecars(tree, stem))
        layout = ""
        if not texts:
            layout, texts = _kin(tree, stem)
            texts = texts or library.tables_of(stem)
            used.update(texts)
        own_subtitles = subtitles.get(stem, "")
        if is_outside(stem, options):
            tree.left_out.append(LeftOut("outside_subset", audio))
        elif texts or own_subtitles or options.without_text:
            items.append(Planned(stem, audio, texts, layout, own_subtitles))
        else:
            tree.left_out.append(LeftOut("audio_without_text", audio, tree.doubts.get(stem, "")))
    for stem in tree.texts.keys() - tree.audio.keys():
        reason: Reason = "excluded" if stem in tree.excluded else "text_without_audio"
        left = [name for name in _sidecars(tree, stem) if name not in used and name not in tree.paired]
        tree.left_out.extend(LeftOut(reason, name) for name in left)
    books = library.used
    stems = frozenset(tree.audio.keys() | tree.excluded) if books else frozenset()
    left_out = tuple(sorted(tree.left_out, key=lambda left: left.name))
    return Plan(tuple(items), left_out, tree.found, Layout(books, stems, options))


def _sort_out(names: Iterable[str], options: SourceOptions) -> _Tree:
    tree = _Tree()
    for name in sorted(names):
        base = name.rpartition("/")[2]
        if base == ".DS_Store" or base.startswith("._") or ("__MACOSX" in name and "__MACOSX" in name.split("/")):
            continue
        stem, extension = split_name(name)
        tree.found[f".{extension}" if extension else WITHOUT_EXTENSION] += 1
        audio, text = extension in AUDIO_EXTENSIONS, extension in SIDECAR_EXTENSIONS
        table = extension in TABLE_EXTENSIONS and is_table_name(base)
        subtitles = extension in SUBTITLE_EXTENSIONS
        if not (audio or text or table or subtitles):
            continue
        if options.exclude and is_excluded(name, options.exclude):
            tree.left_out.append(LeftOut("excluded", name))
            if audio:
                tree.excluded.add(stem)
            continue
        if subtitles:
            tree.subtitles.append(name)
        if table:
            tree.tables.append(name)
        if audio or text:
            (tree.audio if audio else tree.texts).setdefault(stem, []).append(name)
    return tree


def is_table_name(base: str) -> bool:
    """Whether a file with this base name may annotate many audio files."""
    lower = base.lower()
    if lower.endswith(".txt"):  # nearly all are texts of one clip
        return lower.endswith(f"{TRANSCRIPT}.txt") or is_corpus_table(lower)
    return lower == METADATA or is_corpus_table(lower) or is_recordings_table(base) or is_lhotse_table(base)


def split_name(name: str) -> tuple[str, str]:
    """(stem, extension in lower case). A name that begins with its only dot has no extension."""
    stem, _, extension = name.rpartition(".")
    return (stem, extension.lower()) if "/" not in extension and stem and not stem.endswith("/") else (name, "")


def _pair_by_look(tree: _Tree) -> None:
    """Pair texts without audio of their stem with audio of a similar name: `a.mp3.json` or `A.txt` with `a.mp3`.

    If several fit, none is taken, and the text is left out with their names.
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


def _kin(tree: _Tree, stem: str) -> tuple[str, tuple[str, ...]]:
    """(layout, texts) of audio whose texts are its own files under other names."""
    for layout, stems in kin(stem):
        names = (next((name for name in tree.texts.get(other, ()) if split_name(name)[1] == "txt"), None) for other in stems)
        if texts := tuple(name for name in names if name is not None):
            return layout, texts
    return "", ()


def _is_of_one_clip(tree: _Tree, name: str) -> bool:
    stem, extension = split_name(name)
    return (extension in SIDECAR_EXTENSIONS and stem in tree.audio) or name in tree.paired


class _Library:
    """The books that a tree's tables may be, by scope."""

    def __init__(self, tree: _Tree) -> None:
        folders = {stem.rpartition("/")[0] for stem in tree.audio}
        self._by_scope: dict[str, list[Book]] = {}
        self._by_chapter: dict[str, Book] = {}
        self._of_folder: dict[str, tuple[tuple[Book, ...], tuple[str, ...]]] = {}
        """Books around a folder, and their tables."""
        self.used: dict[tuple[str, ...], tuple[Book, ...]] = {}
        """Tables as items name them -> their books, the nearest first."""
        tables = [name for name in tree.tables if not _is_of_one_clip(tree, name)]
        for name in tables:
            folder, slash, base = name.rpartition("/")
            if base.lower().endswith(f"{TRANSCRIPT}.txt"):
                chapter = split_name(name)[0]
                if chapter.endswith(TRANSCRIPT):
                    scope = chapter.removesuffix(TRANSCRIPT)
                    self._by_chapter.setdefault(scope, Book("LibriSpeech", (name,), folder, read_transcript))
            elif base.lower() == METADATA:
                read = read_metadata if f"{folder}{slash}{WAVS}" in folders else read_audiofolder
                self._by_scope.setdefault(folder, []).append(Book("metadata.csv", (name,), folder, read))
        for book in (*corpus_books(tables), *recording_books(tables), *lhotse_books(tables)):
            self._by_scope.setdefault(book.scope, []).append(book)

    def tables_of(self, stem: str) -> tuple[str, ...]:
        """The tables that may have a line for this audio."""
        folder = stem.rpartition("/")[0]
        if folder not in self._of_folder:
            around = tuple(self._around(folder))
            self._of_folder[folder] = (around, tuple(name for book in around for name in book.tables))
        books, tables = self._of_folder[folder]
        if (chapter := self._by_chapter.get(stem.rpartition("-")[0])) is not None:
            books, tables = (chapter, *books), (*chapter.tables, *tables)
        if books:
            self.used[tables] = books
        return tables

    def _around(self, folder: str) -> Iterator[Book]:
        while True:
            yield from self._by_scope.get(folder, ())
            if not folder:
                return
            folder = folder.rpartition("/")[0]


class Layout:
    """Reads the annotations of a plan's items from the contents of their files. Thread-safe."""

    def __init__(
        self,
        books: Mapping[tuple[str, ...], tuple[Book, ...]],
        stems: Collection[str],
        options: SourceOptions,
    ) -> None:
        self.shelf = Shelf(books, stems, options.scratch, options.texts)
        self.tables = self.shelf.tables
        """Texts that many items share, each with a line per item."""
        self._without_text = options.without_text
        self.reading = SidecarReading(options.texts.keys, decode_text)
        """How texts are read. Sources that can give all texts set it, to detect the encoding from all of them."""

    def annotate(self, planned: Planned, contents: Mapping[str, bytes]) -> Annotated | LeftOut:
        """The annotations of an item in `contents`, by name. Contents of tables that were already read may be absent.

        An item with an empty or unreadable text is left out, unless audio without text is wanted. Raises UsageError
        as `shelf.read` does.
        """
        if planned.texts and planned.texts[0] in self.tables:
            said = self._row(planned, contents)
        elif planned.kin:
            said = read_kin(planned.kin, planned.id, [(name, contents[name]) for name in planned.texts], self.reading)
        else:
            said = _read_sidecars(planned, contents, self.reading)
        if isinstance(said, Annotated) and planned.subtitles:
            said = with_cues(said, planned.subtitles, contents[planned.subtitles], self.reading.decode)
        if isinstance(said, Annotated) and said.says_nothing and planned.files:
            faults = (said.metadata or {}).get("sidecar_errors")
            detail = "; ".join(faults) if faults else f"no text in {', '.join(planned.files)}"
            said = (
                said if self._without_text else LeftOut("unreadable_text" if faults else "empty_text", planned.audio, detail)
            )
        return said

    def _row(self, planned: Planned, contents: Mapping[str, bytes]) -> Annotated | LeftOut:
        said = self.shelf.said(planned.texts, planned.id, lambda name: io.BytesIO(contents[name]))
        if isinstance(said, LeftOut):
            return LeftOut(said.reason, planned.audio, said.detail)
        if said is not None:
            return said
        tables = ", ".join(planned.texts)
        if self._without_text or planned.subtitles:
            return Annotated()
        return LeftOut("audio_without_text", planned.audio, f"no line in {tables}")


def _read_sidecars(planned: Planned, contents: Mapping[str, bytes], reading: SidecarReading) -> Annotated:
    files = {split_name(name)[1]: (name, contents[name]) for name in planned.texts}
    said = read_sidecars(files, reading)
    text_name = planned.texts[0] if said.text is not None else None
    if said.text is not None and len(files) > 1:  # the first one that alone gives a text is its source
        ways = (extension for extension in SIDECAR_EXTENSIONS if extension in files)
        text_name = next(files[way][0] for way in ways if read_sidecars({way: files[way]}, reading).text is not None)
    return Annotated(said.text, text_name, said.language, said.metadata)
