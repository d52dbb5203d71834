"""tools.canary on a real Slurm: the same clips on each node, and the one whose GPU does not work is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.real_cluster import RealCluster
from support.slurm_runs import slurm_run


@pytest.mark.slow
def test_every_node(slurm: RealCluster, tmp_path: Path) -> None:
    """Four nodes, one of them broken: a no that names it, and says what the others do. Nothing is left in the queue."""
    run = slurm_run(tmp_path / "run", tars=2, clips=4)
    run.settings += ["broken_node=n3"]
    settings = [word for setting in (*run.settings, "pause=0.2") for word in ("--set", setting)]
    words = ["--list", run.tar_list, "--backend", "slow", *settings, "--cluster", "slurm"]
    done = run.command("tools.canary", *words, "--clips", 6, "--time", 5, "--json", check=1)
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert found["node n3"]["verdict"] == "fault", done.stdout
    assert "CUDA error" in found["node n3"]["found"]
    for node in ("n1", "n2", "n4"):
        assert found[f"node {node}"]["verdict"] == "ok", found[f"node {node}"]
    assert found["interrupted"]["verdict"] == found["resumed tokens"]["verdict"] == "ok"
    assert "array tasks" in found
    assert not run.output.exists()
    slurm.wait(lambda: not slurm.squeue(), "an empty queue")
