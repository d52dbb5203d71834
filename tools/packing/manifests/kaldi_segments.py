"""Kaldi's `segments`: utterances that are parts of the recordings in wav.scp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tools.packing.layouts.long_recordings import segment
from tools.packing.pairs import LeftOut

__all__ = ["kaldi_segments"]


def kaldi_segments(
    table: Iterable[tuple[str, str, str]],
    texts: Mapping[str, tuple[str, str]],
    speakers: Mapping[str, str],
    *,
    without_text: bool,
) -> tuple[dict[str, list[dict[str, Any]]], list[LeftOut]]:
    """(segments by recording, bad lines), from lines such as `utt1 rec1 0.5 2.25`.

    `table` gives (utterance, rest of its line, place for messages); `texts` have such places as well.
    """
    parts: dict[str, list[dict[str, Any]]] = {}
    left_out: list[LeftOut] = []
    for key, rest, where in table:
        recording, *times = rest.split() or [""]
        try:
            start, end = (*(float(time) for time in times[:2]), None, None)[:2]
        except ValueError:
            start = end = None
        made = segment({"id": key, "start": start, "end": end})
        if isinstance(made, str):
            fault = f"{where}: expected an utterance, its recording, begin and end in seconds, found {rest[:60]!r}"
            left_out.append(LeftOut("unreadable_text", key, fault))
        elif key not in texts and not without_text:
            left_out.append(LeftOut("audio_without_text", key, where))
        else:
            made |= {"text": texts[key][0]} if key in texts else {}
            made |= {"speaker": speakers[key]} if key in speakers else {}
            parts.setdefault(recording, []).append(made)
    return parts, left_out
