"""hpc/batch_script.py: what sbatch gets, word for word."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.runs import ROOT

from audio_tokenizers.errors import UsageError
from hpc.batch_script import batch_text, check_path
from hpc.launch import Launch
from hpc.submissions import Job, Submission

GOLDEN = Path(__file__).parent / "golden"
SHARED = Launch(cluster="slurm", device="cuda", gpus_per_node=1)


def job_of(number: int, *, elements: int = 4) -> Job:
    at = 1_700_000_000.0 + number
    return Job(name=f"t-{number:04}", elements=elements, parallel=elements, host="h", intended_at=at)


class TestBatchText:
    def check(self, name: str, launch: Launch, output_dir: str, job: Job, exclude: tuple[str, ...] = ()) -> str:
        """Compare with a committed file, in which the paths of the interpreter and of this code have stand-ins."""
        text = batch_text(Submission(Path(output_dir, ".run", "submissions", "0003")), launch, job, exclude)
        assert text.replace(sys.executable, "/PYTHON").replace(str(ROOT), "/CODE") == (GOLDEN / name).read_text()
        return text

    def test_one_gpu_of_a_shared_node(self) -> None:
        """The plainest job: an array with a GPU each, no requeue, its output in the run directory."""
        self.check("shared_node.sh", SHARED, "/runs/tokens", job_of(3, elements=1000))

    def test_whole_nodes_with_everything_said(self) -> None:
        """A process per GPU and more, every option, further options, setup lines, nodes to avoid, a path full of traps."""
        launch = Launch(
            cluster="slurm",
            device="cuda",
            gpus_per_node=4,
            gpu_type="a100",
            procs_per_gpu=2,
            time_limit_min=240,
            partition="big,small",
            account="speech",
            qos="high",
            constraint="a100&nvlink",
            cpus_per_gpu=16,
            mem_per_gpu="40G",
            setup=("module load cuda/12", 'echo "on $(hostname)"'),
            slurm={"exclusive": True, "exclude": "n9", "comment": "it's odd"},
        )
        job = Job(name="tar2tokens-ab-0003", elements=25, parallel=7, host="h", intended_at=0.0)
        self.check("whole_node.sh", launch, '/runs/it\'s a "run" & more/$HOME/tokens', job, ("n2", "n1"))

    def test_cpus_only(self) -> None:
        """Without GPUs none are asked for, memory is for the task, and a short limit leaves the clock to the worker."""
        launch = Launch(
            cluster="slurm",
            device="cpu",
            gpus_per_node=0,
            cpus_per_gpu=2,
            mem_per_gpu="2G",
            time_limit_min=1,
            procs_per_gpu=2,
        )
        self.check("cpus.sh", launch, "/runs/tokens", job_of(3))


@pytest.mark.parametrize("path", ["/runs/x%jy", "/runs/100%", "/runs/a\\b", "/runs/a\nb"])
def test_paths_that_slurm_would_change(path: str) -> None:
    """Where submitit or Slurm would write logs to another folder the path is refused; spaces and quotes are fine."""
    with pytest.raises(UsageError, match="choose another folder"):
        check_path(Path(path))
    check_path(Path("/runs/a b/'\"/$HOME/tokens"))
