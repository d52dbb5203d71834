"""benchmarks/soak.py in small: 15 s of faults on a real Slurm; the bytes are those of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

from support.real_cluster import RealCluster

from benchmarks import soak
from benchmarks.soak_plan import KINDS
from benchmarks.soak_report import as_text


def test_a_run_in_which_something_breaks_every_few_seconds(slurm: RealCluster, tmp_path: Path) -> None:
    """Rounds of hpc.resume --once alone finish it; every fault that there was time for has been tried."""
    result = soak.soak(tmp_path, slurm, seed=3, seconds=15, tars=8, every_s=1.5)
    assert result.well, as_text(result)
    assert len({one.kind for one in result.tried}) >= 3
    assert len(result.ended.verdicts) == 1
    assert result.rows[-1].kind == "all"
    assert set(KINDS) >= {one.kind for one in result.tried}
