"""A model's config, read with checks: whatever does not fit is one message that names the file, the key and the value.

Nothing here imports torch, so that a run can be planned on a login node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.model_files import CONFIG, read_json, require_files
from audio_tokenizers.shared.wording import shown

__all__ = ["ConfigReader", "read_config"]

MOST_CODES = 1 << 15
"""The largest codebook whose numbers fit in int16."""

T = TypeVar("T")


def read_config(directory: Path, layout: str, advice: str = "") -> ConfigReader:
    """The config.json of `directory`. `layout` describes what the directory should be. Raises ModelFilesError."""
    (path,) = require_files(directory, [CONFIG], layout)
    return ConfigReader(path, read_json(path), advice=advice)


@dataclass(frozen=True, slots=True)
class ConfigReader:
    """Checked access to a config file, or to a mapping inside it.

    Methods that take a key return its value. They raise ModelFilesError if it is of another kind, or if there is none and no
    default; null counts as none.
    """

    path: Path
    values: Mapping[str, Any]
    inside: str = ""
    """The dotted keys that lead to `values` in the file."""
    advice: str = ""
    """Ends each message, such as `is this Spark-TTS-0.5B?`."""

    def error(self, expected: str, found: object) -> ModelFilesError:
        """What to raise if `found` is not what the file should say."""
        return self._error(expected, shown(found))

    def _error(self, expected: str, found: str) -> ModelFilesError:
        where = f" in {self.inside}" if self.inside else ""
        advice = f": {self.advice}" if self.advice else ""
        return ModelFilesError(f"{self.path}: expected {expected}{where}, found {found}{advice}")

    def _checked(self, key: str, default: T | None, expected: str, is_right: Callable[[Any], bool]) -> Any:  # noqa: ANN401
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise self._error(f"{expected} {key!r}", f"no {key!r}")
        if not is_right(value):
            raise self.error(f"{expected} {key!r}", value)
        return value

    def part(self, key: str, default: Mapping[str, Any] | None = None) -> ConfigReader:
        """The mapping at `key`."""
        value = self._checked(key, default, "a mapping", lambda value: isinstance(value, Mapping))
        return replace(self, values=value, inside=f"{self.inside}.{key}" if self.inside else key)

    def positive(self, key: str, default: int | None = None) -> int:
        """An integer of at least 1."""
        value: int = self._checked(key, default, "a positive integer", _is_positive)
        return value

    def positives(self, key: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """One integer or more, each at least 1."""
        return tuple(
            self._checked(
                key,
                default,
                "a list of positive integers",
                lambda value: isinstance(value, list) and bool(value) and all(map(_is_positive, value)),
            )
        )

    def number(self, key: str) -> float:
        """A finite or infinite number, integers included."""
        value: float = self._checked(key, None, "a number", _is_number)
        return value

    def positive_numbers(self, key: str, default: Sequence[float] | None = None) -> tuple[float, ...]:
        """One number or more, each above 0."""
        return tuple(
            self._checked(
                key,
                default,
                "a list of positive numbers",
                lambda value: (
                    isinstance(value, list) and bool(value) and all(_is_number(item) and item > 0 for item in value)
                ),
            )
        )

    def flag(self, key: str) -> bool:
        """True or false."""
        value: bool = self._checked(key, None, "true or false as", lambda value: isinstance(value, bool))
        return value

    def require(self, key: str, *allowed: object, default: object = None, why: str = "") -> None:
        """Raise ModelFilesError unless the value at `key` is one of `allowed`; `default` is what an absent key means.

        Here null is a value like others.
        """
        if self.values.get(key, default) in allowed:
            return
        words = f"{key!r} to be {' or '.join(map(shown, allowed))}" + (f" ({why})" if why else "")
        if key in self.values:
            raise self._error(words, shown(self.values[key], "null"))
        raise self._error(words, f"no {key!r}" + ("" if default is None else f", which means {shown(default)}"))

    def only(self, *known: str, what: str) -> None:
        """Raise ModelFilesError if there are keys beside those `known`, such as arguments of `what`."""
        if unknown := sorted(str(key) for key in self.values if key not in known):
            raise self.error(f"only {what}", unknown[:5])

    def check_codebook(self, size: int) -> None:
        """Raise ModelFilesError unless `size` codes can be told apart and stored as int16."""
        if not 2 <= size <= MOST_CODES:
            raise self.error(f"a codebook size of 2..{MOST_CODES}, which int16 tokens can hold", size)


def _is_positive(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_number(value: object) -> bool:
    return type(value) in (int, float)
