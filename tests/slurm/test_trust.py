"""On a real Slurm: files that tasks make on nodes have the modes that the run wants, whatever the nodes' own umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.owners import some_group
from support.real_cluster import RealCluster
from support.slurm_runs import SlurmRun, slurm_run


def modes(run: SlurmRun) -> Iterator[tuple[Path, os.stat_result]]:
    for path in (run.output, *run.output.rglob("*")):
        yield path, path.stat()


def test_a_setup_line_that_opens_everything(slurm: RealCluster, tmp_path: Path) -> None:
    """A site's profile may set a umask of 0: still nobody else can write what tasks make, and the next round goes on."""
    run = slurm_run(tmp_path, tars=2)
    run.submit("--setup", "umask 000")
    run.finish()
    assert [path for path, status in modes(run) if status.st_mode & 0o022] == []
    run.once(check=0)
    run.assert_complete()


def test_a_run_that_a_group_shares(slurm: RealCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that tasks make is the group's to write and nobody else's; a round that does not name the group is refused."""
    name, gid = some_group(monkeypatch)
    run = slurm_run(tmp_path, tars=2)
    run.submit("--group", name, "--umask", "007", "--setup", "umask 077")
    assert f"--group {name}" in run.once(check=2).stderr
    run.command("hpc.resume", "--watch", "--interval", 0.5, "--group", name)
    for path, status in modes(run):
        assert (status.st_gid, status.st_mode & 0o027) == (gid, 0o020), path
        assert bool(status.st_mode & stat.S_ISGID) == path.is_dir(), path
    run.command("hpc.cancel", "--group", name)
