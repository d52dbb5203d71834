"""The protocol between the pipeline and a model: what a backend declares, and what it does.

A backend comes in two parts, so that planning on a login node needs neither torch nor a GPU: a factory that describes
it from its options and files, and the loaded backend. A codec with one grid of codes encodes waveforms, which may be
fragments of a clip (FrameBackend); whatever needs the whole clip, its transcript, or several keys of a record takes
utterances (ClipBackend).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = [
    "Audio",
    "Backend",
    "BackendFactory",
    "BackendInfo",
    "Batching",
    "ClipBackend",
    "Codes",
    "Decoder",
    "DecodingFactory",
    "Features",
    "Field",
    "Form",
    "FrameBackend",
    "Kind",
    "LaneShape",
    "LanesOfClips",
    "LanesOfWaves",
    "ManyParts",
    "MonoRule",
    "Options",
    "Scalar",
    "Utterance",
    "Values",
    "Waveform",
    "hear",
    "lanes_of_clips",
    "lanes_of_waves",
    "takes_clips",
    "takes_waves",
]

Waveform = npt.NDArray[np.float32]
"""float32 [samples], mono, at the backend's sample rate."""

Audio = npt.NDArray[np.floating[Any]]
"""float32 or float64 [samples], mono, at the backend's sample rate."""

Codes = npt.NDArray[np.integer[Any]]
"""integers [codebooks, frames], each in 0..codebook_size-1."""

Features = npt.NDArray[np.floating[Any]]
"""float16 or float32 [rows, width]."""

Values = Mapping[str, Codes | Features]
"""What one clip became: for each Field, in their order, its array (Form says of which shape)."""

Scalar = str | int | float | bool | None
Options = Mapping[str, Scalar]
MonoRule = Literal["mean", "first"]
Kind = Literal["frames", "clips"]
"""Of a backend: FrameBackend or ClipBackend."""

Form = Literal["codes", "list", "audio_string", "features"]
"""How a field's array is written. `codes`: integers [codebooks, frames] as a list of lists, with `token_shape` beside it;
`list`: integers [items] as a flat list; `audio_string`: integers [items] as "<audio_7><audio_1031>"; `features`: floats
[rows, width] in NAME.safetensors, the record saying key, shape and dtype."""


class Batching(str, enum.Enum):
    """Which batches give exactly the tokens of one clip at a time."""

    SINGLE = "single"
    EQUAL_LENGTH = "equal_length"
    ANY = "any"
    LANES = "lanes"
    """Calls of a fixed shape; the network hides the padding. A batch is whatever fits a LaneShape."""


@dataclass(frozen=True, slots=True)
class LaneShape:
    """The shape of a call with lanes. Every call has all of them; unused lanes are zero.

    So a clip's tokens depend on the clip and the shape, never on its neighbours or its lane.
    """

    lanes: int
    samples: int
    """A whole number of hops, at the backend's rate; no lane holds more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of a record and its valid values."""

    name: str
    form: Form
    width: int = 1
    """Codebooks of `codes`, columns of `features`."""
    lowest: int = 0
    codebook_size: int = 0
    """Integers are in lowest..lowest+codebook_size-1."""
    items: int | None = None
    """Frames, items or rows of every clip, where that does not depend on its length."""
    samples_per_item: float | None = None
    """Samples at the backend's rate per frame, item or row; None where their number does not follow from the length."""
    slack: float = 2
    """How many items a clip may deviate from that rate; more means that audio is missing."""
    dtype: Literal["", "float16", "float32"] = ""
    """Of `features`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """What the pipeline must know about a backend, and everything that determines its tokens."""

    name: str
    sample_rate: int
    """Hz of the waveforms that it takes."""
    hop_length: int
    """Samples per frame at `sample_rate`; the frame rate is their quotient."""
    fields: tuple[Field, ...]
    """The keys of its records; a FrameBackend has one, `tokens`, of form `codes`."""
    mono: MonoRule
    """`mean` of the channels, or the `first` one."""
    min_samples: int
    """Shorter clips, counted at `sample_rate`, are records of kind `too_short`."""
    kind: Kind | None = None
    """Packages older than this field may leave it out; it then follows from `max_tokens_per_fragment`."""
    max_tokens_per_fragment: int | None
    """Default fragment length in frames; a longer clip is cut into fragments that overlap. None for a ClipBackend, which
    gets whole clips only."""
    num_tokens_overlap: int = 0
    """Default overlap in frames, dropped on each inner side of a fragment."""
    batching: Batching
    max_batch: int
    """Most waveforms or utterances that one call may get; with LANES, the lanes of a call, fewer where it is long."""
    needs_text: bool = False
    """A clip without a transcript is a record of kind `no_text`."""
    recipe: Mapping[str, Scalar]
    """Everything else that determines a token: hashes of the weights, dtype, padding rule, package versions."""

    def __post_init__(self) -> None:
        kind: Kind = "clips" if self.max_tokens_per_fragment is None else "frames"
        if self.kind is None:
            object.__setattr__(self, "kind", kind)
        elif self.kind != kind:
            raise ValueError(f"{self.name}: fragments are for backends of kind 'frames' alone, and these need a length")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A whole clip."""

    wave: Audio
    """[samples], mono, as `ClipBackend.resample` gave it."""
    text: str | None = None
    """Its transcript, where it has one."""
    by_part: tuple[Audio, ...] = ()
    """For a combination (ManyParts): the audio of each part, in their order; `wave` is one of them."""

    @property
    def nbytes(self) -> int:
        """Bytes of its audio."""
        return sum({id(wave): wave.nbytes for wave in (self.wave, *self.by_part)}.values())


class FrameBackend(Protocol):
    """A loaded codec on one device."""

    @property
    def info(self) -> BackendInfo:
        """The factory's description for the same options and device."""

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        """Encode a batch that `info.batching` allows; one code array [codebooks, frames] per waveform.

        Raises ClipError where the data is at fault, InfrastructureError where the machine is.
        """


class ClipBackend(Protocol):
    """A loaded model that takes whole clips."""

    @property
    def info(self) -> BackendInfo:
        """The factory's description for the same options and device."""

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """A whole clip from its file's `sample_rate` to the backend's, with the filter that upstream has there."""

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        """Encode a batch that `info.batching` allows; what each clip became. Raises as `FrameBackend.encode` does."""


class LanesOfWaves(FrameBackend, Protocol):
    """A FrameBackend whose `info.batching` is LANES."""

    def encode_lanes(self, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], list[Codes]]:
        """Begin to encode 1 to `shape.lanes` waveforms of at most `shape.samples` samples, in one call of that shape.

        Returns at once where the device works by itself; what is returned waits for the codes. A second call may begin
        before the codes of the first are asked for. Both raise as `encode` does.
        """


class LanesOfClips(ClipBackend, Protocol):
    """A ClipBackend whose `info.batching` is LANES."""

    def encode_lanes(self, clips: Sequence[Utterance], shape: LaneShape) -> Callable[[], list[Values]]:
        """As `LanesOfWaves.encode_lanes`."""


@runtime_checkable
class ManyParts(Protocol):
    """An additional method of a ClipBackend that combines others, whose resamplers differ."""

    def resample_by_part(self, wave: Waveform, sample_rate: int) -> tuple[Audio, tuple[Audio, ...]]:
        """`Utterance.wave` and `Utterance.by_part` of a whole clip at its file's `sample_rate`."""


Backend = FrameBackend | ClipBackend


def hear(backend: ClipBackend, wave: Waveform, sample_rate: int, text: str | None = None) -> Utterance:
    """A whole clip at its file's `sample_rate` as `backend.encode_clips` takes it."""
    if isinstance(backend, ManyParts):
        heard, by_part = backend.resample_by_part(wave, sample_rate)
        return Utterance(heard, text, by_part)
    return Utterance(backend.resample(wave, sample_rate), text)


def takes_waves(backend: Backend) -> TypeGuard[FrameBackend]:
    """Whether it encodes waveforms, which may be fragments of a clip."""
    return backend.info.kind == "frames"


def takes_clips(backend: Backend) -> TypeGuard[ClipBackend]:
    """Whether it encodes whole clips."""
    return backend.info.kind == "clips"


def lanes_of_waves(backend: Backend) -> TypeGuard[LanesOfWaves]:
    """Whether it encodes waveforms in calls of fixed shapes."""
    return takes_waves(backend) and backend.info.batching is Batching.LANES


def lanes_of_clips(backend: Backend) -> TypeGuard[LanesOfClips]:
    """Whether it encodes whole clips in calls of fixed shapes."""
    return takes_clips(backend) and backend.info.batching is Batching.LANES


class BackendFactory(Protocol):
    """The object that an entry point of the group `tar2tokens.backends` names. If the backend never uses a GPU, it has
    `uses_gpu = False`.
    """

    @property
    def name(self) -> str:
        """The value of `--backend`."""

    @property
    def options(self) -> Mapping[str, tuple[Scalar, str]]:
        """Option name -> (default, help); what `--set` takes, and nothing else."""

    def describe(self, options: Options, device: str) -> BackendInfo:
        """Describe the backend from its options and files, without importing torch.

        `device` is `cpu`, `cuda`, `cuda:N` or `mps`. Raises UsageError or ModelFilesError.
        """

    def load(self, options: Options, device: str) -> Backend:
        """Load weights onto `device`. Raises ModelFilesError."""


class Decoder(Protocol):
    """Turns codes back into audio."""

    def decode(self, codes: Codes) -> Waveform:
        """Codes [codebooks, frames] of a whole clip -> float32 [samples] at the backend's sample rate."""


class DecodingFactory(BackendFactory, Protocol):
    """A factory whose codec has a decoder."""

    def load_decoder(self, options: Options, device: str) -> Decoder:
        """Load the decoder's weights onto `device`. Raises ModelFilesError."""
