"""What share of tokens equals that of upstream's own call, by backend, precision and codebook; and whether company matters.

Upstream's call gets one clip at a time, on the same device, in full float32. Ours gets them as a worker would: in lanes,
where the backend has them, else in the batches that it allows. Weights are random (benchmarks/random_weights.py).

    python -m benchmarks.agreement [--backend higgs] [--device cpu] [--tiny] [--clips 16] [--lanes 16] [--json FILE]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np

from audio_tokenizers.base import Audio, Backend, Batching, LaneShape, Options, Utterance, Waveform, takes_waves
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.registry import get_factory
from audio_tokenizers.shared.torch_device import fix_arithmetic
from benchmarks.common import speech
from benchmarks.models import CASES, Array, Case, Upstream, precisions, quiet
from jobs.batcher import Batch, Batcher
from jobs.commands import command_parser
from jobs.encoder import Encoder, Item, Result
from jobs.lane_grid import LaneGrid
from jobs.spec import TokenizeSpec, make_spec

__all__ = [
    "DEFAULT_FLAGS",
    "Agreement",
    "Company",
    "batches",
    "clips_of",
    "company",
    "compare",
    "encode",
    "items_of",
    "measure",
    "samples_of",
    "spec_of",
    "upstream_or_none",
    "upstream_values",
    "values_of",
]

SECONDS = (1.0, 12.0)
MOVED = 6
"""Clips of a call that are tried alone and elsewhere; all are in another order."""
DEFAULT_FLAGS = "upstream, torch's flags"
"""Upstream against itself in full float32: what a convolution in TF32 does, which torch allows unless told otherwise."""


@dataclass(frozen=True)
class Company:
    """Whether neighbours, order and lane change bits."""

    backend: str
    precision: str
    same: int
    """Clips whose bits nothing changed."""
    clips: int
    """0: the backend takes one clip at a time."""


@dataclass(frozen=True)
class Agreement:
    """One codebook's tokens."""

    backend: str
    precision: str
    codebook: str
    tokens: int
    equal: int
    distinct: int
    """Values among upstream's tokens: where there are few, equality says little."""

    @property
    def share(self) -> float:
        """Of tokens that are equal."""
        return self.equal / max(1, self.tokens)


def clips_of(sample_rate: int, count: int, seconds: tuple[float, float] = SECONDS) -> list[Waveform]:
    """Speech in clips of lengths between `seconds`, spread over the residues of any hop."""
    wave = speech(sample_rate, seconds[1] + 0.37 * count + 1)
    lengths = np.linspace(*seconds, count)[np.random.default_rng(0).permutation(count)]
    starts = (int(0.37 * number * sample_rate) for number in range(count))
    return [
        wave[start:][: int(length * sample_rate) + 131 * number]
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


def items_of(backend: Backend, waves: Sequence[Audio]) -> list[Item]:
    """What the backend takes."""
    if takes_waves(backend):
        return [np.ascontiguousarray(wave, np.float32) for wave in waves]
    return [Utterance(wave) for wave in waves]


def samples_of(item: Item) -> int:
    """Of a waveform or an utterance."""
    return len(item.wave if isinstance(item, Utterance) else item)


def batches(spec: TokenizeSpec, backend: Backend, items: Sequence[Item], most_seconds: float = 600.0) -> list[Batch[Item]]:
    """The calls that a worker would make of these items, if it had nothing else."""
    info = backend.info
    grid = None
    if info.batching is Batching.LANES:
        grid = LaneGrid(
            lanes=info.max_batch,
            sample_rate=spec.sample_rate,
            hop_length=spec.hop_length,
            fragment_frames=spec.max_tokens_per_fragment,
        )
    batcher: Batcher[Item] = Batcher(
        info.batching,
        info.max_batch,
        max_samples=int(most_seconds * spec.sample_rate),
        samples=samples_of,
        order=lambda _item: (0,),
        grid=grid,
    )
    for item in items:
        batcher.add(item, 0.0)
    found = []
    while (batch := batcher.take(0.0, wait_seconds=0.0)) is not None:
        found.append(batch)
    return found


def values_of(result: Result | ClipError) -> Mapping[str, Array]:
    """Arrays by field, of either kind of backend."""
    if isinstance(result, ClipError):
        raise result
    return {"tokens": result} if isinstance(result, np.ndarray) else cast("Mapping[str, Array]", result)


def encode(spec: TokenizeSpec, backend: Backend, items: Sequence[Item]) -> list[Mapping[str, Array]]:
    """What each item becomes, in the calls of `batches`."""
    encoder = Encoder(backend)
    found: dict[int, Mapping[str, Array]] = {}
    for batch in batches(spec, backend, items):
        outcomes = encoder.begin(batch.items, batch.shape)()
        found |= {id(item): values_of(outcome) for item, outcome in zip(batch.items, outcomes, strict=True)}
    return [found[id(item)] for item in items]


def compare(
    name: str, precision: str, ours: Sequence[Mapping[str, Array]], theirs: Sequence[Mapping[str, Array]]
) -> list[Agreement]:
    """Codebook by codebook; floats count value by value. A clip of another number of frames agrees as far as it goes."""
    rows = []
    for field in theirs[0]:
        mine, reference = ([_grid(values[field]) for values in side] for side in (ours, theirs))
        for number in range(reference[0].shape[0]):
            pairs = [(a[number], b[number]) for a, b in zip(mine, reference, strict=True)]
            equal = sum(int(np.sum(a[: len(b)] == b[: len(a)])) for a, b in pairs)
            tokens = sum(max(len(a), len(b)) for a, b in pairs)
            distinct = len(np.unique(np.concatenate([b for _, b in pairs])))
            word = field if reference[0].shape[0] == 1 else f"{field} {number}"
            rows.append(Agreement(name, precision, word, tokens, equal, distinct))
    return rows


def _grid(values: Array) -> Array:
    """[codebooks, frames]: codes as they are, a list as one codebook, all features as one."""
    is_grid = values.ndim == 2 and np.issubdtype(values.dtype, np.integer)
    return values if is_grid else values.reshape(1, -1)


def company(spec: TokenizeSpec, backend: Backend, waves: Sequence[Audio]) -> tuple[int, int]:
    """(clips whose bits nothing changed, clips), in another order, and some with other neighbours and in calls of their own.

    (0, 0) where the backend takes one clip at a time.
    """
    info = backend.info
    if info.batching is Batching.SINGLE:
        return 0, 0
    items = items_of(backend, waves)
    encoder = Encoder(backend)
    shape: LaneShape | None = None
    most = info.max_batch
    if info.batching is Batching.LANES:
        shapes = (batch.shape for batch in batches(spec, backend, items) if batch.shape is not None)
        shape = max(shapes, key=lambda found: (found.lanes, found.samples))
        most, longest = shape.lanes, shape.samples
        items = [item for item in items if samples_of(item) <= longest]
    chosen, others = items[:most], items[most:]

    def call(together: Sequence[Item]) -> list[Mapping[str, Array]]:
        return [values_of(outcome) for outcome in encoder.begin(list(together), shape)()]

    expected = call(chosen)
    backwards = call(chosen[::-1])[::-1]
    same = 0
    for number, item in enumerate(chosen):
        found = [backwards[number]]
        if number % -(-len(chosen) // MOVED) == 0:
            place = (number + 1) % len(chosen)
            neighbours = [*others, *chosen][: len(chosen)]
            neighbours[place] = item
            found += [call([item])[0], call(neighbours)[place]]
        same += all(np.array_equal(value, one[field]) for field, value in expected[number].items() for one in found)
    return same, len(chosen)


def upstream_values(upstream: Upstream, waves: Sequence[Audio], *, tf32: bool = False) -> list[Mapping[str, Array]]:
    """Clip by clip in full float32; or with convolutions, not products, in TF32, as torch has it unless told otherwise."""
    import torch

    fix_arithmetic(tf32=False)
    torch.backends.cudnn.allow_tf32 = tf32
    return [upstream(wave) for wave in waves]


def spec_of(case: Case, options: Options, device: str, lanes: int | None = None) -> TokenizeSpec:
    """The recipe of the case's preset; `lanes` where the backend has any, None: its default."""
    factory = get_factory(make_spec(case.name, device=device, options=options).backend)
    more = {"lanes": lanes} if lanes is not None and "lanes" in factory.options else {}
    return make_spec(case.name, device=device, options={**options, **more})


def measure(
    case: Case, options: Options, device: str, waves: Sequence[Audio], lanes: int | None = None
) -> Iterator[Agreement | Company]:
    """Rows of all precisions, each followed by what company did. Without upstream's code there is only the latter."""
    spec = spec_of(case, options, device, lanes)
    factory = get_factory(spec.backend)
    theirs: list[Mapping[str, Array]] = []
    if (upstream := upstream_or_none(case, spec.options, device)) is not None:
        theirs = upstream_values(upstream, waves)
        if device.startswith("cuda"):
            yield from compare(case.name, DEFAULT_FLAGS, upstream_values(upstream, waves, tf32=True), theirs)
    del upstream
    for precision, more in precisions(factory, device).items():
        try:
            chosen = spec_of(case, {**options, **more}, device, lanes)
        except UsageError as error:
            print(f"{case.name}: {error}", file=sys.stderr)
            continue
        backend = factory.load(chosen.options, device)
        if theirs:
            yield from compare(case.name, precision, encode(chosen, backend, items_of(backend, waves)), theirs)
        yield Company(case.name, precision, *company(chosen, backend, waves))


def upstream_or_none(case: Case, options: Options, device: str) -> Upstream | None:
    """None, and a word about it, where upstream's code is not installed."""
    try:
        return case.upstream(options, device)
    except ImportError as error:
        print(f"{case.name}: nothing to compare with: {error}", file=sys.stderr)
        return None


def words_of(row: Agreement | Company) -> str:
    """A line of the table."""
    start = f"{row.backend:17} {row.precision:24}"
    if isinstance(row, Agreement):
        return f"{start} {row.codebook:17} {row.share:9.4%} of {row.tokens:7} ({row.distinct} values)"
    return (
        f"{start} {row.same} of {row.clips} clips keep their bits in any company" if row.clips else f"{start} one at a time"
    )


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--backend", choices=CASES, action="append", help="default: all")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try it out")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    asked = parser.parse_args()
    import torch

    quiet()
    device = asked.device if asked.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[Agreement | Company] = []
    for name in asked.backend or CASES:
        with tempfile.TemporaryDirectory() as folder:
            options = CASES[name].build(Path(folder), device, asked.tiny)
            rate = spec_of(CASES[name], options, device).sample_rate
            for row in measure(CASES[name], options, device, clips_of(rate, asked.clips), asked.lanes):
                rows.append(row)
                print(words_of(row), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 1 if any(isinstance(row, Company) and row.same < row.clips for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
