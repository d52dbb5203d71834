"""hpc/list_check.py: the tars of a list that cannot be tokenized, found by many threads, and never waited for in vain."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support.small_run import small_tar

from audio_tokenizers.errors import InfrastructureError
from hpc.list_check import describe_faults, find_faults
from jobs.tar_source import TarSource


def test_faults_come_in_the_order_of_the_list(tmp_path: Path) -> None:
    """Whichever thread is first, faults are named as the list has them; a FIFO blocks nobody."""
    os.mkfifo(tmp_path / "b.tar")
    (tmp_path / "d.tar").write_text("no tar")
    good = small_tar(tmp_path / "c.tar")
    tars = [str(tmp_path / "z.tar"), str(tmp_path / "b.tar"), str(good), str(tmp_path / "d.tar")]
    faults = find_faults(tars)
    assert list(faults) == [tars[0], tars[1], tars[3]]
    assert faults[tars[0]] == "there is no such file"
    assert "found a FIFO" in faults[tars[1]]
    assert "expected a tar header" in faults[tars[3]]
    assert find_faults([str(good)]) == find_faults([]) == {}


def test_answers_are_awaited_by_many_threads() -> None:
    """As many tars are asked for at once as there are threads: each waits here until all others do."""
    together = threading.Barrier(8)

    def look(_tar: TarSource) -> str | None:
        together.wait()
        return None

    assert find_faults([f"{n}.tar" for n in range(32)], look, lookers=8) == {}


@pytest.mark.slow
def test_file_system_that_never_answers() -> None:
    """A mount that hangs is told with the tars that wait for it, instead of waiting for ever; slow answers are no reason."""
    hung, slow = threading.Event(), threading.Event()

    def look(tar: TarSource) -> str | None:
        if "hung" in str(tar):
            hung.wait()
        else:
            slow.wait(0.1)
        return None

    tars = ["hung1.tar", *(f"{n}.tar" for n in range(12))]
    with pytest.raises(InfrastructureError, match=r"no answer for 0\.3 s from the file system of hung1\.tar: is it mounted"):
        find_faults(tars, look, lookers=2, silent_seconds=0.3)
    hung.set()


def test_server_that_never_answers() -> None:
    """The same at an address, in words that fit."""
    hung = threading.Event()

    def look(_tar: object) -> str | None:
        hung.wait()
        return None

    with pytest.raises(InfrastructureError, match=r"no answer for 0\.1 s from the server of s3://b/a\.tar: is it there"):
        find_faults(["s3://b/a.tar"], look, silent_seconds=0.1)
    hung.set()


def test_bug_is_not_lost_in_a_thread() -> None:
    """What a look raises is raised."""
    with pytest.raises(ZeroDivisionError):
        find_faults(["a.tar"], lambda _tar: str(1 // 0))


def test_words() -> None:
    """A line per tar, as far as a person wants to read them."""
    assert describe_faults({"/d/a.tar": "gone", "/d/b.tar": "a FIFO"}, 3) == (
        "2 of 3 cannot be tokenized:\n  /d/a.tar: gone\n  /d/b.tar: a FIFO"
    )
    many = describe_faults({f"{n}.tar": "gone" for n in range(1500)}, 2000)
    assert many.startswith("1,500 of 2,000 cannot be tokenized:")
    assert many.count("\n") == 21
    assert many.endswith("and 1,480 more")
