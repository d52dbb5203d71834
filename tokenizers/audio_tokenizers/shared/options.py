"""Options that several backends share, and their checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from audio_tokenizers.base import Batching, Options, Scalar
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import shown

__all__ = [
    "DTYPES",
    "LANES_ON_GPU",
    "LANES_OPTIONS",
    "PRECISION_OPTIONS",
    "TF32_OPTION",
    "ModelChoices",
    "OptionTable",
    "Precision",
    "check_device_name",
    "is_upstream",
    "model_path_of",
    "precision_of",
    "refuse_mps",
    "switch",
]

OptionTable = Mapping[str, tuple[Scalar, str]]
"""Option name -> (default, help)."""
Precision = Literal["fp32", "tf32", "bf16"]
"""What a network computes in: float32; float32 whose products an Ampere or newer GPU rounds to TF32; bfloat16 up to the
quantizer."""
DTYPES: dict[Precision, str] = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16"}
"""A recipe's `dtype`."""
TF32_OPTION = (False, "older word for precision=tf32")
PRECISION_OPTIONS: OptionTable = {
    "precision": ("fp32", "fp32, tf32 or bf16: the latter two are faster on an Ampere or newer GPU, with other tokens"),
    "tf32": TF32_OPTION,
}

LANES_ON_GPU = 16
MOST_LANES = 1024
LANES_OPTIONS: OptionTable = {
    **PRECISION_OPTIONS,
    "lanes": (None, f"clips in one call of a fixed shape, 0: one clip at a time; null: {LANES_ON_GPU} on a GPU, else 0"),
}
"""Of a backend that has lanes, beside its own."""
DEVICE = re.compile(r"cpu|cuda(:\d+)?|mps")


@dataclass(frozen=True, slots=True)
class ModelChoices:
    """`model_path` and LANES_OPTIONS, checked."""

    model_path: str
    precision: Precision
    lanes: int
    """0: single clips."""

    @classmethod
    def of(cls, options: Options, device: str) -> ModelChoices:
        """For `device`. Raises UsageError on a value of another kind, and on a device of another name. Imports no torch."""
        model_path, precision = model_path_of(options), precision_of(options)
        check_device_name(device, precision)
        return cls(model_path, precision, _lanes_of(options, device))

    @property
    def dtype(self) -> str:
        """The recipe's `dtype`."""
        return DTYPES[self.precision]

    @property
    def batching(self) -> Batching:
        """What the backend declares."""
        return Batching.LANES if self.lanes else Batching.SINGLE

    @property
    def max_batch(self) -> int:
        """What the backend declares."""
        return self.lanes or 1


def check_device_name(device: str, precision: Precision = "fp32") -> None:
    """Raise UsageError unless `device` is cpu, cuda, cuda:N or mps, and `precision` is one that it is used with."""
    if not DEVICE.fullmatch(device):
        raise UsageError(f"device {device!r}: expected cpu, cuda, cuda:N or mps")
    if device == "mps" and precision != "fp32":
        raise UsageError(f"precision={precision}: a Mac's GPU (mps) is used with fp32 only")


def refuse_mps(device: str, what: str) -> None:
    """Raise UsageError if `device` is mps, on which `what` does not run."""
    if device == "mps":
        raise UsageError(f"device 'mps': {what}")


def model_path_of(options: Options) -> str:
    """The option `model_path`. Raises UsageError unless it is a text."""
    value = options["model_path"]
    if not isinstance(value, str) or not value:
        raise UsageError(f"model_path: expected a directory or hub id, found {shown(value, 'null')}")
    return value


def is_upstream(options: Options) -> bool:
    """Whether the option `engine` asks for upstream's own package. Raises UsageError unless it is own or upstream.

    Options of a run that was frozen before there was a choice mean `own`.
    """
    value = options.get("engine", "own")
    if value not in ("own", "upstream"):
        raise UsageError(f"engine: expected own or upstream, found {shown(value, 'null')}")
    return value == "upstream"


def switch(options: Options, name: str) -> bool:
    """The option `name`. Raises UsageError unless it is true or false."""
    value = options[name]
    if not isinstance(value, bool):
        raise UsageError(f"{name}: expected true or false, found {shown(value, 'null')}")
    return value


def precision_of(options: Options, no_bf16: str = "") -> Precision:
    """The option `precision`, of which `tf32` is an older form. Raises UsageError on anything else.

    `no_bf16` says why a backend has none. Options of a run that was frozen before there was a `precision` mean float32.
    """
    value = options.get("precision", "fp32")
    tf32 = switch(options, "tf32")
    if value not in DTYPES:
        raise UsageError(f"precision: expected {', '.join([*DTYPES][:-1])} or {[*DTYPES][-1]}, found {shown(value, 'null')}")
    if value == "bf16":
        if tf32:
            raise UsageError("precision=bf16 and tf32=true: tf32 is an older word for precision=tf32, take one of the two")
        if no_bf16:
            raise UsageError(f"precision: expected fp32 or tf32, found bf16: {no_bf16}")
        return "bf16"
    return "tf32" if tf32 or value == "tf32" else "fp32"


def _lanes_of(options: Options, device: str) -> int:
    """The option `lanes`, 0 for single clips. Raises UsageError unless it is null or a number from 0 to MOST_LANES.

    Options without it, those of a run that was frozen before there were lanes, mean single clips on any device.
    """
    value = options.get("lanes", 0)
    if value is None:
        return LANES_ON_GPU if device.startswith("cuda") else 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_LANES:
        raise UsageError(f"lanes: expected a number from 0 to {MOST_LANES}, or null, found {shown(value, 'null')}")
    return value
