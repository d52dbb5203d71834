"""jobs/audio_headers.py: a cut file is told from a complete one, in every format that says its length."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tars import audio_file, noise, pyav_file

from audio_tokenizers.errors import ClipError
from jobs.audio_headers import mp3_states_its_length, refuse_cut_file

KINDS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAVEX", "FLOAT"),
    ("RF64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("W64", "PCM_16"),
    ("NIST", "PCM_16"),
    ("OGG", "VORBIS"),
]


def checked(data: bytes) -> io.BytesIO:
    file = io.BytesIO(data)
    refuse_cut_file(file)
    assert file.tell() == 0
    return file


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize("frames", [0, 1, 999, 20_000])
def test_whole_files_pass(kind: str, subtype: str, frames: int) -> None:
    """Files as they were written pass unchanged."""
    data = audio_file(noise(frames), 16000, kind, subtype)
    assert checked(data).getvalue() == data


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_cut_files_do_not(kind: str, subtype: str) -> None:
    """Missing a byte, a part or most of its samples, a file is refused with what was promised and what there is."""
    data = audio_file(noise(20_000), 16000, kind, subtype)
    for length in (len(data) - 1, len(data) * 3 // 4, len(data) // 3):
        with pytest.raises(ClipError, match="cut short") as caught:
            checked(data[:length])
        assert caught.value.kind == "decode"


def test_big_endian_wav() -> None:
    """RIFX, big-endian RIFF, is checked too."""
    data = b"RIFX" + struct.pack(">I", 0) + b"WAVEfmt " + struct.pack(">IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    data += b"data" + struct.pack(">I", 100)
    checked(data + bytes(100))
    with pytest.raises(ClipError):
        checked(data + bytes(99))


def test_chunks_before_and_after_the_samples() -> None:
    """Other chunks, of odd length too, are passed over."""
    data = audio_file(noise(100), 8000, "WAV", "PCM_16")
    more = data[:36] + b"LIST" + struct.pack("<I", 5) + b"abcde\0" + data[36:]
    checked(more + b"id3 " + struct.pack("<I", 3) + b"xyz\0")
    with pytest.raises(ClipError):
        checked(more[:-1])


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
def test_streamed_sizes_promise_nothing(size: int) -> None:
    """The sizes that programs write into a pipe are no promise."""
    data = audio_file(noise(100), 8000, "WAV", "PCM_16")
    checked(data[:40] + struct.pack("<I", size) + data[44:])
    checked(data[:4] + struct.pack("<I", 0) + data[8:])
    au = audio_file(noise(100), 8000, "AU", "PCM_16")
    checked(au[:8] + b"\xff" * 4 + au[12:])


def test_a_size_of_zero_is_that_of_a_stream_if_samples_follow() -> None:
    """A WAV of 0 bytes of samples with samples after it is a stream; with other chunks after it, it is empty."""
    data = audio_file(noise(100), 8000, "WAV", "PCM_16")
    zero = data[:40] + bytes(4) + data[44:]
    assert checked(zero).getvalue() == data[:40] + b"\xff" * 4 + data[44:]
    empty = data[:40] + bytes(4) + b"LIST" + struct.pack("<I", 4) + b"abcd"
    assert checked(empty).getvalue() == empty
    assert checked(zero[:44]).getvalue() == zero[:44]


def test_nist_that_is_compressed_promises_nothing() -> None:
    """Shorten inside NIST Sphere has fewer bytes than samples."""
    text = b"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i 100\nsample_n_bytes -i 2\n"
    text += b"sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    checked(text.ljust(1024) + bytes(10))
    with pytest.raises(ClipError):
        checked(text.replace(b",embedded-shorten-v2.00", b"").ljust(1024) + bytes(10))


def test_ogg_is_cut_if_its_last_page_is() -> None:
    """An Ogg file that ends inside a page is refused wherever that is; tags after the last page are not."""
    data = audio_file(noise(3000), 16000, "OGG", "VORBIS")
    page = data.rindex(b"OggS")
    for length in range(page + 5, len(data)):
        with pytest.raises(ClipError):
            checked(data[:length])
    checked(data + b"TAG" + bytes(125))


def test_mp3_headers() -> None:
    """A Xing or Info header with a count states the length, ID3 tags before it or not; without one, nothing does."""
    with_header = audio_file(noise(16000), 16000, "MP3")
    without = pyav_file(noise(16000), 16000, "mp3", "libmp3lame", {"write_xing": "0"})
    tag = b"ID3\x04\0\0" + bytes([0, 0, 1, 0]) + bytes(128)
    for data, stated in ((with_header, True), (without, False)):
        for before in (b"", tag, tag + tag):
            file = io.BytesIO(before + data)
            assert mp3_states_its_length(file) is stated
            assert file.tell() == 0
    name = b"Xing" if b"Xing" in with_header[:200] else b"Info"
    at = with_header.index(name)
    assert not mp3_states_its_length(io.BytesIO(with_header[: at + 4] + bytes(4) + with_header[at + 8 :]))
    assert not mp3_states_its_length(io.BytesIO(b"ID3"))


@given(
    st.sampled_from(
        [
            b"RIFF....WAVE",
            b"RF64....WAVEds64",
            b"FORM....AIFF",
            b"caff",
            b"riff",
            b".snd",
            b"NIST_1A\n",
            b"OggS\0",
            b"ID3",
            b"",
        ]
    ),
    st.binary(max_size=300),
)
def test_no_bytes_raise_anything_else(start: bytes, rest: bytes) -> None:
    """Headers of random bytes end in a pass or a ClipError."""
    with contextlib.suppress(ClipError):
        checked(start + rest)
    mp3_states_its_length(io.BytesIO(start + rest))
