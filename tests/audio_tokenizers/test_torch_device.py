"""audio_tokenizers/torch_device.py: a broken machine is told from bad data, and the arithmetic is the recipe's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.torch_device import (
    check_device_name,
    fix_arithmetic,
    on_device,
    package_versions,
    require_device,
)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "mps"])
def test_other_devices_are_refused(device: str) -> None:
    """cpu, cuda and cuda:N, and nothing that torch would fail on later."""
    with pytest.raises(UsageError, match="expected cpu, cuda or cuda:N"):
        check_device_name(device)
    for good in ("cpu", "cuda", "cuda:12"):
        check_device_name(good)


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


def test_other_errors_pass() -> None:
    """A shape that does not fit is no trouble with the machine."""
    for error in (RuntimeError("size mismatch"), ValueError("odd")):
        with pytest.raises(type(error), match=str(error)):
            on_device("cuda", failing(error))
    assert on_device("cpu", lambda: 7) == 7


def test_the_arithmetic_is_fixed() -> None:
    """TF32 as the recipe says, kernels by rule and not by stopwatch."""
    try:
        for tf32 in (True, False):
            torch.backends.cudnn.benchmark = True
            fix_arithmetic(tf32=tf32)
            assert torch.backends.cudnn.allow_tf32 is tf32
            assert torch.backends.cuda.matmul.allow_tf32 is tf32
            assert torch.backends.cudnn.deterministic
            assert not torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.deterministic = False


def test_versions_for_the_recipe() -> None:
    """A package that is not there is named with the extra that brings it."""
    assert package_versions(["torch"], "higgs") == {"torch": torch.__version__}
    with pytest.raises(UsageError, match=r"needs no-such-package: pip install 'tar2tokens\[higgs\]'"):
        package_versions(["torch", "no-such-package"], "higgs")
