from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.lanes import begun_without_waiting, check_company
from support.tiny_higgs import build_original_layout, build_transformers_layout, load_higgs, speech_like

from audio_tokenizers.base import LaneShape, Scalar, Values, Waveform
from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.higgs.backend import Higgs

pytestmark = pytest.mark.gpu

LANES = 16
LENGTHS = (632, 1079, 24000, 24119, 48631, 96000, 240119)


@pytest.fixture(scope="module", params=["original", "transformers"])
def options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scalar]:
    build = build_original_layout if request.param == "original" else build_transformers_layout
    return {"model_path": str(build(tmp_path_factory.mktemp(request.param))), "tf32": False, "lanes": LANES}


@pytest.fixture(scope="module")
def backend(options: dict[str, Scalar]) -> Higgs:
    return load_higgs(options, "cuda")


def test_tokens_do_not_depend_on_order_or_process(options: dict[str, Scalar], backend: Higgs) -> None:
    """One at a time in any order, from any loaded copy, the same GPU gives the same tokens."""
    waves = [speech_like(samples, seed=samples) for samples in LENGTHS]
    first = [backend.encode([wave])[0] for wave in waves]
    again = [backend.encode([wave])[0] for wave in reversed(waves)][::-1]
    fresh = load_higgs(options, "cuda:0")
    for codes, repeated, wave in zip(first, again, waves, strict=True):
        assert np.array_equal(codes, repeated)
        assert np.array_equal(codes, fresh.encode([wave])[0])


def test_gpu_and_cpu_agree_on_nearly_all_tokens(options: dict[str, Scalar], backend: Higgs) -> None:
    """Other kernels round otherwise, which flips a code here and there; a wrong path would agree on few."""
    cpu = load_higgs(options, "cpu")
    equal = []
    for samples in LENGTHS:
        wave = speech_like(samples, seed=samples)
        ours, theirs = backend.encode([wave])[0], cpu.encode([wave])[0]
        assert ours.shape == theirs.shape
        equal.append((ours == theirs).ravel())
    agreement = float(np.concatenate(equal).mean())
    print(f"equal codes, GPU and CPU: {agreement:.5f}")
    assert agreement >= 0.9


SHAPE = LaneShape(LANES, 150 * 960)


def clips(seed: int) -> list[npt.NDArray[Any]]:
    """As many as there are lanes: the shortest, one that fills its bucket, and others between, shifted or not."""
    lengths = [632, SHAPE.samples, *np.random.default_rng(seed).integers(632, SHAPE.samples, LANES - 2)]
    return [speech_like(int(samples), seed=seed + number) for number, samples in enumerate(lengths)]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_company_changes_nothing(options: dict[str, Scalar], precision: str) -> None:
    """Order, lane, neighbours and empty lanes: the codes have the same bits on a GPU too, in any precision."""
    backend = load_higgs({**options, "precision": precision}, "cuda")

    def encode(waves: Sequence[Waveform]) -> list[Values]:
        return [{"tokens": codes} for codes in backend.encode_lanes(waves, SHAPE)()]

    check_company(encode, clips(0), clips(100))


def test_lanes_are_the_single_clips_but_for_rounding(backend: Higgs) -> None:
    """A call of another shape rounds otherwise, which moves a code of a near tie; a leak would move many."""
    ours, alone = backend.encode_lanes(clips(0), SHAPE)(), [backend.encode([wave])[0] for wave in clips(0)]
    equal = np.concatenate([(a == b).ravel() for a, b in zip(ours, alone, strict=True)])
    print(f"equal codes, lanes and single clips: {equal.mean():.5f}")
    assert equal.mean() > 0.98


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_another_precision_is_near(options: dict[str, Scalar], backend: Higgs, precision: str) -> None:
    """Most first codes are those of float32, in lanes and alone."""
    other = load_higgs({**options, "precision": precision}, "cuda")
    exact, near = (loaded.encode_lanes(clips(0), SHAPE)() for loaded in (backend, other))
    alone = [other.encode([wave])[0] for wave in clips(0)]
    for name, found in (("float32", exact), ("alone", alone)):
        equal = np.concatenate([a == b for a, b in zip(near, found, strict=True)], axis=1).mean(axis=1)
        print(f"equal codes, {precision} and {name}: {equal[0]:.3f} in the first codebook, {equal[-1]:.3f} in the last")
        assert equal[0] > 0.8


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_call_begins_without_waiting(options: dict[str, Scalar], precision: str) -> None:
    """In this mode torch fails where the host would wait for the device."""
    backend = load_higgs({**options, "precision": precision}, "cuda")
    expected = backend.encode_lanes(clips(0), SHAPE)()
    found = begun_without_waiting(lambda batch: backend.encode_lanes(batch, SHAPE), clips(0), clips(100))
    assert all(map(np.array_equal, found, expected))


def test_running_out_of_gpu_memory_is_survived(backend: Higgs) -> None:
    """It is the machine's fault, not the clip's, and the process goes on with a smaller clip."""
    import torch

    wave = speech_like(24000)
    expected = backend.encode([wave])[0]
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(0) + (256 << 20)) / total, 0)
    try:
        with pytest.raises(InfrastructureError, match=r"out of memory on cuda.*--max-tokens-per-fragment"):
            backend.encode([np.zeros(24000 * 600, np.float32)])
        assert np.array_equal(backend.encode([wave])[0], expected)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
