"""Manifests as sources of pairs: JSONL files with a line for each clip, including NeMo's."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.foreign_json import read_json_object
from jobs.sidecars import FAULTS_KEY
from jobs.text_encoding import TextDecoder, wide_encoding
from jobs.text_rules import take_language, take_text
from tools.packing.boundary import Boundary, refuse_links
from tools.packing.folder import read_audio, read_trouble, with_progress
from tools.packing.layouts.table_lines import LONGEST_LINE, wide_lines
from tools.packing.layouts.tree import split_name
from tools.packing.manifests.parts import PartsFoundError, only_whole_files, recordings_of
from tools.packing.manifests.rows import Row, Rows, name_below
from tools.packing.pairs import Item, LeftOut, Pair, SourceOptions, is_excluded, is_outside

__all__ = ["ManifestSource", "manifest_lines", "open_jsonl"]

AUDIO_KEYS = ("audio_path", "audio_filepath")
"""Ours, and NeMo's."""


class ManifestSource:
    """The clips that a manifest names, in its order.

    `rows` reads the manifest: once for the list and once for the pairs, to keep it out of memory. The fingerprint covers
    everything that it says of the clips, and the sizes of their files. Missing audio and unreadable lines are left out from
    the start.
    """

    def __init__(
        self,
        name: str,
        home: str,
        rows: Rows,
        options: SourceOptions,
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        self.name = name
        self.items_total = self.bytes_total = 0
        self.found: Counter[str] = Counter()
        self._rows = rows
        self._places = (home, str(Path.cwd()))
        self._options = options
        self._boundaries = {place: Boundary(place) for place in self._places}
        outside: dict[str, str] = {}
        self._skipped: set[int] = set()
        ids: set[str] = set()
        digest = hashlib.sha256(b"manifest 1\n")
        reasons: list[LeftOut] = []
        for number, row in enumerate(with_progress(rows(), f"listing {name}", "clip")):
            if isinstance(row, LeftOut):
                self._skipped.add(number)
                reasons.append(row)
                continue
            extension = split_name(row.audio)[1]
            self.found[f".{extension}" if extension else "without extension"] += 1
            size = 0
            reason = self._reason(row, ids)
            if reason is None:
                ids.add(row.id)
                found = self._find(row.audio)
                size = found[1] if found is not None else 0
                if found is not None and (target := self._outside(row.audio, found[0])) is not None:
                    outside[row.audio] = target
                reason = self._missing(row) if found is None else None
            if reason is not None:
                self._skipped.add(number)
                reasons.append(reason)
                continue
            self.items_total += 1
            self.bytes_total += size
            said = (row.id, row.audio_name, size, row.text, row.language, row.metadata)
            digest.update(msgspec.json.encode(said) + b"\n")
        refuse_links(name, outside)
        self.fingerprint = digest.hexdigest()
        self.left_out: Sequence[LeftOut] = (*reasons, *left_out)

    def _reason(self, row: Row, ids: set[str]) -> LeftOut | None:
        """Why a row makes no item, judged from the manifest alone."""
        exclude = self._options.exclude
        if exclude and any(is_excluded(name, exclude) for name in (row.id, row.audio_name)):
            return LeftOut("excluded", row.id, row.where)
        if is_outside(row.id, self._options):
            return LeftOut("outside_subset", row.id, row.where)
        if row.id in ids:
            return LeftOut("duplicate", row.id, f"{row.where}: an earlier line with this id is taken")
        if split_name(row.audio)[1] not in AUDIO_EXTENSIONS:
            return LeftOut("unreadable_audio", row.id, f"{row.where}: {row.audio}: not the name of an audio file")
        if self._options.without_text or (row.text or "").strip() or self._has_parts(row):
            return None
        return LeftOut("audio_without_text" if row.text is None else "empty_text", row.id, row.where)

    @staticmethod
    def _has_parts(row: Row) -> bool:
        parts = (row.metadata or {}).get("segments")
        return isinstance(parts, list) and bool(parts)

    def _missing(self, row: Row) -> LeftOut:
        places = " or ".join(dict.fromkeys(self._places))
        sought = "" if row.audio.startswith("/") else f" in {places}"
        return LeftOut("unreadable_audio", row.id, f"{row.where}: {row.audio}: there is no such file{sought}")

    def _find(self, audio: str) -> tuple[str, int] | None:
        """(path, bytes) of a file. A relative path is resolved from the manifest's folder, or else from the current one."""
        for place in self._places:
            path = audio if audio.startswith("/") else f"{place}/{audio}"
            try:
                found = os.stat(path)  # noqa: PTH116 (text: once per clip)
            except ValueError:  # a zero byte in its name
                return None
            except OSError as error:
                if isinstance(trouble := read_trouble(path, error), InfrastructureError):
                    raise trouble from error
                continue
            if stat.S_ISREG(found.st_mode):
                return path, found.st_size
        return None

    def _outside(self, audio: str, path: str) -> str | None:
        """The target of a path below a folder, if a link leads out of that folder.

        Absolute paths and those with `..` are explicit, and the manifest is the user's own list: they are followed.
        """
        if self._options.follow_links:
            return None
        found = [boundary for place, boundary in self._boundaries.items() if path.startswith(f"{place}/")]
        return None if audio.startswith("/") or not found else found[0].outside(path)

    def items(self, start: int) -> Iterator[Item]:
        """The pairs from number `start` on; see `Source.items`."""
        numbered = enumerate(self._rows())
        wanted = (row for number, row in numbered if number not in self._skipped and isinstance(row, Row))
        return (partial(self._read, row) for row in islice(wanted, start, None))

    def _read(self, row: Row) -> Pair | LeftOut:
        found = self._find(row.audio)
        if found is None:
            raise InfrastructureError(
                f"{row.audio} was there when the manifest was listed, and is not any more: put it back"
            )
        audio = read_audio(found[0], row.id)
        if isinstance(audio, LeftOut):
            return audio
        return Pair(
            id=row.id,
            audio_name=row.audio_name,
            audio=audio[0],
            size=audio[1],
            text=row.text,
            language=row.language,
            metadata=row.metadata,
        )


def open_jsonl(path: Path, options: SourceOptions) -> ManifestSource:
    """A manifest with an object per line: `audio_path` or `audio_filepath`, `text`, `language`, `id`, and any metadata.

    Also as `.gz`. Lines that name parts of a file (NeMo's `offset`) become one recording with segments. A line that is no
    such object is left out as `unreadable_line`. Raises UsageError if all are.
    """
    home = str(path.absolute().parent)
    name = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).stem
    state = path.stat()

    texts = options.texts
    decoder = TextDecoder(texts.encoding, lambda: (line for _, line in manifest_lines(path, texts.encoding)))

    def rows() -> Iterator[Row | LeftOut]:
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (state.st_size, state.st_mtime_ns):
            raise UsageError(f"{path}: has changed while it was read: run the same command again")
        good, first_bad = False, ""
        for number, line in manifest_lines(path, texts.encoding):
            row = _json_row(line, home, number, decoder.decode, texts.keys)
            if isinstance(row, LeftOut):
                first_bad = first_bad or row.detail
            else:
                good = True
            yield row
        if first_bad and not good:
            raise UsageError(f"{path}: {first_bad}: fix the manifest, or write it again if it was cut")

    try:
        return ManifestSource(name, home, only_whole_files(rows), options)
    except PartsFoundError:
        faults: list[LeftOut] = []
        source = ManifestSource(name, home, recordings_of(rows, options.scratch, faults), options)
        source.left_out = (*source.left_out, *faults)
        return source


def manifest_lines(path: Path, encoding: str) -> Iterator[tuple[int, bytes]]:
    """(number, line) of a file, without blank lines. Lines in UTF-16 and UTF-32 come as UTF-8 with a BOM."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rb") as file:
            wide = wide_encoding(file.read(4), encoding)
            file.seek(0)
            narrow = iter(partial(file.readline, LONGEST_LINE + 1), b"")
            lines = narrow if wide is None else wide_lines(path, cast("BinaryIO", file), wide)
            for number, line in enumerate(lines, 1):
                if len(line) > LONGEST_LINE:
                    raise UsageError(f"{path}: line {number}: longer than {LONGEST_LINE:,} bytes: is this a manifest?")
                if line.strip():
                    yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 and not wide else line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: the gzip data is cut or damaged: {error}: copy it again from its source") from None
    except OSError as error:
        raise read_trouble(path, error) from error


def _json_row(
    line: bytes, home: str, number: int, decode: Callable[[bytes], str], text_keys: Sequence[str]
) -> Row | LeftOut:
    def unreadable(words: str) -> LeftOut:
        return LeftOut("unreadable_line", f"line {number}", f"line {number}: {words}")

    try:
        record, faults = read_json_object(decode(line))
    except UnicodeDecodeError as error:
        return unreadable(f"expected a JSON object with `audio_path` and `text`: {error.reason}")
    except msgspec.DecodeError as error:
        return unreadable(f"expected a JSON object with `audio_path` and `text`, found {line[:60]!r} ({error})")
    key = next((key for key in AUDIO_KEYS if isinstance(record.get(key), str) and record[key]), None)
    if key is None:
        keys = ", ".join(record) or "none"
        return unreadable(f"expected the path of an audio file under `audio_path`, found these keys: {keys}")
    is_part = key == AUDIO_KEYS[1] and bool(record.get("offset"))
    audio = record.pop(key)
    text = take_text(record, text_keys)
    if text is None:
        other = next((name for name in text_keys if record.get(name) is not None), None)
        if other is not None:
            return unreadable(f"expected a string under `{other}`, found {record[other]!r:.60}")
        record.pop(text_keys[0], None)
    audio_name = name_below(home, audio)
    stem = split_name(audio_name)[0]
    clip_id = record.pop("id") if isinstance(record.get("id"), str) and record["id"] else stem
    language = take_language(record)
    if faults:
        record[FAULTS_KEY] = [f"line {number}: {fault}" for fault in faults]
    return Row(clip_id, audio, audio_name, text, f"line {number}", language, record or None, is_part)
