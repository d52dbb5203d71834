"""lhotse's manifests: recordings with their supervisions, and cuts. The audio of a recording must be a file: commands in a
data set are never run, and addresses are not fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from jobs.foreign_json import non_finite_numbers
from jobs.segments import is_open_end
from jobs.sidecars import FAULTS_KEY
from tools.packing.layouts.long_recordings import by_time, segment
from tools.packing.layouts.row_store import RowStore
from tools.packing.layouts.table_lines import representable, stem_of
from tools.packing.layouts.tables import Annotated, Book, Line, OtherKindError, Reading, objects_of_kind
from tools.packing.pairs import LeftOut

__all__ = [
    "CUTS",
    "Recording",
    "is_lhotse_table",
    "lhotse_books",
    "plain_supervision",
    "read_lhotse",
    "said_of_supervisions",
    "with_partners",
]

TABLE = re.compile(
    r"(?P<before>(?:[^/]*[-_.])?)(?P<kind>recordings|supervisions|cuts)(?P<after>[-_.][^/]*)?\.jsonl(\.gz)?", re.IGNORECASE
)
RECORDINGS, SUPERVISIONS, CUTS = "recordings", "supervisions", "cuts"
WHOLE_SECONDS = 0.01
"""Seconds: a supervision whose begin and end are this near to those of its recording covers all of it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file, and its annotations in the manifests."""

    id: str
    path: str
    said: Annotated
    where: str


def is_lhotse_table(base: str) -> bool:
    """Whether a file with this base name may be such a manifest."""
    return TABLE.fullmatch(base) is not None


def _kind(name: str) -> str:
    found = TABLE.fullmatch(name.rpartition("/")[2])
    return found["kind"].lower() if found else ""


def with_partners(name: str, there: Iterable[str]) -> tuple[str, ...]:
    """A manifest and its partners in `there`: supervisions of recordings, or the other way round."""
    found = TABLE.fullmatch(name)
    if found is None or found["kind"].lower() == CUTS:
        return (name,)
    same = ((found["before"] or "").lower(), (found["after"] or "").lower())
    kinds = (RECORDINGS, SUPERVISIONS)
    others = ((other, TABLE.fullmatch(other)) for other in sorted(there))
    return tuple(
        other
        for other, match in others
        if match
        and match["kind"].lower() in kinds
        and ((match["before"] or "").lower(), (match["after"] or "").lower()) == same
    )


def lhotse_books(tables: Iterable[str]) -> Iterator[Book]:
    """All manifests of a tree are one book: their audio may be anywhere in it."""
    names = tuple(name for name in sorted(tables) if _kind(name))
    if any(_kind(name) != SUPERVISIONS for name in names):
        yield Book("lhotse", names, "", _read)


def _read(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    for found in read_lhotse(book.tables, reading):
        if isinstance(found, LeftOut):
            yield found
            continue
        table = found.where.rpartition(" of ")[2]
        yield Line(_place(table.rpartition("/")[0], found.path, reading), found.said, found.where)


def _place(folder: str, path: str, reading: Reading) -> str:
    """The stem of a path: below the manifest's folder, or else below one of its parents, since lhotse's paths are often
    relative to where it ran; an absolute path relative to the tree.
    """
    if path.startswith("/"):
        root = f"{reading.root}/" if reading.root is not None else None
        return stem_of("", path.removeprefix(root)) if root and path.startswith(root) else path
    first = stem_of(folder, path)
    while first not in reading.stems and folder:
        folder = folder.rpartition("/")[0]
        if (other := stem_of(folder, path)) in reading.stems:
            return other
    return first


def read_lhotse(tables: Iterable[str], reading: Reading) -> Iterator[Recording | LeftOut]:
    """The recordings in manifests with their supervisions, in the manifests' order.

    A manifest whose first line is no such object is left out. Raises UsageError if one is damaged.
    """
    tables = tuple(tables)
    supervisions = RowStore(reading.scratch)
    cut_recordings = RowStore(reading.scratch)
    for name in tables:
        if _kind(name) == SUPERVISIONS:
            yield from _keep_supervisions(name, reading, supervisions)
        elif _kind(name) == CUTS:
            yield from _keep_cuts(name, reading, supervisions, cut_recordings)
    done: set[str] = set()
    for where, record in _recordings(tables, reading, cut_recordings):
        if isinstance(record, LeftOut):
            yield record
        elif record["id"] in done:
            yield LeftOut("duplicate", record["id"], f"{where}: an earlier recording with this id is taken")
        else:
            done.add(record["id"])
            yield _recording(record, where, supervisions.take(record["id"]))
    for key in supervisions:
        if key not in done:
            yield LeftOut("text_without_audio", key, "supervisions of a recording that no manifest has")


def _recordings(
    tables: Iterable[str], reading: Reading, of_cuts: RowStore
) -> Iterator[tuple[str, dict[str, Any] | LeftOut]]:
    """(place for messages, recording); last those of cuts that are in no manifest of recordings."""
    named: set[str] = set()
    for name in tables:
        if _kind(name) == RECORDINGS:
            for where, record in _objects(name, reading, ("id", "sources")):
                yield where, record
                if isinstance(record, dict):
                    named.add(record["id"])
    for key in of_cuts:
        if key not in named:
            where, record = msgspec.json.decode(of_cuts.get(key)[0])
            yield where, record


def _objects(name: str, reading: Reading, keys: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any] | LeftOut]]:
    """(place for messages, object in which the first of `keys` is a string); errors for others."""
    other_kind = f"expected lines of lhotse with {', '.join(keys)}; the first has not"
    try:
        for where, record in objects_of_kind(name, reading, lambda first: first.keys() >= set(keys), other_kind):
            if isinstance(record, LeftOut) or isinstance(record.get(keys[0]), str):
                yield where, record
            else:
                fault = f"expected text under `{keys[0]}`, found {record.get(keys[0])!r:.60}"
                yield where, LeftOut("unreadable_text", where, fault)
    except OtherKindError as problem:
        yield name, LeftOut("unreadable_text", name, str(problem))


def _keep_supervisions(name: str, reading: Reading, kept: RowStore) -> Iterator[LeftOut]:
    for _, record in _objects(name, reading, ("recording_id", "start")):
        if isinstance(record, LeftOut):
            yield record
        else:
            kept.add(record.pop("recording_id"), msgspec.json.encode(plain_supervision(record)))


def _keep_cuts(name: str, reading: Reading, kept: RowStore, recordings: RowStore) -> Iterator[LeftOut]:
    """The supervisions of cuts, at their times in the recording, and the recordings. An open end is that of the cut."""
    for where, record in _objects(name, reading, ("id", "start", "duration")):
        if isinstance(record, LeftOut):
            yield record
            continue
        recording = record.get("recording")
        if not isinstance(recording, dict) or not isinstance(recording.get("id"), str):
            kind = record.get("type", "a cut")
            yield LeftOut(
                "unreadable_text", record["id"], f"{where}: {kind} without a recording of its own: not of one file"
            )
            continue
        if recording["id"] not in recordings:
            recordings.add(recording["id"], msgspec.json.encode(representable([where, recording])))
        listed = record.get("supervisions")
        for supervision in listed if isinstance(listed, list) else []:
            try:
                placed = {**supervision, "start": float(supervision["start"]) + float(record["start"])}
                if is_open_end(placed.get("duration")) and not is_open_end(record.get("duration")):
                    placed["duration"] = float(record["start"]) + float(record["duration"]) - placed["start"]
            except (TypeError, ValueError, KeyError, OverflowError):
                yield LeftOut("unreadable_text", record["id"], f"{where}: a supervision without a begin in seconds")
            else:
                placed.pop("recording_id", None)
                kept.add(recording["id"], msgspec.json.encode(plain_supervision(placed)))


def _recording(record: dict[str, Any], where: str, supervisions: list[bytes]) -> Recording | LeftOut:
    name = record["id"]
    sources = record.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        found = f"{len(sources):,}" if isinstance(sources, list) else "none"
        return LeftOut("unreadable_audio", name, f"{where}: expected one source, which is a file, found {found}")
    kind, source = sources[0].get("type"), sources[0].get("source")
    if kind != "file" or not isinstance(source, str) or not source:
        advice = {
            "command": "commands of a data set are never run: write the audio to files",
            "url": "fetch it, and name the file",
            "shar": "give the Shar folder itself",
        }.get(str(kind), "write the audio to files")
        return LeftOut(
            "unreadable_audio", name, f"{where}: expected a file, found a {kind!s:.20} ({source!s:.80}): {advice}"
        )
    if record.get("transforms"):
        return LeftOut("unreadable_audio", name, f"{where}: its audio is to be changed (`transforms`); nothing here does")
    said = [msgspec.json.decode(row) for row in supervisions]
    return Recording(name, source, said_of_supervisions(name, said, record.get("duration")), where)


def plain_supervision(raw: object) -> Any:  # noqa: ANN401 (JSON)
    """A supervision as valid JSON. `said_of_supervisions` reports what was lost."""
    faults = non_finite_numbers(raw)
    return representable({**raw, FAULTS_KEY: faults} if isinstance(raw, dict) and faults else raw)


def said_of_supervisions(name: str, supervisions: list[Any], duration: object) -> Annotated:
    """The annotations of a recording of `duration` seconds: a supervision of the whole is its text; others are segments.

    Of supervisions with one id, which manifests and cuts may both have, the first counts. Those that cannot be segments (no
    begin, no duration) are listed in the metadata under `sidecar_errors`.
    """
    parts: list[dict[str, Any]] = []
    faults: list[str] = []
    seen: set[str] = set()
    for raw in supervisions:
        told = raw.pop(FAULTS_KEY, None) if isinstance(raw, dict) else None
        faults += [f"a supervision of {name}: {fault}" for fault in told] if isinstance(told, list) else []
        made = segment(_with_end(raw))
        if isinstance(made, str):
            faults.append(f"a supervision of {name}: {made}")
        elif not (isinstance(made.get("id"), str) and made["id"] in seen):
            parts.append(made)
            seen.add(str(made.get("id")))
    parts.sort(key=by_time)
    languages = {language if isinstance(language := part.get("language"), str) else None for part in parts}
    language = languages.pop() or None if len(languages) == 1 else None
    metadata: dict[str, Any] = {"recording_id": name} | ({FAULTS_KEY: faults} if faults else {})
    if len(parts) == 1 and _is_whole(parts[0], duration):
        part = parts[0]
        text = part.get("text")
        rest = {key: value for key, value in part.items() if key not in ("id", "start", "end", "text", "language")}
        more = {"supervision_id": part["id"]} if "id" in part and part["id"] != name else {}
        return Annotated(text if isinstance(text, str) else None, None, language, {**rest, **metadata, **more})
    return Annotated(None, None, language, {**metadata, "segments": parts} if parts else metadata)


def _with_end(raw: object) -> object:
    if not isinstance(raw, dict):
        return raw
    found = {key: value for key, value in raw.items() if key not in ("duration", "recording_id", "type", "end")}
    start, duration = raw.get("start"), raw.get("duration")
    if isinstance(start, int | float):
        found["start"] = round(start, 6)
        found["end"] = duration  # which is open, or no number: for `segment` to say
        if isinstance(duration, int | float) and not is_open_end(duration):
            found["end"] = round(start + duration, 6)
    custom = found.pop("custom", None)
    return {**custom, **found} if isinstance(custom, dict) else found


def _is_whole(part: dict[str, Any], duration: object) -> bool:
    if "end" not in part:
        return bool(part["start"] <= WHOLE_SECONDS)
    if not isinstance(duration, int | float):
        return False
    return bool(part["start"] <= WHOLE_SECONDS and abs(part["end"] - duration) <= WHOLE_SECONDS)
