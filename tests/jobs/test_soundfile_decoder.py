"""jobs/soundfile_decoder.py: how libsndfile gets a clip's bytes, and whose fault it is if it cannot have them."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.tars import Samples, audio_file, noise, pyav_file

from audio_tokenizers.errors import InfrastructureError
from jobs import audio_routes, mpeg_routes
from jobs.audio import decode


def decoded(data: bytes) -> Samples:
    return np.concatenate([wave for wave, _ in decode(io.BytesIO(data), mono="mean")])


def test_spooled_files_decode_as_those_in_memory() -> None:
    """A clip in a temporary file, read ahead by Python, gives the samples that it gives from memory."""
    wave = noise(40_000)
    files = [audio_file(wave, 16000, kind) for kind in ("WAV", "FLAC", "MP3", "OGG", "AIFF")]
    files.append(pyav_file(wave, 16000, "ipod", "aac"))
    for data in files:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            blocks = [block for block, _ in decode(file, mono="mean")]
        np.testing.assert_array_equal(np.concatenate(blocks), decoded(data))


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_an_mp3_that_cannot_be_copied(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is short of descriptors or of memory: its trouble is raised, and nothing of the clip stays open."""

    def fail(*_args: object, **_settings: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    file = io.BytesIO(audio_file(noise(4000), kind="MP3"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="Too many") as caught:
            next(decode(file, mono="mean"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    file.close()  # while the traceback keeps what the functions had in hand
    assert caught.traceback


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "FLOAT"), ("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_trouble_while_reading_chooses_no_other_decoder(
    kind: str, subtype: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read fails, the second reading does not: it was the machine."""
    data = audio_file(noise(3000), 16000, kind, subtype)
    reads: list[object] = []
    read = soundfile.SoundFile.read

    def short_of_memory(sound: soundfile.SoundFile, *args: Any, **settings: Any) -> Any:
        reads.append(sound)
        if len(reads) == 1:
            raise soundfile.LibsndfileError(17)
        return read(sound, *args, **settings)

    monkeypatch.setattr(soundfile.SoundFile, "read", short_of_memory)
    for routes in (audio_routes, mpeg_routes):
        monkeypatch.setattr(routes, "decode_with_pyav", None)
    with pytest.raises(InfrastructureError):
        decoded(data)
    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    flac = audio_file(noise(3000), 16000, "FLAC")
    true = decoded(flac)
    reads.clear()
    monkeypatch.setattr(soundfile.SoundFile, "read", short_of_memory)
    np.testing.assert_array_equal(decoded(flac), true)  # FFmpeg's samples are the same


@pytest.mark.parametrize("code", [2, 17])
def test_trouble_that_passes_chooses_no_other_decoder(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system error, or memory that was short for a moment: libsndfile is asked again, and PyAV never is."""
    wave = noise(2000)
    opened: list[object] = []
    begin = soundfile.SoundFile.__init__

    def short_of_memory(sound: soundfile.SoundFile, *args: Any, **settings: Any) -> None:
        opened.append(sound)
        if len(opened) == 1:
            raise soundfile.LibsndfileError(code)
        begin(sound, *args, **settings)

    data = audio_file(wave, subtype="FLOAT")
    monkeypatch.setattr(soundfile.SoundFile, "__init__", short_of_memory)
    for routes in (audio_routes, mpeg_routes):
        monkeypatch.setattr(routes, "decode_with_pyav", None)
    assert np.array_equal(decoded(data), wave)
    assert len(opened) == 2
