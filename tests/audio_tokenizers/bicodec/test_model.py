from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.golden_audio import pcm, wave
from support.tiny_bicodec import build_spark_tts

from audio_tokenizers.bicodec.audio import standardize
from audio_tokenizers.bicodec.files import MIXED_LAYERS, VocosShape, open_bicodec


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_spark_tts(tmp_path_factory.mktemp("spark"))


def test_features_are_the_mean_of_three_hidden_states_of_the_whole_model(directory: Path) -> None:
    """Driven by hand and cut at its 16th layer, wav2vec2 gives bit for bit what transformers' forward of all layers does."""
    import torch
    from transformers import Wav2Vec2Model

    from audio_tokenizers.bicodec.model import mixed_features
    from audio_tokenizers.bicodec.weights import load_wav2vec2

    ours = load_wav2vec2(open_bicodec(str(directory)), "cpu")
    assert len(ours.encoder.layers) == MIXED_LAYERS[-1] == 16
    theirs = Wav2Vec2Model.from_pretrained(directory / "wav2vec2-large-xlsr-53")
    for samples in (400, 719, 720, 24119, 96000):
        clip = torch.from_numpy(standardize(wave(pcm(samples, 7 * samples))))[None]
        states = theirs(clip, output_hidden_states=True).hidden_states
        with torch.inference_mode():
            features = mixed_features(ours, clip)
        assert torch.equal(features, (states[11] + states[14] + states[16]) / 3)
        assert features.shape == (1, (samples - 80) // 320, 32)


def test_a_model_of_too_few_layers_is_a_mistake_of_the_caller(directory: Path) -> None:
    """No half of a mean is returned."""
    import torch

    from audio_tokenizers.bicodec.model import mixed_features
    from audio_tokenizers.bicodec.weights import load_wav2vec2

    model = load_wav2vec2(open_bicodec(str(directory)), "cpu")
    model.encoder.layers = model.encoder.layers[:3]
    with pytest.raises(ValueError, match="3 layers"):
        mixed_features(model, torch.zeros(1, 400))


def test_semantic_tokens_are_the_nearest_codes_by_angle() -> None:
    """A codebook's length does not matter, nor does the length of a latent."""
    import torch

    from audio_tokenizers.bicodec.files import SpeakerShape
    from audio_tokenizers.bicodec.model import BiCodecEncoder

    model = BiCodecEncoder(VocosShape(4, 8, 8, 1, 1, 8), 64, 8, SpeakerShape(8, 16, 2, (4, 4)))
    quantizer = model.quantizer
    with torch.no_grad():
        quantizer.in_project.weight.copy_(torch.eye(8)[:, :, None])
        assert quantizer.in_project.bias is not None
        quantizer.in_project.bias.zero_()
        lengths = torch.linspace(0.1, 10, 64)[:, None]
        quantizer.codebook.weight.mul_(lengths)
        chosen = torch.tensor([5, 0, 63, 17])
        latents = 3 * quantizer.codebook.weight[chosen].t()[None]
        assert quantizer(latents)[0].tolist() == chosen.tolist()


def test_the_spectrogram_of_the_reference_clip(directory: Path) -> None:
    """301 frames of 128 bands of magnitudes, not of their logarithms: twice the amplitude is twice the spectrogram."""
    import torch

    from audio_tokenizers.bicodec.model import mel_transform

    mel = mel_transform(open_bicodec(str(directory)).mel)
    clip = torch.from_numpy(wave(pcm(96000)))[None]
    spectrogram = mel(clip)
    assert spectrogram.shape == (1, 128, 301)
    assert torch.equal(mel(2 * clip), 2 * spectrogram)
    assert np.isfinite(spectrogram.numpy()).all()
