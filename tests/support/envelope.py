"""A model of whole clips that needs no weights: two rows of floats per ten samples, and three keys of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from audio_tokenizers.base import Audio, BackendInfo, Batching, Field, Utterance, Values, Waveform
from jobs.spec import TokenizeSpec, _fingerprint
from support.small_run import mulaw_spec

FIELDS = (
    Field(name="tokens", form="audio_string", codebook_size=256, samples_per_item=1),
    Field(name="levels", form="list", lowest=100, codebook_size=256, items=3),
    Field(name="envelope", form="features", width=2, dtype="float16", samples_per_item=10),
    Field(name="sum", form="features", width=1, dtype="float32", items=1),
)


def envelope_spec(**settings: Any) -> TokenizeSpec:
    """The spec of a run of it."""
    values = {"backend": "envelope", "fields": FIELDS, "max_tokens_per_fragment": None, "num_tokens_overlap": 0, **settings}
    spec = msgspec.structs.replace(mulaw_spec(), **values)
    spec = msgspec.convert(msgspec.to_builtins(spec), TokenizeSpec)  # as it comes back from a file
    return msgspec.structs.replace(spec, fingerprint=_fingerprint(spec))


class Envelope:
    """Batches clips of any length; notes their texts."""

    def __init__(self, *, max_batch: int = 3, needs_text: bool = False) -> None:
        self.info = BackendInfo(
            name="envelope",
            sample_rate=8000,
            hop_length=10,
            fields=FIELDS,
            mono="mean",
            min_samples=10,
            kind="clips",
            max_tokens_per_fragment=None,
            batching=Batching.ANY,
            max_batch=max_batch,
            needs_text=needs_text,
            recipe={},
        )
        self.batches: list[list[str | None]] = []

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        return wave.astype(np.float64)[:: sample_rate // 8000]

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        self.batches.append([clip.text for clip in clips])
        return [envelope(clip.wave) for clip in clips]


def envelope(wave: Audio) -> Values:
    """What it makes of one clip, float64 [samples]."""
    rows = np.add.reduceat(np.abs(wave), np.arange(0, len(wave), 10))
    codes = np.floor(np.abs(wave) * 255).astype(np.int64)
    return {
        "tokens": codes,
        "levels": 100 + codes[:3],
        "envelope": np.stack([rows, -rows], axis=1).astype(np.float16),
        "sum": rows.sum(keepdims=True)[:, None].astype(np.float32),
    }
