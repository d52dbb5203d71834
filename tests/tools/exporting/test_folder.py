"""tools/exporting/folder.py: a folder holds one export, gets what it lacks, and leaves alone what is not its own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.exported import tokenized_run
from support.runs import tree

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.common import whole_files
from tools.common.run_files import committed_files, spec_of
from tools.exporting.folder import freeze_plan, make_parts, missing_parts
from tools.exporting.plan import PLAN_FILE, ExportFormat, Part, Plan, Source

PLAN = Plan(to="npz", fingerprint="f", parts=(Part("x/a", (Source("x/a", "0"),)), Part("b", (Source("b", "0"),))))


def test_the_same_plan_goes_on(tmp_path: Path) -> None:
    """What exists is finished, and the rest is missing, in order."""
    freeze_plan(tmp_path / "out", PLAN)
    freeze_plan(tmp_path / "out", PLAN)
    assert missing_parts(tmp_path / "out", PLAN) == list(PLAN.parts)
    (tmp_path / "out" / "x" / "a").mkdir(parents=True)
    assert missing_parts(tmp_path / "out", PLAN) == [PLAN.parts[1]]


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """With what differs, and what to do."""
    freeze_plan(tmp_path, PLAN)
    other = Plan(to="npz", fingerprint="g", parts=PLAN.parts)
    with pytest.raises(UsageError, match=r"it holds another export: .*recipe f, the run has g: give another --output"):
        freeze_plan(tmp_path, other)


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    """Nothing is written among files of others, or over a file."""
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match=r"expected an empty folder .* found 'mine\.txt'"):
        freeze_plan(tmp_path, PLAN)
    with pytest.raises(UsageError, match="expected a folder, found a file"):
        freeze_plan(tmp_path / "mine.txt", PLAN)
    assert list(tree(tmp_path)) == ["mine.txt"]
    (tmp_path / PLAN_FILE).write_text("{")
    with pytest.raises(UsageError, match=r"\.export\.json: expected the plan of an export"):
        freeze_plan(tmp_path, PLAN)


def test_litter_of_the_killed_is_swept(tmp_path: Path) -> None:
    """Private files and folders of dead processes go, those of the living stay, and a plan that was never written whole
    does not make the folder foreign.
    """
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = whole_files._host()
    (tmp_path / f".{PLAN_FILE}.{host}.{gone.pid}.new").touch()
    freeze_plan(tmp_path, PLAN)
    (tmp_path / "x" / f".a.{host}.{gone.pid}.new" / "folder").mkdir(parents=True)
    living = tmp_path / f".b.{host}.{os.getppid()}.new"
    living.mkdir()
    missing_parts(tmp_path, PLAN)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([PLAN_FILE, "x", living.name])


@pytest.mark.parametrize("to", ["parquet", "webdataset", "npz"])
def test_a_full_disk(to: ExportFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the part and says what to do, and nothing of it is left."""
    run = tokenized_run(tmp_path)
    file = committed_files(run)[0]
    part = Part("a", (Source("a", "0"),))
    plan = Plan(to=to, fingerprint="f", parts=(part,))
    real = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> object:
        if "r" not in mode:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InfrastructureError, match="out/a: cannot be written: No space left on device; the same command"):
        make_parts(tmp_path / "out", plan, [part], {"a": file}, spec_of(run), workers=1)
    assert list(tree(tmp_path / "out")) == []
