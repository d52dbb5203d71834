"""Audio files with something odd about them, made in memory from clean ones."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator

import numpy as np

from jobs.ogg_pages import page_checksum
from support.tars import Samples, audio_file, pyav_file

__all__ = [
    "APE",
    "ID3V1",
    "ID3V2",
    "LYRICS",
    "adts",
    "adts_places",
    "damaged",
    "high_efficiency",
    "in_blocks",
    "mp3",
    "ogg_pages",
    "plain_mp3",
    "resealed",
    "speech",
    "title",
]

ID3V2 = b"ID3\x04\0\0" + bytes([0, 0, 1, 0]) + b"TIT2" + bytes(124)
ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
_APE_ITEM = struct.pack("<II", 5, 0) + b"Title\0hello"
APE = b"".join(
    (
        *(b"APETAGEX", struct.pack("<IIII", 2000, len(_APE_ITEM) + 32, 1, 0xA0000000), bytes(8), _APE_ITEM),
        *(b"APETAGEX", struct.pack("<IIII", 2000, len(_APE_ITEM) + 32, 1, 0x80000000), bytes(8)),
    )
)
LYRICS = b"LYRICSBEGININD0000200LYR00012la la la la \r\n000042LYRICS200"


def speech(seconds: float, rate: int = 16000, tone: float = 200.0) -> Samples:
    """A tone that wanders, and some noise: two moments of it are never alike."""
    time = np.arange(int(seconds * rate)) / rate
    hum = 0.3 * np.sin(2 * np.pi * tone * time * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time)))
    hiss = 0.02 * np.random.default_rng(1).standard_normal(len(time))
    return (hum + hiss).astype(np.float32)


@functools.cache
def mp3(seconds: float = 3.0, rate: int = 16000) -> bytes:
    """With an Info frame that states its length."""
    return audio_file(speech(seconds, rate), rate, "MP3")


@functools.cache
def plain_mp3(seconds: float = 3.0, rate: int = 16000, layout: str = "mono") -> bytes:
    """Frames, and nothing else."""
    wave = speech(seconds, rate)
    if layout == "stereo":
        wave = np.stack([wave, wave], axis=1)
    return pyav_file(wave, rate, "mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}, layout=layout)


@functools.cache
def adts(seconds: float = 3.0, rate: int = 16000, layout: str = "mono") -> bytes:
    """AAC in ADTS frames, and nothing else."""
    wave = speech(seconds, rate)
    if layout == "stereo":
        wave = np.stack([wave, wave], axis=1)
    return pyav_file(wave, rate, "adts", "aac", layout=layout)


def adts_places(data: bytes) -> list[int]:
    """Where each frame of an undamaged ADTS stream begins, by its lengths."""
    places, at = [], 0
    while at < len(data):
        places.append(at)
        at += (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    return places


def high_efficiency(data: bytes) -> bytes:
    """The same ADTS stream as HE-AAC: before its end each frame has an element for spectral band replication, which says
    nothing. Decoders double the rate.
    """
    begins, made = adts_places(data), b""
    for begin, end in zip(begins, [*begins[1:], len(data)], strict=True):
        bits = bin(int.from_bytes(b"\1" + data[begin + 7 : end], "big"))[3:].rstrip("0").removesuffix("111")
        bits += "110" + "0010" + "1101" + 12 * "0" + "111"  # FIL of two bytes, the extension's name, END
        bits += "0" * (-len(bits) % 8)
        body = int(bits, 2).to_bytes(len(bits) // 8, "big")
        made += _adts_header(data[begin : begin + 7], 7 + len(body)) + body
    return made


def _adts_header(head: bytes, size: int, blocks: int = 1) -> bytes:
    fields = int.from_bytes(head, "big") & ~(0x1FFF << 13 | 3)
    return (fields | size << 13 | (blocks - 1)).to_bytes(7, "big")


def in_blocks(data: bytes, count: int) -> bytes:
    """The same ADTS stream with so many raw data blocks in each frame."""
    begins = adts_places(data)
    frames = [data[begin:end] for begin, end in zip(begins, [*begins[1:], len(data)], strict=True)]
    together = b""
    for number in range(0, len(frames), count):
        blocks = frames[number : number + count]
        body = b"".join(block[7:] for block in blocks)
        together += _adts_header(blocks[0][:7], 7 + len(body), len(blocks)) + body
    return together


def title(text: bytes = b"StreamTitle='Artist - Song';") -> bytes:
    """As internet radio puts it between any two bytes."""
    units = -(-len(text) // 16)
    return bytes([units]) + text.ljust(16 * units, b"\0")


def damaged(data: bytes, at: int, count: int = 40) -> bytes:
    """Some bytes overwritten."""
    return data[:at] + b"\x55" * count + data[at + count :]


def ogg_pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each page begins and ends."""
    at = 0
    while data[at : at + 4] == b"OggS":
        end = at + 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
        yield at, end
        at = end


def resealed(data: bytes, page: tuple[int, int], *, flags: int | None = None, later: int = 0) -> bytes:
    """A page with other flags, or a later granule position, and the checksum that goes with it."""
    head = bytearray(data[page[0] : page[1]])
    if flags is not None:
        head[5] = flags
    head[6:14] = struct.pack("<q", struct.unpack_from("<q", head, 6)[0] + later)
    head[22:26] = bytes(4)
    head[22:26] = struct.pack("<I", page_checksum(bytes(head)))
    return data[: page[0]] + bytes(head) + data[page[1] :]
