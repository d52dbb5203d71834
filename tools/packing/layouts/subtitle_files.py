"""Subtitles beside audio (SubRip, WebVTT): paired by their names, with their cues as the segments of a recording.

Pairing and segments are those of a run with `--segments`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec

from jobs.segments import MOST_SEGMENTS
from jobs.sidecar_names import AmbiguousName, SidecarNames
from jobs.sidecars import FAULTS_KEY, LARGEST_SIDECAR, too_large
from jobs.subtitles import SUBTITLE_EXTENSIONS, subtitle_segments
from tools.packing.layouts.tables import LARGEST_ROW, Annotated
from tools.packing.pairs import LeftOut, Reason

__all__ = ["pair_subtitles", "with_cues"]

LANGUAGE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
"""`en`, `zh-Hans`, `en-orig`: what may stand between the audio's name and the extension."""
SEVERAL = "one of several languages: leave out those of other languages with --exclude"


def pair_subtitles(
    names: Sequence[str], audio: Mapping[str, str], excluded: AbstractSet[str]
) -> tuple[dict[str, str], list[LeftOut]]:
    """(stem of audio -> its subtitles, those that are left out), from paths in a tree. `audio` gives the file of each stem,
    `excluded` has the stems of audio that is not wanted.

    WebVTT counts before SubRip, and a name that is the audio's before the only one with a language, `talk.en.vtt`.
    """
    if not names:
        return {}, []
    first, left_out = _without_duplicates(names)
    index: SidecarNames[str] = SidecarNames(keys=False)
    in_language: dict[tuple[str, str], list[str]] = {}
    for file in audio.values():
        index.add_audio(file)
    for (stem, extension), name in first.items():
        index.add_sidecar(name, name)
        base, _, language = stem.rpartition(".")
        if base in audio and stem not in audio and LANGUAGE.fullmatch(language):
            in_language.setdefault((base, extension), []).append(name)
    found: dict[str, str] = {}
    why: dict[str, tuple[Reason, str]] = {name: ("subtitles", SEVERAL) for some in in_language.values() for name in some}
    doubts: list[str] = []
    for stem, extension in ((stem, extension) for stem in sorted(audio) for extension in SUBTITLE_EXTENSIONS):
        spoken = in_language.get((stem, extension), [])
        try:
            own = index.of(audio[stem], extension) or (spoken[0] if len(spoken) == 1 else None)
        except AmbiguousName as error:
            doubts.append(str(error))
            continue
        if own is not None and found.setdefault(stem, own) != own:
            why[own] = "duplicate", f"{found[stem]} is taken"
    taken = set(found.values())
    for (stem, _), name in first.items():
        if name not in taken:
            alone: Reason = "excluded" if {stem, stem.rpartition(".")[0]} & excluded else "text_without_audio"
            reason, detail = why.get(name) or (alone, next((words for words in doubts if name in words), ""))
            left_out.append(LeftOut(reason, name, detail))
    return found, left_out


def _without_duplicates(names: Iterable[str]) -> tuple[dict[tuple[str, str], str], list[LeftOut]]:
    """((stem, extension in lower case) -> the first of these names, the others)."""
    first: dict[tuple[str, str], str] = {}
    left_out: list[LeftOut] = []
    for name in sorted(names):
        stem, _, extension = name.rpartition(".")
        if (place := (stem, extension.lower())) in first:
            left_out.append(LeftOut("duplicate", name, f"{first[place]} is taken"))
        else:
            first[place] = name
    return first, left_out


def with_cues(said: Annotated, name: str, content: bytes, decode: Callable[[bytes], str]) -> Annotated:
    """A recording's annotations, with the cues of its subtitles as `segments`, unless it has `segments` or an `offset`.

    Subtitles that cannot be read are named in the metadata, under `sidecar_errors`. `decode` raises UnicodeDecodeError.
    """
    metadata = said.metadata or {}
    if metadata.get("segments") is not None or "offset" in metadata:
        return said
    cues = _cues(content, decode)
    if isinstance(cues, str):
        faults = metadata.get(FAULTS_KEY)
        return replace(
            said, metadata={**metadata, FAULTS_KEY: [*(faults if isinstance(faults, list) else ()), f"{name}: {cues}"]}
        )
    return replace(said, text_name=said.text_name or name, metadata={**metadata, "segments": cues})


def _cues(content: bytes, decode: Callable[[bytes], str]) -> list[dict[str, Any]] | str:
    """The cues, or an error message."""
    if len(content) > LARGEST_SIDECAR:
        return too_large()
    try:
        cues = list(islice(subtitle_segments(decode(content)), MOST_SEGMENTS + 1))
    except UnicodeDecodeError as error:
        return error.reason
    if not cues:
        return "no cues in it"
    if len(cues) > MOST_SEGMENTS:
        return f"more than {MOST_SEGMENTS:,} cues"
    size = len(msgspec.json.encode(cues))
    return cues if size <= LARGEST_ROW else f"its cues take {size:,} bytes as JSON, more than {LARGEST_ROW:,}"
