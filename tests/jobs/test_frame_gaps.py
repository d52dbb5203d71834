"""jobs/frame_gaps.py: of what stands between frames it is known what was audio."""

from __future__ import annotations

import io

import pytest
from support.odd_audio import APE, ID3V1, ID3V2, adts, mp3, plain_mp3, title

from jobs.adts_frames import AdtsScan, scan_adts
from jobs.frame_gaps import audio_gaps, left_before, tags_inside, without
from jobs.mp3_frames import Mp3Scan, scan_mp3

PLAIN, AAC = plain_mp3(), adts()
JUNK = bytes([0x9A, 0x01]) * 1000


def scan(data: bytes) -> Mp3Scan | AdtsScan:
    return (scan_adts if AAC[:400] in data else scan_mp3)(io.BytesIO(data), 0, len(data))


def spans(data: bytes) -> list[tuple[int, int]]:
    return [(gap.begin, gap.end) for gap in audio_gaps(io.BytesIO(data), scan(data))]


@pytest.mark.parametrize("audio", [PLAIN, AAC], ids=["mp3", "aac"])
def test_what_was_audio(audio: bytes) -> None:
    """What is no tag; around all frames no padding either, and what follows a tag there belongs to it."""
    middle = len(audio)
    whole = audio + audio
    for data in (
        ID3V2 + audio,
        audio + ID3V1,
        audio + APE + ID3V1 + audio,
        audio + bytes(99),
        bytes(99) + audio,
        audio + ID3V2 + JUNK,
    ):
        assert spans(data) == []
    assert spans(whole[:middle] + JUNK + whole[middle:]) == [(middle, middle + len(JUNK))]
    assert spans(audio + bytes(99) + audio) == [(middle, middle + 99)]
    assert spans(audio + JUNK) == [(middle, middle + len(JUNK))]


@pytest.mark.parametrize("audio", [PLAIN, AAC], ids=["mp3", "aac"])
def test_what_was_audio_before_the_first_frame(audio: bytes) -> None:
    """What is left without tags, zeros and text, if it is a frame or more: streams are recorded from anywhere."""
    for before in (b"", ID3V2, bytes(99), b"HTTP/1.0 200 OK\r\n\r\n"):
        begin, end = len(before), len(before) + len(JUNK)
        assert spans(before + JUNK + audio) == [(begin, end)]
        (gap,) = audio_gaps(io.BytesIO(data := before + JUNK + audio), scan(data))
        assert gap.seconds == pytest.approx(len(JUNK) / len(audio) * scan(audio).seconds)
        assert spans(before + JUNK[:99] + audio) == []
    longer = ID3V2[:14] + bytes([0, 0, 40, 0]) + ID3V2[18:]
    assert spans(longer + JUNK + audio) == []


def test_no_audio_stands_before_a_count() -> None:
    """Whatever there is, and however much: the frame that states the length is the first."""
    data = JUNK + mp3()
    (gap,) = audio_gaps(io.BytesIO(data), scan(data))
    assert (gap.begin, gap.end, gap.seconds) == (0, len(JUNK), 0.0)


def test_zeros_in_which_the_last_frame_ends_are_a_hole() -> None:
    """Those behind a whole one are padding."""
    assert spans(AAC[:-500] + bytes(5000)) == [(len(AAC), len(AAC) + 4500)]
    assert spans(AAC + bytes(4500)) == []


@pytest.mark.parametrize("audio", [PLAIN, AAC], ids=["mp3", "aac"])
def test_tags_between_and_within_frames(audio: bytes) -> None:
    """Without them, the frames follow each other."""
    data = audio[:4000] + title() + audio[4000:] + ID3V2 + audio
    cut = tags_inside(io.BytesIO(data), scan(data), audio_gaps(io.BytesIO(data), scan(data)))
    kept = without(cut, len(data))
    assert b"".join(data[begin:end] for begin, end in kept) == audio + audio
    assert tags_inside(io.BytesIO(audio), scan(audio), []) == []


def test_what_is_left() -> None:
    """Of spans that overlap, too."""
    assert without([], 9) == [(0, 9)]
    assert without([(0, 3), (2, 4), (6, 9)], 9) == [(4, 6)]
    assert [left_before(place, [(2, 4), (6, 8)]) for place in (0, 3, 4, 5, 9)] == [0, 2, 2, 3, 5]
