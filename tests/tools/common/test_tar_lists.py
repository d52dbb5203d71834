"""tools/common/tar_lists.py: lists for the next command, none of which costs a person a file."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import ROOT, call
from support.small_run import mulaw_spec, small_tar

from hpc.run import Run
from jobs.fileops import FileOps
from jobs.spec import freeze_spec
from tools.check_progress import check_progress
from tools.common import tar_lists
from tools.common.tar_lists import Listing, Written, write_lists
from tools.failures import failures

DEFAULTS: dict[Callable[..., int], tuple[str, str]] = {
    check_progress: ("remaining_tar_files.txt", "invalid_tar_files.txt"),
    failures: ("failed_tars.txt", "tars_with_errors.txt"),
}


@pytest.fixture
def run(here: Path) -> Run:
    """A run of one tar that nobody has begun."""
    run = Run(here / "tokens")
    freeze_spec(run.output_dir, mulaw_spec())
    run.add_to_list([str(small_tar(here / "1.tar"))], keep_dirs=False)
    return run


def write(run: Run, path: Path, *tars: str, asked: bool = True, force: bool = False, ops: FileOps | None = None) -> Written:
    """Write one list."""
    (written,) = write_lists(run, [Listing("Remaining", path, tars, "--remaining-output", asked)], force=force, ops=ops)
    return written


@pytest.mark.parametrize("command", DEFAULTS)
def test_a_persons_file_by_a_lists_name_stays(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str], command: Callable[..., int]
) -> None:
    """A file that the command did not write is neither deleted nor replaced, whether there is something to list or not."""
    for name in DEFAULTS[command]:
        (here / name).write_text("mine\n")
    for _ in range(2):
        assert call(command) == 0
        assert [(here / name).read_text() for name in DEFAULTS[command]] == ["mine\n", "mine\n"]
        err = capsys.readouterr().err
        assert f"note: {DEFAULTS[command][0]}: left as it is" in err
        assert "--force" in err


@pytest.mark.parametrize(
    ("command", "option"),
    [(check_progress, "--remaining-output"), (check_progress, "--completed-output"), (failures, "--failed-output")],
)
def test_a_persons_file_that_was_named_is_refused(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str], command: Callable[..., int], option: str
) -> None:
    """Somebody's list under the name that was asked for: the report, one message, exit code 2, and not a byte changed."""
    (here / "mine.txt").write_text("/data/1.tar\n")
    assert call(command, option, "mine.txt") == 2
    out, err = capsys.readouterr()
    assert str(run.output_dir) in out
    assert "error: mine.txt: left as it is: this run did not write it" in err
    assert f"{option} writes elsewhere" in err
    assert (here / "mine.txt").read_text() == "/data/1.tar\n"
    assert call(command, option, "mine.txt", "--force") == 0
    assert (here / "mine.txt").read_text() != "/data/1.tar\n"


def test_our_own_list_is_replaced_and_becomes_empty(run: Run, here: Path) -> None:
    """A list of ours that nobody has changed is rewritten, and empty when nothing is left: a loop reads it still."""
    path = here / "l.txt"
    assert write(run, path, "/a", "/b").useful
    assert path.read_bytes() == b"/a\n/b\n"
    assert write(run, path, "/b", asked=False).useful
    assert path.read_bytes() == b"/b\n"
    assert write(run, path, asked=False) == Written(Listing("Remaining", path, (), "--remaining-output", False), holds=True)
    assert path.read_bytes() == b""


def test_a_list_that_somebody_has_edited_stays(run: Run, here: Path) -> None:
    """What a person has changed in a list of ours is theirs."""
    path = here / "l.txt"
    write(run, path, "/a", "/b")
    path.write_text("/a\n")
    written = write(run, path, "/b")
    assert written.kept
    assert "--force" in written.note
    assert path.read_text() == "/a\n"
    assert write(run, path, "/b", force=True).useful
    assert write(run, path, "/c").useful
    assert path.read_text() == "/c\n"


def test_force_makes_nobodys_file_ours_for_good(run: Run, here: Path) -> None:
    """A file that was replaced once with --force, and that its owner has put back, stays."""
    path = here / "l.txt"
    path.write_text("mine\n")
    assert write(run, path, "/a", force=True).useful
    path.write_text("mine\n")
    assert write(run, path, "/b").kept
    assert path.read_text() == "mine\n"


def test_another_runs_list_stays(run: Run, here: Path) -> None:
    """Two runs that are looked at in one folder do not take each other's lists for their own."""
    other = Run(here / "other")
    other.folder.mkdir(parents=True)
    write(run, here / "l.txt", "/a")
    assert write(other, here / "l.txt", "/b").kept
    assert (here / "l.txt").read_text() == "/a\n"


def test_a_file_of_the_same_bytes_is_never_taken_over(run: Run, here: Path) -> None:
    """A person's list that happens to say the same serves as it is, and does not become ours to empty."""
    path = here / "l.txt"
    path.write_text("/a\n")
    assert write(run, path, "/a").useful
    assert write(run, path).kept
    assert path.read_text() == "/a\n"


def test_an_empty_list_is_made_where_it_was_asked_for(run: Run, here: Path) -> None:
    """Whoever names a list gets it, empty or not; nobody else gets a file without a line."""
    write(run, here / "asked.txt")
    write(run, here / "usual.txt", asked=False)
    assert (here / "asked.txt").read_bytes() == b""
    assert not (here / "usual.txt").exists()


def test_a_link_stays_a_link(run: Run, here: Path) -> None:
    """What a link points to is judged and written; a link to nothing gets its file."""
    (here / "store").mkdir()
    link = here / "l.txt"
    link.symlink_to("store/list.txt")
    write(run, link, "/a")
    assert link.is_symlink()
    assert (here / "store" / "list.txt").read_text() == "/a\n"
    (here / "theirs.txt").write_text("mine\n")
    (here / "2.txt").symlink_to("theirs.txt")
    assert write(run, here / "2.txt", "/a").kept
    assert (here / "theirs.txt").read_text() == "mine\n"


@pytest.mark.parametrize("command", [check_progress, failures])
def test_a_device_is_written_to(run: Run, here: Path, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/null is still a device afterwards, though root looked; no other list appears in its folder."""
    device = here / "dev" / "null"
    device.parent.mkdir()
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        device = Path("/dev/null")  # who may not make one cannot harm it either
    before = sorted(device.parent.iterdir())
    option = "--remaining-output" if command is check_progress else "--failed-output"
    assert call(command, option, device) == 0
    assert stat.S_ISCHR(device.stat().st_mode)
    assert sorted(device.parent.iterdir()) == before


def test_a_pipe_is_written_to(run: Run, here: Path) -> None:
    """A pipe gets the list, as in `--remaining-output >(xargs ...)`."""
    pipe = here / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    written = write(run, pipe, "/a", "/b")
    reader.join()
    assert (got, written.note) == ([b"/a\n/b\n"], "")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_that_nobody_reads_does_not_hold_the_command(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it is told, and the pipe stays."""
    monkeypatch.setattr(tar_lists, "READER_SECONDS", 0.0)
    os.mkfifo(here / "pipe")
    assert "could not be written" in write(run, here / "pipe", "/a").note


@pytest.mark.slow
def test_the_output_of_the_command_itself(run: Run, here: Path) -> None:
    """`--remaining-output /dev/stdout > report.txt` is the list and the report in one file, and replaces nothing."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (here / "report.txt").open("wb") as out:
        command = [sys.executable, "-m", "tools.check_progress", "--remaining-output", "/dev/stdout"]
        assert subprocess.run(command, cwd=here, env=env, stdout=out, check=False).returncode == 0
    text = (here / "report.txt").read_text()
    assert "PROGRESS SUMMARY" in text
    assert f"{here}/1.tar\n" in text
    assert sorted(path.name for path in here.iterdir()) == ["1.tar", "report.txt", "tokens"]


def test_a_folder_is_refused(run: Run, here: Path) -> None:
    """A folder by the list's name is told, and stays."""
    (here / "l.txt").mkdir()
    written = write(run, here / "l.txt", "/a")
    assert written.kept
    assert "a folder is no place for a list" in written.note


@pytest.mark.parametrize("place", [".", "..", "/", "tokens"])
def test_folders_by_whatever_name(place: str, run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One message and exit code 2, also where the name has no last part; nothing is written beside it either."""
    for command, option in ((check_progress, "--remaining-output"), (failures, "--failed-output")):
        before = sorted(here.parent.iterdir()), sorted(here.iterdir())
        assert call(command, "--output-dir", run.output_dir, option, place) == 2
        assert "a folder is no place for a list" in capsys.readouterr().err
        assert (sorted(here.parent.iterdir()), sorted(here.iterdir())) == before


def test_runs_own_files_are_never_replaced(run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even with --force, and not by another name of theirs."""
    before = run.list_file.read_bytes()
    os.link(run.list_file, here / "hard.txt")
    (here / "soft.txt").symlink_to(run.spec_file)
    for name in (run.list_file, run.spec_file, run.folder / "new.txt", "hard.txt", "soft.txt"):
        assert call(check_progress, "--remaining-output", name, "--force") == 2
        assert call(failures, "--failed-output", name, "--force") == 2
        assert "in use already" in capsys.readouterr().err
    assert run.list_file.read_bytes() == before


@pytest.mark.parametrize("command", [check_progress, failures])
def test_a_folder_that_takes_no_files_is_a_note(
    run: Run, capsys: pytest.CaptureFixture[str], command: Callable[..., int]
) -> None:
    """Exit code 1 means invalid files, or failures: a list that cannot be written is neither."""
    option = "--remaining-output" if command is check_progress else "--failed-output"
    assert call(command, option, "/proc/none/list.txt") == 0
    assert "note: /proc/none/list.txt: the list could not be written" in capsys.readouterr().err


def test_a_run_folder_that_cannot_be_written(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague's run can be looked at: the list is written, and a word says that it will not be known for ours."""

    class ReadOnly(FileOps):
        def create(self, path: Path) -> int:
            if path.is_relative_to(run.folder):
                raise PermissionError(13, "Permission denied")
            return super().create(path)

    written = write(run, here / "l.txt", "/a", ops=ReadOnly())
    assert written.useful
    assert "--force" in written.note
    assert write(run, here / "l.txt", "/b", ops=ReadOnly()).kept


@pytest.mark.parametrize("step", range(20))
def test_killed_at_any_step(run: Run, here: Path, step: int) -> None:
    """Whatever operation is the last, the next command knows the list for ours."""

    class Dies(FileOps):
        left = step

        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

        def create(self, path: Path) -> int:
            self._step()
            return super().create(path)

        def write(self, fd: int, data: bytes) -> None:
            self._step()
            super().write(fd, data)

        def fsync(self, fd: int) -> None:
            self._step()
            super().fsync(fd)

        def rename(self, source: Path, target: Path) -> None:
            self._step()
            super().rename(source, target)

    write(run, here / "l.txt", "/a")
    with contextlib.suppress(KeyboardInterrupt):
        write(run, here / "l.txt", "/b", ops=Dies())
    assert write(run, here / "l.txt", "/c").useful
    assert (here / "l.txt").read_text() == "/c\n"


def test_a_damaged_memory_costs_no_file(run: Run, here: Path) -> None:
    """Where the memory says nothing every file is a person's."""
    write(run, here / "l.txt", "/a")
    run.lists_file.write_text("[]")
    assert write(run, here / "l.txt", "/b").kept
