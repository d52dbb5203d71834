"""tools/checking/failed.py: what failed in a run, in time that follows from what failed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from support.runs import call
from support.small_run import mulaw_spec

from hpc.run import Run
from jobs.manifest import Manifest
from jobs.spec import freeze_spec
from tools.checking.failed import find
from tools.failures import failures


@pytest.mark.slow
def test_five_thousand_clean_tars(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The time grows with the number of tars, and not with its square: 5 s of CPU or more once, 0.6 s now."""
    run = many_committed(here / "tokens", 5000)
    before = time.process_time()
    assert call(failures) == 0
    assert time.process_time() - before < 2
    assert "nothing failed" in capsys.readouterr().out
    assert len(find(run).done) == 5000


def many_committed(output_dir: Path, tars: int) -> Run:
    """A run of so many tars as its workers would have left it, but for the tokens."""
    run = Run(output_dir)
    freeze_spec(output_dir, mulaw_spec())
    run.add_to_list([f"/data/{number:05}.tar" for number in range(tars)], keep_dirs=False)
    (run.folder / "manifests").mkdir()
    for tar in run.listed():
        manifest = Manifest(
            tar_file=tar.tar, input_bytes=1, input_mtime_ns=1, fingerprint="", verdict="complete", clips=1, output_bytes=3
        )
        run.paths(tar.name).manifest.write_bytes(msgspec.json.encode(manifest))
        run.paths(tar.name).committed.write_bytes(b"{}\n")
    return run
