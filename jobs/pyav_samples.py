"""An audio frame of FFmpeg, as PyAV gives it -> float32, with FFmpeg's own values and without its resampler."""

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
"""FFmpeg's name of a sample format, without the `p` of planes -> type, what stands for silence, and the value of a unit."""


def float_samples(frame: AudioFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [samples, channels], with channels that are contiguous. Raises LookupError for an unknown sample format.

    Values are those of libswresample: rounded to float32 once, before the scaling by a power of two. PyAV's AudioResampler
    gives the same, but builds a filter graph per clip and takes three copies.
    """
    from av.audio.plane import AudioPlane

    dtype, silence, unit = FORMS[frame.format.name.removesuffix("p")]
    channels, count = frame.layout.nb_channels, frame.samples
    wave = np.empty((channels, count), np.float32)
    # Not frame.planes, which reads beyond the frame's pointers if it has more than 7 planes.
    if frame.format.is_planar:
        planes = [np.frombuffer(_buffer(AudioPlane(frame, channel)), dtype, count) for channel in range(channels)]
    else:
        planes = list(np.frombuffer(_buffer(AudioPlane(frame, 0)), dtype, count * channels).reshape(count, channels).T)
    with np.errstate(over="ignore", invalid="ignore"):  # of float64: infinity is refused where all samples are looked at
        for channel, plane in zip(wave, planes, strict=True):
            channel[:] = plane
    if silence:
        wave -= silence
    if unit != 1:
        wave *= np.float32(unit)
    return wave.T


def _buffer(plane: object) -> Any:  # noqa: ANN401 - it has the buffer protocol, which PyAV's types do not tell
    return plane
