"""tools/merging/part_pool.py: processes that make members ahead, and what becomes of them when something ends early."""

from __future__ import annotations

import multiprocessing
from contextlib import closing
from pathlib import Path

import pytest
from support.committed_runs import make_run, some_records

from audio_tokenizers.errors import InfrastructureError
from tools.merging.members import Made, make_member
from tools.merging.part_pool import PartTask, make_parts, writing


@pytest.fixture
def tasks(tmp_path: Path) -> list[PartTask]:
    """Six members to make."""
    files = make_run(tmp_path / "tokens", {str(n): some_records(n, clips=60 - 10 * n) for n in range(6)})
    return [PartTask(file, tmp_path / f"part-{file.name}", "higgs", "gz") for file in files]


@pytest.mark.slow
def test_parts_come_in_order_until_one_is_damaged(tasks: list[PartTask]) -> None:
    """Each part is what one process would have made, in the order of the tasks, while not much more is made ahead; damage
    ends it with its message.
    """
    tasks[4].file.path.write_bytes(b"x" * tasks[4].file.bytes)
    told: list[int] = []
    with closing(make_parts(tasks, 2, told.append)) as parts:
        for number, task in enumerate(tasks[:4]):
            path, made = next(parts)
            expected: list[bytes] = []
            assert made == make_member(task.file, "higgs", "gz", expected.append) == Made(60 - 10 * number, {"decode": 1})
            assert (path, path.read_bytes()) == (task.path, b"".join(expected))
            assert not any(later.path.exists() for later in tasks[number + 4 :])
        with pytest.raises(InfrastructureError, match=r"4.jsonl: line 1 is no record"):
            next(parts)
    assert sum(told) >= sum(task.file.bytes for task in tasks[:4])


@pytest.mark.slow
def test_a_process_that_is_killed(tasks: list[PartTask]) -> None:
    """The kernel may kill a process for its memory: that is said, and nothing hangs."""
    before = set(multiprocessing.active_children())

    def take_all() -> None:
        with closing(make_parts(tasks, 2, lambda _: None)) as parts:
            for _ in parts:
                for child in set(multiprocessing.active_children()) - before:
                    child.kill()  # the pool may have ended it meanwhile
                    child.join()

    with pytest.raises(InfrastructureError, match="one of 2 processes was killed: is there enough memory"):
        take_all()


def test_words_for_a_disk_that_is_full(tmp_path: Path) -> None:
    """Trouble with writing names the file, and says that the work so far is kept."""
    with pytest.raises(InfrastructureError, match=r"x: cannot be written: No such file.* it resumes"), writing(Path("x")):
        (tmp_path / "none" / "x").write_bytes(b"")
