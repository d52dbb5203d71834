"""Decode JSON from files that may be damaged or foreign: every fault raises the same error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["decode_json"]

Kind = TypeVar("Kind")


def decode_json(data: bytes, kind: type[Kind]) -> Kind:
    """Decode `data` as a `kind`. Raises msgspec.DecodeError for every fault, including invalid UTF-8 and too deep nesting,
    for which msgspec itself raises other errors.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8: {error.reason} at byte {error.start} of a text") from None
    except RecursionError:
        raise msgspec.DecodeError("nested too deep") from None
