"""FFmpeg's frames as float32: the values that libswresample makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.pyav_samples import float_samples

GENERATOR = np.random.default_rng(5)
VALUES: dict[str, Any] = {
    "u8": np.arange(256, dtype=np.uint8),
    "s16": np.arange(-(2**15), 2**15, dtype=np.int16),
    "s32": np.concatenate(
        [GENERATOR.integers(-(2**31), 2**31, 5000, np.int32), np.array([-(2**31), -1, 0, 1, 2**31 - 1, 2**24 + 1], np.int32)]
    ),
    "s64": np.concatenate(
        [GENERATOR.integers(-(2**63), 2**63 - 1, 5000, np.int64), np.array([-(2**63), -1, 0, 1, 2**63 - 1, 2**40 + 1])]
    ),
    "flt": np.array([0, -0.0, 1, -1, 3.5, 1e-42, np.inf, -np.inf, np.nan], np.float32),
    "dbl": np.concatenate([GENERATOR.normal(0, 1, 5000), np.array([0, -0.0, 1e-320, 1e300, -1e300, np.inf, np.nan])]),
}
"""What a sample may be, by format."""


def frame_of(sample_format: str, layout: str, planes: list[Any]) -> Any:
    """A frame of these planes, or of the one that holds all channels in turn."""
    import av
    from av.audio.plane import AudioPlane

    channels = 1 if sample_format.endswith("p") else av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame(sample_format, layout, samples=len(planes[0]) // channels)
    frame.sample_rate = 48000
    for number, plane in enumerate(planes):
        AudioPlane(frame, number).update(plane)
    return frame


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind", VALUES)
def test_values_are_those_of_ffmpeg(kind: str, planar: bool, layout: str) -> None:
    """Whatever a sample is, it becomes the float32 that FFmpeg's own conversion makes of it."""
    import av

    channels = av.AudioLayout(layout).nb_channels
    values = np.stack([VALUES[kind], VALUES[kind][::-1]][:channels])
    planes = list(values) if planar else [np.ascontiguousarray(values.T).ravel()]
    frame = frame_of(kind + "p" * planar, layout, planes)
    (expected,) = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate).resample(
        frame_of(kind + "p" * planar, layout, planes)
    )
    found = float_samples(frame)
    assert found.dtype == np.float32
    assert found[:, 0].flags.c_contiguous
    right = np.frombuffer(bytes(expected.planes[0]), np.float32, values.size).reshape(-1, channels)
    np.testing.assert_array_equal(found, right)


def test_as_many_planes_as_there_are_channels() -> None:
    """8 and more planes are read, and no pointer beyond them, which PyAV's own list of planes would follow."""
    for layout, channels in (("7.1", 8), ("hexadecagonal", 16)):
        planes = [np.full(100, channel, np.float32) for channel in range(channels)]
        found = float_samples(frame_of("fltp", layout, planes))
        np.testing.assert_array_equal(found, np.stack(planes).T)


def test_samples_outlive_their_frame() -> None:
    """What is returned does not change when the frame, or another of its kind, is written over."""
    frame = frame_of("fltp", "mono", [np.ones(100, np.float32)])
    found = float_samples(frame)
    frame.planes[0].update(np.zeros(100, np.float32))
    assert found.all()
