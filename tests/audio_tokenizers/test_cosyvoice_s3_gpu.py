from __future__ import annotations

import numpy as np
import pytest
from support.golden_audio import pcm, wave
from support.tiny_s3 import build_s3_onnx

from audio_tokenizers.base import Utterance
from audio_tokenizers.cosyvoice_s3 import FACTORY
from audio_tokenizers.cosyvoice_s3_model import TorchEncoder
from audio_tokenizers.s3_onnx import log_mel, read_variant

pytestmark = pytest.mark.gpu

SAMPLES = (201, 640, 16001, 33333, 100000, 160000, 479999, 480000, 700000)


@pytest.fixture(scope="module", params=[("v1", 25), ("v1", 50), ("v2", 25)], ids=str)
def options(request, tmp_path_factory):
    version, rate = request.param
    path = build_s3_onnx(tmp_path_factory.mktemp("s3") / "model.onnx", version, rate, width=1280)
    return {"model_path": str(path), "engine": "torch", "tf32": False}


@pytest.fixture(scope="module")
def clips():
    return [Utterance(wave(pcm(samples, 997 * samples))) for samples in SAMPLES]


def test_hidden_states_know_no_other_clip(options):
    """Bit for bit at full width, so that batches may be formed on a GPU as on a CPU."""
    import torch

    from audio_tokenizers.cosyvoice_s3_files import find_onnx

    path = find_onnx(options["model_path"])
    encoder = TorchEncoder(path, read_variant(path), "cuda")
    mels = [log_mel(wave(pcm(samples, 997 * samples))) for samples in SAMPLES if samples <= 480000]
    with torch.inference_mode():
        single = [next(encoder.hidden_states([mel]))[0] for mel in mels]
        for chosen in ([1, 0], [2, 3, 4, 5], [7, 6, 5, 4, 3, 2, 1, 0], [3] * 20):
            for rows, lengths in encoder.hidden_states([mels[index] for index in chosen]):
                for part, index in zip(rows.split(lengths), chosen, strict=True):
                    assert torch.equal(part, single[index])


def test_gpu_and_cpu_agree_on_nearly_all_tokens(options, clips):
    """Other kernels round otherwise, which flips a token here and there; a wrong path would agree on few."""
    values = [FACTORY.load(options, device).encode_clips(clips) for device in ("cuda", "cpu")]
    equal = [ours["tokens"] == theirs["tokens"] for ours, theirs in zip(*values, strict=True)]
    agreement = float(np.concatenate(equal, axis=1).mean())
    print(f"equal tokens, GPU and CPU: {agreement:.5f}")
    assert agreement >= 0.99
