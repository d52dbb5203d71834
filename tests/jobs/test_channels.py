"""jobs/channels.py: which channel of a clip is heard, and which mixing is noted."""

from __future__ import annotations

import numpy as np
import pytest
from support.tars import Samples, noise

from audio_tokenizers.errors import ClipError, UsageError
from jobs.channels import OPPOSITE_PHASE, Mixer, channel_rule, describe_note


@pytest.mark.parametrize(
    ("choice", "rule"),
    [
        *(("mean", "mean"), ("first", "first"), ("left", "first"), ("0", "first")),
        *(("right", "1"), ("1", "1"), ("01", "1"), ("7", "7"), ("1023", "1023"), ("split", "split")),
    ],
)
def test_one_recipe_has_one_name(choice: str, rule: str) -> None:
    """Words for the same channel give the same rule."""
    assert channel_rule(choice) == rule


@pytest.mark.parametrize("choice", ["", "both", "-1", "1.5", "1024", "9" * 5000, "²", "Left"])
def test_words_that_name_no_channel(choice: str) -> None:
    """The message says which there are."""
    with pytest.raises(UsageError, match="expected mean, first, left, right, split"):
        channel_rule(choice)


def layouts(wave: Samples) -> list[Samples]:
    """The same block as either decoder gives it: channels together, or samples."""
    return [np.ascontiguousarray(wave), np.asfortranarray(wave)]


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_what_is_heard(channels: int) -> None:
    """The mean of all channels, or one of them, exactly."""
    wave = noise(1000, channels).reshape(1000, channels)
    expected = wave[:, 0].copy()
    for channel in range(1, channels):
        expected += wave[:, channel]
    for block in layouts(wave):
        assert np.array_equal(Mixer("mean").mix(block), expected / np.float32(channels))
        assert np.array_equal(Mixer("first").mix(block), wave[:, 0])
        for channel in range(1, channels):
            heard = Mixer(str(channel)).mix(block)
            assert heard.flags.c_contiguous
            assert np.array_equal(heard, wave[:, channel])


def test_a_channel_that_is_not_there() -> None:
    """An error that says how many there are; nothing else is heard instead."""
    with pytest.raises(ClipError, match=r"no channel 1 \(the first is 0\): it has 1 channel") as caught:
        Mixer("1").mix(noise(10).reshape(-1, 1))
    assert caught.value.kind == "decode"


def notes(blocks: list[Samples], rule: str = "mean") -> tuple[str, ...]:
    mixer = Mixer(rule)
    for block in blocks:
        mixer.mix(block)
    return mixer.notes


def stereo(left: Samples, right: Samples) -> list[Samples]:
    both = np.stack([left, right], axis=1)
    return [both[:700], np.asfortranarray(both[700:])]


def test_channels_that_cancel_are_noted() -> None:
    """Also with a little noise, and at any loudness; the mean is far quieter than what it is the mean of."""
    left = noise(100_000)
    for right in (-left, -left + noise(100_000, seed=1) * np.float32(0.05), -left * np.float32(1.1)):
        for loudness in (1.0, 1e-4):
            scale = np.float32(loudness)
            assert notes(stereo(left * scale, right * scale)) == (OPPOSITE_PHASE,)
    assert notes(stereo(left, -left), "first") == ()


def test_other_channels_are_not_noted() -> None:
    """Mono, equal or unrelated channels, one of silence, many of them, another loudness, a clip with some of it, silence."""
    left, right = noise(100_000), noise(100_000, seed=1)
    silence = np.zeros_like(left)
    half = np.concatenate([left[:50_000], -left[50_000:]])
    assert notes([left.reshape(-1, 1)]) == ()
    for other in (left, right, silence, -left * np.float32(0.5), half, -left + right * np.float32(0.5)):
        assert notes(stereo(left, other)) == ()
    assert notes(stereo(silence, silence)) == ()
    assert notes([noise(10_000, 200)]) == ()
    assert notes([]) == ()


def test_values_that_are_none_are_an_error_where_they_are_heard() -> None:
    """Of a channel that nobody hears they are nobody's."""
    both = noise(10, 2)
    both[3, 1] = np.nan
    assert np.array_equal(Mixer("first").mix(both), both[:, 0])
    for rule in ("mean", "1"):
        with pytest.raises(ClipError, match="NaN or infinite") as caught:
            Mixer(rule).mix(both)
        assert caught.value.kind == "not_finite"


def test_values_that_are_only_large_are_no_error() -> None:
    """Their energy may exceed float32."""
    assert notes([np.full((1000, 2), 1e30, np.float32)]) == ()


def test_words_for_notes() -> None:
    """Those that another version wrote have words too."""
    assert "cancel each other" in describe_note(OPPOSITE_PHASE)
    assert describe_note("clipped") == "that note clipped"
