"""jobs/ogg_pages.py: the links of a chain, what they promise, and which pages are damaged or missing."""

from __future__ import annotations

import io
import random
from itertools import pairwise

import pytest
from support.odd_audio import ID3V1, damaged, ogg_pages, resealed, speech
from support.tars import audio_file, pyav_file

from jobs import ogg_pages as module
from jobs.ogg_pages import OggLink, page_checksum, scan_ogg

VORBIS = audio_file(speech(3.0), 16000, "OGG", "VORBIS")
OPUS = audio_file(speech(3.0, 48000), 48000, "OGG", "OPUS")
FFMPEG = pyav_file(speech(3.0, 48000), 48000, "ogg", "libopus")
OTHER = resealed(OPUS.replace(b"OpusHead", b"SomeHead"), next(ogg_pages(OPUS)))
"""Of a codec that nobody knows."""
KINDS = {"vorbis": VORBIS, "opus": OPUS, "opus of FFmpeg": FFMPEG}


def scan(data: bytes, begin: int = 0) -> list[OggLink]:
    return scan_ogg(io.BytesIO(data), begin)


def only(data: bytes) -> OggLink:
    (link,) = scan(data)
    return link


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [b"", ID3V1])
def test_a_whole_file(kind: str, after: bytes) -> None:
    """One link, undamaged, of as many seconds as it has; tags cost nothing."""
    link = only(KINDS[kind] + after)
    assert (link.begin, link.end, link.damaged, link.open_end) == (0, len(KINDS[kind] + after), False, False)
    assert link.seconds() == pytest.approx(3.0)
    assert link.codec == kind.removesuffix(" of FFmpeg")
    assert link.missing_seconds(0.0) == 0.0


def test_pages_as_libogg_seals_them() -> None:
    """The checksum is that of all files that there are."""
    for begin, end in ogg_pages(OPUS):
        unsealed = OPUS[begin : begin + 22] + bytes(4) + OPUS[begin + 26 : end]
        assert page_checksum(unsealed) == int.from_bytes(OPUS[begin + 22 : begin + 26], "little")


@pytest.mark.parametrize("read_bytes", [1 << 20, 70_000])
def test_a_chain(read_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stream is a link, whatever its codec, however the file is read; junk between them belongs to the one before."""
    monkeypatch.setattr(module, "READ_BYTES", read_bytes)
    parts = [OPUS, VORBIS, OTHER, OPUS + b"junk" * 20, OPUS]
    edges = [sum(map(len, parts[:count])) for count in range(len(parts) + 1)]
    links = scan(b"".join(parts))
    assert [(link.begin, link.end) for link in links] == list(pairwise(edges))
    assert [link.codec for link in links] == ["opus", "vorbis", "", "opus", "opus"]
    assert not any(link.damaged for link in links)
    assert [link.begin for link in scan(b"tag" + b"".join(parts), 3)] == [edge + 3 for edge in edges[:-1]]


@pytest.mark.parametrize("kind", KINDS)
def test_damage(kind: str) -> None:
    """Bytes that are changed, a header that is, a page that is gone, an end that is cut: what was promised is missing."""
    data = KINDS[kind]
    pages = list(ogg_pages(data))
    begin, end = pages[-2]
    for odd in (
        *(damaged(data, (begin + end) // 2), damaged(data, begin, 20), data[:begin] + data[end:]),
        *(data[: (begin + end) // 2], data[:-1], data[: pages[-1][0] + 30]),
    ):
        link = only(odd)
        assert link.damaged
        if odd != data[: (begin + end) // 2]:  # which ends with another page
            assert link.missing_seconds(2.0) == pytest.approx(1.0)


def test_what_a_cut_page_may_promise() -> None:
    """Not more than ten minutes: its header may be as damaged as the rest."""
    pages = list(ogg_pages(OPUS))
    lying = resealed(OPUS, pages[-1], later=48000 * 10_000)[:-1]
    assert only(lying).seconds() == only(OPUS[: pages[-1][0]]).seconds()


def test_codecs_that_do_not_tell() -> None:
    """Only pages are known: what is missing is a guess by their number."""
    pages = list(ogg_pages(OTHER))
    assert not only(OTHER).damaged
    assert only(OTHER).seconds() is None
    odd = only(damaged(OTHER, pages[-2][0] + 100))
    assert 0.0 < odd.missing_seconds(3.0) < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_cut_out_of_another(kind: str) -> None:
    """Its granule positions begin late, and nothing is missing."""
    data = KINDS[kind]
    pages = list(ogg_pages(data))
    late = data
    for page in pages[-3:]:
        late = resealed(late, page, later=48000 * 60)
    without = data[: pages[-3][0]]
    heads = [page for page in pages if data[page[0] + 6 : page[0] + 14] == bytes(8)]
    late = late[: heads[-1][1]] + late[len(without) :]
    link = only(late)
    assert link.start is not None
    assert link.start > 16000 * 60
    assert link.seconds() is not None
    assert 0.0 < (link.seconds() or 0.0) < 3.1


def test_an_end_without_a_flag() -> None:
    """Only an Opus page that is shortened without saying that it is the last is unusual."""
    for data, open_end in ((OPUS, True), (VORBIS, False)):
        page = list(ogg_pages(data))[-1]
        link = only(resealed(data, page, flags=data[page[0] + 5] & ~4))
        assert (link.damaged, link.open_end) == (False, open_end)


def test_fuzz() -> None:
    """Any damage ends in links that lie within the file, in order, and promise a bounded time."""
    chance = random.Random(0)
    for _ in range(300):
        data = bytearray(chance.choice([VORBIS, OPUS, OTHER, OPUS[:9000] + VORBIS]))
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(1, 40)] = chance.randbytes(chance.randint(0, 40))
        links = scan(bytes(data[: chance.randint(0, len(data))]))
        assert all(first.end == second.begin for first, second in pairwise(links))
        assert all(0 <= link.begin < link.end <= len(data) for link in links)
        assert all((link.seconds() or 0.0) < 700 for link in links)


@pytest.mark.parametrize("kind", KINDS)
def test_how_much_stands_before_damage(kind: str) -> None:
    """By the last granule position before it, if whole pages follow: then these are later than they seem."""
    data = KINDS[kind]
    pages = list(ogg_pages(data))
    head, middle, last = pages[2][0], pages[-2], pages[-1]
    before = int.from_bytes(data[pages[-3][0] + 6 : pages[-3][0] + 14], "little")
    link = only(data)
    expected = max(before - link.pre_skip - (link.start or 0), 0) / link.rate
    assert link.sound_seconds is None
    assert only(data[: last[0] + 50]).sound_seconds is None
    assert only(damaged(data, last[1] - 50)).sound_seconds is None
    assert only(data[: middle[0]] + data[middle[1] :]).sound_seconds == pytest.approx(expected)
    assert only(damaged(data, middle[0] + 300)).sound_seconds == pytest.approx(expected)
    assert only(data[:head] + bytes(3000) + data[head:]).sound_seconds is None
    assert only(damaged(data, head + 300)).sound_seconds == 0.0


def test_how_much_stands_before_damage_in_a_codec_that_nobody_knows() -> None:
    """Nothing is sure of it."""
    page = list(ogg_pages(OTHER))[-2]
    assert only(OTHER[: page[0]] + OTHER[page[1] :]).sound_seconds == 0.0
