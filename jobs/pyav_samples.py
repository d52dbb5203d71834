"""PyAV audio frame -> float32, with the same values as FFmpeg's resampler, but without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

__all__ = ["float_samples"]

FORMS: dict[str, tuple[type[np.generic], int, float]] = {
    "u8": (np.uint8, 128, 2.0**-7),
    "s16": (np.int16, 0, 2.0**-15),
    "s32": (np.int32, 0, 2.0**-31),
    "s64": (np.int64, 0, 2.0**-63),
    "flt": (np.float32, 0, 1.0),
    "dbl": (np.float64, 0, 1.0),
}
"""FFmpeg's sample format, without the `p` of planar -> (type, value of silence, scale of one unit)."""


def float_samples(frame: AudioFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [samples, channels], each channel contiguous. Raises LookupError for an unknown sample format.

    Values equal libswresample's: rounded to float32 once, before scaling by a power of two. PyAV's AudioResampler gives the
    same values, but builds a filter graph per clip and copies three times.
    """
    from av.audio.plane import AudioPlane

    dtype, silence, unit = FORMS[frame.format.name.removesuffix("p")]
    channels, count = frame.layout.nb_channels, frame.samples
    wave = np.empty((channels, count), np.float32)
    # Not frame.planes: with more than 7 planes it reads beyond the frame's pointers.
    if frame.format.is_planar:
        planes = [np.frombuffer(_buffer(AudioPlane(frame, channel)), dtype, count) for channel in range(channels)]
    else:
        planes = list(np.frombuffer(_buffer(AudioPlane(frame, 0)), dtype, count * channels).reshape(count, channels).T)
    with np.errstate(over="ignore", invalid="ignore"):  # float64 may overflow: Mixer refuses infinity
        for channel, plane in zip(wave, planes, strict=True):
            channel[:] = plane
    if silence:
        wave -= silence
    if unit != 1:
        wave *= np.float32(unit)
    return wave.T


def _buffer(plane: object) -> Any:  # noqa: ANN401 - it has the buffer protocol, which PyAV's types do not declare
    return plane
