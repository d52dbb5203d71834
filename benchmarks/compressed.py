"""What decoding costs where only PyAV reads the file: m4a, WebM and others, to mono at 24 kHz, as a worker does it.

By format: seconds of audio per second of CPU in one thread; how much of the time is FFmpeg's own, which is a loop over its
frames that keeps none; and two threads against one, by wall-clock time, which needs two idle cores.

    python -m benchmarks.compressed [ROUNDS]
"""

from __future__ import annotations

import io
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import speech
from jobs.audio import decode, resample
from jobs.commands import command_parser

SECONDS, CLIPS, ROUNDS = 8.0, 16, 9
RATE = 24000
FORMATS = {
    "m4a (AAC), 44.1 kHz stereo": ("ipod", "aac", 44100, "stereo"),
    "WebM (Opus), 48 kHz mono": ("webm", "libopus", 48000, "mono"),
    "WMA, 44.1 kHz stereo": ("asf", "wmav2", 44100, "stereo"),
    "AC-3, 48 kHz stereo": ("ac3", "ac3", 48000, "stereo"),
    "MP3 without a length, 44.1 kHz stereo": ("mp3", "libmp3lame", 44100, "stereo"),
    "m4a (ALAC), 44.1 kHz stereo": ("ipod", "alac", 44100, "stereo"),
    "AMR, 8 kHz mono": ("amr", "libopencore_amrnb", 8000, "mono"),
}
"""Container, encoder, rate in Hz, channels."""


def encoded_by_pyav(container: str, codec: str, rate: int, layout: str, seconds: float) -> bytes:
    """The bytes of a file of speech."""
    import av

    mono = speech(rate, seconds)
    wave = np.stack([mono, 0.8 * mono], axis=1) if layout == "stereo" else mono
    options = {"write_xing": "0"} if container == "mp3" else {}
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container, options=options) as out:
            stream: Any = out.add_stream(codec, rate=rate, layout=layout)
            if codec == "wmav2":  # has no default
                stream.bit_rate = 128_000
            frame = av.AudioFrame.from_ndarray(wave.astype(np.float32).reshape(1, -1), format="flt", layout=layout)
            frame.sample_rate = rate
            fitting = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
            for piece in (*fitting.resample(frame), None):
                out.mux(stream.encode(piece))
        return Path(file.name).read_bytes()


def ours(data: bytes) -> None:
    """What a decode thread does with a clip."""
    for _ in resample(decode(io.BytesIO(data), mono="mean"), RATE):
        pass


def ffmpeg_alone(data: bytes) -> None:
    """All frames of CLIPS clips, of which nothing is kept."""
    import av

    for _ in range(CLIPS):
        with av.open(io.BytesIO(data), mode="r") as container:
            for _ in container.decode(audio=0):
                pass


def in_threads(data: bytes, threads: int) -> None:
    """CLIPS clips, shared out."""

    def share() -> None:
        for _ in range(CLIPS // threads):
            ours(data)

    workers = [threading.Thread(target=share, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def least(rounds: int, clock: Callable[[], float], works: list[Callable[[], None]]) -> list[float]:
    """Seconds of each, the least of some rounds in turns: what others disturb only makes it longer."""
    times = [float("inf")] * len(works)
    for _ in range(rounds):
        for number, work in enumerate(works):
            started = clock()
            work()
            times[number] = min(times[number], clock() - started)
    return times


def main(rounds: int) -> int:
    for name, (container, codec, rate, layout) in FORMATS.items():
        data = encoded_by_pyav(container, codec, rate, layout, SECONDS)
        whole, alone = least(rounds, time.process_time, [partial(in_threads, data, 1), partial(ffmpeg_alone, data)])
        one, two = least(rounds, time.perf_counter, [partial(in_threads, data, threads) for threads in (1, 2)])
        print(
            f"{name}: {CLIPS * SECONDS / whole:,.0f} audio s per CPU s, FFmpeg's own share {alone / whole:.2f}, two threads "
            f"{one / two:.2f} x one",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=ROUNDS)
    sys.exit(main(parser.parse_args().rounds))
