"""jobs/spans.py: spans of a file read like a file of their bytes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.spans import SpanFile

DATA = bytes(range(200))


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 40)), max_size=5),
    st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(-50, 250), st.integers(-1, 90)), max_size=8),
)
def test_reads_like_the_bytes_joined(places: list[tuple[int, int]], calls: list[tuple[int, int, int]]) -> None:
    """Whatever is sought and read, also where spans are empty, overlap or touch."""
    spans = [(begin, min(begin + size, 200)) for begin, size in places]
    ours = SpanFile(io.BytesIO(DATA), spans)
    plain = io.BytesIO(b"".join(DATA[begin:end] for begin, end in spans))
    for whence, offset, size in calls:
        base = {0: 0, 1: plain.tell(), 2: len(plain.getvalue())}[whence]
        if base + offset >= 0:
            assert ours.seek(offset, whence) == base + offset
            plain.seek(base + offset)
        else:
            with pytest.raises(ValueError, match="negative seek"):
                ours.seek(offset, whence)
        assert ours.read(size) == plain.read(size)
        assert ours.tell() == plain.tell()


def test_a_read_is_never_short_before_the_end() -> None:
    """Decoders in C take a short read for the end."""
    ours = SpanFile(io.BytesIO(DATA), [(0, 3), (10, 12), (50, 60)])
    buffer = bytearray(14)
    assert ours.readinto(buffer) == 14
    assert bytes(buffer) == DATA[:3] + DATA[10:12] + DATA[50:59]
    assert ours.readinto(buffer) == 1


def test_a_file_that_ends_earlier_ends_there() -> None:
    """Spans promise nothing."""
    assert SpanFile(io.BytesIO(DATA), [(190, 300), (0, 5)]).read() == DATA[190:]
