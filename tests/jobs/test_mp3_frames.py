"""jobs/mp3_frames.py: frames are counted by their headers, and what stands between them is found."""

from __future__ import annotations

import io
import random
import struct
from itertools import pairwise

import numpy as np
import pytest
from support.near import approx
from support.odd_audio import ID3V1, ID3V2, damaged, mp3, plain_mp3, speech
from support.tars import pyav_file

from jobs import mp3_frames
from jobs.mp3_frames import Mp3Scan, looks_like_mp3, scan_mp3, stated_length, stated_parts

PLAIN, STATED = plain_mp3(), mp3()


def scan(data: bytes, begin: int = 0) -> Mp3Scan:
    return scan_mp3(io.BytesIO(data), begin, len(data))


def ffmpeg_frames(data: bytes) -> list[tuple[int, int, int]]:
    """(place, samples, rate) of each frame, as FFmpeg finds them."""
    import av

    with av.open(io.BytesIO(data), "r") as container:
        return [
            (packet.pos or 0, frame.samples, frame.sample_rate)
            for packet in container.demux(audio=0)
            for frame in packet.decode()
        ]


@pytest.mark.parametrize(
    ("codec", "rate", "kbps"),
    [
        *(("libmp3lame", rate, None) for rate in (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
        *(("libmp3lame", 44100, kbps) for kbps in (32, 320)),
        *(("mp2", rate, None) for rate in (16000, 22050, 24000, 32000, 44100, 48000)),
    ],
)
def test_frames_are_those_of_ffmpeg(codec: str, rate: int, kbps: int | None) -> None:
    """Of each layer, rate and bit rate: as many, at the same places, of the same length."""
    options = {"write_xing": "0", "id3v2_version": "0"} if codec == "libmp3lame" else {}
    kind = "mp3" if codec == "libmp3lame" else "mp2"
    data = pyav_file(speech(2.0, rate), rate, kind, codec, options, None if kbps is None else kbps * 1000)
    expected = ffmpeg_frames(data)
    found = scan(data)
    assert list(map(int, found.positions)) == [place for place, _, _ in expected]
    assert (found.samples_per_frame, found.rate) == expected[0][1:]
    assert found.seconds == pytest.approx(sum(samples / rate for _, samples, rate in expected))
    assert (found.begin, found.end, found.gaps) == (0, len(data), [])


@pytest.mark.parametrize("read_bytes", [1 << 20, 9000, 500])
def test_reading_in_pieces_changes_nothing(read_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many bytes are looked at together."""
    parts = [PLAIN, b"\x55" * 700, STATED, ID3V2, damaged(PLAIN, 4000, 200), plain_mp3(2.0, 44100), ID3V1]
    data = b"".join(parts)
    whole = scan(data)
    assert len(whole.gaps) == 4
    monkeypatch.setattr(mp3_frames, "READ_BYTES", read_bytes)
    again = scan(data)
    np.testing.assert_array_equal(again.positions, whole.positions)
    assert again.gaps == whole.gaps
    assert again.seconds == pytest.approx(whole.seconds)


def test_a_first_frame_that_states_the_length() -> None:
    """It is no audio, and says how many others there are, and the padding of LAME: 3 s are left."""
    found = scan(STATED)
    assert found.whole
    assert found.stated_frames == found.frames == len(found.positions) - 1
    assert found.seconds - found.padding / found.rate == pytest.approx(3.0)
    assert scan(ID3V2 + STATED, len(ID3V2)).whole
    assert scan(STATED + ID3V1).whole
    assert not scan(PLAIN).whole


@pytest.mark.parametrize("count", [0, 10, 85, 87, 1000])
def test_a_length_that_is_wrong(count: int) -> None:
    """Whatever it is, it is not believed."""
    at = STATED.index(b"Xing") + 8
    assert struct.unpack_from(">I", STATED, at)[0] == 86
    assert not scan(STATED[:at] + struct.pack(">I", count) + STATED[at + 4 :]).whole


def test_gaps() -> None:
    """Where a header is destroyed a frame is missing; inserted bytes are a gap of their length; and so is what follows."""
    frames = scan(PLAIN)
    size = int(frames.positions[1])
    middle = int(frames.positions[40])
    odd = scan(damaged(PLAIN, middle))
    assert [(gap.begin, gap.end) for gap in odd.gaps] == [(middle, middle + size)]
    assert odd.gaps[0].seconds == pytest.approx(576 / 16000)
    assert odd.frames == frames.frames - 1
    odd = scan(PLAIN[:middle] + ID3V2 + PLAIN[middle:] + ID3V1)
    assert [gap.end - gap.begin for gap in odd.gaps] == [len(ID3V2), len(ID3V1)]
    assert odd.frames == frames.frames
    assert [(gap.begin, gap.end) for gap in scan(b"junk" * 9 + PLAIN).gaps] == [(0, 36)]


def test_a_damaged_header_that_seems_to_hold_many_frames() -> None:
    """A higher bit rate makes a longer frame: it costs one frame, not all that seem to be in it; the true last one stays."""
    at = int(scan(PLAIN).positions[40])
    found = scan(PLAIN[: at + 2] + bytes([PLAIN[at + 2] & 0x0F | 0xE0]) + PLAIN[at + 3 :])
    assert found.frames == 85
    assert [(gap.begin, gap.end) for gap in found.gaps] == [(at, at + int(scan(PLAIN).positions[1]))]
    last = plain_mp3(1.0)
    higher = last + PLAIN[:2] + bytes([PLAIN[2] & 0x0F | 0x50]) + PLAIN[3:4] + bytes(600)
    size = mp3_frames._tables()[0][higher[len(last) + 1] << 8 | higher[len(last) + 2]]
    assert scan(higher[: len(last) + size] + ID3V1).frames == scan(last).frames + 1


def test_parts_that_end_early() -> None:
    """A part of which frames are missing is told by its own first frame, unless that says that all bytes are there."""
    cut = STATED[: int(scan(STATED).positions[50])]
    at = len(cut)
    for data, missing, places in (
        (STATED, 0, []),
        (STATED + STATED, 0, []),
        (cut, 37, [(0, at)]),
        (STATED + cut, 37, [(len(STATED), len(STATED) + at)]),
        (cut + STATED, 37, [(0, at)]),
        (cut + ID3V2 + cut, 74, [(0, at + len(ID3V2)), (at + len(ID3V2), 2 * at + len(ID3V2))]),
    ):
        seconds, incomplete = stated_parts(io.BytesIO(data), scan(data))
        assert (seconds, incomplete) == (approx(missing * 576 / 16000), places)
    at = STATED.index(b"Xing") + 8
    more = STATED[:at] + struct.pack(">I", 500) + STATED[at + 4 :]
    assert stated_parts(io.BytesIO(more), scan(more)) == (0.0, [])


def test_what_stands_before_a_place() -> None:
    """At least so much, whatever decoders leave out at the beginning and around damage."""
    for data, left_out in ((PLAIN, 0.0), (STATED, 576 + scan(STATED).padding)):
        found = scan(data)
        for number in (0, 1, 50):
            expected = max((number - 2) * 576 - left_out, 0) / 16000
            assert found.seconds_before(int(found.positions[number])) == pytest.approx(expected)
    other = scan(PLAIN + plain_mp3(1.0, 44100))
    assert other.seconds_before(other.end) == 0.0
    assert scan(b"nothing").seconds_before(5) == 0.0


def test_vbri() -> None:
    """Fraunhofer's way to state a length."""
    frame = PLAIN[:36] + b"VBRI" + bytes(6) + struct.pack(">II", 9000, 86)
    assert stated_length(frame + bytes(100)) == (86, 9000, 0)
    assert stated_length(PLAIN[:100]) is None
    assert stated_length(b"") is None


def test_other_things_that_begin_so() -> None:
    """AAC, a free-format frame and the end of a file are no MPEG audio frames."""
    assert looks_like_mp3(PLAIN[:4])
    for head in (b"\xff\xf1\x50\x80", b"\xff\xfb\x00\x00", b"\xff\xfb\xf0\x00", b"\xff\xfb\x90", b"", b"ID3\x04"):
        assert not looks_like_mp3(head)


def test_fuzz() -> None:
    """Frames and gaps never overlap, whatever is damaged, and together they are the file."""
    chance = random.Random(0)
    for _ in range(300):
        data = bytearray(chance.choice([PLAIN, STATED, STATED + PLAIN, chance.randbytes(5000), b"\xff\xfb\x90\x00" * 900]))
        for _ in range(chance.randint(0, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 60)] = chance.randbytes(chance.randint(0, 60))
        found = scan(bytes(data))
        stated_parts(io.BytesIO(data), found)
        assert found.seconds >= 0.0
        places = sorted([*((int(at), "frame") for at in found.positions), *((gap.begin, "gap") for gap in found.gaps)])
        assert len({place for place, _ in places}) == len(places)
        assert all(0 <= gap.begin < gap.end <= len(data) for gap in found.gaps)
        assert sum(gap.end - gap.begin for gap in found.gaps) <= len(data)


@pytest.mark.parametrize("byte", [0, 1, 2])
def test_a_file_that_looks_regular_with_one_damaged_header_is_not_whole(byte: int) -> None:
    """All frames are of one kind, as many as are stated, but for one in the middle that is no header any more."""
    clean = scan(STATED)
    assert clean.whole
    place = int(clean.positions[len(clean.positions) // 2])
    data = bytearray(STATED)
    data[place + byte] = 0
    found = scan(bytes(data))
    assert not found.whole
    assert [gap.begin for gap in found.gaps] == [place]


def test_frames_of_two_kinds_in_turn() -> None:
    """Each change counts, wherever it falls, and each frame with its own length."""
    one, other = scan(PLAIN), scan(plain_mp3(2.0, 44100))
    frames = []
    for data, found in ((PLAIN, one), (plain_mp3(2.0, 44100), other)):
        edges = [*map(int, found.positions), found.end]
        frames.append([data[begin:end] for begin, end in pairwise(edges)][5:25])
    data = b"".join(first + second for first, second in zip(*frames, strict=True))
    mixed = scan(data)
    assert (mixed.frames, mixed.changes, mixed.gaps) == (40, 39, [])
    assert mixed.seconds == pytest.approx(20 * (576 / 16000 + 1152 / 44100))
