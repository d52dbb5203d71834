"""hpc/gpu_request.py: one request for GPUs, in the words that the site takes, and memory that goes with it."""

from __future__ import annotations

import pytest

from audio_tokenizers.errors import UsageError
from hpc.gpu_request import GpuOptions, gpu_options, times


def test_by_the_node() -> None:
    """As Slurm's manual has it: memory is per GPU too."""
    assert gpu_options(4, "a100", "gpus-per-node", "40G", {}) == GpuOptions("a100:4", mem_per_gpu="40G")
    assert gpu_options(0, None, "gres", "40G", {}) == GpuOptions(mem="40G")


def test_as_gres() -> None:
    """Where a site takes nothing else, memory is that of all of the task's GPUs; other resources are kept."""
    assert gpu_options(4, "a100", "gres", "40G", {}) == GpuOptions(mem="160G", further={"gres": "gpu:a100:4"})
    assert gpu_options(1, None, "gres", None, {"gres": "tmp:5G"}) == GpuOptions(further={"gres": "gpu:1,tmp:5G"})


def test_not_at_all() -> None:
    """Without a request only a node of its own keeps a task off others' GPUs; who shares it otherwise says so."""
    assert gpu_options(4, None, "none", None, {}) == GpuOptions(further={"exclusive": True})
    assert gpu_options(4, None, "none", None, {"exclusive": "user"}) == GpuOptions()


@pytest.mark.parametrize(
    "slurm", [{"gres": "gpu:h100:4,tmp:5G"}, {"gres": "tmp:5G,gpu:4"}, {"gpus-per-task": 1}, {"gpus": 4}]
)
def test_in_a_persons_own_words(slurm: dict[str, object]) -> None:
    """Further options that ask for GPUs take the place of ours: both would contradict each other."""
    for request in ("gpus-per-node", "gres", "none"):
        assert gpu_options(4, "a100", request, "10G", slurm) == GpuOptions(mem="40G")


def test_memory() -> None:
    """In sbatch's units; what is none is refused here."""
    assert [times(text, 4) for text in ("40G", "500", "1t")] == ["160G", "2000", "4t"]
    with pytest.raises(UsageError, match="--mem-per-gpu lots"):
        times("lots", 4)
