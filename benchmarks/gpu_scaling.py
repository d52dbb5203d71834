"""What benchmarks.gpu measures of the machine around a GPU: decode threads, and how the device's speed grows with lanes."""

from __future__ import annotations

from pathlib import Path

from audio_tokenizers.registry import get_factory
from benchmarks.agreement import clips_of, items_of, samples_of, spec_of
from benchmarks.gpu_measure import Emit, Left, Sizes
from benchmarks.models import CASES, quiet
from benchmarks.sweep import decode_threads
from benchmarks.ways import bare_loop

__all__ = ["measure_scaling"]

BACKEND = "higgs"
LANES, FEW_LANES = (1, 4, 8, 16, 32, 64), (1, 2)
CLIPS = 120
"""Of 8 s, of each format."""


def measure_scaling(device: str, sizes: Sizes, scratch: Path, emit: Emit, left: Left) -> None:
    """Seconds of audio per second, by lanes with nothing but the device at work, and by decode threads without one."""
    quiet()
    model = scratch / "model"
    model.mkdir()
    options = CASES[BACKEND].build(model, device, sizes.tiny)
    for lanes in FEW_LANES if sizes.tiny else LANES:
        if left() < 2 * sizes.each:
            return
        spec = spec_of(CASES[BACKEND], options, device, lanes)
        backend = get_factory(spec.backend).load(spec.options, device)
        items = items_of(backend, clips_of(spec.sample_rate, sizes.pool, sizes.seconds))
        audio = sum(map(samples_of, items)) / spec.sample_rate
        bare_loop(spec, backend, items)
        emit({"kind": "lanes", "backend": BACKEND, "lanes": lanes, "rate": audio / bare_loop(spec, backend, items)})
        del backend
    threads = [count for count in (1, 2, 4, 8, 12, 16) if count <= max(1, sizes.decode_threads)]
    for row in decode_threads(scratch, 1 if sizes.tiny else CLIPS, 1, threads[:1] if sizes.tiny else threads):
        emit({"kind": "threads", **row})
        if left() < sizes.each:
            return
