"""Make tests/data/old_run.tar.gz: a run that everything was killed in, made by the code that is checked out.

    PYTHONPATH=.:tokenizers:tests python -m support.make_old_run

Of its three tars one is committed, one in hand and one untouched. The archive holds FOLDER, whose path many of the run's
files hold, and beside the run what one undisturbed worker of the same code commits.
"""

from __future__ import annotations

import os
import shutil
import signal
import tarfile
from pathlib import Path

from support.local_runs import SlowRun, task_pids
from support.runs import lines_of, wait_for
from support.small_run import tokenize

FOLDER = Path("/tmp/tar2tokens-old-run")
ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "old_run.tar.gz"
WHOLE_SECOND = 1_700_000_000
"""When the tars were written: an archive does not keep nanoseconds, and the run has noted them."""


def main() -> None:
    """Begin the run, kill all of it, and archive what is left."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    run = SlowRun(FOLDER, "abc")
    for tar in run.tars:
        os.utime(tar, (WHOLE_SECOND, WHOLE_SECOND))
        tokenize(tar, FOLDER / "undisturbed")
    process = run.start(0.2, workers=1)
    wait_for(lambda: (run.output / "a.jsonl").exists() and lines_of(run.output) >= 3)
    for pid in (process.pid, *task_pids(run.output)):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    run.release()
    shutil.rmtree(FOLDER / "site")
    shutil.rmtree(FOLDER / "undisturbed" / ".run", ignore_errors=True)
    ARCHIVE.parent.mkdir(exist_ok=True)
    with tarfile.open(ARCHIVE, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.add(FOLDER, FOLDER.name)
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
