"""hpc/run.py: the list that grows, the folders of submissions, and what commands have said."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from support.runs import tree

from audio_tokenizers.errors import UsageError
from hpc import run as run_module
from hpc.launch import Launch
from hpc.run import ListedTar, Run, RunState, as_task


def test_list_grows_and_names_stay(tmp_path: Path) -> None:
    """Tars are added behind those that are there; what is given comes back in the order given, with its names."""
    run = Run(tmp_path / "tokens")
    assert run.listed() == []
    first = run.add_to_list(["/d/a/1.tar", "/d/a/2.tar"], keep_dirs=True)
    again = run.add_to_list(["/d/b/1.tar", "/d/a/2.tar"], keep_dirs=True)
    assert again == [ListedTar("/d/b/1.tar", "b/1"), ListedTar("/d/a/2.tar", "2")]
    assert run.listed() == [*first, again[0]]
    assert run.list_file.read_text() == "/d/a/1.tar\t1\n/d/a/2.tar\t2\n/d/b/1.tar\tb/1\n"
    assert [path.name for path in run.folder.iterdir()] == ["tars.txt"]


def test_collision_leaves_the_list_as_it_was(tmp_path: Path) -> None:
    """A list that is refused adds none of its tars."""
    run = Run(tmp_path)
    run.add_to_list(["/d/a/1.tar"], keep_dirs=False)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="two tars"):
        run.add_to_list(["/d/new.tar", "/d/b/1.tar"], keep_dirs=False)
    assert tree(tmp_path) == before


def test_dry_run_names_without_writing(tmp_path: Path) -> None:
    """A dry run answers with the names that a real one would give, and writes nothing."""
    run = Run(tmp_path / "tokens")
    assert run.add_to_list(["/d/1.tar"], keep_dirs=False, dry_run=True) == [ListedTar("/d/1.tar", "1")]
    assert not run.output_dir.exists()


def test_known_tars_need_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that adds nothing touches nothing."""
    run = Run(tmp_path)
    run.add_to_list(["/d/1.tar"], keep_dirs=False)
    monkeypatch.setattr(run_module, "write_atomically", lambda *_: pytest.fail("it wrote"))
    monkeypatch.setattr(run_module, "locked", lambda *_: pytest.fail("it took the lock"))
    assert run.add_to_list(["/d/1.tar"], keep_dirs=False) == [ListedTar("/d/1.tar", "1")]


@pytest.mark.parametrize("name", ["", "/etc/x", "..", "../x", "a/../../x", "a//b", "a/"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    """Another's list must not have tools read, or an export write, beside the folders that a person named."""
    run = Run(tmp_path)
    run.folder.mkdir()
    run.list_file.write_text(f"/d/1.tar\t1\n/d/2.tar\t{name}\n")
    with pytest.raises(UsageError, match=r"tars\.txt: expected the name of an output below the run, found "):
        run.listed()


def test_odd_names_round_trip(tmp_path: Path) -> None:
    """Spaces, quotes and characters that Unicode takes for line ends come back as they went in."""
    tars = ["/d/a b.tar", "/d/'\".tar", "/d/c\u2028d\x0b\x85\x1c.tar", "/d/e\r.tar"]
    run = Run(tmp_path)
    run.add_to_list(tars, keep_dirs=False)
    assert [tar.tar for tar in run.listed()] == tars


@pytest.mark.parametrize("content", [b"/d/1.tar\n", b"/d/1.tar\t1\n\n", b"/d/\xff.tar\t1\n", b"/d/1.tar\t1\r\n"])
def test_damaged_list_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """A list that is not ours is not guessed at."""
    run = Run(tmp_path)
    run.folder.mkdir()
    run.list_file.write_bytes(content)
    with pytest.raises(UsageError, match=r"tars.txt: expected TAR<tab>NAME"):
        run.listed()


@pytest.mark.parametrize("content", [b"", b"[]", b"/d/1.tar\t1\n/d/2.tar\t2", b"/d/1.tar\t1\n/d/2.ta"])
def test_a_list_that_is_cut_is_no_shorter_list(tmp_path: Path, content: bytes) -> None:
    """Else a run that lost tars by a damaged disk would be finished without them, with exit code 0."""
    run = Run(tmp_path)
    run.folder.mkdir()
    run.list_file.write_bytes(content)
    with pytest.raises(UsageError, match=r"tars.txt: expected TAR<tab>NAME lines to its end"):
        run.listed()


@pytest.mark.parametrize(("content", "twice"), [("/d/1.tar\t1\n/d/2.tar\t1\n", "1"), ("/a.tar\t1\n/a.tar\t2\n", "/a.tar")])
def test_nothing_is_listed_twice(tmp_path: Path, content: str, twice: str) -> None:
    """A bit that flips in a name or a path would let one tar's tokens pass for another's."""
    run = Run(tmp_path)
    run.folder.mkdir()
    run.list_file.write_text(content)
    with pytest.raises(
        UsageError, match=f"tars.txt: expected a tar, and an output's name, once each, found {twice!r} twice"
    ):
        run.listed()


def add_one(arguments: tuple[Path, int]) -> None:
    output, number = arguments
    for part in range(5):
        Run(output).add_to_list([f"/d/{number}-{part}.tar"], keep_dirs=False)


def test_commands_at_once_lose_no_tar(tmp_path: Path) -> None:
    """Commands that add tars at the same time end with all of them in the list, each once."""
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(add_one, [(tmp_path, number) for number in range(4)]))
    found = [tar.name for tar in Run(tmp_path).listed()]
    assert sorted(found) == sorted(f"{number}-{part}" for number in range(4) for part in range(5))
    assert not (tmp_path / ".run" / "tars.lock").exists()


def test_another_command_adds_as_many_tars_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that has grown by as many tars as are to be added, right after it was read, lacks them all the same."""
    run, with_new = Run(tmp_path), Run._with_new

    def overtaken(self: Run, tars: Sequence[str], *, keep_dirs: bool) -> dict[str, ListedTar]:
        found = with_new(self, tars, keep_dirs=keep_dirs)
        monkeypatch.setattr(Run, "_with_new", with_new)
        Run(tmp_path).add_to_list(["/theirs.tar"], keep_dirs=False)
        return found

    monkeypatch.setattr(Run, "_with_new", overtaken)
    run.add_to_list(["/mine.tar"], keep_dirs=False)
    assert [tar.name for tar in run.listed()] == ["theirs", "mine"]


def test_submissions_are_numbered_and_never_shared(tmp_path: Path) -> None:
    """Each submission has a folder of its own, so that no plan is ever written over; numbers only grow."""
    run = Run(tmp_path)
    assert run.submissions() == []
    assert [run.new_submission().folder.name for _ in range(3)] == ["0001", "0002", "0003"]
    (run.submissions_folder / "9999").mkdir()
    assert run.new_submission().number == 10000
    assert [one.number for one in run.submissions()] == [1, 2, 3, 9999, 10000]


def make_some(output: Path) -> list[int]:
    return [Run(output).new_submission().number for _ in range(10)]


def test_controllers_at_once_share_no_submission(tmp_path: Path) -> None:
    """Two that make submissions at the same time never get the same folder."""
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        found = [number for numbers in pool.map(make_some, [tmp_path] * 4) for number in numbers]
    assert len(found) == len(set(found)) == 40


class TestState:
    def test_round_trips(self, tmp_path: Path) -> None:
        """What commands have said is what the controller reads: the launch, the amnesty, what to retry, a cancellation."""
        run = Run(tmp_path)
        assert run.read_state() == RunState()
        launch = Launch(
            cluster="slurm", device="cuda", gpus_per_node=4, gpu_type="a100", tars_per_gpu="auto", slurm={"x": True, "y": 2}
        )
        state = RunState(run_id="abcd", launch=launch, amnesty=7, retry={"a/b": "0123456789ab"}, cancelled=True)
        run.write_state(state)
        assert run.read_state() == state
        run.write_state(RunState(run_id="abcd", launch=launch))
        assert run.read_state() == RunState(run_id="abcd", launch=launch)

    def test_foreign_file_is_refused_by_name(self, tmp_path: Path) -> None:
        """A state that cannot be read is not taken for none: an amnesty or a cancellation would be lost."""
        run = Run(tmp_path)
        run.folder.mkdir()
        (run.folder / "run.json").write_text('{"amnesty": "many"}')
        with pytest.raises(UsageError, match=r"run\.json"):
            run.read_state()


def test_missing_tar_counts_no_bytes(tmp_path: Path) -> None:
    """A tar that is not there can be planned; its worker will say what is wrong."""
    (tmp_path / "1.tar").write_bytes(b"12345")
    assert as_task(ListedTar(str(tmp_path / "1.tar"), "1"), {}).bytes == 5
    assert as_task(ListedTar(str(tmp_path / "2.tar"), "2"), {}).bytes == 0


def test_tar_at_an_address_has_the_size_that_was_noted() -> None:
    """No server is asked again; without a note it counts none."""
    assert as_task(ListedTar("s3://b/1.tar", "1"), {"s3://b/1.tar": 7}).bytes == 7
    assert as_task(ListedTar("s3://b/1.tar", "1"), {}).bytes == 0
