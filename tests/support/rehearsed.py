"""Clusters in memory for tools.canary: tasks run in this process when they are looked for, and nodes can be bad."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from audio_tokenizers.base import Codes, Waveform
from audio_tokenizers.mulaw import MuLaw
from hpc.begin_run import Begun
from hpc.cluster import JobNumber, JobSeen, SubmitRefusedError
from hpc.launch import Launch
from hpc.progress import scan
from hpc.run import Run
from hpc.submissions import Job, Submission
from support.fake_cluster import FakeCluster, QueuedJob
from support.small_run import mulaw_spec, stopping_after, tokenize

REAL = MuLaw.encode


def other_tokens(self: MuLaw, waves: Sequence[Waveform]) -> list[Codes]:
    """The last bit of each token is wrong."""
    return [codes ^ 1 for codes in REAL(self, waves)]


class QuickCluster(FakeCluster):
    """Its tasks run as soon as they are looked for, in this process, and its nodes are what a test says."""

    def __init__(self, launch: Launch, workers: int = 2, *, bad: Mapping[str, str] | None = None) -> None:
        """`bad`: node -> `tokens` (it makes others), `fails`, `refused` by sbatch, or `waits` in the queue."""
        super().__init__()
        self.node = str(launch.slurm.get("nodelist", "n0"))
        self.fate = (bad or {}).get(self.node, "")
        self.workers = min(launch.workers or workers, workers) if launch.cluster == "local" else None
        self.interrupt = False
        """The first job's worker is in the middle of its first tar when it is looked for."""

    def slots(self, launch: Launch, tars: int) -> Any:
        return self.workers and min(self.workers, tars)

    def submit(self, submission: Submission, launch: Launch, job: Job, exclude: Collection[str]) -> JobNumber:
        if self.fate == "refused":
            raise SubmitRefusedError("sbatch refused the job: Requested node configuration is not available")
        return super().submit(submission, launch, job, exclude)

    def look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        for job in self.living():
            if self.interrupt and len(self.jobs) == 1:
                self._half(job)
            elif self.fate == "fails":
                self.end_all("machine", node=self.node, problem="CUDA error: an illegal memory access")
            elif self.fate != "waits":
                self._whole(job)
        return super().look(jobs)

    def cancel(self, jobs: Mapping[int, tuple[Submission, Job]], *, pending_only: bool = False) -> None:
        for _, job in jobs.values():
            queued = self.jobs[job.name]
            queued.ends |= dict.fromkeys(queued.alive, "CANCELLED")
        super().cancel(jobs, pending_only=pending_only)

    def _half(self, job: QueuedJob) -> None:
        self.begin(job, 0, self.node)
        output_dir = job.submission.folder.parents[2]
        first = job.plan.slots[0][0]
        if not list(output_dir.rglob("*.partial")):
            stem = Path(first.name).parent
            tokenize(Path(first.tar), output_dir / stem, **stopping_after(1))

    def _whole(self, job: QueuedJob) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if self.fate == "tokens":
                patch.setattr(MuLaw, "encode", other_tokens)
            for element in list(job.alive):
                self.run(job, element, self.node)


def begun(folder: Path, tars: Sequence[Path], **launch: Any) -> Begun:
    """What hpc.submit would begin, of mulaw on CPUs."""
    run = Run(folder / "tokens")
    listed = run.add_to_list([str(tar) for tar in tars], keep_dirs=False, dry_run=True)
    settings = {"cluster": "slurm", "device": "cpu", "gpus_per_node": 0, **launch}
    return Begun(run, mulaw_spec(), Launch(**settings), list(scan(run, listed)), listed, {})
