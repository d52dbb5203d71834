"""tools/reporting/refresh.py: a run's own report is replaced whole, by one process at a time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.committed_runs import make_run, some_records

from hpc.lock import LockHeldError
from hpc.run import Run
from jobs.claims import Claim
from tools.reporting.refresh import refresh


def test_it_replaces_the_page(tmp_path: Path) -> None:
    """Beside it there is nothing left."""
    make_run(tmp_path / "tokens", {"1": some_records(1)})
    run = Run(tmp_path / "tokens")
    run.report_file.write_text("old")
    before = set(run.folder.iterdir())
    refresh(run, wait=True)
    assert "1 tar committed" in run.report_file.read_text()
    assert set(run.folder.iterdir()) == before


def test_another_is_at_work(tmp_path: Path) -> None:
    """Then it leaves the page to that."""
    make_run(tmp_path / "tokens", {"1": some_records(1)})
    run = Run(tmp_path / "tokens")
    holder = msgspec.structs.replace(Claim.of_this_process("another"), host="another-host")
    (run.folder / "report.lock").write_bytes(msgspec.json.encode(holder))
    with pytest.raises(LockHeldError):
        refresh(run, wait=False)
    assert not run.report_file.exists()
