"""A codec that costs nothing, with the rates, fragments and lines of higgs: it leaves what a worker does beside a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from audio_tokenizers.base import BackendInfo, Batching, Codes, Field, LaneShape, Waveform
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.spec import TokenizeSpec

__all__ = ["FreeCodec", "free_spec"]

INFO = BackendInfo(
    name="free",
    sample_rate=24000,
    hop_length=960,
    fields=(Field(name="tokens", form="codes", width=8, codebook_size=1024, samples_per_item=960),),
    mono="mean",
    min_samples=632,
    kind="frames",
    max_tokens_per_fragment=750,
    num_tokens_overlap=25,
    batching=Batching.LANES,
    max_batch=16,
    recipe={},
)


class FreeCodec:
    """Codes by chance, made before."""

    info = INFO

    def __init__(self) -> None:
        self._codes = np.random.default_rng(0).integers(0, 1024, (8, 4096)).astype(np.int16)

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        """int16 [8, frames] per waveform."""
        return [self._codes[:, : math.ceil(len(wave) / INFO.hop_length)].copy() for wave in waves]

    def encode_lanes(self, waves: Sequence[Waveform], _shape: LaneShape) -> Callable[[], list[Codes]]:
        """As `encode`."""
        codes = self.encode(waves)
        return lambda: codes


def free_spec() -> TokenizeSpec:
    """The recipe of a run with it, which is known by name only here."""
    return TokenizeSpec(
        backend=INFO.name,
        device="cpu",
        sample_rate=INFO.sample_rate,
        hop_length=INFO.hop_length,
        fields=INFO.fields,
        mono=INFO.mono,
        min_samples=INFO.min_samples,
        max_tokens_per_fragment=INFO.max_tokens_per_fragment,
        num_tokens_overlap=INFO.num_tokens_overlap,
        max_duration=None,
        extensions=AUDIO_EXTENSIONS,
        recipe={},
        options={},
        fingerprint="free",
    )
