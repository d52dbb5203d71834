"""tools/common/process_pool.py: results come in order, whoever makes them, and no process outlives its work."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.part_makers import die, double, fail_or_go_on, touch_and_wait
from support.runs import ROOT, wait_for

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.common.process_pool import in_processes


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    """Each task's result, in the order of the tasks, and bytes read are told, whether here or in other processes."""
    told: list[int] = []
    assert list(in_processes(double, range(12), workers, told.append)) == [2 * task for task in range(12)]
    assert sum(told) == sum(range(12))


def test_only_a_few_are_made_ahead(tmp_path: Path) -> None:
    """Results that nobody has taken yet take space: no more tasks are begun than `ahead` per process."""
    tasks = [tmp_path / str(number) for number in range(9)]
    before = set(multiprocessing.active_children())
    with (
        closing(in_processes(touch_and_wait, tasks, 2, _interrupt_at(3), ahead=1)) as results,
        pytest.raises(KeyboardInterrupt),
    ):
        next(results)
    assert len(list(tmp_path.iterdir())) == 2
    assert set(multiprocessing.active_children()) == before


def _interrupt_at(bytes_read: int) -> Callable[[int], None]:
    """Ctrl-C comes after so many bytes."""
    left = [bytes_read]

    def tell(size: int) -> None:
        left[0] -= size
        if left[0] <= 0:
            raise KeyboardInterrupt

    return tell


def test_one_error_ends_all() -> None:
    """The error comes out as it is, and nobody waits for parts that would go on for ever."""
    with pytest.raises(UsageError, match="part 0 is bad"):
        list(in_processes(fail_or_go_on, [0, 1, 2], 2, lambda _: None))


def test_a_process_that_is_killed() -> None:
    """It is said, instead of waiting for it forever."""
    with pytest.raises(InfrastructureError, match="one of 2 processes was killed: is there enough memory for so many"):
        list(in_processes(die, [0, 1], 2, lambda _: None))


@pytest.mark.slow
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Kill -9 of the command leaves nobody at work."""
    code = (
        "import sys, pathlib\n"
        "from support.part_makers import touch_and_wait\n"
        "from tools.common.process_pool import in_processes\n"
        "if __name__ == '__main__':\n"
        "    list(in_processes(touch_and_wait, [pathlib.Path(p) for p in sys.argv[1:]], 2, lambda _: None))\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    signs = [tmp_path / "a", tmp_path / "b"]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tokenizers'}"}
    with subprocess.Popen([sys.executable, str(script), *map(str, signs)], env=paths) as parent:
        wait_for(lambda: all(sign.exists() and sign.read_text() for sign in signs))
        parent.kill()
    wait_for(lambda: not any(Path(f"/proc/{sign.read_text()}").exists() for sign in signs))
