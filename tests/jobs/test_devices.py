"""jobs/devices.py: which GPUs there are, without torch, and what --device makes of them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from audio_tokenizers.errors import UsageError
from jobs import devices
from jobs.devices import CPU, CUDA_ONLY, DeviceName, available_cores, choose_device, device_name, gpus_of, visible_gpus


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("", []),
        ("0,1", ["0", "1"]),
        (" 3 , GPU-abc ", ["3", "GPU-abc"]),
        ("-1", []),
        ("0,-1,2", ["0"]),
        ("NoDevFiles", []),
        ("MIG-1,MIG-2", ["MIG-1", "MIG-2"]),
    ],
)
def test_environment_decides(monkeypatch: pytest.MonkeyPatch, listed: str, expected: list[str]) -> None:
    """CUDA_VISIBLE_DEVICES is read as CUDA reads it: names in order, up to the first that is none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == expected


def test_driver_is_asked_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable all GPUs of the driver count; without a driver there are none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "DRIVER_FOLDER", tmp_path / "gpus")
    assert visible_gpus() == []
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:02:00.0").mkdir()
    assert visible_gpus() == ["0", "1"]


@pytest.mark.parametrize(
    ("asked", "gpu_id", "listed", "expected"),
    [
        ("auto", 0, "", "cpu"),
        ("auto", 0, "5,6", "cuda:0"),
        ("auto", 1, "5,6", "cuda:1"),
        ("cuda", 1, "5,6", "cuda:1"),
        ("cpu", 1, "5,6", "cpu"),
    ],
)
def test_choice(monkeypatch: pytest.MonkeyPatch, asked: str, gpu_id: int, listed: str, expected: str) -> None:
    """With auto a run takes a GPU if there is one; numbers count among the visible ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert choose_device(asked, gpu_id) == expected


@pytest.mark.parametrize(
    ("asked", "gpu_id", "listed", "words"),
    [
        ("gpu", 0, "", "expected auto, cpu, cuda or mps"),
        ("cuda:1", 0, "0,1", "expected auto, cpu, cuda or mps"),
        ("mps", 0, "0", "--device mps: expected a Mac, found linux; --device cuda is for GPUs of NVIDIA"),
        ("cuda", 0, "", "found none (CUDA_VISIBLE_DEVICES is '')"),
        ("auto", 1, "", "expected a GPU, found none"),
        ("auto", 2, "0,1", "this process sees 2 GPUs"),
        ("cuda", -1, "0,1", "this process sees 2 GPUs"),
    ],
)
def test_what_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, asked: str, gpu_id: int, listed: str, words: str
) -> None:
    """Who asks for a GPU gets that GPU or a message, never silently another device."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    with pytest.raises(UsageError) as caught:
        choose_device(asked, gpu_id)
    assert words in str(caught.value)


def test_a_macs_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken only if asked for, since its tokens are not those of a CPU; there is one, which workers share."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("mps") == "mps"
    assert choose_device("auto") == "cpu"
    assert gpus_of("mps") == ["mps"]
    assert gpus_of("cpu") == gpus_of("cuda") == []
    with pytest.raises(UsageError, match="--gpu-id 1: a Mac has one GPU, number 0"):
        choose_device("mps", 1)
    with pytest.raises(UsageError, match="--device 'mps': expected auto, cpu or cuda"):
        choose_device("mps", kinds=CUDA_ONLY)


def test_cores() -> None:
    """At least one core, and no more than this process may use."""
    assert available_cores() >= 1


def test_a_gpu_is_named_by_torch_where_the_backend_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its UUID, which no other GPU has; a number depends on what Slurm shows of the node."""
    properties = SimpleNamespace(name="NVIDIA H100", uuid="1234-abc")
    cuda = SimpleNamespace(is_initialized=lambda: True, get_device_properties={1: properties}.__getitem__)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert device_name("cuda:1") == DeviceName("NVIDIA H100", "GPU-1234-abc")
    assert device_name("cpu") == CPU
    assert device_name("mps") == DeviceName("mps")


def test_without_torch_a_gpu_is_named_as_cuda_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an older torch, which knows no UUID, is as good as none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-abc")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert device_name("cuda:0") == DeviceName("cuda", "3")
    assert device_name("cuda:1") == DeviceName("cuda", "GPU-abc")
    cuda = SimpleNamespace(is_initialized=lambda: True, get_device_properties=lambda _: SimpleNamespace(name="Tesla"))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert device_name("cuda:0") == DeviceName("cuda", "3")
