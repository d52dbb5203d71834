"""jobs/audio_formats.py: the default extensions are those that our decoders decode, and how extensions are normalised."""

from __future__ import annotations

import base64
import functools
import io
import random
import struct
import zlib
from collections.abc import Callable

import pytest
from support.tars import audio_file, noise, pyav_file

from jobs.audio import decode
from jobs.audio_formats import AUDIO_EXTENSIONS, FORMER_EXTENSIONS, normalise_extensions

SPEEX = (
    "c-r$%PY-5bVn722sx}!i1_T$RrdB8@C>ZJ)=^3J_U<Bd-Aa;<4@L8Z@GpraG79goX2L2$sFig35R;QX#oejuJOUo@tO$UjI0"
    "&!|ya(+r`k*!Z+S+YV-W>PW8HDDuHejqs*#MIw+Hknlo1T;csC|zb?sQ(WFjkR~q>|CHz)$pN`@8Q>zn^|5@y^ucVL#jDQ)r"
    "EqGS7%xG#O*&-kRfvR^LtiR3!5v)dvbnVn!|qVZpE5-agC5Bg$q+;1D^l?|F{0~tbV;)-T(ZT1_tGyVgCRBQ~Px9(n@`+bg)"
    "^=ROip#&tDr5le6mFrQ@r-Rm-YRCQO?fx@otSOihONDt540J7uo!n!lssb|c>lu6x;g%~J#Yd)J%&oBuOz@n!k{Z}(jX05VI"
    "1NB"
)
"""A tenth of a second that FFmpeg's libspeex wrote, packed by zlib, in base 85."""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([".MP3", "flac,wav"], ("flac", "mp3", "wav")),
        (["wav", "WAV", " .Wav "], ("wav",)),
        ([",", ""], ()),
        ([], ()),
    ],
)
def test_normalise(given: list[str], expected: tuple[str, ...]) -> None:
    """Case, dots, commas, blanks and order do not matter."""
    assert normalise_extensions(given) == expected


def test_default_is_normal_already() -> None:
    """The default lists are in the form that --extensions gives."""
    for extensions in (AUDIO_EXTENSIONS, *FORMER_EXTENSIONS):
        assert normalise_extensions(extensions) == extensions


def test_nothing_was_taken_back() -> None:
    """What once was a clip by default still is."""
    assert all(set(former) < set(AUDIO_EXTENSIONS) for former in FORMER_EXTENSIONS)


def sound(kind: str, subtype: str | None = None) -> Callable[[], bytes]:
    """What libsndfile writes."""
    return functools.partial(audio_file, noise(8000), 16000, kind, subtype)


def av(kind: str, codec: str, rate: int = 16000, form: str | None = None) -> Callable[[], bytes]:
    """What FFmpeg writes."""
    return functools.partial(pyav_file, noise(rate), rate, kind, codec, sample_format=form)


def wma() -> bytes:
    return pyav_file(noise(16000), 16000, "asf", "wmav2", bit_rate=32000)


def speex() -> bytes:
    return zlib.decompress(base64.b85decode(SPEEX))


def frames(head: bytes, first: bytes, size: int) -> Callable[[], bytes]:
    """A stream of speech frames, each of `first` and noise. FFmpeg has decoders of AMR and GSM, and no encoders."""
    return lambda: head + b"".join(first + random.Random(n).randbytes(size) for n in range(50))


def ape() -> bytes:
    """A tenth of a second of silence, which Monkey's Audio has a flag for; FFmpeg cannot write it."""
    words = struct.pack(">IIII", 0x80000000 | zlib.crc32(bytes(3200)) >> 1, 3, 0, 0)
    audio = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    head = struct.pack("<4sHHIIIIIII16s", b"MAC ", 3990, 0, 52, 24, 4, 0, len(audio), 0, 0, bytes(16))
    head += struct.pack("<HHIIIHHI", 2000, 0x20, 294912, 1600, 1, 16, 1, 16000)
    return head + struct.pack("<I", len(head) + 4) + audio


ISO_AAC, MATROSKA, MP3 = av("mp4", "aac"), av("matroska", "ac3", 48000), av("mp3", "libmp3lame")
MADE: dict[str, Callable[[], bytes]] = {
    **dict.fromkeys(("m4a", "m4b", "m4r", "m4v", "mp4"), ISO_AAC),
    **dict.fromkeys(("3gp", "3g2"), av("3gp", "aac")),
    "mov": av("mov", "pcm_s16le"),
    **dict.fromkeys(("mka", "mkv"), MATROSKA),
    **dict.fromkeys(("webm", "weba"), av("webm", "libopus", 48000)),
    **dict.fromkeys(("aac", "adts"), av("adts", "aac")),
    "ac3": av("ac3", "ac3", 48000),
    **dict.fromkeys(("eac3", "ec3"), av("eac3", "eac3", 48000)),
    **dict.fromkeys(("mp3", "mpga"), MP3),
    **dict.fromkeys(("mp2", "mpa"), av("mp2", "mp2", form="s16")),
    **dict.fromkeys(("ogg", "oga", "ogx"), sound("OGG")),
    "opus": sound("OGG", "OPUS"),
    "spx": speex,
    "wma": wma,
    "wv": av("wv", "wavpack", form="s16p"),
    "tta": av("tta", "tta", form="s16"),
    "ape": ape,
    "amr": frames(b"#!AMR\n", b"\x04", 12),
    "awb": frames(b"#!AMR-WB\n", b"\x04", 17),
    "gsm": frames(b"", b"\xd5", 32),
    "flac": sound("FLAC"),
    **dict.fromkeys(("aif", "aiff"), sound("AIFF")),
    "aifc": av("aiff", "pcm_s16le"),
    **dict.fromkeys(("au", "snd"), sound("AU")),
    "caf": sound("CAF"),
    "ircam": sound("IRCAM"),
    "rf64": sound("RF64"),
    "sph": sound("NIST"),
    "voc": sound("VOC", "PCM_16"),
    "w64": sound("W64"),
    **dict.fromkeys(("wav", "wave", "bwf"), sound("WAV")),
}
BY_HAND = {"dts", "mpc", "tak"}
"""Nothing here writes them. Files of DTS, Musepack (7 and 8) and TAK were decoded by hand, to FFmpeg's length."""


@pytest.mark.parametrize("extension", sorted(MADE))
def test_what_is_in_the_default_list_decodes(extension: str) -> None:
    """A file such as other programs write gives about as many samples as went in."""
    data = MADE[extension]()
    samples, rate = 0, 0
    for block, rate in decode(io.BytesIO(data), mono="mean"):  # noqa: B007 (one rate for all of them)
        samples += len(block)
    assert samples >= 0.01 * rate > 0


def test_every_extension_was_decoded() -> None:
    """Nothing is in the list because it might work."""
    assert set(AUDIO_EXTENSIONS) == MADE.keys() | BY_HAND
