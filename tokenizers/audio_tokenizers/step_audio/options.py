"""The options of step_audio: checks, the record fields they imply, and the package versions in the recipe."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

from audio_tokenizers.base import Field, Options
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import require_packages
from audio_tokenizers.shared.options import Precision, is_upstream, model_path_of, precision_of, switch
from audio_tokenizers.shared.torch_device import package_versions
from audio_tokenizers.shared.wording import shown
from audio_tokenizers.step_audio.files import CLUSTERS, VQ06_CODES

__all__ = ["FIRST_ID", "GROUP_SAMPLES", "WINDOWS", "Choices", "check_options", "fields_of", "versions"]

PACKAGES = ("torch", "torchaudio", "openai-whisper")
GROUP_SAMPLES = 1920
"""120 ms: 2 codes of vq02 and 3 of vq06."""
FIRST_ID = 65536
"""First id of vq02 in the vocabulary of StepFun's language models."""
WINDOWS = 256
"""Windows of vq02 per tile on a GPU: a minute of audio. Like any shape, it affects codes."""
NO_BF16 = "vq02 keeps a memory from step to step, and its steps are too small to be faster"


@dataclass(frozen=True, slots=True)
class Choices:
    """The options, checked."""

    model_path: str
    trim: bool
    energy_norm: bool
    raw_codes: bool
    shifted_ids: bool
    dither: float
    precision: Precision
    upstream: bool
    """Whether FunASR's own code computes vq02."""

    @property
    def tf32(self) -> bool:
        """Whether a GPU may round to TF32."""
        return self.precision == "tf32"


def versions(choices: Choices, *, onnx: bool) -> dict[str, str]:
    """Versions of packages that affect tokens, for the recipe. `onnx`: vq06 runs in onnxruntime.

    Raises UsageError if one is missing.
    """
    # The distribution for GPUs has another name but the same module, and also runs on a CPU.
    names = ("onnxruntime", "onnxruntime-gpu")
    installed = [name for name in names if any(importlib.metadata.distributions(name=name))]
    runtime = (installed or names)[0] if onnx else "s3tokenizer"
    trimming = ["librosa"] if choices.trim else []
    require_packages([*trimming, *(["onnxruntime"] if onnx else ["s3tokenizer", "onnx"])], "step_audio")
    return package_versions((*PACKAGES, runtime, *trimming, *(["funasr"] if choices.upstream else [])), "step_audio")


def check_options(options: Options) -> Choices:
    """Check the options. Raises UsageError for an invalid value."""
    dither = options["dither"]
    if not isinstance(dither, (int, float)) or isinstance(dither, bool) or not 0 <= dither < 32768:
        raise UsageError(f"dither: expected a number from 0 (none) on, such as upstream's 1, found {shown(dither, 'null')}")
    switches = {name: switch(options, name) for name in ("trim", "energy_norm", "raw_codes", "shifted_ids")}
    precision = precision_of(options, NO_BF16)
    upstream = is_upstream(options)
    return Choices(
        model_path=model_path_of(options), dither=float(dither), precision=precision, upstream=upstream, **switches
    )


def fields_of(choices: Choices) -> tuple[Field, ...]:
    """The fields of a record."""

    def field(name: str, samples_per_item: float, codes: int, *, lowest: int = 0, slack: float) -> Field:
        return Field(
            name=name,
            form="audio_string" if name == "tokens" else "list",
            lowest=lowest,
            codebook_size=codes,
            # Trimming cuts and pads: the length is then unknown.
            samples_per_item=None if choices.trim else samples_per_item,
            slack=slack,
        )

    merged, codes = GROUP_SAMPLES / 5, CLUSTERS + VQ06_CODES
    # A rest of up to 879 samples yields no code of vq02, and incomplete groups are dropped.
    fields = [field("tokens", merged, codes, slack=5)]
    if choices.shifted_ids:
        fields.append(field("token_ids", merged, codes, lowest=FIRST_ID, slack=5))
    if choices.raw_codes:
        fields += [
            field("vq02", GROUP_SAMPLES / 2, CLUSTERS, slack=2),
            field("vq06", GROUP_SAMPLES / 3, VQ06_CODES, slack=2),
        ]
    return tuple(fields)
