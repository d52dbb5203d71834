from __future__ import annotations

import dataclasses
import sys

import pytest

from benchmarks import fill
from benchmarks.fill import HOP, SAMPLE_RATE, Setting, clip_lengths, fragments, simulate
from jobs.lane_grid import LaneGrid


@pytest.mark.slow
def test_the_goals_are_met(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Padding and empty lanes together: 15 % of large tars, 20 % of small ones, 5 % of long clips, at most."""
    monkeypatch.setattr(sys, "argv", ["fill"])
    assert fill.main() == 0
    assert capsys.readouterr().out.count(" ok\n") == 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "setting",
    [
        Setting(),
        Setting(decode_rate=30.0, device_rate=3000.0),
        Setting(decode_rate=3000.0, device_rate=30.0, buffer_bytes=20_000_000),
        Setting(lanes=1),
    ],
    ids=["plain", "slow decoding", "little memory", "one lane"],
)
def test_every_clip_is_encoded_once(seed: int, setting: Setting) -> None:
    """Whatever waits for what, the virtual worker comes to its end, and its real samples are those of the clips."""
    lengths = [*clip_lengths(200, seed=seed), *clip_lengths(5, 90.0, seed=seed)]
    found = simulate([lengths[:150], lengths[150:], [], lengths[:1]], setting)
    cut = [piece for samples in [*lengths, lengths[0]] for piece in fragments(samples)]
    assert found.real == sum(cut)
    grid = LaneGrid(lanes=setting.lanes, sample_rate=SAMPLE_RATE, hop_length=HOP, fragment_frames=fill.FRAGMENT_FRAMES)
    assert found.padded == sum(grid.shape(samples).samples - samples for samples in cut)


def test_one_lane_is_never_empty() -> None:
    """So that all of its waste is padding."""
    assert simulate([clip_lengths(50)], Setting(lanes=1)).empty == 0


def test_full_calls_wait_for_nobody_and_others_wait_for_company() -> None:
    """A device that is slower than the decoders gets full calls as long as there are any: two clips share one call."""
    alike = [5 * SAMPLE_RATE] * 32
    assert simulate([alike], Setting(device_rate=1.0)).calls == 2
    assert simulate([alike[:8], alike[:8]], Setting(device_rate=1.0)).calls == 1


def test_clips_that_come_slowly_go_in_calls_that_are_not_full() -> None:
    """After the feed's time to gather, for a kill must not cost more; the device would else be idle."""
    alike = [5 * SAMPLE_RATE] * 32
    slow = simulate([alike], Setting(decode_rate=1.0))
    assert slow.calls > 2
    assert slow.empty > 0


def test_the_end_takes_as_long_as_its_work() -> None:
    """Virtual seconds: the device's own, where it is what limits."""
    setting = Setting(decode_rate=1e9, device_rate=10.0)
    found = simulate([clip_lengths(100)], setting)
    whole = (found.real + found.padded + found.empty) / SAMPLE_RATE
    assert found.seconds == pytest.approx(whole / 10.0, rel=0.01)
    assert dataclasses.replace(found) == simulate([clip_lengths(100)], setting)


def test_lengths_are_log_normal_around_their_median() -> None:
    """And never shorter than asked for."""
    seconds = sorted(samples / SAMPLE_RATE for samples in clip_lengths(5001, 6.0, shortest=2.0))
    assert seconds[0] >= 2.0
    assert 5.9 < seconds[2500] < 6.6
