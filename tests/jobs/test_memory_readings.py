"""jobs/memory_readings.py: limits and what is left of them, as files of /proc and /sys say it; page cache is no use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.memory_readings import MemoryReader, Room

GB = 10**9
PAGE = os.sysconf("SC_PAGE_SIZE")


def write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def v2(root: Path, group: str, limit: object, used: int, inactive: int = 0, active: int = 0) -> None:
    folder = f"sys/fs/cgroup/{group}"
    stat = f"anon 5\nfile 7\ninactive_file {inactive}\nactive_file {active}\nslab_reclaimable 1000"
    write(root, {f"{folder}/memory.max": limit, f"{folder}/memory.current": used, f"{folder}/memory.stat": stat})


@pytest.fixture
def slurm_v2(tmp_path: Path) -> Path:
    """A step of a Slurm job under v2: the job has a limit, the step has none."""
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
            "proc/self/mountinfo": "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
            "proc/self/statm": "9000 5000 2000 1 0 800 0",
            "proc/meminfo": f"MemTotal: {64 * 10**6} kB\nMemFree: 1 kB\nMemAvailable: {48 * 10**6} kB",
        },
    )
    job = "system.slice/slurmstepd.scope/job_7"
    v2(tmp_path, f"{job}/step_0", "max", 9 * GB)
    v2(tmp_path, job, 10 * GB, 9 * GB, inactive=3 * GB, active=2 * GB)
    return tmp_path


def test_v2_counts_no_page_cache(slurm_v2: Path) -> None:
    """The job's group and the machine are limits; file pages and slabs that can be taken back are free."""
    reader = MemoryReader(slurm_v2, {})
    job, machine = reader.rooms(0)
    assert job.where.endswith("job_7")
    assert (job.total, job.free) == (10 * GB, 6 * GB + 1000)
    assert machine == Room("the machine", 64 * 1024 * 10**6, 48 * 1024 * 10**6)
    assert reader.own() == 3000 * PAGE


def test_limits_may_change(slurm_v2: Path) -> None:
    """They are read each time, and one that cannot be read is none."""
    reader = MemoryReader(slurm_v2, {})
    v2(slurm_v2, "system.slice", 8 * GB, 2 * GB)
    assert [room.total for room in reader.rooms(0)[:-1]] == [10 * GB, 8 * GB]
    (slurm_v2 / "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/memory.stat").write_text("odd\n")
    assert [room.total for room in reader.rooms(0)[:-1]] == [8 * GB]


def v1_files(path: str, root_of_mount: str) -> dict[str, object]:
    return {
        "proc/self/cgroup": f"9:name=systemd:/\n4:cpu,memory:{path}\n0::/",
        "proc/self/mountinfo": (
            f"35 31 0:32 {root_of_mount} /sys/fs/cgroup/memory\\040v1 rw,relatime - cgroup cgroup rw,cpu,memory\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
        ),
    }


@pytest.mark.parametrize(
    ("path", "root_of_mount", "folder"),
    [
        ("/slurm/uid_0/job_7", "/", "slurm/uid_0/job_7"),
        ("/docker/abc", "/docker/abc", ""),
        ("/docker/abc/slurm", "/docker/abc", "slurm"),
        ("/../other", "/", ""),
        ("/elsewhere", "/docker/abc", ""),
    ],
)
def test_v1_wherever_the_group_is_mounted(tmp_path: Path, path: str, root_of_mount: str, folder: str) -> None:
    """Its file pages count as free; a group of another namespace is the mount itself; a limit near 2**63 is none."""
    write(tmp_path, v1_files(path, root_of_mount))
    group = f"sys/fs/cgroup/memory v1/{folder}"
    write(
        tmp_path,
        {
            f"{group}/memory.limit_in_bytes": 4 * GB,
            f"{group}/memory.usage_in_bytes": 3 * GB,
            f"{group}/memory.stat": f"cache {2 * GB}\ntotal_inactive_file {GB}\ntotal_active_file {GB // 2}",
        },
    )
    (room,) = MemoryReader(tmp_path, {}).rooms(0)
    assert (room.total, room.free) == (4 * GB, 4 * GB - 3 * GB + GB + GB // 2)
    write(tmp_path, {f"{group}/memory.limit_in_bytes": 9223372036854771712})
    assert MemoryReader(tmp_path, {}).rooms(0) == []


@pytest.mark.parametrize(
    ("environment", "mib"),
    [
        ({"SLURM_MEM_PER_NODE": "4000"}, 4000),
        ({"SLURM_MEM_PER_CPU": "500", "SLURM_CPUS_ON_NODE": "8"}, 4000),
        ({"SLURM_MEM_PER_GPU": "2000", "SLURM_GPUS_ON_NODE": "2"}, 4000),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_CPU": "500"}, None),
        ({"SLURM_MEM_PER_NODE": "4G"}, None),
    ],
)
def test_what_a_job_was_given(tmp_path: Path, environment: dict[str, str], mib: int | None) -> None:
    """Slurm's variables are a limit of its own, for sites without control groups, less what all workers hold."""
    expected = [] if mib is None else [Room("the Slurm job", mib << 20, (mib << 20) - 1000)]
    assert MemoryReader(tmp_path, environment).rooms(1000) == expected


def test_nothing_to_read(tmp_path: Path) -> None:
    """On a system without /proc nothing is a limit, and nothing is held."""
    write(tmp_path, {"proc/self/mountinfo": "odd\n\n - \n1 2 3 - cgroup2 x y", "proc/meminfo": "MemTotal: many kB\nodd"})
    reader = MemoryReader(tmp_path, {})
    assert (reader.rooms(0), reader.own()) == ([], 0)


def test_this_machine() -> None:
    """What is read here is plausible: this process holds some megabytes, and no limit has more left than it is."""
    reader = MemoryReader()
    assert reader.own() > 1 << 20
    assert all(0 <= room.free <= room.total for room in reader.rooms(0))
