"""Recognise audio by its first bytes, whatever the file's name. Pure: first bytes -> format, or None.

Sources: the magic numbers in each format's specification. Where a magic number has two bytes or fewer, as in streams of MPEG
frames, the whole header must be valid, and the next frame must stand where the first one says.
"""

from __future__ import annotations

__all__ = ["HEAD_BYTES", "audio_kind"]

HEAD_BYTES = 8192
"""Enough for two frames of any stream that is recognised by its frames."""

AT_START = {
    b"fLaC": "flac",
    b"OggS\0": "ogg",
    b"ID3\2": "mp3",
    b"ID3\3": "mp3",
    b"ID3\4": "mp3",
    b".snd": "au",
    b"caff\0\1": "caf",
    b"wvpk": "wv",
    b"TTA1": "tta",
    b"TTA2": "tta",
    b"tBaK": "tak",
    b"MPCK": "mpc",
    b"MP+\x07": "mpc",
    b"MP+\x17": "mpc",
    b"#!AMR\n": "amr",
    b"#!AMR-WB\n": "awb",
    b"#!AMR_MC1.0\n": "amr",
    b"#!AMR-WB_MC1.0\n": "awb",
    b"NIST_1A\n": "sph",
    b"Creative Voice File\x1a": "voc",
    b"\x1aE\xdf\xa3": "mkv",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "wma",
    b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00": "w64",
    b"\x64\xa3\x01\x00": "ircam",
    b"\x64\xa3\x02\x00": "ircam",
    b"\x64\xa3\x03\x00": "ircam",
    b"\x7f\xfe\x80\x01": "dts",
    b".RMF\0\0\0": "rm",
    b".ra\xfd\0": "ra",
    b"FLV\1": "flv",
    b"\0\0\1\xba": "mpg",
}
BY_FIRST_BYTES = {
    magic[:3]: [(each, kind) for each, kind in AT_START.items() if each[:3] == magic[:3]] for magic in AT_START
}
IN_RIFF = {b"WAVE": "wav", b"QLCM": "qcp", b"AVI ": "avi"}
IN_FORM = {b"AIFF": "aiff", b"AIFC": "aifc"}
STILLS = (b"avif", b"avis", b"heic", b"heix", b"heif", b"mif1", b"msf1", b"jp2 ", b"jpx ", b"jpm ", b"crx ")
"""Brands of ISO media files that hold pictures."""
QUICKTIME = (b"moov", b"mdat", b"wide")
"""First boxes of older QuickTime files, which have no `ftyp`."""

EVERY = {"gsm": (33, 12, 0xF0, 0xD0), "ts": (188, 5, 0xFF, 0x47)}
"""Streams of packets of one size: bytes per packet, packets to check, mask of each first byte, and its value."""

MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""The two version bits -> Hz."""
MP3_KBIT_1 = {
    3: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
"""MPEG-1: the two layer bits -> kbit/s (ISO/IEC 11172-3)."""
MP3_KBIT_2 = {
    3: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    1: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""MPEG-2 and 2.5 (ISO/IEC 13818-3)."""
AC3_KBIT = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
AC3_RATES = (48000, 44100, 32000)


def audio_kind(head: bytes) -> str | None:
    """The format of a file that begins with `head`, named by its usual extension (`"flac"`); None if it is not audio.

    `head` is the first HEAD_BYTES of the file, or all of it. A container of video and audio counts as audio.
    """
    for magic, kind in BY_FIRST_BYTES.get(head[:3], ()):
        if head.startswith(magic):
            return kind
    return _container(head) or _packets(head) or _frames(head)


def _container(head: bytes) -> str | None:
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return IN_RIFF.get(head[8:12])
    if head[:4] == b"FORM":
        return IN_FORM.get(head[8:12])
    if head[:4] == b"MAC " and 3800 <= int.from_bytes(head[4:6], "little") < 4100:
        return "ape"
    is_iso = head[:1] == b"\0" and (head[4:8] in QUICKTIME or (head[4:8] == b"ftyp" and head[8:12] not in STILLS))
    return "mp4" if is_iso else None


def _packets(head: bytes) -> str | None:
    for kind, (size, packets, mask, value) in EVERY.items():
        if head and head[0] & mask == value:
            first_bytes = head[: size * packets : size]
            if len(first_bytes) == packets and all(byte & mask == value for byte in first_bytes):
                return kind
    return None


def _frames(head: bytes) -> str | None:
    kinds = FRAMES if head[:1] in (b"\xff", b"\x0b") else ()
    for kind, length in kinds:
        first = length(head[:16])
        if first and length(head[first : first + 16]):
            return kind
    return None


def _mp3_frame(header: bytes) -> int:
    """Size in bytes of an MPEG audio frame of any layer; 0 if `header` is not valid."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 0 or index in (0, 15) or rate_index == 3 or header[3] & 3 == 2:
        return 0
    bits = (MP3_KBIT_1 if version == 3 else MP3_KBIT_2)[layer][index - 1] * 1000
    rate = MP3_RATES[version][rate_index]
    if layer == 3:
        return (12 * bits // rate + padding) * 4
    return (72 if layer == 1 and version != 3 else 144) * bits // rate + padding


def _adts_frame(header: bytes) -> int:
    """Size in bytes of an AAC frame with an ADTS header; 0 if `header` is not valid."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


def _ac3_frame(header: bytes) -> int:
    """Size in bytes of an AC-3 or E-AC-3 frame (ETSI TS 102 366); 0 if `header` is not valid."""
    if len(header) < 6 or header[:2] != b"\x0b\x77":
        return 0
    stream_id = header[5] >> 3
    if 10 < stream_id <= 16:
        return 2 * (((header[2] & 7) << 8 | header[3]) + 1)
    rate_index, size_index = header[4] >> 6, header[4] & 0x3F
    if stream_id > 10 or rate_index == 3 or size_index >= 2 * len(AC3_KBIT):
        return 0
    bits, rate = AC3_KBIT[size_index >> 1] * 1000, AC3_RATES[rate_index]
    words = 96 * bits // rate
    return 2 * (words + (size_index & 1 if rate == 44100 else 0))


FRAMES = (("mp3", _mp3_frame), ("aac", _adts_frame), ("ac3", _ac3_frame))
