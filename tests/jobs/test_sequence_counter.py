"""Counting tokens: exactly what a loop over single tokens counts, however clips are cut and put together."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_tokenizers.base import Codes, Field, Form
from jobs import sequence_counter
from jobs.sequence_counter import SequenceCounter, Stretch, still_items

RATE = 10
"""Hz; with a frame per sample, STILL_SECONDS are five frames."""
STILL = 5


def field(codebooks: int, size: int = 3, lowest: int = 0, form: Form = "codes") -> Field:
    """Frames of one sample."""
    return Field(name="tokens", form=form, width=codebooks, codebook_size=size, lowest=lowest, samples_per_item=1)


class Naive:
    """The same counts, token by token."""

    def __init__(self, clips: Sequence[Codes], size: int, lowest: int = 0) -> None:
        codebooks = clips[0].shape[0] if clips else 1
        self.counts = np.zeros((codebooks, size), np.int64)
        self.repeated = [0] * codebooks
        self.longest: list[Stretch | None] = [None] * codebooks
        self.still = self.still_clips = self.items = 0
        for number, codes in enumerate(clips):
            self.items += codes.shape[1]
            for k, row in enumerate(codes.tolist()):
                for token, times in Counter(row).items():
                    self.counts[k, token - lowest] += times
                for token, run in itertools.groupby(row):
                    items = len(list(run))
                    self.repeated[k] += items - 1
                    known = self.longest[k]
                    if known is None or items > known.items:
                        self.longest[k] = Stretch(items, token, number, str(number))
            frames = [len(list(run)) for _, run in itertools.groupby(map(tuple, codes.T.tolist()))]
            self.still += sum(items for items in frames if items >= STILL)
            self.still_clips += frames == [codes.shape[1]] and frames[0] >= STILL


def check(counter: SequenceCounter, clips: Sequence[Codes], size: int = 3, lowest: int = 0) -> None:
    """Compare with a naive count."""
    counter.finish()
    naive = Naive(clips, size, lowest)
    assert counter.clips == len(clips)
    assert counter.items == naive.items
    assert (counter.counts == naive.counts).all()
    assert counter.repeated.tolist() == naive.repeated
    assert counter.longest == naive.longest
    assert (counter.still, counter.still_clips) == (naive.still, naive.still_clips)


@st.composite
def some_clips(draw: st.DrawFn) -> list[Codes]:
    """Clips of few ids and with long stretches."""
    codebooks = draw(st.integers(1, 3))
    stretches = st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=codebooks, max_size=codebooks), st.integers(1, 9)))
    clips = []
    for runs in draw(st.lists(stretches.filter(bool), min_size=1, max_size=5)):
        columns = [np.repeat(np.array(ids)[:, np.newaxis], items, axis=1) for ids, items in runs]
        clips.append(np.concatenate(columns, axis=1))
    return clips


@given(clips=some_clips(), at_once=st.integers(1, 60), kind=st.sampled_from((np.int16, np.int64, np.uint8)))
@settings(max_examples=80, deadline=None)
def test_counts_are_those_of_a_loop_over_tokens(clips: list[Codes], at_once: int, kind: type[np.integer]) -> None:
    """Whatever clips are counted together, and whatever type their codes have."""
    counter = SequenceCounter(field(len(clips[0])), RATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence_counter, "TOKENS_AT_ONCE", at_once)
        for number, codes in enumerate(clips):
            counter.add(codes.astype(kind), number, str(number))
    check(counter, clips)


@given(clips=some_clips(), data=st.data())
@settings(max_examples=80, deadline=None)
@pytest.mark.slow
def test_a_clip_in_parts_counts_as_a_whole_one(clips: list[Codes], data: st.DataObject) -> None:
    """A long clip comes fragment by fragment; stretches go on from one to the next."""
    counter = SequenceCounter(field(len(clips[0])), RATE)
    for number, codes in enumerate(clips):
        cuts = data.draw(st.lists(st.integers(0, codes.shape[1]), max_size=4).map(sorted))
        if not cuts:
            counter.add(codes, number, str(number))
            continue
        parts = SequenceCounter(counter.field, RATE)
        for part in np.split(codes, cuts, axis=1):
            parts.extend(part)
        counter.absorb(parts, number, str(number))
    check(counter, clips)


def test_ids_begin_at_the_lowest() -> None:
    """`shifted_ids` of step_audio are 65,536 and more."""
    clips = [np.array([[65536, 65538, 65538]]), np.array([[65537]])]
    counter = SequenceCounter(field(1, lowest=65536, form="list"), RATE)
    for number, codes in enumerate(clips):
        counter.add(codes, number, str(number))
    check(counter, clips, lowest=65536)


def test_without_a_rate_nothing_is_still() -> None:
    """Text tokens have no time: half a second of them is not defined."""
    text = Field(name="text_tokens", form="list", codebook_size=9)
    assert still_items(text, 16000) is None
    counter = SequenceCounter(text, 16000)
    counter.add(np.full((1, 500), 3), 0, "a.wav")
    counter.finish()
    assert (counter.still, counter.still_clips, counter.longest) == (0, 0, [Stretch(500, 3, 0, "a.wav")])
