"""tools/doctoring/judge.py: what facts about files and hosts mean."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tools.common.findings import Finding
from tools.doctoring.folder_probe import Exclusive, Replacing, Room, Signs
from tools.doctoring.host_probe import Driver, Host, Tars, Torch, Weights
from tools.doctoring.judge import (
    judge_exclusive,
    judge_gpus,
    judge_host,
    judge_mps,
    judge_quotas,
    judge_rename,
    judge_room,
    judge_signs,
    judge_tars,
    judge_weights,
)
from tools.doctoring.quota import Quota

GB = 10**9
CARD = Driver(("NVIDIA A100", "NVIDIA A100"), "550.54", "12.4")


def verdicts(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in findings}


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Exclusive(1, 1, refused=True), "ok"),
        (Exclusive(2, 1, refused=True), "fault"),
        (Exclusive(1, 1, refused=False), "fault"),
        (Exclusive(0, 0, refused=True), "fault"),
    ],
)
def test_exactly_one_may_win(facts: Exclusive, verdict: str) -> None:
    """Two is as wrong as none."""
    assert judge_exclusive(facts).verdict == verdict


def test_a_rename_is_judged_by_what_readers_saw() -> None:
    """One bad read is enough, and the words say of which kind."""
    assert judge_rename(Replacing(100, 0, 0)).verdict == "ok"
    assert "1 found none, 0 a mixture" in judge_rename(Replacing(100, 1, 0)).found


def test_signs_of_life() -> None:
    """A touch that does not show would void living claims; clocks that differ by minutes are a warning."""
    assert judge_signs(Signs(0.0, 2.0)).verdict == "ok"
    assert judge_signs(Signs(1e9, 0.0)).verdict == "fault"
    assert judge_signs(Signs(0.0, -300.0)).verdict == "warning"
    assert "300.0 s behind" in judge_signs(Signs(0.0, -300.0)).found


def test_room_for_a_list() -> None:
    """Bytes and files, the latter by the number of tars; file systems without a count of files are not judged by it."""
    plenty = Room(100 * GB, 1000 * GB, 10**9, "lustre")
    assert verdicts(judge_room(plenty, 1000, shared=True)) == {"room": "ok", "inodes": "ok"}
    assert verdicts(judge_room(Room(GB, GB, None, "nfs4"), 1, shared=True)) == {"room": "warning"}
    for tars, words in (
        (0, "files may be made"),
        (1, "; a run of 1 tar makes some 1,0"),
        (2000, "; a run of 2,000 tars makes"),
    ):
        assert words in judge_room(plenty, tars, shared=True)[1].found
    few = Room(10**6, GB, 50_000, "xfs")
    assert verdicts(judge_room(few, 10_000, shared=True)) == {"room": "fault", "inodes": "fault", "file system": "warning"}
    assert verdicts(judge_room(few, 10, shared=False)) == {"room": "fault", "inodes": "ok"}
    assert verdicts(judge_room(Room(100 * GB, 100 * GB, None, "tmpfs"), 1, shared=False))["file system"] == "warning"


def test_quotas() -> None:
    """Each limit on its own; 0 is none."""
    found = judge_quotas(
        [Quota("/home", 10 * GB, 10 * GB, 5, 0), Quota("/s", 95 * GB, 100 * GB, 10, 10**6), Quota("/free", 5, 0, 5, 0)]
    )
    assert [(finding.verdict, finding.found) for finding in found] == [
        ("fault", "/home: 10.0 GB of 10.0 GB used"),
        ("warning", "/s: 95.0 GB of 100.0 GB used"),
        ("ok", "/s: 10 of 1,000,000 files"),
    ]


def test_hosts() -> None:
    """Open files, TMPDIR and shared memory; the node is named."""
    good = Host("3.11.7", 16, 65536, "/tmp", 100 * GB, 10 * GB)
    assert set(verdicts(judge_host(good)).values()) == {"ok"}
    bad = judge_host(Host("3.11.7", 1, 64, "/tmp", None, 10**6), "n7")
    assert verdicts(bad) == {"python": "ok", "open files": "fault", "TMPDIR": "fault", "shared memory": "warning"}
    assert all("n7" in finding.found for finding in bad)
    some = verdicts(judge_host(Host("3.11.7", 1, 256, "/tmp", 10**8, None)))
    assert some == {"python": "ok", "open files": "warning", "TMPDIR": "warning"}
    assert verdicts(judge_host(Host("3.11.7", 1, -1, "/tmp", 10**10, None)))["open files"] == "ok"


@pytest.mark.parametrize(
    ("driver", "torch", "found"),
    [
        (CARD, Torch(True, "2.11", "12.8", 2), {"GPUs": "ok", "torch": "ok"}),
        (CARD, Torch(True, "2.11+cpu"), {"GPUs": "ok", "torch": "fault"}),
        (CARD, Torch(False), {"GPUs": "ok", "torch": "fault"}),
        (
            CARD,
            Torch(True, "2.11", "13.0", 0, "The NVIDIA driver on your system is too old"),
            {"GPUs": "ok", "torch": "fault"},
        ),
        (CARD, None, {"GPUs": "ok"}),
        (Driver(error="there is no nvidia-smi"), None, {"GPUs": "fault"}),
    ],
    ids=["well", "a CPU build", "no torch", "an old driver", "nobody asked torch", "no GPU"],
)
def test_gpus_where_they_are_wanted(driver: Driver, torch: Torch | None, found: dict[str, str]) -> None:
    """Torch has to fit the driver."""
    assert verdicts(judge_gpus(driver, torch, wanted=True)) == found


def test_gpus_where_they_are_not_wanted() -> None:
    """None is fine then, and a torch without CUDA only a warning."""
    assert verdicts(judge_gpus(Driver(), None, wanted=False)) == {"GPUs": "ok"}
    assert verdicts(judge_gpus(CARD, Torch(True, "2.11+cpu"), wanted=False))["torch"] == "warning"


def test_a_macs_gpu() -> None:
    """Fine if torch sees it; otherwise it says what is missing."""
    assert judge_mps(Torch(True, "2.11", mps="available")).verdict == "ok"
    for torch, words in ((Torch(False), "not installed"), (Torch(True, "2.11", mps="built"), "sees no GPU")):
        finding = judge_mps(torch)
        assert (finding.verdict, words in finding.found) == ("fault", True)
    assert "without MPS" in judge_mps(Torch(True, "2.11+cpu")).found


def test_the_cure_names_the_driver_only_where_it_is_the_cause() -> None:
    """CUDA 13 on a driver of 12.4 does not run; 12.8 does, within one major version."""
    old = judge_gpus(CARD, Torch(True, "2.11", "13.0", 0, "too old"), wanted=True)[-1]
    assert "the driver knows CUDA 12.4 at most" in old.advice
    hidden = judge_gpus(CARD, Torch(True, "2.11", "12.8", 0), wanted=True)[-1]
    assert "CUDA_VISIBLE_DEVICES" in hidden.advice


def test_weights_and_tars() -> None:
    """What is missing is named."""
    assert judge_weights(Weights(checked="whole")).verdict == "ok"
    assert judge_weights(Weights(error="/m/model.pth: missing")).found == "/m/model.pth: missing"
    assert judge_tars(Tars(3, "/a", 10, (), 0)).found == "3 tars, 10 bytes, all readable here"
    assert judge_tars(Tars(1, "/a", 10, (), 0)).found == "1 tar, 10 bytes, all readable here"
    bad = judge_tars(Tars(3, "/a", 10, ("/b: No such file or directory",), 1))
    assert (bad.verdict, bad.found) == ("fault", "1 of 3 cannot be tokenized: /b: No such file or directory")
    assert judge_tars(Tars(3, "/a", 10, ("/b: no",), 2)).found == "2 of 3 cannot be tokenized: /b: no; ..."
