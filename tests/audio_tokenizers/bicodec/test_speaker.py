from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audio_tokenizers.bicodec.files import SpeakerShape


@pytest.fixture(scope="module")
def quantizer() -> Any:
    """Six levels of four, of an identity projection."""
    import torch

    from audio_tokenizers.bicodec.speaker import SpeakerEncoder

    made = SpeakerEncoder(SpeakerShape(bands=8, latent_dim=6, tokens=3, levels=(4,) * 6)).quantizer
    with torch.no_grad():
        made.project_in.weight.copy_(torch.eye(6))
        made.project_in.bias.zero_()
    return made


def quantize(quantizer: Any, latents: list[list[float]]) -> list[int]:
    import torch

    with torch.inference_mode():
        found: list[int] = quantizer(torch.tensor([latents], dtype=torch.float32))[0].tolist()
    return found


def test_tokens_are_the_digits_of_the_levels_the_lowest_first(quantizer: Any) -> None:
    """All low is 0, all high is 4095, and the first dimension counts ones."""
    low, high = [-9.0] * 6, [9.0] * 6
    assert quantize(quantizer, [low, high]) == [0, 4095]
    ones = [[9.0 if i == digit else -9.0 for i in range(6)] for digit in range(6)]
    assert quantize(quantizer, ones) == [3 * 4**digit for digit in range(6)]


def test_levels_are_rounded_as_in_finite_scalar_quantisation(quantizer: Any) -> None:
    """Against vector-quantize-pytorch's FSQ, whose code upstream has copied: ten thousand random vectors."""
    import torch

    reference = pytest.importorskip("vector_quantize_pytorch").FSQ([4] * 6)
    z = np.random.Generator(np.random.PCG64(0)).standard_normal((10000, 6)).astype(np.float32)
    with torch.inference_mode():
        theirs = reference(torch.from_numpy(z)[None])[1][0].tolist()
    assert quantize(quantizer, z.tolist()) == theirs


def test_a_voice_is_a_fixed_number_of_tokens() -> None:
    """Whatever the number of frames, as many tokens as there are latents."""
    import torch

    from audio_tokenizers.bicodec.speaker import SpeakerEncoder

    encoder = SpeakerEncoder(SpeakerShape(bands=8, latent_dim=16, tokens=5, levels=(4, 3))).eval()
    with torch.inference_mode():
        for frames in (1, 30):
            tokens = encoder(torch.ones(2, 8, frames))
            assert tokens.shape == (2, 5)
            assert 0 <= int(tokens.min()) <= int(tokens.max()) < 12
