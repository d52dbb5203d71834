"""Statistics of tokens, made up or of a run's own lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from audio_tokenizers.base import Codes, Field
from hpc.run import ListedTar
from jobs.manifest import Maker
from jobs.sequence_counter import SequenceCounter
from jobs.tar_paths import TarPaths, read_manifest
from jobs.token_counter import count_file
from jobs.token_statistics import CommittedManifest, SequenceStatistics, TokenStatistics

FIELD = Field(name="tokens", form="codes", width=2, codebook_size=64, samples_per_item=4)
RATE = 100
"""Hz: 25 frames per second."""


def statistics_of(clips: Sequence[Codes], field: Field = FIELD) -> TokenStatistics:
    """Those of a tar of clips named 0.wav, 1.wav ..."""
    counter = SequenceCounter(field, RATE)
    for number, codes in enumerate(clips):
        counter.add(codes, number, f"{number}.wav")
    sequence = SequenceStatistics.of(counter, RATE)
    return TokenStatistics(clips=len(clips), audio_seconds=counter.items / 25, sequences={field.name: sequence})


def speech(seed: int, frames: int = 4000, size: int = 64) -> Codes:
    """Codes with a voice's own histogram, which resembles that of all voices."""
    common = np.random.default_rng(0).dirichlet(np.full(size, 0.5), 2)
    chance = np.random.default_rng(seed + 1)
    rows = [chance.choice(size, frames, p=chance.dirichlet(100 * shares + 1e-3)) for shares in common]
    return np.array(rows)


def count_run(output: Path, tars: Sequence[ListedTar], fields: Sequence[Field], node: str = "n1") -> None:
    """Give the manifests of a run that `committed_runs.make_run` made what a worker would have noted."""
    for tar in tars:
        paths = TarPaths(output, tar.name)
        manifest = read_manifest(paths.manifest)
        assert manifest is not None
        plain = msgspec.structs.replace(manifest, made_by=(Maker(node=node, clips=manifest.clips),))
        tokens = count_file(paths.committed, fields)
        paths.manifest.write_bytes(msgspec.json.encode(CommittedManifest(**msgspec.structs.asdict(plain), tokens=tokens)))
