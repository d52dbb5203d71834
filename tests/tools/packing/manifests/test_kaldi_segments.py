"""tools/packing/manifests/kaldi_segments.py: utterances that are parts of recordings."""

from __future__ import annotations

import random

from tools.packing.manifests.kaldi_segments import kaldi_segments
from tools.packing.pairs import LeftOut

TEXTS = {"u1": ("ONE", "line 1 of text"), "u2": ("TWO", "line 2 of text")}


def test_utterances_of_recordings() -> None:
    """Each with its times, text and speaker, under its recording."""
    table = [("u2", "r 2 3.5", "line 1"), ("u1", "r\t0 1", "line 2"), ("u3", "r 4 5", "line 3"), ("u1", "q 4 x", "line 4")]
    parts, left_out = kaldi_segments(table, TEXTS, {"u1": "A"}, without_text=False)
    assert parts == {
        "r": [
            {"id": "u2", "start": 2.0, "end": 3.5, "text": "TWO"},
            {"id": "u1", "start": 0.0, "end": 1.0, "text": "ONE", "speaker": "A"},
        ]
    }
    fault = "line 4: expected an utterance, its recording, begin and end in seconds, found 'q 4 x'"
    assert left_out == [LeftOut("audio_without_text", "u3", "line 3"), LeftOut("unreadable_text", "u1", fault)]


def test_an_end_that_is_missing_is_that_of_the_recording() -> None:
    """Kaldi writes -1 there."""
    table = [("u1", "r 2 -1", "line 1"), ("u2", "r 3.5 -1.0", "line 2"), ("u2", "q 1", "line 3")]
    parts, left_out = kaldi_segments(table, TEXTS, {}, without_text=False)
    assert (parts, left_out) == (
        {
            "r": [{"id": "u1", "start": 2.0, "text": "ONE"}, {"id": "u2", "start": 3.5, "text": "TWO"}],
            "q": [{"id": "u2", "start": 1.0, "text": "TWO"}],
        },
        [],
    )


def test_without_text() -> None:
    """Parts that have none are taken where that is wanted."""
    parts, left_out = kaldi_segments([("u3", "r 4 5", "line 3")], TEXTS, {}, without_text=True)
    assert (parts, left_out) == ({"r": [{"id": "u3", "start": 4.0, "end": 5.0}]}, [])


def test_any_line_is_a_part_or_left_out() -> None:
    """Whatever stands there."""
    chance = random.Random(2)
    words = ["r", "0", "1", "-1", "nan", "inf", "1e400", "", "\u00a0", "٣", "0x1"]
    for _ in range(500):
        rest = " ".join(chance.choice(words) for _ in range(chance.randrange(6)))
        parts, left_out = kaldi_segments([("u1", rest, "line 1")], TEXTS, {}, without_text=False)
        assert len(parts) + len(left_out) == 1
