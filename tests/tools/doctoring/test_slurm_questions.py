"""tools/doctoring/slurm_questions.py: what Slurm is asked, and how. Stand-ins answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.slurm_commands import SlurmCommands

from hpc.launch import Launch, make_launch
from hpc.launch_options import LaunchOptions
from tools.doctoring.slurm_questions import ask_commands, ask_nodes, try_sbatch


@pytest.fixture
def slurm(tmp_path: Path) -> SlurmCommands:
    """Commands that note how they were called."""
    commands = SlurmCommands(tmp_path / "bin")
    (commands.folder / "srun").symlink_to(commands.folder / "sbatch")
    return commands


def launch(slurm: SlurmCommands, **settings: Any) -> Launch:
    """As hpc.submit would make it."""
    asked = LaunchOptions(cluster="slurm", partition="gpu", account="speech", setup=("module load cuda",), **settings)
    return make_launch(asked, environment={"PATH": slurm.environment["PATH"]})


def test_each_command_is_asked_once(slurm: SlurmCommands) -> None:
    """And how each ended is told."""
    slurm.answer("squeue", err="squeue: error: nobody home", code=1)
    found = dict(ask_commands(launch(slurm)))
    assert {name: ended.code for name, ended in found.items()} == {"sbatch": 0, "squeue": 1, "sacct": 0, "scontrol": 0}
    assert found["squeue"].words == "squeue: error: nobody home"
    assert sorted(call.split()[0] for call in slurm.calls()) == ["sacct", "sbatch", "scontrol", "squeue"]


def test_commands_that_are_missing(slurm: SlurmCommands) -> None:
    """A machine without Slurm."""
    here = msgspec.structs.replace(launch(slurm), environment={"PATH": str(slurm.folder / "nothing")})
    assert all(ended.missing for _, ended in ask_commands(here))


@pytest.mark.slow
def test_a_command_that_hangs_costs_its_time_only(slurm: SlurmCommands) -> None:
    """The others are asked beside it."""
    slurm.answer("scontrol", hangs=True)
    found = dict(ask_commands(launch(slurm), seconds=3.0))
    assert found["scontrol"].late
    assert "no answer in 3 s" in found["scontrol"].words


def test_sbatch_is_shown_the_run_s_own_array_and_queues_nothing(slurm: SlurmCommands) -> None:
    """--test-only; the text is what hpc.submit sends, but for a folder that is not there yet."""
    try_sbatch(launch(slurm, gpus_per_node="a100:4"))
    assert [call for call in slurm.calls() if call.startswith("sbatch")] == ["sbatch --test-only"]
    text = (slurm.folder / "script").read_text()
    assert "#SBATCH --partition=gpu" in text
    assert "#SBATCH --gpus-per-node=a100:4" in text
    assert "--chdir" not in text


@pytest.mark.slow
def test_srun_that_starts_nothing_is_not_waited_for(slurm: SlurmCommands, tmp_path: Path) -> None:
    """It is asked for nodes as a task would be, with the site's setup lines; without them no note is answered."""
    slurm.answer("srun", err="srun: error: Unable to allocate resources: Requested nodes are busy", code=1)
    place = tmp_path / "notes"
    place.mkdir()
    said = ask_nodes(place, launch(slurm), nodes=3, wait_s=20, checks=["host"], see=["/data/1.tar"])
    assert (said.answers, said.news, said.srun.code) == ((), {}, 1)
    call = "\n".join(slurm.calls())
    for word in (
        "--nodes=3",
        "--immediate=20",
        "--partition=gpu",
        "--account=speech",
        "--gpus-per-node=1",
        "module load cuda",
    ):
        assert word in call
    assert "--see /data/1.tar" in call


@pytest.mark.slow
def test_what_runs_on_nodes_answers(slurm: SlurmCommands, tmp_path: Path) -> None:
    """With an srun that runs the job right here: checks and notes come back, under the node's name."""
    srun = slurm.folder / "srun"
    srun.unlink()
    srun.write_text('#!/bin/sh\nwhile [ "$1" != bash ]; do shift; done\nSLURMD_NODENAME=n7 exec "$@"\n')
    srun.chmod(0o755)
    place = tmp_path / "notes"
    place.mkdir()
    here = Launch(
        cluster="slurm", device="cpu", gpus_per_node=0, environment={"PATH": f"{slurm.folder}:{os.environ['PATH']}"}
    )
    said = ask_nodes(place, here, nodes=1, wait_s=200, checks=["host", "see"], see=[str(tmp_path)])
    assert sorted(answer.check for answer in said.answers) == ["host", "see"]
    assert {answer.node for answer in said.answers} == {"n7"}
    assert list(said.news) == ["n7"]
    assert said.news["n7"].unanswered == 0
