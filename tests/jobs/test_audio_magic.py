"""jobs/audio_magic.py: audio is told by its first bytes, and nothing else is taken for it."""

from __future__ import annotations

import random
import wave
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tars import audio_file, noise, pyav_file

from jobs.audio_magic import HEAD_BYTES, audio_kind

MADE = {
    "wav": lambda: audio_file(noise(4000)),
    "aiff": lambda: audio_file(noise(4000), kind="AIFF"),
    "flac": lambda: audio_file(noise(4000), kind="FLAC"),
    "ogg": lambda: audio_file(noise(4000), kind="OGG"),
    "au": lambda: audio_file(noise(4000), kind="AU"),
    "caf": lambda: audio_file(noise(4000), kind="CAF"),
    "w64": lambda: audio_file(noise(4000), kind="W64"),
    "voc": lambda: audio_file(noise(4000), kind="VOC", subtype="PCM_16"),
    "sph": lambda: audio_file(noise(4000), kind="NIST"),
    "ircam": lambda: audio_file(noise(4000), kind="IRCAM"),
    "mp3": lambda: pyav_file(noise(16000), 16000, "mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}),
    "aac": lambda: pyav_file(noise(16000), 16000, "adts", "aac"),
    "ac3": lambda: pyav_file(noise(48000), 48000, "ac3", "ac3"),
    "mp4": lambda: pyav_file(noise(16000), 16000, "ipod", "aac"),
    "mkv": lambda: pyav_file(noise(48000), 48000, "webm", "libopus"),
    "wma": lambda: pyav_file(noise(16000), 16000, "asf", "wmav2", bit_rate=32000),
    "wv": lambda: pyav_file(noise(16000), 16000, "wv", "wavpack", sample_format="s16p"),
    "tta": lambda: pyav_file(noise(16000), 16000, "tta", "tta", sample_format="s16"),
    "ts": lambda: pyav_file(noise(48000), 48000, "mpegts", "mp2", sample_format="s16"),
    "mpg": lambda: pyav_file(noise(48000), 48000, "mpeg", "mp2", sample_format="s16"),
    "avi": lambda: pyav_file(noise(16000), 16000, "avi", "pcm_s16le"),
    "flv": lambda: pyav_file(noise(44100), 44100, "flv", "libmp3lame"),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_writers_write(kind: str) -> None:
    """Files of libsndfile and FFmpeg are told by their first bytes alone."""
    assert audio_kind(MADE[kind]()[:HEAD_BYTES]) == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"ID3\4\0\0", "mp3"),
        (b"ID3 is a tag", None),
        (b"MAC \x96\x0f", "ape"),
        (b"MAC addresses", None),
        (b"MPCK", "mpc"),
        (b"#!AMR\n\x3c", "amr"),
        (b"#!AMR-WB\n\x04", "awb"),
        (b"#!/bin/sh\n", None),
        (b"RIFF\0\0\0\0WEBP", None),
        (b"RIFF\0\0\0\0QLCM", "qcp"),
        (b"\0\0\0\x1cftypisom", "mp4"),
        (b"\0\0\0\x1cftypavif", None),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "mp4"),
        (b"FORM\0\0\0\0ILBM", None),
        (b"", None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", None),
        (b"PK\3\4", None),
        (b"\x93NUMPY\1\0", None),
        (b"\xff\xfeU\0T\0F\0-\x001\0006\0", None),
        (b"\xff" * HEAD_BYTES, None),
        (bytes(HEAD_BYTES), None),
    ],
)
def test_first_bytes(head: bytes, kind: str | None) -> None:
    """Magic numbers count with what has to follow them, so that a text which begins alike is none."""
    assert audio_kind(head) == kind


def test_frames_have_to_follow_each_other() -> None:
    """One header of an MPEG frame may be chance; the next one has to stand where it says."""
    mp3 = MADE["mp3"]()
    assert audio_kind(mp3[:100]) is None
    assert audio_kind(mp3[:4] + bytes(HEAD_BYTES)) is None


def test_this_repository_has_no_audio() -> None:
    """Programs, texts and pictures are not taken for audio."""
    root = Path(__file__).parents[2]
    files = [path for folder in ("jobs", "tools", "docs", "tests") for path in (root / folder).rglob("*.*")]
    found = [path for path in files if path.is_file() and audio_kind(path.read_bytes()[:HEAD_BYTES]) is not None]
    assert len(files) > 200
    assert {path.suffix for path in found} <= {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".webm"}


def test_noise_is_no_audio() -> None:
    """Random data is taken for audio about never."""
    rng = random.Random(5)
    assert not any(audio_kind(rng.randbytes(600)) for _ in range(20_000))


@settings(max_examples=300)
@given(st.binary(max_size=64), st.sampled_from(sorted(MADE)), st.integers(0, 64))
def test_fuzz(data: bytes, kind: str, at: int) -> None:
    """Whatever the bytes, there is an answer; and audio behind its intact head stays what it is."""
    audio_kind(data)
    file = BytesIO()
    with wave.open(file, "wb") as made:
        made.setparams((1, 2, 8000, 0, "NONE", ""))
        made.writeframes(data)
    assert audio_kind(file.getvalue()) == "wav"
    assert kind in MADE
    audio_kind(b"\xff\xfb" + data[at:])
