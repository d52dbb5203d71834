"""jobs/damage.py: which clips are kept though something of them is missing, and what their records say."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_tokenizers.errors import ClipError
from jobs.damage import Damage, judge, judge_place, own_share
from jobs.losses import Losses


def losses(*told: tuple[float, str]) -> Losses:
    found = Losses()
    for seconds, what in told:
        found.add(seconds, what)
    return found


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_a_whole_clip_has_nothing_to_say(share: float) -> None:
    """Whatever the share, and however short it is."""
    assert judge(Losses(), 0.001, share) is None


@pytest.mark.parametrize(
    ("lost", "decoded", "share", "kept"),
    [
        (0.72, 59.28, 0.02, True),
        (1.2, 58.8, 0.02, True),  # 2 % of 60 s, which is what there would be
        (1.21, 58.79, 0.02, False),
        (0.05, 0.01, 0.02, True),  # 50 ms of any clip
        (0.051, 0.1, 0.02, False),
        (0.05, 0.01, 0.0, False),  # but for a share of 0
        (0.0, 3.0, 0.0, False),  # nobody knows how much
        (0.0, 3.0, 0.02, True),
        (3600.0, 0.001, 1.0, True),
        (0.6, 0.4, 0.5, False),
        (0.5, 0.5, 0.5, True),
    ],
)
def test_up_to_the_share_it_is_kept(lost: float, decoded: float, share: float, kept: bool) -> None:
    """The share is that of the whole clip, what is missing included; 50 ms are forgiven unless nothing is."""
    found = judge(losses((lost, "frames that cannot be decoded")), decoded, share)
    if kept:
        assert found == Damage(lost, "frames that cannot be decoded")
    else:
        assert isinstance(found, ClipError)
        assert found.kind == "decode"


def test_what_a_refusal_says() -> None:
    """How much is missing of how much, why, and which bound of which option it broke."""
    told = losses((1.5, "MP3 frames that cannot be decoded"), (0.5, "its end"))
    assert str(judge(told, 18.0, 0.02)) == (
        "damaged: 2.000 s of 20.000 s could not be decoded (MP3 frames that cannot be decoded; its end); "
        "--max-damage 0.02 allows 0.400 s"
    )
    assert str(judge(losses((0.0, "its end")), 18.0, 0.0)) == (
        "damaged: part of it could not be decoded (its end); --max-damage 0 allows nothing"
    )


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_nothing_left_is_an_error(share: float) -> None:
    """Whatever the share: there is no token of it."""
    found = judge(losses((2.0, "all frames")), 0.0, share)
    assert isinstance(found, ClipError)
    assert (found.kind, str(found)) == ("decode", "damaged: nothing of it could be decoded (all frames)")


def test_seconds_are_milliseconds() -> None:
    """The same text whatever small errors a sum of many frames has."""
    told = losses(*[(0.1, "a frame")] * 3)
    assert judge(told, 60.0, 0.02) == Damage(0.3, "a frame")
    assert judge(losses((0.0004, "a bit")), 60.0, 0.02) == Damage(0.0, "a bit")


def test_words_are_bounded() -> None:
    """A decoder may name as many kinds of loss as a file has frames; a record has a few of them."""
    found = judge(losses(*((0.001, f"frame {number}") for number in range(9))), 60.0, 0.02)
    assert found == Damage(0.009, "frame 0; frame 1; frame 2; frame 3; and 5 more")


@given(st.floats(), st.floats(), st.floats(0, 1))
def test_any_numbers(lost: float, decoded: float, share: float) -> None:
    """Whatever a decoder claims, what comes is an error, or damage that JSON can hold and that is within its bound."""
    found = judge(losses((lost, "x")), decoded, share)
    if isinstance(found, Damage):
        assert share > 0
        assert math.isfinite(found.seconds)
        assert lost <= max(0.05, share * (lost + decoded))
        assert msgspec.json.decode(msgspec.json.encode(found), type=Damage) == found
    else:
        assert isinstance(found, ClipError)


@pytest.mark.parametrize(
    ("lost", "jumps", "share", "kept"),
    [
        (0.05, 0.0, 0.02, 0.05),
        (0.051, 0.0, 0.02, None),
        (0.7, 0.0, 0.5, None),  # which a clip of an hour may lack, and no segment may be off
        (0.7, 0.0, 1.0, 0.7),
        (0.01, 0.0, 0.0, None),
        (0.0, 0.0, 0.02, None),  # nobody knows how much
        (0.0, 0.0, 1.0, 0.0),
        (0.7, 2.0, 1.0, 2.0),
        (0.01, 2.0, 0.02, None),
    ],
)
def test_the_place_of_a_segment_behind_damage(lost: float, jumps: float, share: float, kept: float | None) -> None:
    """It is known to 50 ms, or whatever decodes is wanted."""
    told = losses((lost, "frames"))
    told.doubt = jumps
    found = judge_place(told, share)
    if kept is None:
        assert isinstance(found, ClipError)
        assert found.kind == "segment"
        assert "frames" in str(found)
    else:
        assert found == Losses(kept, ["in its recording, before or in it: frames"])


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_a_segment_behind_a_gap_in_time(share: float) -> None:
    """Nothing of the audio is missing, but nobody knows whether its times count the gap. Rounding is none."""
    assert judge_place(Losses(shifted=True), share) == Losses()
    assert judge_place(Losses(shifted=True, doubt=0.05), share) == Losses()
    found = judge_place(Losses(shifted=True, doubt=3.0), share)
    if share < 1:
        assert str(found).startswith("3.000 s of its recording")
    else:
        assert found == Losses(3.0, ["in its recording, before or in it: there are gaps in its times or between its frames"])


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_a_segment_behind_bytes_that_were_taken_out(share: float) -> None:
    """However little is missing by those that are left, nobody knows where it stands."""
    told = losses((0.01, "frames"))
    told.torn = True
    found = judge_place(told, share)
    if share < 1:
        assert isinstance(found, ClipError)
        assert found.kind == "segment"
        assert str(found).startswith("an unknown part of its recording is missing before or in it")
    else:
        assert found == Losses(0.01, ["in its recording, before or in it: frames"])


def test_the_own_share_of_a_segment() -> None:
    """Nothing, if nothing is missing in it, whatever its recording lacks; else how much, in the words of the recording."""
    recording = Losses(7.0, ["MP3 frames that are damaged"], shifted=True, gaps=[(3.0, 7.0)])
    assert own_share(recording, 0.0, 0.0) == Losses()
    assert own_share(recording, 0.25, 0.5) == Losses(0.75, ["MP3 frames that are damaged"])
    assert own_share(Losses(doubt=3.0, gaps=[(1.0, 3.0)]), 1.0, 0.0).what == [
        "there are gaps in its times or between its frames"
    ]
