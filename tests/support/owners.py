"""Files of other people and of groups, for tests that may or may not run as root."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

SOMEBODY = 54321


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have somebody else own this, as far as our own code can tell."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, -1)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)


def some_group(monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """(name, id) of a group that this user may give files to, and that nobody takes for the user's own."""
    monkeypatch.setattr("jobs.trust._own_group", lambda _uid: None)
    ours = [group for group in grp.getgrall() if os.geteuid() == 0 or group.gr_gid in (os.getegid(), *os.getgroups())]
    group = next((group for group in ours if group.gr_gid != os.getegid()), ours[0])
    return group.gr_name, group.gr_gid
