"""The ways of tokenizing that are compared: a worker's, the device alone, the usual loop; and what memory they take."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile
import soxr

from audio_tokenizers.base import Audio, Backend, Batching, LaneShape, Waveform, takes_clips
from benchmarks.agreement import batches, samples_of
from benchmarks.models import Upstream, load_s3tokenizer
from jobs import worker
from jobs.conveyor import LANE_BATCHES_IN_FLIGHT, Feeding
from jobs.encoder import Encoder, Item
from jobs.progress import ProgressFile
from jobs.signals import StopFlag
from jobs.spec import TokenizeSpec
from jobs.tar_paths import TarPaths
from jobs.tar_task import TarTask
from jobs.tokenize import Tokenizer

__all__ = ["bare_loop", "memory", "pipeline", "resampler", "s3tokenizer_rate", "usual_way", "write_tar"]


def resampler(backend: Backend) -> Callable[[Waveform, int], Audio]:
    """From a file's rate to the backend's, as the pipeline does it."""
    if takes_clips(backend):
        return backend.resample
    rate = backend.info.sample_rate
    return lambda wave, file_rate: soxr.resample(wave, file_rate, rate, "HQ")


def write_tar(path: Path, files: Sequence[bytes], repeats: int) -> Path:
    """A tar of all files, `repeats` times over."""
    with tarfile.open(path, "w") as out:
        for number in range(repeats * len(files)):
            data = files[number % len(files)]
            member = tarfile.TarInfo(f"{number:06}.flac")
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return path


def bare_loop(spec: TokenizeSpec, backend: Backend, items: Sequence[Item]) -> float:
    """Seconds for decoded clips in the calls that a worker would make, as many in flight, and nothing else."""
    encoder = Encoder(backend)
    calls = batches(spec, backend, items)
    in_flight = LANE_BATCHES_IN_FLIGHT if backend.info.batching is Batching.LANES else 1
    flying: deque[Callable[[], object]] = deque()
    started = time.perf_counter()
    for call in calls:
        flying.append(encoder.begin(call.items, call.shape))
        if len(flying) >= in_flight:
            flying.popleft()()
    while flying:
        flying.popleft()()
    return time.perf_counter() - started


class _Counted:
    """A backend that notes how full its calls with lanes are."""

    def __init__(self, backend: Any) -> None:  # noqa: ANN401 - of either kind
        self._backend = backend
        self.calls = 0
        self.real = 0
        self.whole = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the backend has
        return getattr(self._backend, name)

    def encode_lanes(self, items: Sequence[Item], shape: LaneShape) -> Any:  # noqa: ANN401 - as above
        """As the backend's own."""
        self.calls += 1
        self.real += sum(map(samples_of, items))
        self.whole += shape.lanes * shape.samples
        return self._backend.encode_lanes(items, shape)


def pipeline(
    spec: TokenizeSpec, backend: Backend, tar: Path, tokens: Path, device: str, decode_threads: int
) -> dict[str, object]:
    """What `run_tars` makes of a tar: seconds of audio per second, and where the device's time went."""
    counted = _Counted(backend)
    seen: list[Tokenizer] = []

    class Watched(Tokenizer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as Tokenizer has them
            super().__init__(*args, **kwargs)
            seen.append(self)

    reports = ProgressFile(None)
    task = TarTask(str(tar), TarPaths.stem(tar), tar.stat().st_size)
    before, started = time.process_time(), time.perf_counter()
    with patch.object(worker, "load_backend", lambda _spec, _device: counted), patch.object(worker, "Tokenizer", Watched):
        worker.run_tars(
            [task],
            spec,
            tokens,
            device=device,
            stop=StopFlag(),
            reports=reports,
            feeding=Feeding(decode_threads=decode_threads),
        )
    seconds, processor = time.perf_counter() - started, time.process_time() - before
    progress = reports.progress
    if progress.tars_done != 1 or progress.errors:
        raise RuntimeError(f"{tar}: {progress.errors} errors, {progress.problems}")
    spent = seen[0].device_time
    return {
        "rate": progress.audio_seconds / seconds,
        "clips": progress.clips,
        "audio_seconds": progress.audio_seconds,
        "seconds": seconds,
        "cpu_seconds": processor,
        "busy": spent.busy / max(1e-9, spent.busy + spent.audio + spent.writer),
        "fill": counted.real / counted.whole if counted.whole else None,
        "decode_threads": decode_threads,
    }


@contextlib.contextmanager
def memory(device: str) -> Iterator[dict[str, int]]:
    """Peaks within this block, in bytes, once it is left; of the host's for the whole process."""
    import torch

    peaks: dict[str, int] = {}
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device.startswith("cuda"):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield peaks
    status = Path("/proc/self/status").read_text()
    peaks["host_bytes"] = next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    if device.startswith("cuda"):
        peaks["gpu_bytes"] = torch.cuda.max_memory_reserved()


def usual_way(
    tar: Path, upstream: Upstream, resample: Callable[[Waveform, int], Audio], most_seconds: float
) -> tuple[float, float]:
    """(seconds, seconds of audio) of a loop over clips: soundfile, resampler, upstream's call, JSON; one clip at least."""
    audio = 0.0
    started = time.perf_counter()
    with tarfile.open(tar) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None, "the tar has files only"
            wave, rate = soundfile.read(io.BytesIO(file.read()), dtype="float32")
            values = upstream(resample(wave, rate))
            for value in values.values():
                if np.issubdtype(value.dtype, np.floating):
                    np.save(io.BytesIO(), value)
                else:
                    json.dumps({"audio_file": member.name, "tokens": value.tolist()})
            audio += len(wave) / rate
            if time.perf_counter() - started >= most_seconds:
                break
    return time.perf_counter() - started, audio


def s3tokenizer_rate(path: str, waves: Sequence[Audio], device: str) -> float:
    """Seconds of audio per second of s3tokenizer's own batches of 16; the faster of two rounds."""
    import torch
    from s3tokenizer.utils import log_mel_spectrogram, padding

    model = load_s3tokenizer(path, device)
    rates = []
    for _ in range(2):
        started = time.perf_counter()
        for first in range(0, len(waves), 16):
            mels = [
                log_mel_spectrogram(torch.from_numpy(np.asarray(wave, np.float32))) for wave in waves[first : first + 16]
            ]
            padded, lengths = padding(mels)
            codes, counts = model.quantize(padded.to(device), lengths.to(device))
            codes.cpu(), counts.cpu()
        rates.append(sum(map(len, waves)) / 16000 / (time.perf_counter() - started))
    return max(rates)
