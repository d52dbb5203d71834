"""jobs/memory_events.py: the kernel's own count of processes that it killed for want of memory, wherever it keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.memory_events import OomKills, read_oom_kills

V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
MOUNT = "35 31 0:32 {root} {at} rw,relatime shared:1 - {kind} none rw,{options}\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "vmstat").write_text("pgfault 7\noom_kill 9\n")
    return folder


def machine(proc: Path, groups: str, *mounts: tuple[str, str, Path]) -> None:
    """A process in these groups; mounts as (kind, root, place)."""
    (proc / "self" / "cgroup").write_text(groups)
    text = [
        MOUNT.format(root=root, at=at, kind=kind, options="memory" if kind == "cgroup" else "") for kind, root, at in mounts
    ]
    (proc / "self" / "mountinfo").write_text("".join(text))


def count(path: Path, text: str) -> OomKills:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return OomKills(str(path), 2)


def test_version_2(proc: Path, tmp_path: Path) -> None:
    """The task's own group, as Slurm makes it."""
    machine(proc, "0::/slurm/job_7/step_0/task_0\n", ("cgroup2", "/", tmp_path / "fs"))
    expected = count(tmp_path / "fs/slurm/job_7/step_0/task_0/memory.events", V2)
    assert read_oom_kills(proc) == expected


def test_version_1(proc: Path, tmp_path: Path) -> None:
    """The group of the memory controller, whatever the others are."""
    machine(proc, "9:name=systemd:/x\n4:memory:/slurm/job_7\n1:cpu:/y\n0::/z\n", ("cgroup", "/", tmp_path / "memory"))
    expected = count(tmp_path / "memory/slurm/job_7/memory.oom_control", V1)
    assert read_oom_kills(proc) == expected


def test_in_a_container(proc: Path, tmp_path: Path) -> None:
    """Where the mount shows the container's group as its top, that is where the count is; so it is where the group lies
    outside of what the mount shows.
    """
    expected = count(tmp_path / "fs/memory.events", V2)
    machine(proc, "0::/docker/abc\n", ("cgroup2", "/docker/abc", tmp_path / "fs"))
    assert read_oom_kills(proc) == expected
    machine(proc, "0::/../other\n", ("cgroup2", "/docker/abc", tmp_path / "fs"))
    assert read_oom_kills(proc) == expected


def test_group_without_a_count(proc: Path, tmp_path: Path) -> None:
    """The machine's count is better than none: the top group has no events, an old kernel none in its control file."""
    machine(proc, "0::/\n", ("cgroup2", "/", tmp_path / "fs"))
    assert read_oom_kills(proc) == OomKills(str(proc / "vmstat"), 9)
    count(tmp_path / "old/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
    machine(proc, "4:memory:/\n", ("cgroup", "/", tmp_path / "old"))
    assert read_oom_kills(proc) == OomKills(str(proc / "vmstat"), 9)


def test_nothing_to_read(tmp_path: Path) -> None:
    """Not knowing is not zero."""
    assert read_oom_kills(tmp_path) is None


def test_here() -> None:
    """On any Linux that runs these tests there is a count, and it does not fall."""
    before, after = read_oom_kills(), read_oom_kills()
    assert before is not None
    assert after is not None
    assert (after.file, after.number >= before.number) == (before.file, True)
