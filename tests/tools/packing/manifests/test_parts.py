"""tools/packing/manifests/parts.py: lines that are parts of files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tools.packing.manifests.parts import PartsFoundError, only_whole_files, recordings_of
from tools.packing.manifests.rows import Row
from tools.packing.pairs import LeftOut


def row(audio: str, text: str = "t", *, is_part: bool = False, **metadata: Any) -> Row:
    return Row(audio[:-4], audio, audio, text, "line 1", None, metadata or None, is_part)


def test_whole_files_stay_as_they_are() -> None:
    """Rows pass; the first part ends it."""
    rows = [row("a.wav"), row("b.wav", offset=0.0, duration=1)]
    assert list(only_whole_files(lambda: iter(rows))()) == rows
    with pytest.raises(PartsFoundError):
        list(only_whole_files(lambda: iter([*rows, row("c.wav", is_part=True)]))())


def test_the_recording_stands_where_its_first_part_stood(tmp_path: Path) -> None:
    """Each once, with its parts in order; reading it again gives the same."""
    first = row("a.wav", "one", offset=0, duration=1.5)
    rows = [row("w.wav"), first, row("x.wav"), row("a.wav", "two", is_part=True, offset=1.5, duration=0.1, speaker="A")]
    faults: list[LeftOut] = []
    joined = recordings_of(lambda: iter(rows), tmp_path, faults)
    for _ in range(2):
        found = [one for one in joined() if isinstance(one, Row)]
        assert [one.audio for one in found] == ["w.wav", "a.wav", "x.wav"]
        assert found[1].metadata == {
            "segments": [
                {"start": 0.0, "end": 1.5, "text": "one"},
                {"start": 1.5, "end": 1.6, "text": "two", "speaker": "A"},
            ]
        }
        assert (found[1].id, found[1].text, faults) == ("a", None, [])


@pytest.mark.parametrize("duration", [None, 0, -1, -1.0, float("nan")])
def test_an_end_that_is_missing_is_that_of_the_recording(duration: float | None, tmp_path: Path) -> None:
    """NeMo's own reader takes 0 so; a line without a duration says the same."""
    more = {} if duration is None else {"duration": duration}
    faults: list[LeftOut] = []
    (found,) = recordings_of(lambda: iter([row("a.wav", "two", is_part=True, offset=1.5, **more)]), tmp_path, faults)()
    assert isinstance(found, Row)
    assert (found.metadata, faults) == ({"segments": [{"start": 1.5, "text": "two"}]}, [])


def test_lines_that_are_no_rows_pass(tmp_path: Path) -> None:
    """Where they stood, whether there are parts or not."""
    bad = LeftOut("unreadable_line", "line 2")
    part = row("b.wav", is_part=True, offset=1, duration=1)
    assert list(only_whole_files(lambda: iter([row("a.wav"), bad]))()) == [row("a.wav"), bad]
    joined = recordings_of(lambda: iter([row("a.wav"), bad, part]), tmp_path, [])
    assert list(joined())[:2] == [row("a.wav"), bad]


def test_any_values_are_segments_or_left_out(tmp_path: Path) -> None:
    """Whatever stands under offset and duration."""
    chance = random.Random(4)
    values: list[Any] = [None, 0, 1.5, -1, "1", [], {}, True, 1e999, float("nan"), 10**400]
    for _ in range(300):
        rows = [row("a.wav", is_part=True, offset=chance.choice(values), duration=chance.choice(values)) for _ in range(3)]
        faults: list[LeftOut] = []
        found = list(recordings_of(lambda rows=rows: iter(rows), tmp_path, faults)())  # type: ignore[misc]
        parts = [len((one.metadata or {})["segments"]) for one in found if isinstance(one, Row)]
        assert len(faults) + sum(parts) == 3
