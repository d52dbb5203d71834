"""shared/s3_mel.py: the mel of openai-whisper, without its copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import whisper
from support.golden_audio import pcm, silence, wave

from audio_tokenizers.shared.s3_mel import LogMel


@pytest.mark.parametrize("samples", [201, 320, 16001, 100000, 480000])
def test_the_bits_are_those_of_whisper(samples: int) -> None:
    """With an axis of a batch, as CosyVoice has it, and without, as Step-Audio: of speech and of silence."""
    log_mel = LogMel("cpu")
    for clip in (wave(pcm(samples, 31 * samples)), wave(silence(samples))):
        audio = torch.from_numpy(clip)
        with torch.inference_mode():
            for given in (audio, audio[None]):
                found = log_mel(given)
                assert np.array_equal(found.numpy(), whisper.log_mel_spectrogram(given, n_mels=128).numpy())
                assert found.shape == (*given.shape[:-1], 128, samples // 160)
