"""lhotse's manifests of three recordings, and of what cannot be taken."""

from __future__ import annotations

import gzip
import json
from typing import Any

__all__ = ["LEFT_OUT", "lines", "manifests", "recording", "supervision"]


def recording(name: str, path: str, duration: float = 10.0, kind: str = "file") -> dict[str, Any]:
    source = {"type": kind, "channels": [0], "source": path}
    samples = int(duration * 16000)
    return {"id": name, "sources": [source], "sampling_rate": 16000, "num_samples": samples, "duration": duration}


def supervision(name: str, of: str, start: float, duration: float, text: str, **more: object) -> dict[str, Any]:
    return {"id": name, "recording_id": of, "start": start, "duration": duration, "channel": 0, "text": text, **more}


def lines(*records: object) -> bytes:
    return gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode(), mtime=0)


def manifests(below: str = "") -> dict[str, bytes | str]:
    return {
        "manifests/ami_recordings_train.jsonl.gz": lines(
            recording("long", f"{below}wav/long.wav", 100.0),
            recording("short", f"{below}wav/short.flac"),
            recording("silent", f"{below}wav/silent.wav"),
            recording("piped", "sph2pipe -f wav x.sph |", kind="command"),
            recording("far", "https://example.com/x.wav", kind="url"),
            {**recording("two", "x"), "sources": [{}, {}]},
            recording("long", f"{below}wav/long.wav"),
        ),
        "manifests/ami_supervisions_train.jsonl.gz": lines(
            supervision("l-2", "long", 50.1, 2.2, "second", language="English", speaker="B", custom={"snr": 3}),
            supervision("l-1", "long", 1.0, 2.0, "first", language="English", speaker="A"),
            supervision("s", "short", 0.0, 10.0, "all of it", speaker="A"),
            supervision("n", "nobody", 0, 1, "lost"),
            {"id": "no recording"},
        ),
    }


LEFT_OUT = [
    ("duplicate", "long"),
    ("text_without_audio", "nobody"),
    ("unreadable_audio", "far"),
    ("unreadable_audio", "piped"),
    ("unreadable_audio", "two"),
    ("unreadable_text", "line 5 of manifests/ami_supervisions_train.jsonl.gz"),
]
"""Of them, beside audio that has no text: (reason, name)."""
