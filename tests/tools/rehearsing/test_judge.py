"""tools/rehearsing/judge.py: what trials did, as findings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hpc.progress import TarState
from jobs.records import TokenRecord
from tools.listening.clips import Pick
from tools.listening.comparison import Verdict
from tools.rehearsing.agreement import Difference
from tools.rehearsing.excerpts import Excerpt, Excerpts
from tools.rehearsing.judge import (
    judge_devices,
    judge_errors,
    judge_excerpts,
    judge_heard,
    judge_interruption,
    judge_node,
    judge_rate,
    judge_same,
    judge_trial,
)
from tools.rehearsing.results import ClipId, Figures, Made
from tools.rehearsing.trial import Outcome

FAILED = Outcome("out of order", 2.0)
REFUSED = Outcome("sbatch refused the job", untried=True)
ODD = Difference(1, 2, "a\x1b[31m.wav")


def made(clips: int = 10, errors: int = 0, workers: int = 2) -> Made:
    lines = {ClipId("a", n, f"{n}.wav"): b"" for n in range(clips)}
    figures = [Figures("a.tar", 1000, 9.0, 100, 3600.0)]
    return Made("x", lines, {}, figures, {"decode": errors} if errors else {}, "A100", workers, 12.0, 2.5)


def verdict(si_sdr: float | None = None, fault: str | None = None) -> Verdict:
    record = TokenRecord(tar_file="a", audio_file="a.wav", num_samples=1, sample_rate=1, values={"x": msgspec.Raw(b"1")})
    return Verdict(Pick(TarState("a", "a", "committed", 1, None, None), 0, record), 1.0, 1.0, si_sdr, fault)


def test_excerpts() -> None:
    """Which clips; a damaged tar is named, and no clip at all is a no."""
    parts = [Excerpt("/in/b.tar", Path("x"), 5, 1), Excerpt("/in/a.tar", Path("y"), 4, 1)]
    (found,) = judge_excerpts(Excerpts(parts), 9)
    assert found.found == "9 clips from the beginning of b.tar, a.tar"
    (few,) = judge_excerpts(Excerpts(parts), 100)
    assert (few.verdict, few.found) == ("ok", f"{found.found}: fewer than 100, there are no more in these tars")
    broken, clips = judge_excerpts(Excerpts(parts, {"/in/c.tar": "cut at byte 7"}), 9)
    assert (broken.verdict, broken.found, clips.verdict) == ("fault", "/in/c.tar: cut at byte 7", "ok")
    assert judge_excerpts(Excerpts(), 9)[0].verdict == "fault"


@pytest.mark.parametrize(("outcome", "expected"), [(Outcome(), "ok"), (FAILED, "fault"), (REFUSED, "warning")])
def test_trials_and_nodes(outcome: Outcome, expected: str) -> None:
    """What did not work is a no; what was not tried says nothing."""
    what = made() if expected == "ok" else None
    assert judge_trial("one worker", outcome, what).verdict == expected
    assert judge_node("n1", outcome, what, None).verdict == expected
    if what is None:
        assert judge_interruption(outcome).verdict == expected
    assert judge_node("n1", Outcome(), made(), ODD).verdict == "fault"


def test_interruptions() -> None:
    """One that came too late proves nothing, and is a warning."""
    assert judge_interruption(Outcome(seconds=0.5)).verdict == "warning"
    assert judge_interruption(Outcome(seconds=0.5, interrupted=True)).verdict == "ok"


def test_names_out_of_tars_are_inert() -> None:
    """They may hold control characters."""
    assert judge_same("same tokens", None, 3).verdict == "ok"
    found = judge_same("same tokens", ODD, 3)
    assert (found.verdict, "\x1b" in found.found) == ("fault", False)
    assert "\x1b" not in judge_node("n1", Outcome(), made(), ODD).found


def test_errors() -> None:
    """A few are usual, many are worth a look, all are a no."""
    assert [judge_errors(made(10, errors)).verdict for errors in (0, 1, 2, 10)] == ["ok", "ok", "warning", "fault"]


def test_what_is_heard() -> None:
    """Wrong lengths are a no; what sounds unlike the original is a warning, and silence is neither."""
    assert judge_heard([verdict(12.0), verdict(None, "decoded to 7 samples more")]).verdict == "fault"
    good = judge_heard([verdict(10.0), verdict(20.0), verdict(3.0), verdict(None)])
    assert (good.verdict, good.found) == (
        "ok",
        "4 clips decoded to the right length, SI-SDR 3.0 to 20.0 dB, median 10.0 dB",
    )
    assert judge_heard([verdict(-35.0), verdict(-40.0), verdict(3.0)]).verdict == "warning"
    assert judge_heard([verdict(None)]).verdict == "ok"


def test_rates() -> None:
    """Of a worker at work, and of all; without audio there is none."""
    assert judge_rate(made(), gpu=True).found == ("400 audio-h per hour and GPU worker, 800 with 2 workers; 1 audio-h tried")
    assert judge_rate(made(workers=1), gpu=False).found == "400 audio-h per hour and worker; 1 audio-h tried"
    assert judge_rate(Made("x", {}, {}, [], {}, "", 1, 1.0, 0.0), gpu=True).verdict == "warning"


def test_devices() -> None:
    """Only kinds with other tokens than the first are worth a word."""
    assert judge_devices({"A": None}) == []
    (found,) = judge_devices({"A": None, "B": ODD, "C": None})
    assert (found.verdict, found.found.startswith("tokens on B are not those on A: 1 of 2 clips")) == ("warning", True)
