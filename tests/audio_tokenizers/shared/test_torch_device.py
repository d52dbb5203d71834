"""shared/torch_device.py: a broken machine is told from bad data, and the arithmetic is the recipe's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.torch_device import (
    fix_arithmetic,
    loaded,
    on_device,
    package_versions,
    require_bfloat16,
    require_device,
)


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job without a GPU, or with fewer than asked for, is the machine's trouble."""
    require_device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InfrastructureError, match="sees no CUDA device"):
        require_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_device("cuda:1")
    with pytest.raises(InfrastructureError, match="torch sees 2 CUDA"):
        require_device("cuda:2")


def test_a_network_is_loaded_then_narrowed() -> None:
    """In this order, on a device that is there; what does not fit in memory is the machine's trouble."""
    done: list[str] = []

    def load() -> str:
        done.append("load")
        return "network"

    assert loaded("cpu", load) == "network"
    assert loaded("cpu", load, lambda network: done.append(f"narrow {network}")) == "network"
    assert done == ["load", "load", "narrow network"]
    with pytest.raises(InfrastructureError, match="out of memory on cpu"):
        loaded("cpu", lambda: torch.empty(1 << 60))


def test_nothing_is_loaded_for_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for one without bfloat16, where that is asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InfrastructureError, match="sees no CUDA device"):
        loaded("cuda", lambda: pytest.fail("loaded"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "T4")
    with pytest.raises(InfrastructureError, match="T4 has no bfloat16"):
        loaded("cuda", lambda: pytest.fail("loaded"), lambda _: None)


def test_one_thread_whatever_the_worker_has() -> None:
    """How many cores a worker has must not decide how its sums are rounded."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        require_device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def failing(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_runs_out(error: Exception) -> None:
    """On a CPU or a GPU: trouble with the machine, and what to do."""
    with pytest.raises(InfrastructureError, match="out of memory on cpu: take a smaller --max-tokens-per-fragment"):
        on_device("cpu", failing(error))
    with pytest.raises(InfrastructureError, match="out of memory on cpu: take fewer of them, or more memory"):
        on_device("cpu", failing(error), "fewer of them")


def test_a_device_that_fails() -> None:
    """CUDA's and cuDNN's errors end the attempt on that device, and are no clip's fault."""
    for words in ("CUDA error: an illegal memory access", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"):
        with pytest.raises(InfrastructureError, match="CUDA failed on cuda:0"):
            on_device("cuda:0", failing(RuntimeError(words)))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)."), "out of memory on mps: take a smaller"),
        (RuntimeError("Command failed: Insufficient Memory (00000008:kIOGPUCommandBuffer)"), "out of memory on mps"),
        (NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device."), "MPS_FALLBACK=1"),
        (TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support"), "--device cpu"),
        (RuntimeError("Output channels > 65536 not supported at the MPS device."), "cannot compute this backend on MPS"),
        (RuntimeError("Failed to create Metal shader library"), "the GPU failed on mps"),
    ],
)
def test_a_macs_gpu_that_fails(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that runs out, what MPS lacks, and Metal's errors end the attempt; no clip is at fault."""
    released: list[bool] = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: released.append(True))
    with pytest.raises(InfrastructureError, match=words):
        on_device("mps", failing(error))
    assert released


def test_a_mac_without_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build without MPS, a machine without such a GPU, and variables that change its arithmetic are refused."""
    with pytest.raises(InfrastructureError, match="is a build without MPS"):
        require_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    with pytest.raises(InfrastructureError, match="sees no GPU: expected a Mac with Apple silicon"):
        require_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    require_device("mps")
    monkeypatch.setenv("PYTORCH_MPS_FAST_MATH", "1")
    with pytest.raises(InfrastructureError, match="unset PYTORCH_MPS_FAST_MATH"):
        require_device("mps")


def test_other_errors_pass() -> None:
    """A shape that does not fit is no trouble with the machine."""
    with pytest.raises(RuntimeError, match="two devices"):
        on_device("mps", failing(RuntimeError("found at least two devices, mps:0 and cpu!")))
    for error in (RuntimeError("size mismatch"), ValueError("odd")):
        with pytest.raises(type(error), match=str(error)):
            on_device("cuda", failing(error))
    assert on_device("cpu", lambda: 7) == 7


def test_a_gpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older GPU would emulate it, slowly; a job that was sent there says so. A CPU can."""
    require_bfloat16("cpu")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    require_bfloat16("cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    with pytest.raises(InfrastructureError, match=r"Tesla V100 has no bfloat16: take precision=fp32"):
        require_bfloat16("cuda:0")


BACKENDS: Any = torch.backends
"""torch does not annotate the newer of its switches."""


@pytest.fixture
def switches() -> Iterator[None]:
    """Which belong to the process, as they were."""
    yield
    torch.set_float32_matmul_precision("highest")  # "medium" lets a CPU compute products in bfloat16
    BACKENDS.fp32_precision = BACKENDS.cudnn.fp32_precision = "none"
    BACKENDS.cudnn.deterministic = False
    fix_arithmetic(tf32=False)


def older() -> list[bool]:
    return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]


def newer() -> set[str]:
    cudnn = BACKENDS.cudnn
    return {part.fp32_precision for part in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)}


@pytest.mark.usefixtures("switches")
def test_the_arithmetic_is_fixed() -> None:
    """TF32 as the recipe says, by both kinds of switches, kernels by rule and not by stopwatch."""
    for tf32 in (True, False):
        torch.backends.cudnn.benchmark = True
        fix_arithmetic(tf32=tf32)
        assert older() == [tf32] * 2
        assert newer() == {"tf32" if tf32 else "ieee"}
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction


@pytest.mark.usefixtures("switches")
def test_whatever_the_process_preferred() -> None:
    """A library may have turned either kind: torch raises where the two disagree, and where TF32 is off it must be off."""
    matmul, cudnn = BACKENDS.cuda.matmul, BACKENDS.cudnn

    def of_all() -> None:
        BACKENDS.fp32_precision = "tf32"

    def of_cudnn() -> None:
        cudnn.fp32_precision = "tf32"

    def of_products() -> None:
        matmul.fp32_precision, cudnn.conv.fp32_precision = "tf32", "ieee"

    def in_words() -> None:
        torch.set_float32_matmul_precision("medium")

    for turn in (of_all, of_cudnn, of_products, in_words):
        for tf32 in (False, True):
            turn()
            fix_arithmetic(tf32=tf32)
            assert older() == [tf32] * 2
            assert newer() == {"tf32" if tf32 else "ieee"}


@pytest.mark.usefixtures("switches")
def test_a_torch_without_the_newer_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.9 there are the older ones only, and an unknown one may not be set."""

    class Older:
        __slots__ = ("allow_bf16_reduced_precision_reduction", "allow_tf32", "benchmark", "deterministic")

    matmul: Any
    cudnn: Any
    matmul, cudnn = Older(), Older()
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    fix_arithmetic(tf32=True)
    assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic) == (True, True, True)


def test_versions_for_the_recipe() -> None:
    """A package that is not there is named with the extra that brings it."""
    assert package_versions(["torch"], "higgs") == {"torch": torch.__version__}
    with pytest.raises(UsageError, match=r"needs no-such-package: pip install -e '\.\[higgs\]'"):
        package_versions(["torch", "no-such-package"], "higgs")
