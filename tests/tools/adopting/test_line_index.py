"""tools/adopting/line_index.py: lines by clip, from a file that several processes read."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from audio_tokenizers.errors import InfrastructureError
from tools.adopting.line_index import LineIndex, Place, key_of


def test_lines_and_clips_by_key(tmp_path: Path) -> None:
    """A second reader finds each line by its clip, in order, and how many clips share a key; what no clip used is left."""
    one, other, text = key_of(0, "a.wav"), key_of(1, "a.wav"), key_of(None, "a\udc80")
    assert len({one, other, text, key_of(None, "a.wav"), key_of(0, "b.wav")}) == 5
    with closing(LineIndex(tmp_path / "% ?#.sqlite", create=True)) as index:
        index.add_lines([(0, one, 0, 1, 0, 5), (1, other, 0, 2, 6, 5), (None, text, 1, 1, 0, 9), (0, one, 1, 2, 10, 5)])
        index.add_file(1, Path("/d/\udcff.jsonl"))
        index.lines_are_complete()
        index.add_clips([one, other, other])
        index.clips_are_complete()
        with closing(LineIndex(tmp_path / "% ?#.sqlite")) as reader:
            assert reader.places(one) == [Place(1, 0, 1, 0, 5), Place(4, 1, 2, 10, 5)]
            assert reader.places(key_of(2, "a.wav")) == []
            assert [reader.clips(key) for key in (one, other, text)] == [1, 2, 0]
            assert reader.tars() == {0, 1}
            assert reader.file(1) == Path("/d/\udcff.jsonl")
        index.add_used([1])
        index.use_lines_of(1)
        assert index.unused() == (2, Place(3, 1, 1, 0, 9))
        index.add_used([3, 4])
        assert index.unused() == (0, None)


def test_a_disk_in_trouble_is_no_traceback(tmp_path: Path) -> None:
    """A message that names the file, and what to do."""
    with pytest.raises(InfrastructureError, match="gone/lines: the places of lines cannot be kept there"):
        LineIndex(tmp_path / "gone" / "lines", create=True)
    (tmp_path / "lines").write_bytes(b"no database" * 100)
    with closing(LineIndex(tmp_path / "lines")) as index, pytest.raises(InfrastructureError, match="set TMPDIR"):
        index.tars()
