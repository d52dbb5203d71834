"""tools/comparing/sample.py: which clips are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_run import mulaw_spec, wav, write_tar

from tools.comparing import sample
from tools.comparing.sample import sample_clips

SPEC = mulaw_spec()


@pytest.fixture
def tars(tmp_path: Path) -> list[str]:
    """Four tars of five clips."""
    return [
        str(write_tar(tmp_path / f"{t}.tar", {f"{n}.wav": wav(50 + n, seed=10 * t + n) for n in range(5)})) for t in range(4)
    ]


def test_clips_come_from_many_tars(tars: list[str]) -> None:
    """As many from each, the same for the same seed, and others for another."""
    chosen = [[(one.tar, one.name) for one in sample_clips(tars, 8, SPEC, seed)] for seed in (0, 0, 1)]
    assert [len(set(one)) for one in chosen] == [8, 8, 8]
    assert {tar for tar, _ in chosen[0]} == set(tars)
    assert chosen[0] == chosen[1] != chosen[2]


def test_more_than_there_are(tars: list[str]) -> None:
    """All clips of the tars that are opened for them."""
    assert len(list(sample_clips(tars, 100, SPEC, 0))) == 20
    assert len(list(sample_clips(tars, 3, SPEC, 0))) == 3
    assert list(sample_clips([], 3, SPEC, 0)) == []


def test_few_tars_are_opened(tars: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the list is."""
    monkeypatch.setattr(sample, "MOST_TARS", 2)
    assert len({one.tar for one in sample_clips(tars, 8, SPEC, 0)}) == 2


def test_tars_that_cannot_be_read(tars: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are left out, by name, and others stand in for them."""
    Path(tars[0]).write_bytes(b"no tar")
    Path(tars[1]).unlink()
    found = list(sample_clips(tars, 8, SPEC, 0))
    assert {one.tar for one in found} == set(tars[2:])
    assert len(found) >= 4
    assert {tar for tar in tars if tar in caplog.text} <= set(tars[:2])
    assert tmp_path
