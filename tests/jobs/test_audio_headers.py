"""jobs/audio_headers.py: a cut file is told from a complete one, in every format that says its length."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tars import audio_file, noise

from jobs.audio_headers import missing_bytes, mp3_in_wav

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
]


def missing(data: bytes) -> int:
    file = io.BytesIO(data)
    found, promised = missing_bytes(file)
    assert file.tell() == 0
    assert 0 <= found <= promised
    return found


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize("frames", [0, 1, 999, 20_000])
def test_whole_files_lack_nothing(kind: str, subtype: str, frames: int) -> None:
    """Files as they were written pass unchanged."""
    data = audio_file(noise(frames), 16000, kind, subtype)
    file = io.BytesIO(data)
    assert missing_bytes(file) == (0, 0)
    assert file.getvalue() == data


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_cut_files_do(kind: str, subtype: str) -> None:
    """As many bytes as were cut off; up to a header's length costs nothing."""
    data = audio_file(noise(20_000), 16000, kind, subtype)
    for length in (len(data) - 129, len(data) * 3 // 4, len(data) // 3):
        assert missing(data[:length]) == len(data) - length
    for length in (len(data) - 1, len(data) - 128):
        assert missing(data[:length]) == 0


def test_a_file_that_ends_with_its_header_lacks_all() -> None:
    """However little that is."""
    data = audio_file(noise(10), 16000, "WAV", "PCM_16")
    assert missing(data[:44]) == 20


def test_big_endian_wav() -> None:
    """RIFX, big-endian RIFF, is checked too."""
    data = b"RIFX" + struct.pack(">I", 0) + b"WAVEfmt " + struct.pack(">IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    data += b"data" + struct.pack(">I", 1000)
    assert missing(data + bytes(1000)) == 0
    assert missing(data + bytes(500)) == 500


def test_chunks_before_and_after_the_samples() -> None:
    """Other chunks, of odd length too, are passed over."""
    data = audio_file(noise(1000), 8000, "WAV", "PCM_16")
    more = data[:36] + b"LIST" + struct.pack("<I", 5) + b"abcde\0" + data[36:]
    assert missing(more + b"id3 " + struct.pack("<I", 3) + b"xyz\0") == 0
    assert missing(more[:-500]) == 500


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
def test_streamed_sizes_promise_nothing(size: int) -> None:
    """The sizes that programs write into a pipe are no promise."""
    data = audio_file(noise(100), 8000, "WAV", "PCM_16")
    assert missing(data[:40] + struct.pack("<I", size) + data[44:]) == 0
    assert missing(data[:4] + struct.pack("<I", 0) + data[8:]) == 0
    au = audio_file(noise(100), 8000, "AU", "PCM_16")
    assert missing(au[:8] + b"\xff" * 4 + au[12:]) == 0


def mended(data: bytes) -> bytes:
    file = io.BytesIO(data)
    missing_bytes(file)
    return file.getvalue()


def test_a_size_of_zero_is_that_of_a_stream_if_samples_follow() -> None:
    """A WAV of 0 bytes of samples with samples after it is a stream; with other chunks after it, it is empty."""
    data = audio_file(noise(100), 8000, "WAV", "PCM_16")
    zero = data[:40] + bytes(4) + data[44:]
    assert mended(zero) == data[:40] + b"\xff" * 4 + data[44:]
    empty = data[:40] + bytes(4) + b"LIST" + struct.pack("<I", 4) + b"abcd"
    assert mended(empty) == empty
    assert mended(zero[:44]) == zero[:44]


def test_nist_that_is_compressed_promises_nothing() -> None:
    """Shorten inside NIST Sphere has fewer bytes than samples."""
    text = b"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i 100\nsample_n_bytes -i 2\n"
    text += b"sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    assert missing(text.ljust(1024) + bytes(10)) == 0
    assert missing(text.replace(b",embedded-shorten-v2.00", b"").ljust(1024) + bytes(10)) == 190


def wav(tag: int, payload: bytes, *, size: int | None = None, extensible: bool = False) -> bytes:
    fields = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, 1, 16000, 4000, 1, 0)
    fields += struct.pack("<HHIH14s", 22, 0, 0, tag, bytes(14)) if extensible else struct.pack("<H", 0)
    body = b"WAVEfmt " + struct.pack("<I", len(fields)) + fields + b"data"
    body += struct.pack("<I", len(payload) if size is None else size) + payload
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_mp3_in_wav() -> None:
    """Format tags 0x50 and 0x55, plain or as a GUID: the data chunk, as far as the file goes; other WAVs have none."""
    for tag in (0x50, 0x55):
        for extensible in (False, True):
            data = wav(tag, b"x" * 100, extensible=extensible)
            assert mp3_in_wav(io.BytesIO(data)) == (len(data) - 100, len(data))
    cut = wav(0x55, b"x" * 100, size=5000)
    assert mp3_in_wav(io.BytesIO(cut)) == (len(cut) - 100, len(cut))
    more = wav(0x55, b"x" * 100) + b"LIST" + struct.pack("<I", 4) + b"abcd"
    assert mp3_in_wav(io.BytesIO(more)) == (len(cut) - 100, len(cut))
    for other in (audio_file(noise(100), 8000), b"RIFF", b"", wav(0x55, b"")[:30]):
        assert mp3_in_wav(io.BytesIO(other)) is None


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
            b"RIFF....WAVEfmt ",
            b"",
        ]
    ),
    st.binary(max_size=300),
)
def test_no_bytes_raise_anything(start: bytes, rest: bytes) -> None:
    """Headers of random bytes promise something, or nothing."""
    missing(start + rest)
    mp3_in_wav(io.BytesIO(start + rest))
