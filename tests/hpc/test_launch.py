"""hpc/launch.py: what was asked for becomes a launch that fits the site, or is refused before anything is submitted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audio_tokenizers.errors import UsageError
from hpc.launch import Launch, make_launch
from hpc.launch_options import LaunchOptions, Site, overlay
from jobs.worker_options import WishOptions


def launch_of(site: Site, path: str = "", device: str = "auto", **settings: Any) -> Launch:
    """A launch with a site's defaults."""
    return make_launch(overlay(site, LaunchOptions(device=device)), environment={"PATH": path}, **settings)


@pytest.fixture
def with_sbatch(tmp_path: Path) -> str:
    """A PATH with an sbatch on it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    return str(tmp_path / "bin")


class TestLaunch:
    def test_slurm_where_there_is_sbatch(self, with_sbatch: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """`auto` looks for sbatch on the PATH that tasks will have; asking for one of the two is asking for that one."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert launch_of(Site(), with_sbatch).cluster == "slurm"
        assert launch_of(Site(), "").cluster == "local"
        assert launch_of(Site(cluster="local"), with_sbatch).cluster == "local"
        assert launch_of(Site(cluster="slurm"), "").cluster == "slurm"

    def test_a_login_node_need_not_have_gpus(self, with_sbatch: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """On Slurm the device is a GPU unless the CPU is asked for, whatever there is where one submits."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        shapes = [
            launch_of(Site(gpus_per_node=gpus), with_sbatch, device=device)
            for gpus, device in ((None, "auto"), ("a100:4", "cuda"), (None, "cpu"), (4, "cpu"))
        ]
        assert [(one.device, one.gpus_per_node, one.gpu_type, one.processes) for one in shapes] == [
            ("cuda", 1, None, 1),
            ("cuda", 4, "a100", 4),
            ("cpu", 0, None, 1),
            ("cpu", 4, None, 4),
        ]

    def test_a_backend_without_use_for_a_gpu(self, with_sbatch: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Gets none unless somebody asks for one, on Slurm or here."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        shapes = [
            launch_of(site, with_sbatch, device=device, uses_gpu=False)
            for site, device in (
                *((Site(), "auto"), (Site(cluster="local"), "auto")),
                *((Site(), "cuda"), (Site(gpus_per_node=2), "auto")),
            )
        ]
        assert [(one.device, one.gpus_per_node) for one in shapes] == [("cpu", 0), ("cpu", 0), ("cuda", 1), ("cuda", 2)]

    def test_what_does_not_fit_together(self, with_sbatch: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """GPUs that are asked for and not asked for, or a device that does not exist, are refused at once."""
        with pytest.raises(UsageError, match="--device cpu"):
            launch_of(Site(gpus_per_node=0), with_sbatch)
        with pytest.raises(UsageError, match="--device"):
            launch_of(Site(), with_sbatch, device="tpu")
        with pytest.raises(UsageError, match=r"--device mps: .*--cluster local"):
            launch_of(Site(), with_sbatch, device="mps")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        with pytest.raises(UsageError, match="--device cuda"):
            launch_of(Site(cluster="local"), device="cuda")
        with pytest.raises(UsageError, match="--device mps: expected a Mac, found linux"):
            launch_of(Site(cluster="local"), device="mps")
        monkeypatch.setattr(sys, "platform", "darwin")
        assert launch_of(Site(cluster="local"), device="mps").device == "mps"

    def test_round_trips(self) -> None:
        """What is kept in the run directory is what was said."""
        launch = launch_of(
            Site(
                cluster="slurm",
                time="1-0",
                tars_per_gpu="auto",
                setup=("a", "b"),
                slurm={"x": True, "y": 1, "z": "s"},
                max_running=7,
            )
        )
        assert msgspec.json.decode(msgspec.json.encode(launch), type=Launch) == launch
        assert launch.time_limit_min == 24 * 60

    def test_what_nobody_asks_for(self) -> None:
        """One worker per GPU, one tar each; what is left to the worker is not decided here."""
        launch = launch_of(Site(cluster="slurm"))
        assert (launch.procs_per_gpu, launch.tars_per_gpu, launch.gpu_request) == (1, 1, "gpus-per-node")
        assert (launch.time_limit_min, launch.decode_threads) == (120, "auto")
        assert (launch.buffer_memory, launch.memory_guard, launch.clip_timeout, launch.workers) == (None,) * 4

    def test_how_a_worker_is_fed(self) -> None:
        """Sizes in bytes and shares as numbers, as workers take them; what a person asks for comes before a site's."""
        site = Site(decode_threads=6, buffer_memory="1.5GiB", memory_guard="0.8", clip_timeout=900.0)
        launch = launch_of(site, device="cpu")
        assert (launch.decode_threads, launch.buffer_memory) == (6, 3 << 29)
        assert (launch.memory_guard, launch.clip_timeout) == (0.8, 900.0)
        asked = LaunchOptions(decode_threads="auto", buffer_memory="3G", memory_guard="0", clip_timeout=0.0, device="cpu")
        launch = make_launch(overlay(site, asked), environment={"PATH": ""})
        assert (launch.decode_threads, launch.buffer_memory) == ("auto", 3 * 10**9)
        assert (launch.memory_guard, launch.clip_timeout) == (0.0, 0.0)

    def test_tars_that_are_accepted(self) -> None:
        """What a person accepts goes with the launch, and nothing else of those wishes."""
        launch = launch_of(Site(), device="cpu", wishes=WishOptions(allow_joined=True, allow_pipe=True, retry_errors=True))
        assert (launch.allow_missing_end, launch.allow_joined, launch.allow_pipe) == (False, True, True)

    def test_metrics_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Cron and the chain write to the folder that was meant where the run was submitted."""
        monkeypatch.chdir(tmp_path)
        assert launch_of(Site(metrics_dir="textfile"), device="cpu").metrics_dir == str(tmp_path / "textfile")
        assert not launch_of(Site(), device="cpu").metrics_dir

    def test_runs_of_before(self) -> None:
        """What run.json of an earlier version says of a launch is read as it was meant."""
        kept = (
            b'{"cluster":"slurm","device":"cuda","gpus_per_node":4,"gpu_type":"a100","gpu_request":"gres","procs_per_gpu":2,'
            b'"workers":null,"tars_per_gpu":"auto","max_running":12,"time_limit_min":90,"partition":"gpu","account":null,'
            b'"qos":null,"constraint":null,"cpus_per_gpu":6,"mem_per_gpu":"40G","decode_threads":"auto",'
            b'"buffer_memory":1500000000,"memory_guard":0.0,"clip_timeout":null,"setup":["module load a"],'
            b'"slurm":{"exclusive":true},"allow_missing_end":true,"allow_joined":false,"allow_pipe":false,'
            b'"options":{"tf32":false},"environment":{"PATH":"/bin"},"group":"speech","umask":"0007"}'
        )
        launch = msgspec.json.decode(kept, type=Launch)
        assert msgspec.json.decode(msgspec.json.encode(launch)) == msgspec.json.decode(kept)
        assert launch.processes == 8
