"""Detect kills by the kernel's out-of-memory killer, from the counters of control groups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["OomKills", "read_oom_kills"]


@dataclass(frozen=True, slots=True)
class OomKills:
    """The number of processes killed for lack of memory, from one counter file."""

    file: str
    number: int


def read_oom_kills(proc: Path = Path("/proc")) -> OomKills | None:
    """`oom_kill` of the calling process's control group: memory.events (version 2) or memory.oom_control (version 1).

    Falls back to the whole machine's count (/proc/vmstat); None if that cannot be read either. The kernel counts before it
    kills: by the time a death is noticed, it is counted.
    """
    for path in (*_group_files(proc), proc / "vmstat"):
        with suppress(OSError, UnicodeDecodeError):
            match = re.search(r"^oom_kill (\d+)$", path.read_text(encoding="ascii"), re.MULTILINE)
            if match is not None:
                return OomKills(str(path), int(match[1]))
    return None


def _group_files(proc: Path) -> Iterator[Path]:
    """Files that may hold the count, the best first. See proc(5), proc_pid_cgroup(5) and proc_pid_mountinfo(5)."""
    try:
        groups = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()]
        mounts = [line.split() for line in (proc / "self" / "mountinfo").read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return
    for _, controllers, group in sorted(groups):
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        kind, name = ("cgroup2", "memory.events") if not controllers else ("cgroup", "memory.oom_control")
        for fields in mounts:
            kind_at = fields.index("-") + 1
            options = fields[kind_at + 2].split(",")
            if fields[kind_at] != kind or (controllers and "memory" not in options):
                continue
            yield _below(Path(fields[4]), group, fields[3]) / name


def _below(mount: Path, group: str, root: str) -> Path:
    """A group's path below a mount whose root is `root`; in a container the mount may be the group itself."""
    path, top = PurePosixPath(group), PurePosixPath(root)
    return mount / path.relative_to(top) if path.is_relative_to(top) else mount
