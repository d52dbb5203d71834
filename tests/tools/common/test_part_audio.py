"""tools/common/part_audio.py: a part of a member as a WAV file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.tars import audio_file, noise

from audio_tokenizers.errors import ClipError
from jobs.recording import Cut, Recording
from tools.common.part_audio import part_blocks, write_wav


@pytest.mark.parametrize("channel", [None, 0, 1])
def test_a_part_as_wav(channel: int | None, tmp_path: Path) -> None:
    """Sample for sample, at the recording's rate: all channels of a segment, or the one that is the clip."""
    data = audio_file(noise(3000, 2), 1000, subtype="PCM_24")
    wave = soundfile.read(io.BytesIO(data), dtype="int32")[0][500:2500]
    for target in (tmp_path / "a.wav", io.BytesIO()):
        part = Recording(io.BytesIO(data)).part(Cut(0.5, 2.5, channel))
        write_wav(part_blocks(part), target)
        if isinstance(target, io.BytesIO):
            target.seek(0)
        found, rate = soundfile.read(target, dtype="int32", always_2d=True)
        assert rate == 1000
        assert np.array_equal(found, wave if channel is None else wave[:, channel : channel + 1])


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    """The error is that of decoding."""
    part = Recording(io.BytesIO(audio_file(noise(1000), 1000))).part(Cut(5, 6))
    with pytest.raises(ClipError, match=r"ends at 1\.000 s"):
        write_wav(part_blocks(part), tmp_path / "a.wav")
