from __future__ import annotations

import warnings

import numpy as np
import pytest
from support import golden_audio
from support.tiny_step_audio import build_step_audio

from audio_tokenizers.base import Scalar, Utterance
from audio_tokenizers.step_audio.backend import FACTORY, StepAudio

pytestmark = pytest.mark.gpu

LENGTHS = (1440, 4720, 3840, 16_000, 40_000, 8560, 100_000, 2320)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scalar]:
    defaults = {name: default for name, (default, _) in FACTORY.options.items()}
    return defaults | {"model_path": str(build_step_audio(tmp_path_factory.mktemp("model")))}


@pytest.fixture(scope="module")
def backend(options: dict[str, Scalar]) -> StepAudio:
    return FACTORY.load(options, "cuda")


def clips() -> list[Utterance]:
    return [Utterance(golden_audio.wave(golden_audio.pcm(n, 1000 * i))) for i, n in enumerate(LENGTHS)]


def test_a_clip_has_the_same_bits_in_any_company(options: dict[str, Scalar], backend: StepAudio) -> None:
    """Tiles of always as many windows give the same features in any place, and so does another loaded copy."""
    import torch

    assert backend._halves is not None
    windows = backend._halves._windows
    embedded = [backend._embedded(clip.wave) for clip in clips()]

    def frames(order: list[int]) -> dict[int, torch.Tensor]:
        steps = [-(-len(embedded[number]) // 4) * 4 for number in order]
        flat = torch.cat(list(windows.hidden_states([embedded[number] for number in order]))).flatten(0, 1)
        parts = flat[: sum(steps)].split_with_sizes(steps)
        return {number: part[: len(embedded[number])] for number, part in zip(order, parts, strict=True)}

    with torch.inference_mode():
        together, backwards = frames([*range(len(embedded))]), frames([*reversed(range(len(embedded)))])
        for number, expected in together.items():
            assert torch.equal(backwards[number], expected)
            assert torch.equal(frames([number])[number], expected)
    fresh = FACTORY.load(options, "cuda:0").encode_clips(clips())
    for values, again in zip(backend.encode_clips(clips()), fresh, strict=True):
        assert np.array_equal(values["tokens"], again["tokens"])


def test_gpu_and_cpu_agree_on_nearly_all_tokens(options: dict[str, Scalar], backend: StepAudio) -> None:
    """Other kernels round otherwise, which flips a code here and there; a wrong path would agree on few."""
    cpu = FACTORY.load(options, "cpu").encode_clips(clips())
    equal = [np.mean(a["tokens"] == b["tokens"]) for a, b in zip(backend.encode_clips(clips()), cpu, strict=True)]
    print(f"equal tokens, GPU and CPU: {np.mean(equal):.5f}")
    assert np.mean(equal) > 0.98


def test_the_host_waits_twice(backend: StepAudio) -> None:
    """Once for each half's codes of a whole batch."""
    import torch

    backend.encode_clips(clips())
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            backend.encode_clips(clips())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([wait for wait in waits if "synchronizing" in str(wait.message)]) <= 2


def test_streams_work(backend: StepAudio) -> None:
    """Step by step and alone, with the codes of the whole clip but for rounding."""
    wave = clips()[6].wave
    pieces = [wave[start : start + 9000] for start in range(0, len(wave), 9000)]
    found = [backend.stream(piece, "live", is_final=number == len(pieces) - 1) for number, piece in enumerate(pieces)]
    assert backend._halves is not None
    whole = backend._halves.codes([wave])[0][0]
    assert np.mean(np.concatenate(found) == whole) > 0.95
