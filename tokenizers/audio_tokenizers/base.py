"""The protocol between the pipeline and a codec: what a backend declares, and what it does.

A backend comes in two parts, so that planning on a login node needs neither torch nor a GPU: a factory that describes
it from its options and files, and the loaded backend that encodes waveforms.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Backend", "BackendFactory", "BackendInfo", "Batching", "Codes", "MonoRule", "Options", "Scalar", "Waveform"]

Waveform = npt.NDArray[np.float32]
"""float32 [samples], mono, at the backend's sample rate."""

Codes = npt.NDArray[np.integer[Any]]
"""integers [codebooks, frames], each in 0..codebook_size-1."""

Scalar = str | int | float | bool | None
Options = Mapping[str, Scalar]
MonoRule = Literal["mean", "first"]


class Batching(str, enum.Enum):
    """Which batches give the very tokens that one clip at a time gives."""

    SINGLE = "single"
    EQUAL_LENGTH = "equal_length"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What the pipeline needs to know of a backend, and all that decides the value of its tokens."""

    name: str
    sample_rate: int
    """Hz of the waveforms that `encode` takes."""
    hop_length: int
    """Samples per frame at `sample_rate`; the frame rate is their quotient."""
    codebooks: int
    codebook_size: int
    mono: MonoRule
    """`mean` of the channels, or the `first` one."""
    min_samples: int
    """Shorter clips, counted at `sample_rate`, are records of kind `too_short`."""
    max_tokens_per_fragment: int
    """Default fragment length in frames; a longer clip is cut into fragments that overlap."""
    num_tokens_overlap: int
    """Default overlap in frames, dropped on each inner side of a fragment."""
    batching: Batching
    max_batch: int
    """Most waveforms that one `encode` call may get."""
    recipe: Mapping[str, Scalar]
    """Whatever else decides a token: weights by hash, dtype, padding rule, package versions."""

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length


class Backend(Protocol):
    """A loaded codec on one device."""

    @property
    def info(self) -> BackendInfo:
        """The same description that the factory gave for the same options and device."""

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        """Encode a batch that `info.batching` allows; one code array [codebooks, frames] per waveform.

        Raises ClipError where the data is at fault, InfrastructureError where the machine is.
        """


class BackendFactory(Protocol):
    """What an entry point of the group `tar2tokens.backends` names."""

    @property
    def name(self) -> str:
        """The word for `--backend`."""

    @property
    def options(self) -> Mapping[str, tuple[Scalar, str]]:
        """Option name -> (default, help); what `--set` takes, and nothing else."""

    def describe(self, options: Options, device: str) -> BackendInfo:
        """Describe the backend from its options and files, without importing torch.

        `device` is `cpu`, `cuda` or `cuda:N`. Raises UsageError or ModelFilesError.
        """

    def load(self, options: Options, device: str) -> Backend:
        """Load weights onto `device`. Raises ModelFilesError."""
