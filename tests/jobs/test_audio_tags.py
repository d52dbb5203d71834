"""jobs/audio_tags.py: which bytes beside audio cost none of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.odd_audio import APE, ID3V1, ID3V2, LYRICS, title

from jobs.audio_tags import id3v2_size, junk_size, only_tags, radio_titles, tag_is_cut, tag_size

TAGS = [ID3V1, ID3V2, APE, LYRICS, title()]
NOISE = bytes(random.Random(0).choices(range(1, 256), k=300))


@pytest.mark.parametrize("tag", TAGS)
def test_size(tag: bytes) -> None:
    """A tag is as long as it says, whatever follows; and there are no tags but those."""
    assert tag_size(tag + NOISE) in (len(tag), len(APE) - 32)
    assert tag_size(NOISE) == 0


def test_id3v2() -> None:
    """With a footer it is longer; what no size may look like is none."""
    assert id3v2_size(ID3V2) == len(ID3V2)
    assert id3v2_size(ID3V2[:5] + b"\x10" + ID3V2[6:]) == len(ID3V2) + 10
    assert id3v2_size(ID3V2[:6] + b"\x80" + ID3V2[7:]) == 0
    assert id3v2_size(ID3V2[:9]) == 0


@pytest.mark.parametrize("at_end", [False, True])
def test_tags_one_after_the_other(at_end: bool) -> None:
    """In any order."""
    assert only_tags(b"".join(TAGS), at_end=at_end)
    assert only_tags(b"".join(reversed(TAGS)), at_end=at_end)
    assert not only_tags(NOISE + b"".join(TAGS), at_end=at_end)


@pytest.mark.parametrize("padding", [bytes(500), bytes(1), b"written by nobody\r\n" * 3, b"end"])
def test_padding_is_a_tag_at_the_end_only(padding: bytes) -> None:
    """Between frames zeros may stand for audio that a download left out."""
    assert only_tags(padding, at_end=True)
    assert only_tags(padding.strip(b"end") + ID3V1, at_end=True)
    assert not only_tags(padding, at_end=False)


def test_what_a_tag_is_followed_by_at_the_end() -> None:
    """No frame has been found after it: it belongs to the tag."""
    assert only_tags(ID3V2 + NOISE, at_end=True)
    assert not only_tags(ID3V2 + NOISE, at_end=False)
    assert not only_tags(b"abc" + NOISE, at_end=True)


def test_what_stands_in_front_of_all_frames() -> None:
    """Tags, zeros and text, in any order, are none; behind them whatever it is may be what is left of frames."""
    server = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n"
    for junk in (b"", bytes(9), server, APE, ID3V2 + bytes(9) + server, bytes(9) + ID3V1 + ID3V2):
        assert junk_size(junk) == len(junk)
        assert junk_size(junk + NOISE) == len(junk)
    assert junk_size(b"end") == 3
    assert junk_size(b"short" + NOISE) == 0


def test_an_id3v2_tag_that_is_longer_than_it_says() -> None:
    """By its last frame, in either version; others are not followed."""
    frame = b"APIC" + bytes([0, 0, 2, 0]) + bytes(2)  # 512 bytes, or 256 where each byte has seven bits
    for version, rest in ((3, 512), (4, 256)):
        for inside, cut in ((rest, False), (rest - 1, True), (0, True), (rest + 40, False)):
            body = b"TIT2" + bytes([0, 0, 0, 5]) + bytes(7) + frame + bytes(inside)
            tag = b"ID3" + bytes([version, 0, 0, 0, 0, len(body) >> 7, len(body) & 0x7F]) + body
            assert tag_is_cut(tag) == cut
    assert not tag_is_cut(tag[:3] + b"\x02" + tag[4:])
    assert not tag_is_cut(tag[:5] + b"\x80" + tag[6:])
    assert not any(tag_is_cut(data) for data in (b"", b"ID3", ID3V2, NOISE))


def test_radio_titles() -> None:
    """With their length byte and zeros, or without the byte; text that only looks alike is left."""
    noise = b"\xff" * 50
    plain = b"StreamTitle='x';".ljust(48, b"\0")
    data = noise + title() + noise + plain + noise + b"StreamTitle='no end" + noise
    begin = 50 + len(title()) + 50
    assert radio_titles(data) == [(50, 50 + len(title())), (begin, begin + len(plain))]


@given(st.sampled_from([*TAGS, b"", b"APETAGEX", b"LYRICSBEGIN", b"StreamTitle='"]), st.binary(max_size=100), st.booleans())
def test_no_bytes_raise(start: bytes, rest: bytes, at_end: bool) -> None:
    """Whatever they are; and titles lie within them."""
    only_tags(start + rest, at_end=at_end)
    tag_is_cut(start + rest)
    assert 0 <= junk_size(start + rest) <= len(start + rest)
    assert all(0 <= begin < end <= len(start + rest) for begin, end in radio_titles(start + rest))
