"""Kaldi folders as sources of pairs: `wav.scp`, `text`, `utt2spk` and `segments`. Commands in wav.scp are never run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audio_tokenizers.errors import UsageError
from jobs.text_encoding import TextDecoder
from tools.packing.boundary import Boundary, refuse_links
from tools.packing.layouts.long_recordings import by_time
from tools.packing.manifests.kaldi_segments import kaldi_segments
from tools.packing.manifests.rows import Row, name_below
from tools.packing.manifests.source import ManifestSource, manifest_lines
from tools.packing.pairs import LeftOut, SourceOptions

__all__ = ["open_kaldi"]

WAV_SCP, TEXT, SPEAKERS, SEGMENTS = "wav.scp", "text", "utt2spk", "segments"
NEVER_RUN = "commands of a data set are never run: write the audio to files yourself and name these in wav.scp"


def open_kaldi(folder: Path, options: SourceOptions) -> ManifestSource:
    """A Kaldi folder. Recordings stay whole, with their `segments`.

    Entries that are commands, and unreadable lines, are left out. Raises UsageError if all entries of a table are.
    """
    home = str(folder.absolute())
    if not options.follow_links:
        boundary = Boundary(folder)
        tables = {name: boundary.outside(str(folder.absolute() / name)) for name in (WAV_SCP, TEXT, SPEAKERS, SEGMENTS)}
        refuse_links(folder, {name: target for name, target in tables.items() if target is not None})
    if not (folder / TEXT).exists() and not options.without_text:
        raise UsageError(f"{folder}: expected `text` beside wav.scp: add it, or take audio alone with --without-text")
    left_out: list[LeftOut] = []

    def table(name: str) -> Iterator[tuple[str, str, str]]:
        return _table(folder / name, options.texts.encoding, left_out) if (folder / name).exists() else iter(())

    texts = {key: (text, where) for key, text, where in table(TEXT)}
    speakers = {key: speaker for key, speaker, _ in table(SPEAKERS)}
    parts, no_parts = kaldi_segments(table(SEGMENTS), texts, speakers, without_text=options.without_text)
    left_out += no_parts
    rows: list[Row] = []
    commands: dict[str, LeftOut] = {}
    for key, audio, where in table(WAV_SCP):
        if audio.endswith("|"):
            fault = f"{where}: {key} comes out of a command, and {NEVER_RUN}. The command: {audio[:80]}"
            commands.setdefault(key, LeftOut("unreadable_audio", key, fault))
        elif not audio:
            fault = f"{where}: expected an utterance and the path of its audio, found {key!r}"
            left_out.append(LeftOut("unreadable_line", where, fault))
        else:
            metadata: dict[str, Any] = {"speaker": speakers[key]} if key in speakers else {}
            if key in parts:
                metadata["segments"] = sorted(parts.pop(key), key=by_time)
            text = texts[key][0] if key in texts else None
            rows.append(Row(key, audio, name_below(home, audio), text, where, metadata=metadata or None))
    if commands and not rows:
        raise UsageError(f"{folder / WAV_SCP}: {next(iter(commands.values())).detail}")
    left_out += commands.values()
    used = (
        {row.id for row in rows} | {left.name for left in left_out} | {part["id"] for one in parts.values() for part in one}
    )
    used |= {part["id"] for row in rows for part in (row.metadata or {}).get("segments", ())}
    left_out += [LeftOut("text_without_audio", key, where) for key, (_, where) in texts.items() if key not in used]
    left_out += [
        LeftOut("text_without_audio", part["id"], f"of {key}, which {_missing(key in commands)}")
        for key, listed in parts.items()
        for part in listed
    ]
    return ManifestSource(folder.absolute().name or "data", home, lambda: iter(rows), options, left_out)


def _missing(is_command: bool) -> str:
    return "comes out of a command" if is_command else "is not in wav.scp"


def _table(path: Path, encoding: str, left_out: list[LeftOut]) -> Iterator[tuple[str, str, str]]:
    """(utterance, rest of its line, place for messages). Lines that cannot be decoded are left out; raises UsageError if all
    are.
    """
    decoder = TextDecoder(encoding, lambda: (line for _, line in manifest_lines(path, encoding)))
    good, first_bad = False, ""
    for number, line in manifest_lines(path, encoding):
        where = f"line {number} of {path.name}"
        try:
            parts = decoder.decode(line).split(None, 1)
        except UnicodeDecodeError as error:
            first_bad = first_bad or f"line {number}: {error.reason}"
            left_out.append(LeftOut("unreadable_line", where, f"{where}: {error.reason}"))
            continue
        good = True
        if parts:
            yield parts[0], parts[1].strip() if len(parts) > 1 else "", where
    if first_bad and not good:
        raise UsageError(f"{path}: {first_bad}")
