"""JSON that others wrote, as Python's json reads it: with NaN, Infinity, lone surrogates and raw control characters.

Whatever strict JSON cannot say is replaced and named, so that the rest is kept and can be written as a line of our own. For
files that we wrote ourselves there is jobs/any_json.py.
"""

from __future__ import annotations

import functools
import json
import math
import re
from typing import Any

import msgspec

__all__ = [
    "DEEPEST_JSON",
    "SURROGATE_FAULT",
    "non_finite_numbers",
    "read_json",
    "read_json_object",
    "refuse_depth",
    "without_surrogates",
]

DEEPEST_JSON = 100
"""Far below where a JSON library of any language gives up, at whatever depth of calls it stands."""
TOO_DEEP = f"nested more than {DEEPEST_JSON} deep"
LONGEST_INTEGER = 4300
"""Digits: Python's own limit, and so that of readers of our lines."""
FAULTS_NAMED = 3
"""Of one kind, with their keys; a pitch curve may hold thousands of NaN."""
LONGEST_PATH = 80
SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SURROGATE_FAULT = "a lone surrogate is no character: U+FFFD"


def read_json(text: str) -> tuple[Any, list[str]]:
    """(what `text` says, what of it strict JSON could not say, in words).

    NaN, infinities (`1e999` too) and integers of more than 4300 digits become null, lone surrogates U+FFFD. Of a key that
    comes again the last one counts. Raises msgspec.DecodeError where Python's json would not read it either, and at nesting
    deeper than DEEPEST_JSON.
    """
    try:
        strict = msgspec.json.decode(text)  # many times as fast, and nearly all JSON is strict
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass
    else:
        refuse_depth(strict)
        return strict, []
    try:
        found = json.loads(text, strict=False, parse_constant=_unsayable, parse_float=_float, parse_int=_integer)
    except RecursionError:
        raise msgspec.DecodeError(TOO_DEEP) from None
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from None
    refuse_depth(found)
    faults = _Faults()
    return faults.mended(found), faults.words()


def read_json_object(text: str) -> tuple[dict[str, Any], list[str]]:
    """The same of an object. Raises msgspec.DecodeError at anything else."""
    found, faults = read_json(text)
    if not isinstance(found, dict):
        raise msgspec.DecodeError(f"expected a JSON object, found {type(found).__name__}")
    return found, faults


def non_finite_numbers(value: Any) -> list[str]:  # noqa: ANN401 (JSON)
    """Where in `value`, which is made of what JSON has, there is NaN or an infinity, in the words of `read_json`."""
    faults = _Faults()
    faults.find_non_finite(value)
    return faults.words()


def refuse_depth(found: Any) -> None:  # noqa: ANN401 (JSON)
    """Raise msgspec.DecodeError if `found` is nested deeper than DEEPEST_JSON."""
    layer = [found] if isinstance(found, dict | list) else []
    for _ in range(DEEPEST_JSON + 1):
        if not layer:
            return
        layer = [value for holder in layer for value in _holders(holder)]
    raise msgspec.DecodeError(TOO_DEEP)


def _holders(holder: dict[str, Any] | list[Any]) -> list[Any]:
    values = holder.values() if isinstance(holder, dict) else holder
    return [value for value in values if isinstance(value, dict | list)]


def without_surrogates(text: str) -> str:
    """`text` with U+FFFD in place of lone surrogates."""
    return text if text.isascii() else SURROGATE.sub(REPLACEMENT, text)


class _Unsayable:
    """A value that strict JSON has no word for."""

    def __init__(self, word: str) -> None:
        self.word = word if len(word) <= 20 else f"an integer of {len(word.lstrip('-')):,} digits"


_unsayable = functools.lru_cache(maxsize=16)(_Unsayable)
"""One object for all that are spelled alike: a list may hold millions."""


def _float(text: str) -> float | _Unsayable:
    value = float(text)
    return value if math.isfinite(value) else _unsayable(text)


def _integer(text: str) -> int | _Unsayable:
    return int(text) if len(text) <= LONGEST_INTEGER else _unsayable(text)


class _Faults:
    """What had to be replaced, and under which keys."""

    def __init__(self) -> None:
        self._keys: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def words(self) -> list[str]:
        """A line for each kind."""
        lines = []
        for what, keys in self._keys.items():
            more = self._counts[what] - len(keys)
            lines.append(f"{', '.join(keys)}{f' and {more:,} more' if more else ''}: {what}")
        return lines

    def mended(self, value: Any, path: str = "") -> Any:  # noqa: ANN401 (JSON)
        """`value` as strict JSON can say it, lists and objects changed where they stand."""
        if isinstance(value, _Unsayable):
            self._note(path, f"{value.word} is no value of JSON: null")
            return None
        if isinstance(value, str):
            return self._string(value, path)
        if isinstance(value, list):
            for number, item in enumerate(value):
                if not isinstance(item, int | float):
                    value[number] = self.mended(item, f"{path}[{number}]")
        if isinstance(value, dict):
            for key, item in value.items():
                value[key] = self.mended(item, _below(path, key))
            if any(without_surrogates(key) != key for key in value):
                return {self._key(key, path): item for key, item in value.items()}
        return value

    def find_non_finite(self, value: Any, path: str = "", depth: int = 0) -> None:  # noqa: ANN401 (JSON)
        """Note NaN and infinities, as they are spelled where Python writes JSON."""
        if isinstance(value, float):
            if not math.isfinite(value):
                self._note(path, f"{json.dumps(value)} is no value of JSON: null")
        elif isinstance(value, list | dict) and depth < DEEPEST_JSON:
            for key, item in enumerate(value) if isinstance(value, list) else value.items():
                if isinstance(item, list | dict) or (isinstance(item, float) and not math.isfinite(item)):
                    place = f"{path}[{key}]" if isinstance(value, list) else _below(path, str(key))
                    self.find_non_finite(item, place, depth + 1)

    def _key(self, key: str, path: str) -> str:
        return self._string(key, _below(path, key))

    def _string(self, value: str, path: str) -> str:
        mended = without_surrogates(value)
        if mended != value:
            self._note(path, SURROGATE_FAULT)
        return mended

    def _note(self, path: str, what: str) -> None:
        keys = self._keys.setdefault(what, [])
        self._counts[what] = self._counts.get(what, 0) + 1
        if len(keys) < FAULTS_NAMED:
            keys.append(without_surrogates(path[:LONGEST_PATH]) or "the whole")


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
