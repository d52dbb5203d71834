"""Read JSON from other programs as leniently as Python's json: NaN, Infinity, lone surrogates, raw control characters.

Values that strict JSON cannot represent are replaced and reported; the rest is kept and can be written in our own lines.
Files that we wrote ourselves are read with jobs/any_json.py.
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
"""Far below the recursion limit of any language's JSON library, even when called from deep in a program."""
TOO_DEEP = f"nested more than {DEEPEST_JSON} deep"
LONGEST_INTEGER = 4300
"""Digits: Python's own limit, which readers of our lines have, too."""
FAULTS_NAMED = 3
"""Faults of one kind that are named with their keys; a pitch curve may hold thousands of NaN."""
LONGEST_PATH = 80
SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SURROGATE_FAULT = "a lone surrogate is no character: U+FFFD"


def read_json(text: str) -> tuple[Any, list[str]]:
    """(the value of `text`, messages about replaced values).

    NaN, infinities (`1e999` too) and integers of more than 4300 digits become null, lone surrogates U+FFFD. The last of
    repeated keys counts. Raises msgspec.DecodeError for text that Python's json cannot read either, and for nesting deeper
    than DEEPEST_JSON.
    """
    try:
        strict = msgspec.json.decode(text)  # many times faster, and nearly all JSON is strict
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
    """The same for an object. Raises msgspec.DecodeError for anything else."""
    found, faults = read_json(text)
    if not isinstance(found, dict):
        raise msgspec.DecodeError(f"expected a JSON object, found {type(found).__name__}")
    return found, faults


def non_finite_numbers(value: Any) -> list[str]:  # noqa: ANN401 (JSON)
    """Messages, as from `read_json`, about each NaN or infinity in `value`, which is made of JSON's types."""
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
    """A value that strict JSON cannot represent."""

    def __init__(self, word: str) -> None:
        self.word = word if len(word) <= 20 else f"an integer of {len(word.lstrip('-')):,} digits"


_unsayable = functools.lru_cache(maxsize=16)(_Unsayable)
"""One object per spelling: a list may hold millions."""


def _float(text: str) -> float | _Unsayable:
    value = float(text)
    return value if math.isfinite(value) else _unsayable(text)


def _integer(text: str) -> int | _Unsayable:
    return int(text) if len(text) <= LONGEST_INTEGER else _unsayable(text)


class _Faults:
    """The replaced values and their keys."""

    def __init__(self) -> None:
        self._keys: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def words(self) -> list[str]:
        """One message per kind."""
        lines = []
        for what, keys in self._keys.items():
            more = self._counts[what] - len(keys)
            lines.append(f"{', '.join(keys)}{f' and {more:,} more' if more else ''}: {what}")
        return lines

    def mended(self, value: Any, path: str = "") -> Any:  # noqa: ANN401 (JSON)
        """`value` in strict JSON; lists and objects are changed in place."""
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
        """Record NaN and infinities, spelled as Python's json writes them."""
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
