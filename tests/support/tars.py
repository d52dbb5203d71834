"""Tars and audio files made in memory."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[np.float32]

__all__ = ["Samples", "audio_file", "end_blocks", "link_member", "member", "noise", "pyav_file", "tar_bytes"]

BLOCK = 512


def noise(frames: int, channels: int = 1, seed: int = 0) -> Samples:
    """Quiet noise, float32 [frames] or [frames, channels]."""
    wave = np.random.default_rng(seed).standard_normal((frames, channels)).astype(np.float32) * np.float32(0.1)
    return wave[:, 0] if channels == 1 else wave


def audio_file(wave: Samples, rate: int = 16000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """`wave` as a file that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


def pyav_file(
    wave: Samples,
    rate: int,
    kind: str,
    codec: str,
    options: dict[str, str] | None = None,
    bit_rate: int | None = None,
    *,
    layout: str = "mono",
    sample_format: str | None = None,
) -> bytes:
    """`wave`, float32 [frames] or [frames, channels], as a file that FFmpeg writes."""
    import av

    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=kind, options=options or {}) as container:
            stream: Any = container.add_stream(codec, rate=rate, layout=layout)
            if bit_rate is not None:
                stream.bit_rate = bit_rate
            if sample_format is not None:
                stream.codec_context.format = sample_format
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave).reshape(1, -1), format="flt", layout=layout)
            frame.sample_rate = rate
            resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
            for piece in resampler.resample(frame):
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        return Path(file.name).read_bytes()


def member(name: bytes, data: bytes = b"", kind: bytes = b"0", *, size: bytes | None = None, more: bytes = b"") -> bytes:
    """One ustar member, header and padded data, with a right checksum; `more` replaces the header's end from byte 345."""
    header = bytearray(BLOCK)
    header[: len(name)] = name
    header[100:108] = b"0000644\0"
    header[124:136] = size if size is not None else b"%011o\0" % len(data)
    header[136:148] = b"00000000000\0"
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[345 : 345 + len(more)] = more
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % BLOCK)


def link_member(name: bytes, target: bytes, kind: bytes = b"1") -> bytes:
    """A ustar link, hard (1) or symbolic (2)."""
    header = bytearray(member(name, kind=kind))
    header[157 : 157 + len(target)] = target
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def end_blocks() -> bytes:
    """What ends a tar."""
    return bytes(2 * BLOCK)


def tar_bytes(members: Iterable[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of regular files as Python writes it, without the padding to whole records."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    return file.getvalue()[:end] + end_blocks()
