"""tools/doctoring/quota.py: the tables of quota and lfs quota."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.doctoring.quota import Quota, ask_quotas, parse_quotas

QUOTA = """\
Disk quotas for user alice (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
      /dev/sda1 1000000*  900000 1100000 1763800000   12345       0  200000       0
server:/home/with/a/very/long/name
                    50       0       0       0       3       0       0       0
"""
LUSTRE = "/scratch 1024 0 2048 - 10 0 20 -\n"


def test_rows_of_both_commands() -> None:
    """KiB become bytes; the soft limit counts where there is one; a long name may stand alone; a dash is no grace."""
    assert list(parse_quotas(QUOTA + LUSTRE)) == [
        Quota("/dev/sda1", 1_024_000_000, 921_600_000, 12345, 200000),
        Quota("server:/home/with/a/very/long/name", 51_200, 0, 3, 0),
        Quota("/scratch", 1 << 20, 2 << 20, 10, 20),
    ]
    assert list(parse_quotas("none\nDisk quotas for user alice (uid 1000): none\n")) == []


def test_commands_that_are_there_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is found where neither is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_quotas(tmp_path) == []
    (tmp_path / "lfs").write_text(f"#!/bin/sh\necho '{LUSTRE.strip()}'\n")
    (tmp_path / "lfs").chmod(0o755)
    assert [quota.place for quota in ask_quotas(tmp_path)] == ["/scratch"]
