"""Total and free memory of the control groups (v1 and v2), the Slurm job and the machine.

Page cache counts as free. The kernel reclaims it before it kills a process, and a worker that streams tars fills all memory
with it: by `memory.current` alone every long run would be out of memory. Only the working set counts as used: everything but
file pages (which exclude shared memory and tmpfs) and reclaimable slabs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["MemoryReader", "Room"]

MIB = 1 << 20
NO_LIMIT = 1 << 60
"""v1 expresses no limit as a number slightly below 2**63."""


@dataclass(frozen=True, slots=True)
class Room:
    """A memory limit that applies to this process."""

    where: str
    total: int
    """Bytes."""
    free: int
    """Bytes still available."""


@dataclass(frozen=True, slots=True)
class _Names:
    """File and key names of one version of control groups."""

    limit: str
    used: str
    reclaimable: tuple[str, ...]
    """Lines of memory.stat."""


V2 = _Names("memory.max", "memory.current", ("inactive_file", "active_file", "slab_reclaimable"))
V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


class MemoryReader:
    """Reads /proc, /sys and the environment. Unreadable values count as no limit."""

    def __init__(self, root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> None:
        self._root = root
        self._groups = list(_groups(root))
        self._job = _job_limit(environment)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def own(self) -> int:
        """Bytes private to this process: its resident pages that are not backed by files."""
        try:
            words = (self._root / "proc/self/statm").read_text().split()
            return max(0, int(words[1]) - int(words[2])) * self._page
        except (OSError, ValueError, IndexError):
            return 0

    def rooms(self, held: int) -> list[Room]:
        """All limits. `held`: bytes held by all workers of the job; without a control group, the only measure of its use."""
        found = [room for folder, names in self._groups if (room := _group_room(folder, names)) is not None]
        if self._job is not None:
            found.append(Room("the Slurm job", self._job, max(0, self._job - held)))
        machine = _machine_room(self._root / "proc/meminfo")
        return found if machine is None else [*found, machine]


def _groups(root: Path) -> Iterator[tuple[Path, _Names]]:
    """The control groups of this process and their ancestors: each has its own limit."""
    paths: dict[_Names, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            paths[V2] = path
        elif "memory" in controllers.split(","):
            paths[V1] = path
    for line in _lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        kind, *more = right.split(" ") or [""]
        names = V2 if kind == "cgroup2" else V1 if kind == "cgroup" and "memory" in more[-1].split(",") else None
        if names is None or names not in paths or len(left.split(" ")) < 5:
            continue
        below, mounted = (_unescaped(word) for word in left.split(" ")[3:5])
        top = root / mounted.lstrip("/")
        folder = top / _relative(paths[names], below)
        yield from ((one, names) for one in (folder, *folder.parents) if one == top or top in one.parents)


def _relative(path: str, below: str) -> PurePosixPath:
    """A group's path below the mount. A path outside it belongs to another namespace: then the mount is the group."""
    group = PurePosixPath(path)
    inside = ".." not in group.parts and group.is_relative_to(below)
    return group.relative_to(below) if inside else PurePosixPath()


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def _group_room(folder: Path, names: _Names) -> Room | None:
    try:
        limit = int((folder / names.limit).read_text())  # `max` raises ValueError: no limit
        if limit >= NO_LIMIT:
            return None
        used = int((folder / names.used).read_text())
        stat = dict(line.split(" ") for line in _lines(folder / "memory.stat"))
        cache = sum(int(stat.get(name, 0)) for name in names.reclaimable)
    except (OSError, ValueError):
        return None
    return Room(f"the control group {folder}", limit, min(limit, max(0, limit - max(0, used - cache))))


def _job_limit(environment: Mapping[str, str]) -> int | None:
    """Bytes that a Slurm job requested on this node: sites without control groups enforce that."""

    def number(name: str) -> int:
        text = environment.get(name, "")
        return int(text) if text.isdecimal() else 0

    mib = (
        number("SLURM_MEM_PER_NODE")
        or number("SLURM_MEM_PER_CPU") * number("SLURM_CPUS_ON_NODE")
        or number("SLURM_MEM_PER_GPU") * number("SLURM_GPUS_ON_NODE")
    )
    return mib * MIB or None


def _machine_room(meminfo: Path) -> Room | None:
    try:
        text = meminfo.read_text(errors="replace")
    except OSError:
        return None
    sizes = [re.search(rf"^{name}: +(\d+) kB$", text, re.MULTILINE) for name in ("MemTotal", "MemAvailable")]
    total, free = (int(size[1]) * 1024 if size else 0 for size in sizes)
    if not total or sizes[1] is None:
        return None
    return Room("the machine", total, min(free, total))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
