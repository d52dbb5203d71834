"""audio_tokenizers/base.py: of which kind a backend is, is said once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support.envelope import Envelope

from audio_tokenizers.base import (
    Audio,
    Batching,
    Waveform,
    hear,
    lanes_of_clips,
    lanes_of_waves,
    takes_clips,
    takes_waves,
)
from audio_tokenizers.mulaw import FACTORY, MuLaw

INFO = FACTORY.describe({}, "cpu")


def test_a_package_that_does_not_know_of_kinds() -> None:
    """Those that were written before there was the field say it by whether they have fragments."""
    said = {field.name: getattr(INFO, field.name) for field in dataclasses.fields(INFO) if field.name != "kind"}
    assert type(INFO)(**said).kind == "frames"
    assert type(INFO)(**{**said, "max_tokens_per_fragment": None}).kind == "clips"


@pytest.mark.parametrize("changes", [{"kind": "clips"}, {"max_tokens_per_fragment": None}])
def test_a_kind_that_does_not_fit_the_fragments(changes: dict[str, Any]) -> None:
    """Such a backend would be called in the wrong way at its first clip."""
    with pytest.raises(ValueError, match=r"mulaw: fragments are for backends of kind 'frames' alone"):
        dataclasses.replace(INFO, **changes)


def test_what_a_backend_takes() -> None:
    """Each is of one kind, and of one with lanes only if it declares them."""
    waves, clips = MuLaw(INFO), Envelope()
    assert (takes_waves(waves), takes_clips(waves)) == (True, False)
    assert (takes_waves(clips), takes_clips(clips)) == (False, True)
    assert (lanes_of_waves(waves), lanes_of_clips(clips)) == (False, False)
    waves.info = dataclasses.replace(waves.info, batching=Batching.LANES)
    clips.info = dataclasses.replace(clips.info, batching=Batching.LANES)
    assert (lanes_of_waves(waves), lanes_of_clips(waves)) == (True, False)
    assert (lanes_of_waves(clips), lanes_of_clips(clips)) == (False, True)


def test_a_clip_as_a_backend_hears_it() -> None:
    """At the backend's rate with its text; a combination hears it once per resampler, and all of that counts as memory."""

    class Parts(Envelope):
        def resample_by_part(self, wave: Waveform, sample_rate: int) -> tuple[Audio, tuple[Audio, ...]]:
            first, second = wave[::2], wave[::2] / 2
            return first, (first, second, first)

    wave = np.ones(40, np.float32)
    single, several = hear(Envelope(), wave, 16000, "words"), hear(Parts(), wave, 16000, "words")
    assert (len(single.wave), single.text, single.by_part, single.nbytes) == (20, "words", (), 20 * 8)
    assert (len(several.wave), several.text, len(several.by_part), several.nbytes) == (20, "words", 3, 2 * 20 * 4)
