from __future__ import annotations

import warnings

import numpy as np
import pytest
from support.golden_audio import pcm, wave
from support.tiny_s3 import build_s3_onnx

from audio_tokenizers.base import Scalar, Utterance
from audio_tokenizers.cosyvoice_s3.backend import FACTORY
from audio_tokenizers.shared.options import Precision
from audio_tokenizers.shared.s3_mel import LogMel
from audio_tokenizers.shared.s3_onnx import log_mel, read_variant
from audio_tokenizers.shared.s3_torch import TorchEncoder

pytestmark = pytest.mark.gpu

SAMPLES = (201, 640, 16001, 33333, 100000, 160000, 479999, 480000, 700000)


@pytest.fixture(scope="module", params=[("v1", 25), ("v1", 50), ("v2", 25)], ids=str)
def options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scalar]:
    version, rate = request.param
    path = build_s3_onnx(tmp_path_factory.mktemp("s3") / "model.onnx", version, rate, width=1280)
    return {"model_path": str(path), "engine": "torch", "tf32": False}


@pytest.fixture(scope="module")
def clips() -> list[Utterance]:
    return [Utterance(wave(pcm(samples, 997 * samples))) for samples in SAMPLES]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_hidden_states_know_no_other_clip(options: dict[str, Scalar], clips: list[Utterance], precision: Precision) -> None:
    """Bit for bit at full width, so that batches may be formed on a GPU as on a CPU."""
    import torch

    from audio_tokenizers.cosyvoice_s3.files import find_onnx

    path = find_onnx(str(options["model_path"]))
    encoder = TorchEncoder(path, read_variant(path), "cuda", precision)
    there = [torch.from_numpy(clip.wave).cuda() for clip in clips if len(clip.wave) <= 480000]
    with torch.inference_mode():
        single = [encoder.hidden_states([one])[0] for one in there]
        for chosen in ([1, 0], [2, 3, 4, 5], [7, 6, 5, 4, 3, 2, 1, 0], [3] * 20):
            rows, lengths = encoder.hidden_states([there[index] for index in chosen])
            for part, index in zip(rows.split(lengths), chosen, strict=True):
                assert torch.equal(part, single[index])


def test_the_mel_is_that_of_the_cpu_but_for_rounding(clips: list[Utterance]) -> None:
    """CuFFT rounds otherwise; a wrong window or filter would be far off."""
    import torch

    for clip in clips[:6]:
        found = LogMel("cuda")(torch.from_numpy(clip.wave).cuda())
        assert torch.allclose(found.cpu(), torch.from_numpy(log_mel(clip.wave)), atol=1e-4)


def test_the_host_waits_once(options: dict[str, Scalar], clips: list[Utterance]) -> None:
    """For the tokens of the whole batch: between two batches the device has work as long as the host keeps up."""
    import torch

    backend = FACTORY.load(options, "cuda")
    backend.encode_clips(clips)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            backend.encode_clips(clips)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([wait for wait in waits if "synchronizing" in str(wait.message)]) <= 1


def test_gpu_and_cpu_agree_on_nearly_all_tokens(options: dict[str, Scalar], clips: list[Utterance]) -> None:
    """Other kernels round otherwise, which flips a token here and there; a wrong path would agree on few."""
    values = [FACTORY.load(options, device).encode_clips(clips) for device in ("cuda", "cpu")]
    equal = [ours["tokens"] == theirs["tokens"] for ours, theirs in zip(*values, strict=True)]
    agreement = float(np.concatenate(equal, axis=1).mean())
    print(f"equal tokens, GPU and CPU: {agreement:.5f}")
    assert agreement >= 0.99
