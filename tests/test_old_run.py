"""Run folders of before: what the code of an earlier commit began, today's finishes."""

from __future__ import annotations

import fcntl
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.make_old_run import ARCHIVE, FOLDER
from support.runs import committed_bytes, slow_backend, start

from jobs.claims import Claim


@pytest.fixture
def old_run() -> Iterator[Path]:
    """The run folder where it was made, for its files say where that is; as if it had been made on this machine."""
    with Path(f"{FOLDER}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test runs on this machine
        shutil.rmtree(FOLDER, ignore_errors=True)
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(FOLDER.parent, filter="data")
        output = FOLDER / "tokens"
        this = Claim.of_this_process("")
        for path in output.rglob("*.json"):
            if path.parent.name in ("claims", "0001"):
                text = path.read_text()
                content = json.loads(text)
                for key, value in {"host": this.host, "pid_namespace": this.pid_namespace}.items():
                    if key in content:
                        content[key] = value
                path.write_text(json.dumps(content))
        yield output
        shutil.rmtree(FOLDER)


@pytest.mark.slow
def test_a_run_that_an_earlier_version_began_ends_with_its_bytes(old_run: Path) -> None:
    """hpc.resume goes on where the run was killed, leaves the committed file alone, and each file has the bytes that one
    undisturbed worker of the earlier version committed.
    """
    env = {**slow_backend(FOLDER / "site"), "XDG_CONFIG_HOME": str(FOLDER)}
    checked = start("tools.check_progress", "--output-dir", old_run, "--json", cwd=FOLDER, env=env)
    report = json.loads(checked.communicate()[0])
    assert report["completed"] == 1
    committed = (old_run / "a.jsonl").stat()
    resumed = start("hpc.resume", "--output-dir", old_run, cwd=FOLDER, env=env)
    out, err = resumed.communicate()
    assert resumed.returncode == 0, out + err
    assert not list(old_run.glob("*.partial"))
    assert committed_bytes(old_run) == committed_bytes(FOLDER / "undisturbed")
    assert (old_run / "a.jsonl").stat().st_mtime_ns == committed.st_mtime_ns
    history = [json.loads(line) for line in (old_run / ".run" / "history.jsonl").read_text().splitlines()]
    assert history[-1]["outcome"] == "finished"
