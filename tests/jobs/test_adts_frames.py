"""jobs/adts_frames.py: frames of raw AAC are counted by their headers, and what stands between them is found."""

from __future__ import annotations

import io
import random
import time

import numpy as np
import pytest
from support.odd_audio import ID3V1, ID3V2, adts, adts_places, damaged, in_blocks, plain_mp3, title

from jobs import adts_frames
from jobs.adts_frames import AdtsScan, looks_like_adts, scan_adts

AAC, STEREO = adts(), adts(2.0, 44100, "stereo")
PLACES = adts_places(AAC)
FRAME = 1024 / 16000
JUNK = bytes([0x9A, 0x01])


def scan(data: bytes, begin: int = 0) -> AdtsScan:
    return scan_adts(io.BytesIO(data), begin, len(data))


def spans(found: AdtsScan) -> list[tuple[int, int]]:
    return [(gap.begin, gap.end) for gap in found.gaps]


def flipped(data: bytes, at: int, bits: int) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def ffmpeg_frames(data: bytes) -> list[tuple[int, int, int]]:
    """(place, samples, rate) of each packet, as FFmpeg finds them."""
    import av

    found = []
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux(audio=0):
            frames = packet.decode()
            if frames:
                found.append((packet.pos or 0, sum(frame.samples for frame in frames), frames[0].sample_rate))
    return found


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("rate", [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350])
def test_frames_are_those_of_ffmpeg(rate: int, layout: str) -> None:
    """Of each rate: as many, at the same places, of the same length."""
    data = adts(1.0, rate, layout)
    expected = ffmpeg_frames(data)
    found = scan(data)
    assert list(map(int, found.positions)) == [place for place, _, _ in expected]
    assert (found.samples_per_frame, found.rate) == expected[0][1:]
    assert found.seconds == pytest.approx(sum(samples / rate for _, samples, rate in expected))
    assert (found.begin, found.end, found.gaps, found.changes) == (0, len(data), [], 0)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_several_blocks_in_a_frame(count: int) -> None:
    """Each is as long as a frame of one; FFmpeg gives as much. A last frame with fewer is a change of form."""
    data = in_blocks(AAC, count)
    found = scan(data)
    assert found.seconds == pytest.approx(len(PLACES) * FRAME)
    assert found.seconds == pytest.approx(sum(samples / rate for _, samples, rate in ffmpeg_frames(data)))
    assert (found.samples_per_frame, found.gaps) == (count * 1024, [])
    assert found.changes == bool(len(PLACES) % count)


@pytest.mark.parametrize("read_bytes", [1 << 20, 9000, 500, 100])
def test_reading_in_pieces_changes_nothing(read_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many bytes are looked at together, and wherever one look ends and the next begins."""
    chance = random.Random(0)
    parts = [AAC, b"\x55" * 700, AAC, ID3V2, damaged(AAC, 4000, 2000), STEREO, ID3V1, AAC[:-100]]
    torn = AAC[: PLACES[20] + 50] + AAC[PLACES[25] + 70 :]
    files = [b"".join(parts), torn, *(flipped(AAC, at + chance.randrange(7), 1 << chance.randrange(8)) for at in PLACES)]
    whole = [scan(data) for data in files]
    assert len(whole[0].gaps) == 5
    assert whole[1].torn
    monkeypatch.setattr(adts_frames, "READ_BYTES", read_bytes)
    for data, expected in zip(files, whole, strict=True):
        again = scan(data)
        np.testing.assert_array_equal(again.positions, expected.positions)
        assert again.seconds == pytest.approx(expected.seconds)
        assert spans(again) == spans(expected)
        assert (again.torn, again.stated, again.ragged) == (expected.torn, expected.stated, expected.ragged)


def test_gaps() -> None:
    """Where a header is destroyed a frame is missing, and what is left of its header may say so; what stands between frames,
    before the first and after the last is a gap, too.
    """
    begin, end = PLACES[20], PLACES[21]
    for odd, stated in (
        (damaged(AAC, begin, 3), True),
        (damaged(AAC, begin, 40), False),
        (flipped(AAC, begin + 2, 4), True),
    ):
        found = scan(odd)
        assert spans(found) == [(begin, end)]
        assert (found.frames, found.torn, found.ragged) == (len(PLACES) - 1, set(), set())
        assert found.stated == ({begin} if stated else set())
        assert found.gaps[0].seconds == pytest.approx(FRAME, rel=0.1)
    found = scan(damaged(AAC, begin - 4, 8))
    assert (spans(found), found.ragged) == ([(begin, end)], {begin})
    found = scan(AAC[:begin] + ID3V2 + AAC[begin:] + ID3V1)
    assert [end - begin for begin, end in spans(found)] == [len(ID3V2), len(ID3V1)]
    assert found.frames == len(PLACES)
    found = scan(JUNK * 300 + AAC)
    assert (spans(found), found.begin) == ([(0, 600)], 600)
    assert scan(ID3V2 + AAC, len(ID3V2)).gaps == []


def test_a_last_frame_that_is_cut() -> None:
    """It is one frame that is missing, be there only its first two bytes."""
    for size in (2, 6, 7, 100):
        found = scan(AAC[: PLACES[-1] + size])
        assert (found.frames, spans(found)) == (len(PLACES) - 1, [(PLACES[-1], PLACES[-1] + size)])
        assert found.gaps[0].seconds == pytest.approx(FRAME)


def test_a_length_that_is_too_short() -> None:
    """What is left of the frame is a gap."""
    found = scan(flipped(AAC, PLACES[20] + 4, 0x40))
    assert spans(found) == [(PLACES[21] - 512, PLACES[21])]
    assert found.frames == len(PLACES)


@pytest.mark.parametrize(("at", "bits"), [(4, 1), (4, 8), (3, 1), (3, 2)])
def test_a_length_that_is_too_long(at: int, bits: int) -> None:
    """One frame is missing, not all that seem to be in it."""
    found = scan(flipped(AAC, PLACES[20] + at, bits))
    assert found.frames == len(PLACES) - 1
    assert spans(found) == [(PLACES[20], PLACES[21])]
    assert found.gaps[0].seconds >= FRAME


def test_bytes_that_were_taken_out() -> None:
    """The frame in which they are missing ends too early; or what is left of it is a gap behind one that seems whole."""
    torn = scan(AAC[: PLACES[20] + 50] + AAC[PLACES[25] + 70 :])
    assert torn.torn == {PLACES[20]}
    assert torn.frames == len(PLACES) - 6
    late = scan(AAC[: PLACES[21] - 50] + AAC[PLACES[25] + 70 :])
    assert (late.torn, late.frames, spans(late)[0][0]) == (set(), len(PLACES) - 5, PLACES[21])


def test_headers_of_another_kind() -> None:
    """Two in a row are another stream, one alone is damage; the bits that nothing hangs on may be any."""
    both = scan(AAC + STEREO)
    assert (both.changes, both.gaps) == (1, [])
    assert both.seconds == pytest.approx(scan(AAC).seconds + scan(STEREO).seconds)
    for at, bits in ((2, 0x04), (1, 0x01), (3, 0x40), (2, 0x80), (1, 0x02)):
        found = scan(flipped(AAC, PLACES[20] + at, bits))
        assert (found.changes, spans(found)) == (0, [(PLACES[20], PLACES[21])])
    for at, bits in ((1, 0x08), (2, 0x02), (3, 0x20), (3, 0x10), (3, 0x08), (6, 0x04)):
        assert scan(flipped(AAC, PLACES[20] + at, bits)).gaps == []


def test_what_stands_before_a_place() -> None:
    """At least so much, whatever is lost together with what stands there."""
    found = scan(AAC)
    for number in (0, 1, 40):
        assert found.seconds_before(PLACES[number]) == pytest.approx(max(number - 2, 0) * FRAME)
    assert scan(AAC + STEREO).seconds_before(len(AAC)) == 0.0
    assert scan(b"nothing").seconds_before(5) == 0.0


def test_other_things_that_begin_so() -> None:
    """MP3, a frame that holds nothing, a rate that there is none of, and the end of a file are no frames."""
    assert looks_like_adts(AAC[:7])
    empty = AAC[:3] + bytes([AAC[3] & 0xFC, 0, 0xFF, 0xFC])
    for head in (plain_mp3(0.2)[:8], empty, AAC[:2] + b"\x7c" + AAC[3:7], AAC[:6], b"", b"\xff" * 9):
        assert not looks_like_adts(head)
    assert scan(empty * 50).frames == 0
    assert scan(AAC[: PLACES[1]]).frames == 1


def test_fuzz() -> None:
    """Frames and gaps follow each other without holes, whatever is damaged: together they are the file."""
    chance = random.Random(0)
    for _ in range(400):
        data = bytearray(
            chance.choice([AAC, STEREO, AAC + STEREO, in_blocks(AAC, 2), chance.randbytes(5000), AAC[:7] * 900])
        )
        for _ in range(chance.randint(0, 6)):
            at = chance.randrange(len(data))
            odd = chance.choice([chance.randbytes(chance.randint(0, 60)), bytes(900), title(), ID3V2, b"\xff\xf1"])
            data[at : at + chance.choice([0, len(odd), chance.randint(0, 3000)])] = odd
        found = scan(bytes(data))
        sizes = [(data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5 for at in map(int, found.positions)]
        parts = sorted(
            [*zip(map(int, found.positions), sizes, strict=True), *((one, two - one) for one, two in spans(found))]
        )
        at = 0
        for begin, size in parts:
            assert begin == at
            at += size
        assert at == len(data)
        assert found.frames == len(sizes)
        assert found.seconds >= 0.0
        assert found.torn | found.stated | found.ragged <= {begin for begin, _ in spans(found)}


@pytest.mark.slow
def test_junk_is_bounded_in_time() -> None:
    """What looks like a thousand frames, none of which goes on, ends as quickly as others."""
    began = time.process_time()
    long = AAC[:3] + bytes([AAC[3] | 3, 0xFF, 0xFF]) + AAC[6:7]
    for data in (
        AAC[:7] * 300_000,
        long * 300_000,
        b"\xff\xf1" * 1_000_000,
        (AAC[: PLACES[2]] + long) * 2000,
        b"\xff" * 4_000_000,
    ):
        scan(data)
    assert time.process_time() - began < 30
