"""Layouts of speech corpora, recognized by the names of their tables and confirmed by a table's first line.

Common Voice: `clips/` beside train.tsv, dev.tsv, test.tsv, validated.tsv, ... Hugging Face audiofolder: `metadata.csv` or
`metadata.jsonl`. AISHELL-1: `transcript/aishell_transcript*.txt`, and audio below the folder that `transcript` is in.
AISHELL-3: `content.txt` beside `wav/`. MLS: `transcripts.txt` beside `audio/`.
Two have texts in files of their own: LibriTTS (`x.normalized.txt`, `x.original.txt` beside `x.wav`) and VCTK
(`txt/p225/p225_001.txt` for `wav48_silence_trimmed/p225/p225_001_mic1.flac`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from audio_tokenizers.errors import UsageError
from jobs.sidecars import Reading as SidecarReading
from jobs.sidecars import read_sidecars
from tools.packing.layouts.row_store import RowStore
from tools.packing.layouts.table_lines import NO_TEXT, csv_rows, stem_of, text_lines
from tools.packing.layouts.tables import (
    Annotated,
    Book,
    Line,
    OtherKindError,
    Reading,
    lines_of_kind,
    objects_of_kind,
    said_of,
)
from tools.packing.pairs import LeftOut

__all__ = [
    "METADATA",
    "METADATA_LINES",
    "audiofolder_csv",
    "corpus_books",
    "is_audiofolder",
    "is_corpus_table",
    "kin",
    "read_kin",
]

METADATA, METADATA_LINES = "metadata.csv", "metadata.jsonl"
"""Tables of a Hugging Face audiofolder; LJSpeech also uses the first name."""
FILE_NAME = "file_name"
VALIDATED, SPLITS, UNSURE = "validated", ("train", "dev", "test"), ("other", "invalidated")
COMMON_VOICE = tuple(f"{name}.tsv" for name in (*SPLITS, VALIDATED, *UNSURE))
"""In reading order."""
CLIPS = "clips"
VOTES = re.compile(r"[0-9]{1,9}")
AISHELL_1 = re.compile(r"aishell_transcript.*\.txt", re.IGNORECASE)
AISHELL_3, MLS, MLS_PLACES = "content.txt", "transcripts.txt", "segments.txt"
AISHELL_3_LINE = re.compile(r"(?P<name>\S+)\.wav\s+(?P<words>.*)", re.IGNORECASE)
PINYIN = re.compile(r"[a-zü:]+[1-6]")
MLS_LINE = re.compile(r"(?P<name>[0-9]+_[0-9]+_[0-9]+)\t(?P<text>.*)")
VCTK_AUDIO, VCTK_TEXT = re.compile(r"wav[0-9]+.*", re.IGNORECASE), "txt"
MICROPHONE = re.compile(r"(?P<base>.+)_(?P<microphone>mic[0-9])")
NORMALIZED, ORIGINAL = ".normalized", ".original"


def is_corpus_table(base: str) -> bool:
    """Whether a file with this base name, in lower case, may be one of these tables."""
    return (
        base in (METADATA_LINES, AISHELL_3, MLS, MLS_PLACES) or base in COMMON_VOICE or AISHELL_1.fullmatch(base) is not None
    )


def corpus_books(tables: Iterable[str]) -> Iterator[Book]:
    """The books that these files may be, given by their paths in the tree."""
    folders: dict[str, dict[str, str]] = {}
    for name in sorted(tables):
        folder, _, base = name.rpartition("/")
        folders.setdefault(folder, {}).setdefault(base.lower(), name)
    for folder, there in sorted(folders.items()):
        if tsv := tuple(there[base] for base in COMMON_VOICE if base in there):
            yield Book("Common Voice", tsv, _below(folder, CLIPS), _read_common_voice)
        if METADATA_LINES in there:
            yield Book("Hugging Face audiofolder", (there[METADATA_LINES],), folder, _read_metadata_lines)
        if AISHELL_3 in there:
            yield Book("AISHELL-3", (there[AISHELL_3],), _below(folder, "wav"), _read_aishell_3, by_name=True)
        if MLS in there:
            both = tuple(there[base] for base in (MLS_PLACES, MLS) if base in there)
            yield Book("MLS", both, _below(folder, "audio"), _read_mls, by_name=True)
        for base in (base for base in there if AISHELL_1.fullmatch(base)):
            above, _, last = folder.rpartition("/")
            scope = above if last.lower() == "transcript" else folder
            yield Book("AISHELL-1", (there[base],), scope, _read_aishell_1, by_name=True)


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def kin(stem: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(layout, stems of its .txt files for this audio), for audio without a text of the same name."""
    yield "libritts", (stem + NORMALIZED, stem + ORIGINAL)
    folder, _, base = stem.rpartition("/")
    above, _, speaker = folder.rpartition("/")
    top, _, rate = above.rpartition("/")
    if VCTK_AUDIO.fullmatch(rate):
        found = MICROPHONE.fullmatch(base)
        yield "vctk", ("/".join((*([top] if top else []), VCTK_TEXT, speaker, found["base"] if found else base)),)


def read_kin(layout: str, clip: str, texts: Sequence[tuple[str, bytes]], reading: SidecarReading) -> Annotated:
    """The annotations in texts found by `kin`, given as (name, content). LibriTTS's normalised text is the spoken one."""
    said = [read_sidecars({"txt": file}, reading) for file in texts]
    metadata = dict(said[0].metadata or {})
    if layout == "vctk":
        *_, speaker, base = clip.split("/")
        found = MICROPHONE.fullmatch(base)
        metadata |= {"speaker": speaker} | ({"microphone": found["microphone"]} if found else {})
    elif len(said) > 1 and said[1].text and said[1].text != said[0].text:
        metadata["raw_text"] = said[1].text
    return Annotated(said[0].text, texts[0][0], None, metadata or None)


def _read_common_voice(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    """Rows of train, dev and test, which name the split; then validated, which repeats them.

    Clips that are only in other or invalidated are left out, unless the former tables are missing (see --exclude).
    """
    bases = {name: name.rpartition("/")[2].lower().removesuffix(".tsv") for name in book.tables}
    approved = any(base not in UNSURE for base in bases.values())
    recognised = False
    left_out: list[LeftOut] = []
    for name in book.tables:
        base = bases[name]
        columns: list[str] | None = None
        for number, line in text_lines(name, reading.open_table, reading.decoder):
            where = f"line {number} of {name}"
            fields = [] if line is None else line.split("\t")  # no quoting: a sentence may begin with a quotation mark
            if columns is None:
                columns = fields
                if not {"path", "sentence"} <= set(columns):
                    expected = "expected columns `path` and `sentence` between tabs, as in Common Voice"
                    left_out.append(LeftOut("unreadable_text", name, f"{expected}, found {(line or '')[:80]!r}"))
                    break
                recognised = True
            elif len(fields) != len(columns):
                fault = NO_TEXT if line is None else f"expected {len(columns)} fields between tabs, found {len(fields)}"
                yield LeftOut("unreadable_text", where, fault)
            else:
                record = dict(zip(columns, fields, strict=True))
                key = stem_of(book.scope, record["path"])
                said = _common_voice_row(record, None if base == VALIDATED else base, reading.keys)
                if approved and base in UNSURE:
                    yield Line(key, LeftOut("not_validated", key, f"only in {name}"), where, repeats=True)
                else:
                    yield Line(key, said, where, repeats=base == VALIDATED)
    if not recognised:
        raise OtherKindError(left_out[0].detail if left_out else "no line in it")
    yield from left_out


def _common_voice_row(record: dict[str, str], split: str | None, keys: Sequence[str]) -> Annotated:
    del record["path"]
    row: dict[str, object] = {
        key: int(value) if key.endswith("_votes") and VOTES.fullmatch(value) else value for key, value in record.items()
    }
    sentence = record["sentence"]
    inner = sentence[1:-1]
    # Releases before 2020 were quoted as CSV where a sentence had quotation marks: `"""Good-bye,"" said the boy."`
    if len(sentence) > 1 and sentence[0] == sentence[-1] == '"' and '""' in inner and '"' not in inner.replace('""', ""):
        row |= {"sentence": inner.replace('""', '"'), "raw_text": sentence}
    said = said_of(row, (*keys, "sentence"))
    return said if split is None else Annotated(said.text, None, said.language, {**(said.metadata or {}), "split": split})


def is_audiofolder(first: str) -> bool:
    """Whether the first line of a metadata.csv has an audiofolder's column names."""
    return "|" not in first and any(_names_a_file(column.strip(' "\ufeff')) for column in first.split(","))


def _names_a_file(column: str) -> bool:
    return column == FILE_NAME or column.endswith(f"_{FILE_NAME}")


def audiofolder_csv(name: str, reading: Reading) -> Iterator[Line | LeftOut]:
    """The rows of an audiofolder's metadata.csv. Raises UsageError if it has lines, but no readable one."""
    folder = name.rpartition("/")[0]
    columns: list[str] | None = None
    good, first_bad = False, ""
    for number, fields in csv_rows(name, reading.open_table, reading.decoder):
        where = f"line {number} of {name}"
        if isinstance(fields, str):
            if columns is None:
                raise UsageError(f"{name}: line {number}: {fields}: fix it, or leave the table out with --exclude")
            first_bad = first_bad or f"line {number}: {fields}"
            yield LeftOut("unreadable_text", where, fields)
        elif columns is None:
            columns = [fields[0].removeprefix("\ufeff"), *fields[1:]]
        elif len(fields) != len(columns):
            yield LeftOut("unreadable_text", where, f"expected {len(columns)} fields between commas, found {len(fields)}")
        else:
            good = True
            yield _audiofolder_line(folder, dict(zip(columns, fields, strict=True)), where, reading.keys)
    if first_bad and not good:
        raise UsageError(f"{name}: {first_bad}: fix it, or leave the table out with --exclude")


def _audiofolder_line(folder: str, record: dict[str, object], where: str, text_keys: Sequence[str]) -> Line | LeftOut:
    keys = (FILE_NAME, *(key for key in record if _names_a_file(key)))
    key = next((key for key in keys if isinstance(record.get(key), str) and record[key]), None)
    if key is None:
        return LeftOut("unreadable_text", where, f"expected the path of an audio file under `{FILE_NAME}`")
    path = str(record.pop(key))
    return Line(stem_of(folder, path), said_of(record, text_keys), where)


def _read_metadata_lines(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    name = book.tables[0]
    folder = name.rpartition("/")[0]
    other_kind = f"expected objects with `{FILE_NAME}`, as in an audiofolder; the first line has none"
    for where, record in objects_of_kind(name, reading, lambda first: any(map(_names_a_file, first)), other_kind):
        yield record if isinstance(record, LeftOut) else _audiofolder_line(folder, record, where, reading.keys)


def _read_aishell_1(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    """Such as `BAC009S0002W0122 而 对 楼市`. The spaces between words stay."""
    for name in book.tables:
        for number, line in text_lines(name, reading.open_table, reading.decoder):
            where = f"line {number} of {name}"
            if line is None:
                yield LeftOut("unreadable_text", where, NO_TEXT)
            elif parts := line.split(None, 1):
                yield Line(parts[0], Annotated(parts[1].strip() if len(parts) > 1 else None), where)


def _matches(
    name: str, pattern: re.Pattern[str], expected: str, reading: Reading
) -> Iterator[tuple[str, re.Match[str] | LeftOut]]:
    """(place, match) of each line of a table. Raises OtherKindError if the first decodable line does not match; other lines
    that do not match or cannot be decoded are left out.
    """

    def read() -> Iterator[tuple[str, re.Match[str] | LeftOut | OtherKindError]]:
        for number, line in text_lines(name, reading.open_table, reading.decoder):
            where = f"line {number} of {name}"
            if line is None:
                yield where, LeftOut("unreadable_text", where, NO_TEXT)
            else:
                yield where, pattern.fullmatch(line.strip()) or OtherKindError(f"expected {expected}, found {line[:60]!r}")

    return lines_of_kind(read())


def _read_aishell_3(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    """Such as `SSB00050001.wav	广 guang3 州 zhou1`: the characters are the text, `pinyin` is metadata."""
    expected = "the lines of AISHELL-3, `NAME.wav 广 guang3 州 zhou1`"
    for where, found in _matches(book.tables[0], AISHELL_3_LINE, expected, reading):
        if isinstance(found, LeftOut):
            yield found
            continue
        words = found["words"].split()
        pinyin = [word for word in words if PINYIN.fullmatch(word)]
        text = "".join(word for word in words if not PINYIN.fullmatch(word))
        yield Line(found["name"], Annotated(text, metadata={"pinyin": " ".join(pinyin)} if pinyin else None), where)


def _read_mls(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    """Such as `4800_10003_000000	text`. The recording and times that it was cut from are metadata: `cut_from`."""
    *places, name = book.tables
    found_in = RowStore(reading.scratch)
    for table in places:
        for _, line in text_lines(table, reading.open_table, reading.decoder):
            key, _, rest = (line or "").partition("\t")
            if rest:
                found_in.add(key, rest.encode("utf-8", "surrogatepass"))
    for where, found in _matches(name, MLS_LINE, "the lines of MLS, `SPEAKER_BOOK_NUMBER text` with a tab", reading):
        if isinstance(found, LeftOut):
            yield found
            continue
        cut = [_place(row.decode("utf-8", "surrogatepass")) for row in found_in.get(found["name"])[:1]]
        yield Line(found["name"], Annotated(found["text"].strip(), metadata={"cut_from": cut[0]} if cut else None), where)


def _place(line: str) -> dict[str, object]:
    """Of segments.txt: the recording's address, begin and end in seconds."""
    url, *times = line.split("\t")
    try:
        start, end = (float(time) for time in times)
    except ValueError:
        return {"url": url}
    return {"url": url, "start": start, "end": end}
