"""jobs/pyav_decoder.py: FFmpeg's samples, its turns, streams that change, and packets that are lost."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.odd_audio import speech
from support.tars import Samples, noise, pyav_file
from support.waiting import Waiter, until

from audio_tokenizers.errors import ClipError
from jobs import pyav_decoder
from jobs.audio import decode, decode_channels
from jobs.losses import Losses
from jobs.pyav_decoder import decode_with_pyav
from jobs.refusals import WatchedFile


def decoded(data: bytes, max_seconds: float | None = None, losses: Losses | None = None) -> tuple[Samples, int]:
    blocks = list(decode(io.BytesIO(data), mono="mean", max_seconds=max_seconds, losses=losses))
    assert len({rate for _, rate in blocks}) == 1
    return np.concatenate([wave for wave, _ in blocks]), blocks[0][1]


def refused(data: bytes, max_seconds: float | None = None) -> tuple[str, str]:
    with pytest.raises(ClipError) as caught:
        decoded(data, max_seconds)
    assert " at 0x" not in str(caught.value)
    return caught.value.kind, str(caught.value)


SAMPLE_FORMATS = [
    ("ipod", "aac", "stereo", None, "fltp"),
    ("webm", "libopus", "mono", None, "fltp"),
    ("matroska", "ac3", "5.1", None, "fltp"),
    ("matroska", "pcm_f32le", "stereo", None, "flt"),
    ("matroska", "pcm_f64le", "stereo", None, "dbl"),
    ("matroska", "pcm_u8", "stereo", None, "u8"),
    ("matroska", "pcm_s16le", "stereo", None, "s16"),
    ("ipod", "alac", "stereo", "s16p", "s16p"),
    ("matroska", "pcm_s32le", "stereo", None, "s32"),
    ("ipod", "alac", "stereo", "s32p", "s32p"),
    ("nut", "pcm_s64le", "stereo", None, "s64"),
    ("nut", "pcm_s16le_planar", "hexadecagonal", None, "s16p"),
    ("wv", "wavpack", "hexadecagonal", "fltp", "fltp"),
]


@pytest.mark.slow
@pytest.mark.parametrize("block_frames", [1, 3000, 1 << 18])
@pytest.mark.parametrize(("kind", "codec", "layout", "asked", "sample_format"), SAMPLE_FORMATS)
def test_samples_of_pyav_are_those_of_its_frames(
    kind: str,
    codec: str,
    layout: str,
    asked: str | None,
    sample_format: str,
    block_frames: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many frames are converted at once, and whatever they hold, each sample is what its frame alone would give."""
    import av

    channels = av.AudioLayout(layout).nb_channels
    data = pyav_file(noise(20_000, channels) * 3, 48000, kind, codec, layout=layout, sample_format=asked)
    with av.open(io.BytesIO(data), "r") as container:
        one_by_one: list[npt.NDArray[Any]] = []
        for frame in container.decode(audio=0):
            assert frame.format.name == sample_format
            alone = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
            one_by_one += [
                piece.to_ndarray().reshape(-1, channels) for piece in (*alone.resample(frame), *alone.resample(None))
            ]
    monkeypatch.setattr(pyav_decoder, "PYAV_BLOCK_FRAMES", block_frames)
    blocks = [block for block, _ in decode_channels(io.BytesIO(data))]
    np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate(one_by_one))
    assert len(np.concatenate(blocks)) > 18_000
    longest = max(map(len, one_by_one))
    assert all(block_frames <= len(block) < block_frames + longest for block in blocks[:-1])


def test_pyav_is_left_to_others_between_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread at a time decodes with PyAV; one that waits, for memory perhaps, keeps nobody out."""
    data = pyav_file(noise(96_000), 48000, "ipod", "aac")
    whole, _ = decoded(data)
    monkeypatch.setattr(pyav_decoder, "PYAV_BLOCK_FRAMES", 1000)
    frames = pyav_decoder._pyav_frames
    held = []

    def watched(*arguments: Any) -> Iterator[object]:
        for frame in frames(*arguments):
            held.append(pyav_decoder._PYAV_TURN.locked())
            yield frame

    monkeypatch.setattr(pyav_decoder, "_pyav_frames", watched)
    waiting = decode(io.BytesIO(data), mono="mean")
    first, _ = next(waiting)
    assert not pyav_decoder._PYAV_TURN.locked()
    np.testing.assert_array_equal(decoded(data)[0], whole)
    np.testing.assert_array_equal(np.concatenate([first, *(wave for wave, _ in waiting)]), whole)
    assert all(held)
    assert len(held) > 100


@pytest.mark.parametrize(("kind", "codec"), [("ipod", "alac"), ("webm", "libopus")])
def test_decoders_that_take_long_over_a_frame_wait_for_no_other(
    kind: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads decode more of such files than one; from the second block on, when the codec is known."""
    data = pyav_file(noise(96_000), 48000, kind, codec)
    whole, _ = decoded(data)
    monkeypatch.setattr(pyav_decoder, "PYAV_BLOCK_FRAMES", 10_000)
    waiting = decode(io.BytesIO(data), mono="mean")
    first, _ = next(waiting)
    with pyav_decoder._PYAV_TURN:
        rest = Waiter(lambda: [wave for wave, _ in waiting]).join()
    np.testing.assert_array_equal(np.concatenate([first, *rest]), whole)


def test_two_at_a_time_decode_opus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames are short enough for more of them to cost each other more than they gain."""
    data = pyav_file(noise(96_000), 48000, "webm", "libopus")
    monkeypatch.setattr(pyav_decoder, "PYAV_BLOCK_FRAMES", 10_000)
    waiting = decode(io.BytesIO(data), mono="mean")
    next(waiting)
    turns: Any = pyav_decoder._PYAV_TURNS["opus"]
    with turns, turns:
        third = Waiter(lambda: [wave for wave, _ in waiting])
        until(lambda: turns._cond._waiters)
        assert third.waits
    assert len(third.join()) > 5


def wavpack_that_changes(forms: list[tuple[str, str]]) -> bytes:
    """A stream that goes on with another (layout, sample format) halfway."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="nut") as container:
        stream = container.add_stream("wavpack", rate=48000, layout=forms[0][0])
        position = 0
        for layout, sample_format in forms:
            encoder: Any = av.AudioCodecContext.create("wavpack", "w")
            encoder.layout, encoder.format, encoder.sample_rate = layout, sample_format, 48000
            wave = noise(30_000, av.AudioLayout(layout).nb_channels).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(wave, format="flt", layout=layout)
            frame.sample_rate = 48000
            for piece in [*av.AudioResampler(format=sample_format, layout=layout, rate=48000).resample(frame), None]:
                for packet in encoder.encode(piece):
                    packet.stream = stream
                    packet.pts = packet.dts = position
                    position += 1000
                    container.mux(packet)
    return file.getvalue()


CHANGES: dict[str, tuple[Callable[[], bytes], float]] = {
    "rate": (lambda: b"".join(pyav_file(noise(48_000), rate, "adts", "aac") for rate in (48000, 24000)), 3.0),
    "channels": (lambda: wavpack_that_changes([("stereo", "s16p"), ("mono", "s16p")]), 1.25),
    "order": (lambda: wavpack_that_changes([("5.1", "s16p"), ("5.1(side)", "s16p")]), 1.25),
    "format": (lambda: wavpack_that_changes([("stereo", "s16p"), ("stereo", "fltp")]), 1.25),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stream_that_changes(change: str) -> None:
    """Another rate, other channels or other samples from some place on: all of it is there, as at the beginning."""
    make, seconds = CHANGES[change]
    data = make()
    found, rate = decoded(data)
    assert rate == 48000
    assert len(found) / rate == pytest.approx(seconds, abs=0.15)
    for end in (found[: rate // 4], found[-rate // 4 :]):
        assert 0.03 < np.sqrt(np.mean(end**2)) < 0.12  # of one channel of noise, or of the mean of two, or of six
    blocks = list(decode_channels(io.BytesIO(data)))
    assert len({(block.shape[1], rate) for block, rate in blocks}) == 1
    assert sum(len(block) for block, _ in blocks) == len(found)
    assert refused(data, max_seconds=0.5) == ("too_long", "longer than 0.5 s")


def test_more_channels_than_pyav_has_planes_for() -> None:
    """A file with more than 8 channels that only PyAV reads is decoded like any other."""
    import av

    wave = np.repeat(noise(2000)[np.newaxis, :], 16, axis=0).T.reshape(1, -1)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream("pcm_f32le", rate=16000, layout="hexadecagonal")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="flt", layout="hexadecagonal")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found, _ = decoded(file.getvalue())
    np.testing.assert_allclose(found, noise(2000), atol=1e-6)


def test_headers_that_claim_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that only a damaged header asks for is the clip's fault; if the machine has none, it is the machine's."""
    import av

    def starved(*_: object, **__: object) -> None:
        raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr(av, "open", starved)
    assert refused(b"no audio" * 10)[0] == "decode"
    monkeypatch.setattr("jobs.refusals.MUCH_MEMORY", 1 << 60)
    with pytest.raises(MemoryError):
        decoded(b"no audio" * 10)


def test_what_comes_behind_a_packet_that_cannot_be_decoded_is_shifted() -> None:
    """It is said with the first block behind it, however many frames a block has; at the end of a file nothing comes."""
    import av

    data = pyav_file(speech(6.0), 16000, "ipod", "aac", {"movflags": "faststart"})
    with av.open(io.BytesIO(data), "r") as container:
        packets = [(packet.pos or 0, packet.size) for packet in container.demux(audio=0) if packet.size]
    clean = decoded(data)[0]
    for number, behind in ((len(packets) // 2, True), (len(packets) - 1, False)):
        place, size = packets[number]
        losses, before = Losses(), [np.empty((0, 1), np.float32)]
        odd = data[:place] + b"\xff" * size + data[place + size :]
        for block, _ in decode_with_pyav(WatchedFile(io.BytesIO(odd)), "refused.", losses):
            if not losses.shifted:
                before.append(block)
        found = np.concatenate(before)[:, 0]
        assert losses.shifted == behind
        assert len(found) == pytest.approx((number - behind) * 1024, abs=2048)
        np.testing.assert_array_equal(found[: len(found) - 1024], clean[: len(found) - 1024])
