"""8-bit mu-law companding at 8 kHz: one codebook of 256, no weights.

The default of the demo, and a smoke test of a cluster that exercises everything but a model. Continuous mu-law
with mu = 255 (ITU-T G.711 describes the segmented approximation), F(x) = sign(x) ln(1 + mu|x|) / ln(1 + mu) on [-1, 1],
and the code is floor((F(x) + 1) / 2 * mu + 0.5), as `torchaudio.functional.mu_law_encoding` defines it. Silence is 128.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence

import numpy as np

from audio_tokenizers.base import BackendInfo, Batching, Codes, Field, Options, Scalar, Waveform

__all__ = ["FACTORY", "MuLaw", "MuLawDecoder", "MuLawFactory", "mu_law_codes"]

MU = 255
SAMPLE_RATE = 8000


def mu_law_codes(wave: Waveform) -> Codes:
    """uint8 [samples] mu-law codes of float32 [samples]; values outside [-1, 1] are clipped.

    In float64, so that a code does not depend on which vector instructions a processor has.
    """
    magnitude = np.abs(wave, dtype=np.float64)
    np.minimum(magnitude, 1.0, out=magnitude)
    magnitude *= MU
    np.log1p(magnitude, out=magnitude)
    magnitude *= (MU / 2) / np.log1p(MU)
    np.copysign(magnitude, wave, out=magnitude)
    magnitude += (MU + 1) / 2
    return magnitude.astype(np.uint8)


class MuLaw:
    """The loaded backend: stateless."""

    def __init__(self, info: BackendInfo) -> None:
        self.info = info

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        """One uint8 array [1, samples] per waveform."""
        return [mu_law_codes(wave)[np.newaxis, :] for wave in waves]


class MuLawDecoder:
    """Expands codes as `torchaudio.functional.mu_law_decoding` does."""

    def decode(self, codes: Codes) -> Waveform:
        """uint8 [1, samples] -> float32 [samples] in [-1, 1]."""
        signal = 2 * codes[0].astype(np.float64) / MU - 1
        wave: Waveform = np.copysign(np.expm1(np.abs(signal) * np.log1p(MU)) / MU, signal).astype(np.float32)
        return wave


class MuLawFactory:
    """Describes and makes MuLaw."""

    name = "mulaw"
    uses_gpu = False
    options: Mapping[str, tuple[Scalar, str]] = {}

    def describe(self, options: Options, device: str) -> BackendInfo:
        """mu-law runs on the CPU whatever the device; its fragments need no overlap, since each sample is its own frame."""
        return BackendInfo(
            name=self.name,
            sample_rate=SAMPLE_RATE,
            hop_length=1,
            fields=(Field(name="tokens", form="codes", codebook_size=MU + 1, samples_per_item=1),),
            mono="mean",
            min_samples=1,
            kind="frames",
            max_tokens_per_fragment=60 * SAMPLE_RATE,
            num_tokens_overlap=0,
            batching=Batching.ANY,
            max_batch=1,
            recipe={"companding": "mu-law, mu = 255", "numpy": importlib.metadata.version("numpy")},
        )

    def load(self, options: Options, device: str) -> MuLaw:
        """There is nothing to load."""
        return MuLaw(self.describe(options, device))

    def load_decoder(self, options: Options, device: str) -> MuLawDecoder:
        """There is nothing to load."""
        return MuLawDecoder()


FACTORY = MuLawFactory()
