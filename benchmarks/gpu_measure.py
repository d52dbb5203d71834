"""What benchmarks.gpu measures of one backend: the real pipeline, the device alone, the usual way, agreement, memory.

Each finding goes to `emit` at once, the most important first: a process that is ended early loses only the rest.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile

from audio_tokenizers.base import Audio, Backend, Options
from audio_tokenizers.errors import UsageError
from audio_tokenizers.registry import get_factory
from audio_tokenizers.shared.torch_device import fix_arithmetic
from benchmarks import agreement
from benchmarks.agreement import clips_of, items_of, spec_of
from benchmarks.common import encoded, speech
from benchmarks.models import CASES, Array, Case, precisions, quiet
from benchmarks.ways import bare_loop, memory, pipeline, resampler, s3tokenizer_rate, usual_way, write_tar
from jobs.spec import TokenizeSpec

__all__ = ["FULL", "TINY", "Emit", "Left", "Sizes", "machine", "measure_backend"]

FILE_RATE = 16000
Emit = Callable[[dict[str, Any]], None]
Left = Callable[[], float]
"""Seconds that this part may still take."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    tiny: bool
    pool: int
    """Clips that differ; a tar repeats them."""
    seconds: tuple[float, float]
    """Lengths of clips."""
    lanes: int | None
    """None: the backend's default."""
    each: float
    """Seconds that one measurement should take."""
    repeats: int
    """Of the pool in a tar, at least: with fewer the calls that end it, which are not full, would count too much."""
    most_clips: int
    fragments: int
    fragment_seconds: float
    decode_threads: int


FULL = Sizes(
    tiny=False,
    pool=96,
    seconds=(1.0, 15.0),
    lanes=None,
    each=5.0,
    repeats=6,
    most_clips=20_000,
    fragments=40,
    fragment_seconds=30.0,
    decode_threads=max(1, min(12, len(os.sched_getaffinity(0)) - 2)),
)
TINY = Sizes(
    tiny=True,
    pool=4,
    seconds=(0.5, 1.0),
    lanes=2,
    each=0.0,
    repeats=1,
    most_clips=4,
    fragments=2,
    fragment_seconds=2.0,
    decode_threads=2,
)


def machine(device: str) -> dict[str, Any]:
    """What the figures were made on."""
    import platform

    import torch
    import transformers

    found: dict[str, Any] = {
        "kind": "machine",
        "device": "CPU",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "gpu_bytes": properties.total_memory, "cuda": torch.version.cuda}
    return found


def measure_backend(name: str, device: str, sizes: Sizes, scratch: Path, emit: Emit, left: Left) -> None:
    """All that is measured of one backend. Raises what goes wrong."""
    quiet()
    case = CASES[name]
    started = time.perf_counter()
    model = scratch / "model"
    model.mkdir()
    options = case.build(model, device, sizes.tiny)
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    emit({"kind": "model", "backend": name, "bytes": size, "seconds": time.perf_counter() - started})
    bench = _Bench(case, options, device, sizes, scratch, emit)
    for number, precision in enumerate(bench.precisions):
        if number and left() < 3 * sizes.each:
            emit({"kind": "skipped", "backend": name, "what": precision, "why": "no time left"})
            continue
        try:
            bench.measure_speed(precision, left)
        except UsageError as error:
            emit({"kind": "skipped", "backend": name, "what": precision, "why": str(error)})
            continue
        if number == 0:
            bench.measure_usual_way(left)
        if left() > sizes.each:
            bench.measure_tokens(precision)
        if number == 0 and left() > 2 * sizes.each:
            bench.measure_fragments()


class _Bench:
    """One backend's model, clips and reference."""

    def __init__(self, case: Case, options: Options, device: str, sizes: Sizes, scratch: Path, emit: Emit) -> None:
        self._case = case
        self._options = options
        self._device = device
        self._sizes = sizes
        self._scratch = scratch
        self._emit = emit
        self.plain = spec_of(case, options, device, sizes.lanes)
        self.precisions = precisions(get_factory(self.plain.backend), device)
        self._files = [encoded(wave, FILE_RATE, "flac") for wave in clips_of(FILE_RATE, sizes.pool, sizes.seconds)]
        self._waves: list[Audio] = []
        """The same, decoded."""
        self._theirs: list[Mapping[str, Array]] = []
        self._loaded: tuple[str, TokenizeSpec, Backend] | None = None

    def _tell(self, kind: str, precision: str, **found: object) -> None:
        self._emit({"kind": kind, "backend": self._case.name, "precision": precision, **found})

    def _load(self, precision: str) -> tuple[TokenizeSpec, Backend]:
        """The backend in a precision; one at a time is loaded."""
        if self._loaded is None or self._loaded[0] != precision:
            self._loaded = None
            options = {**self._options, **self.precisions[precision]}
            spec = spec_of(self._case, options, self._device, self._sizes.lanes)
            self._loaded = precision, spec, get_factory(spec.backend).load(spec.options, self._device)
        _, spec, backend = self._loaded
        if not self._waves:
            resample = resampler(backend)
            self._waves = [resample(*soundfile.read(io.BytesIO(data), dtype="float32")) for data in self._files]
        return spec, backend

    def measure_speed(self, precision: str, left: Left) -> None:
        """The pipeline over a tar, and the device over the same clips with nothing else to do."""
        sizes = self._sizes
        spec, backend = self._load(precision)
        items = items_of(backend, self._waves)
        audio = sum(map(len, self._waves)) / spec.sample_rate
        once = bare_loop(spec, backend, items)  # with whatever is made at the first call of a shape
        wanted = max(sizes.repeats, math.ceil(sizes.each / once))
        repeats = max(1, min(wanted, sizes.most_clips // len(items), int(left() / (6 * once))))
        tar, tokens = write_tar(self._scratch / "clips.tar", self._files, repeats), self._scratch / "tokens"
        with memory(self._device) as peaks:
            found = pipeline(spec, backend, tar, tokens, self._device, sizes.decode_threads)
        self._tell("pipeline", precision, **found, **peaks)
        tar.unlink()
        shutil.rmtree(tokens)
        seconds = bare_loop(spec, backend, items * repeats)
        self._tell("bare", precision, rate=repeats * audio / seconds, clips=len(items) * repeats)

    def measure_usual_way(self, left: Left) -> None:
        """One clip at a time through upstream's own call; and, of S3, its port's own batches."""
        upstream = agreement.upstream_or_none(self._case, self.plain.options, self._device)
        if upstream is None:
            self._emit({"kind": "skipped", "backend": self._case.name, "what": "upstream", "why": "its code is not here"})
            return
        fix_arithmetic(tf32=False)
        _, backend = self._load("fp32")
        tar = write_tar(self._scratch / "usual.tar", self._files, 1)
        usual_way(tar, upstream, resampler(backend), 0.0)
        seconds, audio = usual_way(tar, upstream, resampler(backend), self._sizes.each)
        self._tell("usual", "fp32", rate=audio / seconds)
        if self._case.name == "cosyvoice_s3" and left() > self._sizes.each:
            rate = s3tokenizer_rate(str(self.plain.options["model_path"]), self._waves, self._device)
            self._tell("other", "fp32", what="s3tokenizer, batches of 16", rate=rate)
        self._theirs = agreement.upstream_values(upstream, self._waves[:32])
        if self._device.startswith("cuda") and left() > self._sizes.each:
            loose = agreement.upstream_values(upstream, self._waves[:32], tf32=True)
            for row in agreement.compare(self._case.name, agreement.DEFAULT_FLAGS, loose, self._theirs):
                self._emit({"kind": "agreement", **asdict(row)})

    def measure_tokens(self, precision: str) -> None:
        """Shares of tokens equal to upstream's, and whether company changes bits."""
        spec, backend = self._load(precision)
        if self._theirs:
            ours = agreement.encode(spec, backend, items_of(backend, self._waves[: len(self._theirs)]))
            for row in agreement.compare(self._case.name, precision, ours, self._theirs):
                self._emit({"kind": "agreement", **asdict(row)})
        same, clips = agreement.company(spec, backend, self._waves[:64])
        self._tell("company", precision, same=same, clips=clips)

    def measure_fragments(self) -> None:
        """The device over the 30 s fragments that long clips are cut into."""
        spec, backend = self._load("fp32")
        samples = int(self._sizes.fragment_seconds * spec.sample_rate)
        wave = speech(spec.sample_rate, self._sizes.fragment_seconds + self._sizes.fragments)
        starts = range(0, self._sizes.fragments * spec.sample_rate, spec.sample_rate)
        items = items_of(backend, [wave[start:][:samples] for start in starts])
        bare_loop(spec, backend, items[:1])
        seconds = bare_loop(spec, backend, items)
        self._tell("fragments", "fp32", rate=len(items) * samples / spec.sample_rate / seconds)
