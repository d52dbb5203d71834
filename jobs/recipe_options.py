"""Options that decide which tokens come out: of the commands that begin a run, and the keys of presets (jobs/spec.py)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated

import msgspec
import yaml

from audio_tokenizers.base import Scalar
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.yaml_loading import load_yaml
from jobs.commands import AUDIO, WHAT
from jobs.option_struct import Option

__all__ = ["BackendOptions", "RecipeOptions", "parse_settings"]

_Audio = functools.partial(Option, group=AUDIO)
_What = functools.partial(Option, group=WHAT)


def parse_settings(settings: Sequence[str]) -> dict[str, Scalar]:
    """`["tf32=true"]` -> `{"tf32": True}`; values are YAML scalars. Raises UsageError."""
    found: dict[str, Scalar] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        try:
            value = load_yaml(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {setting!r}: expected option=value, quoted as in YAML where it needs to be") from None
        if not equals or not key.strip() or not isinstance(value, str | int | float | bool | None):
            raise UsageError(f"--set {setting!r}: expected option=value, the value a text, a number, true, false or null")
        found[key.strip()] = value
    return found


def _setting(key: str, value: Scalar) -> str:
    """The word that `parse_settings` reads."""
    text: str = yaml.safe_dump(value, width=1 << 20)  # in one line
    return f"{key}={text.strip().removesuffix('...').strip()}"


class RecipeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How audio and texts are treated. None, False and () leave it to the preset, and then to the backend."""

    max_tokens_per_fragment: Annotated[int | None, _Audio("longest fragment, in frames")] = None
    num_tokens_overlap: Annotated[int | None, _Audio("overlap of fragments, in frames")] = None
    max_duration: Annotated[
        float | None,
        _Audio(
            "longer clips become errors, in seconds; default 24 hours",
            expected="seconds, such as 3600 for an hour, without a unit",
        ),
    ] = None
    max_damage: Annotated[
        float | None,
        _Audio(
            "share of a clip that may be missing, 0 to 1; default 0.02 (50 ms always); more becomes an error",
            expected="a share such as 0.02, not 2%",
        ),
    ] = None
    extensions: Annotated[
        tuple[str, ...], _Audio("audio extensions, such as .mp3 .wav; default: all that can be decoded")
    ] = ()
    sniff: Annotated[bool, _Audio("also take files with unknown extensions whose first bytes are audio")] = False
    text_keys: Annotated[
        tuple[str, ...],
        _Audio("key of the text in a clip's JSON; default: text, transcript, sentence and others", flags=("--text-key",)),
    ] = ()
    text_encoding: Annotated[
        str | None, _Audio("encoding of texts, such as shift_jis; default auto: UTF-8, or what all texts of a tar show")
    ] = None
    channel: Annotated[
        str | None,
        _Audio("channel to take: mean, first, left, right, a number from 0, or split: each a clip; default: the backend's"),
    ] = None
    segments: Annotated[
        bool | None,
        _Audio("cut audio into the segments of its sidecars, each a clip", flags=("--segments/--no-segments",)),
    ] = None
    subset_ratio: Annotated[
        float | None,
        _Audio(
            "share of the clips, by a hash of their names: a larger share contains a smaller one; default all",
            expected="a share such as 0.1, not 10%",
        ),
    ] = None


class BackendOptions(RecipeOptions, frozen=True, kw_only=True):
    """Those options, the backend and its own options."""

    backend: Annotated[str, _What("preset or backend, for example higgs")]
    model_path: Annotated[str | None, _What("local directory or hub id of the weights")] = None
    settings: Annotated[
        dict[str, Scalar], _What("a backend's option=value", flags=("--set",), parse=parse_settings, show=_setting)
    ] = msgspec.field(default_factory=dict)

    @property
    def options(self) -> dict[str, Scalar]:
        """The backend's own options."""
        return {**self.settings, **({} if self.model_path is None else {"model_path": self.model_path})}
