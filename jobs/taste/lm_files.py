"""What `cosyvoice.yaml` says of the speech language model in `llm.pt`. Imports no torch.

No size is taken for granted, and any option that would compute something else than jobs/taste/stack.py does is refused by
name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.config_reader import ConfigReader
from audio_tokenizers.shared.hyper_yaml import read_hyper_yaml
from audio_tokenizers.shared.model_files import require_files

__all__ = ["CONFIG", "WEIGHTS", "LmFiles", "StackShape", "find_language_model", "open_language_model"]

CONFIG, WEIGHTS = "cosyvoice.yaml", "llm.pt"
LAYOUT = f"a CosyVoice 1 model (CosyVoice-300M, -25Hz, -SFT or -Instruct) with {CONFIG} and {WEIGHTS}"
ADVICE = "TASTE trains with CosyVoice 1; the language models of CosyVoice 2 and 3 are Qwen's"
CLASSES = {
    "llm": "!new:cosyvoice.llm.llm.TransformerLM",
    "llm.llm": "!new:cosyvoice.transformer.encoder.TransformerEncoder",
}
FIXED: dict[str, tuple[object, object]] = {
    "input_layer": ("linear_legacy", "conv2d"),
    "pos_enc_layer_type": ("rel_pos_espnet", "abs_pos"),
    "selfattention_layer_type": ("rel_selfattn", "selfattn"),
    "static_chunk_size": (1, 0),
    "normalize_before": (True, True),
    "use_dynamic_chunk": (False, False),
    "use_dynamic_left_chunk": (False, False),
    "key_bias": (True, True),
    "activation_type": ("relu", "relu"),
    "global_cmvn": (None, None),
}
"""Option of the encoder -> the value that the stack computes, and what upstream takes where there is none."""
SIZES = ("input_size", "output_size", "attention_heads", "linear_units", "num_blocks")
RATES = {"dropout_rate": 0.1, "positional_dropout_rate": 0.1, "attention_dropout_rate": 0.0}
"""With upstream's defaults."""
WITHOUT_EFFECT = ("gradient_checkpointing",)
DEFAULT_UNIT_RATE = 50
"""Upstream's, where the flow model's section does not say it."""


@dataclass(frozen=True, slots=True)
class StackShape:
    """The encoder of `llm.llm`."""

    inputs: int
    width: int
    heads: int
    inner: int
    """Width inside the feed-forward layers."""
    blocks: int
    dropout: float
    positional_dropout: float
    attention_dropout: float


@dataclass(frozen=True, slots=True)
class LmFiles:
    """A model's files, of which the config was understood; no tensor has been read."""

    config: Path
    weights: Path
    stack: StackShape
    text_width: int
    """Of the text embedding: 512."""
    text_rows: int
    """Rows of it: 51866, or 60515 in -25Hz."""
    units: int
    """Speech units: 4096. This number is the end mark in the head."""
    unit_rate: Literal[25, 50] | None
    """Units per second, where the file says it."""


def find_language_model(model_path: str | None) -> LmFiles:
    """Raises UsageError where none is given, ModelFilesError where it is none."""
    if not model_path:
        raise UsageError(
            "--model-path: expected the folder of CosyVoice-300M (or -SFT, -Instruct, -25Hz), found none: "
            f"{called('tools.fetch_model')} cosyvoice_text downloads it"
        )
    return open_language_model(Path(model_path).expanduser())


def open_language_model(directory: Path) -> LmFiles:
    """The language model in a directory. Raises ModelFilesError on what could not be loaded later."""
    require_files(directory, [CONFIG, WEIGHTS], LAYOUT)
    path = directory / CONFIG
    config, tags = read_hyper_yaml(path, ADVICE)
    llm = config.part("llm")
    encoder = llm.part("llm")
    for place, expected in CLASSES.items():
        if tags[place] != expected:
            raise config.error(f"{place}: {expected}", tags[place])
    stack = _stack_shape(encoder)
    for key, width, part in (
        ("llm_input_size", stack.inputs, "input_size"),
        ("llm_output_size", stack.width, "output_size"),
    ):
        if llm.positive(key) != width:
            raise llm.error(f"the same {key!r} as {part!r} of llm.llm, which is {width}", llm.values[key])
    return LmFiles(
        config=path,
        weights=directory / WEIGHTS,
        stack=stack,
        text_width=llm.positive("text_encoder_input_size"),
        text_rows=llm.positive("text_token_size"),
        units=llm.positive("speech_token_size"),
        unit_rate=_unit_rate(config),
    )


def _stack_shape(encoder: ConfigReader) -> StackShape:
    encoder.only(*SIZES, *RATES, *FIXED, *WITHOUT_EFFECT, what="the options of CosyVoice's TransformerEncoder")
    for key, (value, default) in FIXED.items():
        encoder.require(key, value, default=default)
    inputs, width, heads, inner, blocks = (encoder.positive(key) for key in SIZES)
    if width % heads or width % 2:
        raise encoder.error("an even output_size that attention_heads divides", f"{width} and {heads} heads")
    rates = []
    for key, default in RATES.items():
        rate = encoder.number(key) if key in encoder.values else default
        if not 0 <= rate < 1:
            raise encoder.error(f"{key!r} from 0 up to 1", rate)
        rates.append(float(rate))
    return StackShape(inputs, width, heads, inner, blocks, *rates)


def _unit_rate(config: ConfigReader) -> Literal[25, 50] | None:
    """Of the units that the flow model turns into mels, which are those that the language model makes."""
    if not isinstance(config.values.get("flow"), dict):
        return None
    rate = config.part("flow").positive("input_frame_rate", DEFAULT_UNIT_RATE)
    if rate == 25:
        return 25
    if rate == 50:
        return 50
    raise ModelFilesError(f"{config.path}: expected an input_frame_rate of 25 or 50 in flow, found {rate}")
