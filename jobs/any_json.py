"""JSON of files that may be damaged or foreign: all that is wrong with it is one kind of error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["decode_json"]

Kind = TypeVar("Kind")


def decode_json(data: bytes, kind: type[Kind]) -> Kind:
    """What `data` says, as a `kind`. Raises msgspec.DecodeError on whatever else it is: bytes that are no UTF-8, and nesting
    so deep that the parser gives up, are told in other ways by msgspec itself.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8: {error.reason} at byte {error.start} of a text") from None
    except RecursionError:
        raise msgspec.DecodeError("nested too deep") from None
