"""Tables of audiobooks: LibriSpeech's, LJSpeech's metadata.csv, and the audiofolder's, which has the same name."""

from __future__ import annotations

from collections.abc import Iterator

from audio_tokenizers.errors import UsageError
from tools.packing.layouts.speech_corpora import METADATA, audiofolder_csv, is_audiofolder
from tools.packing.layouts.table_lines import NO_TEXT, first_line, text_lines
from tools.packing.layouts.tables import Annotated, Book, Line, OtherKindError, Reading
from tools.packing.pairs import LeftOut

__all__ = ["WAVS", "read_audiofolder", "read_metadata", "read_transcript"]

WAVS = "wavs"
"""The folder beside an LJSpeech metadata.csv with the audio."""


def read_transcript(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    """The lines of a LibriSpeech chapter."""
    name = book.tables[0]
    for number, line in _lines(name, reading):
        where = f"line {number} of {name}"
        if line is None:
            yield LeftOut("unreadable_text", where, NO_TEXT)
            continue
        key, said = _transcript_line(line)
        yield Line(f"{book.scope}/{key}" if book.scope else key, said, where)


def read_metadata(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    """An audiofolder's metadata.csv if its first line says so, else LJSpeech's. Raises UsageError if it is neither."""
    name = book.tables[0]
    if is_audiofolder(first_line(name, reading.open_table, reading.decoder)):
        yield from audiofolder_csv(name, reading)
        return
    below = f"{book.scope}/{WAVS}" if book.scope else WAVS
    recognised, bad = False, 0
    for number, line in _lines(name, reading):
        where = f"line {number} of {name}"
        made = NO_TEXT if line is None else _metadata_line(line)
        if not isinstance(made, str):
            recognised = True
            yield Line(f"{below}/{made[0]}", made[1], where)
        elif recognised or line is None:
            bad = bad or number
            yield LeftOut("unreadable_text", where, made)
        else:
            other = f"fix it, or leave it out with --exclude '{METADATA}' if it is another kind of table"
            raise UsageError(f"{name}: line {number}: {made}; {other}")
    if bad and not recognised:
        raise UsageError(f"{name}: line {bad}: expected a table of texts, found what is {NO_TEXT}")


def read_audiofolder(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    """Read as an audiofolder's table: without `wavs` beside it, it can be nothing else."""
    name = book.tables[0]
    first = first_line(name, reading.open_table, reading.decoder)
    if not is_audiofolder(first):
        raise OtherKindError(f"expected an audiofolder's column `file_name`, found {first[:80]!r}")
    yield from audiofolder_csv(name, reading)


def _lines(name: str, reading: Reading) -> Iterator[tuple[int, str | None]]:
    """(number, line) of a table, without blank lines; None for one that cannot be decoded."""
    for number, line in text_lines(name, reading.open_table, reading.decoder):
        stripped = None if line is None else line.strip()
        if stripped != "":
            yield number, stripped


def _transcript_line(line: str) -> tuple[str, Annotated]:
    """Such as `84-121123-0000 GO DO YOU HEAR`."""
    key, _, text = line.partition(" ")
    return key, Annotated(text.strip())


def _metadata_line(line: str) -> tuple[str, Annotated] | str:
    """Such as `LJ001-0001|in 1963|in nineteen sixty-three`, without quoting; the last part may be absent. An error message
    for other lines.

    The text is the last one, in which numbers and abbreviations are written as spoken. The other one is kept as `raw_text`
    if it differs.
    """
    key, *texts = line.split("|")
    if not 1 <= len(texts) <= 2:
        return f"expected the lines of LJSpeech, `id|text|normalised text`, found {line[:80]!r}"
    raw, text = texts[0].strip(), texts[-1].strip()
    return key.strip(), Annotated(text or raw, metadata={"raw_text": raw} if text and raw != text else None)
