"""tools/reporting/token_totals.py: histograms of many tars as one, and what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audio_tokenizers.base import Field
from jobs.sequence_counter import SequenceCounter
from jobs.token_statistics import SequenceStatistics, TokenStatistics
from tools.reporting.token_totals import MOST_TARS, FieldTokens, TokenTotals, add_up, describe_codebooks, read_totals

FIELD = Field(name="tokens", form="codes", width=2, codebook_size=4, samples_per_item=100.0)


def counted(codes: list[list[int]], **settings: float) -> TokenStatistics:
    """The statistics of a tar of one clip."""
    counter = SequenceCounter(FIELD, 1000)
    counter.add(np.array(codes), 0, "a.wav")
    return TokenStatistics(
        clips=1, audio_seconds=2.0, sequences={"tokens": SequenceStatistics.of(counter, 1000)}, **settings
    )


def test_add_up() -> None:
    """Histograms, repeats and texts of two tars."""
    totals = TokenTotals(committed=2)
    add_up(totals, counted([[0, 1, 1, 2], [3, 3, 3, 3]], text_characters=4, text_seconds=2.0))
    add_up(totals, counted([[0, 0], [3, 3]]))
    key = totals.keys["tokens"]
    assert key.counts.tolist() == [[3, 2, 1, 0], [0, 0, 0, 6]]
    assert key.repeated.tolist() == [2, 4]
    assert (totals.tars, totals.clips, key.items, key.tokens) == (2, 2, 6, 12)
    assert totals.per_second(key) == 3.0
    assert totals.per_character(key) == 1.5


def test_another_shape() -> None:
    """A tar whose histograms have another shape is refused whole: nothing of it is added."""
    totals = TokenTotals(committed=2, keys={"tokens": FieldTokens("tokens", np.zeros((1, 4), np.int64), np.zeros(1))})
    with pytest.raises(ValueError, match="histograms of"):
        add_up(totals, counted([[0], [3]]))
    assert (totals.tars, totals.clips) == (0, 0)


def test_codebooks() -> None:
    """Entropy in bits, dead codes, the commonest code's share; a codebook without tokens is all dead."""
    key = FieldTokens("tokens", np.array([[2, 2, 2, 2], [8, 0, 0, 0], [0, 0, 0, 0]]), np.array([0, 7, 0]), items=8)
    even, collapsed, empty = describe_codebooks(key)
    assert (even.entropy_bits, even.entropy_share, even.dead, even.top_share) == (2.0, 1.0, 0, 0.25)
    assert (collapsed.entropy_bits, collapsed.dead, collapsed.top_share, collapsed.repeat_share) == (0.0, 3, 1.0, 7 / 8)
    assert (empty.used, empty.entropy_bits, empty.top_share, empty.repeat_share) == (0, 0.0, 0.0, 0.0)


def test_manifests_that_are_old_or_damaged(tmp_path: Path) -> None:
    """Old manifests count as not counted, damaged ones are named, and at most MOST_TARS are read."""
    old, damaged = tmp_path / "old.json", tmp_path / "damaged.json"
    old.write_text("{}")
    damaged.write_text('{"tokens":{"clips":-1}}')
    totals = read_totals([str(old)] * MOST_TARS + [str(tmp_path / "gone.json")] * MOST_TARS)
    assert (totals.committed, totals.asked, totals.tars, totals.problems) == (2 * MOST_TARS, MOST_TARS, 0, [])
    assert "damaged.json" in read_totals([str(damaged)]).problems[0]
    assert read_totals([]).asked == 0
