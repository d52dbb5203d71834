"""Pure: histograms of several codebooks <-> a short text for a manifest.

A bit per id says whether it occurs, and only the counts of ids that do are stored, as LEB128 integers; all of it deflated,
in base64. Counts are exact if that fits into the limit. If not, they are rounded to fewer and fewer significant bits, as
floating-point numbers are; at one bit, the rarest ids are left out until the rest fits. An id whose count is rounded still
occurs, so which ids are used stays exact until ids are left out.
"""

from __future__ import annotations

import base64
import zlib

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["Counts", "PackedCounts", "pack_counts", "text_limit", "unpack_counts"]

Counts = npt.NDArray[np.int64]
"""int64 [codebooks, ids]: how often each id occurs."""

BYTES_PER_CODEBOOK = 2 << 10
SHORTEST_LIMIT, LONGEST_LIMIT = 16 << 10, 64 << 10
ROUNDINGS = (4, 2, 0)
"""Bits after the first significant one, tried in order; errors of at most 1/33, 1/9 and 1/3 of a count."""
MOST_RAW_BYTES = 4 << 20
"""More than pack_counts ever deflates to LONGEST_LIMIT. More, which is damage or an attack, is 50 MB at most."""


class PackedCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Histograms as a manifest has them."""

    text: str = ""
    used: tuple[int, ...] = ()
    """Ids in `text`, by codebook."""
    rounded_to: int | None = None
    """Bits after the first significant one of each count; None if counts are exact."""
    left_out_below: int = 1
    """Ids with fewer occurrences are not in `text`."""


def text_limit(codebooks: int) -> int:
    """The longest text, in bytes, that the histograms of so many codebooks become."""
    return min(max(BYTES_PER_CODEBOOK * codebooks, SHORTEST_LIMIT), LONGEST_LIMIT)


def pack_counts(counts: Counts) -> PackedCounts:
    """Pack histograms as exactly as `text_limit` allows."""
    limit, least = text_limit(len(counts)), 1
    for bits in (None, *ROUNDINGS):
        text = _to_text(counts, bits)
        if len(text) <= limit:
            break
    while len(text) > limit:
        found = np.sort(counts[counts >= least])
        keep = int(0.9 * len(found) * limit / len(text))
        least = int(found[-keep - 1]) + 1
        text = _to_text(np.where(counts >= least, counts, 0), bits)
    used = tuple(np.count_nonzero(counts >= least, axis=1).tolist())
    return PackedCounts(text=text, used=used, rounded_to=bits, left_out_below=least)


def _to_text(counts: Counts, bits: int | None) -> str:
    occurs = counts > 0
    found = counts[occurs]
    data = np.packbits(occurs, axis=1).tobytes() + _to_varints(found if bits is None else _levels(found, bits))
    return base64.b64encode(zlib.compress(data)).decode()


def _levels(counts: Counts, bits: int) -> Counts:
    """Positive counts -> their place among the numbers of 1 + `bits` significant bits, to which they are rounded."""
    shift: Counts = np.maximum(np.frexp(counts.astype(np.float64))[1].astype(np.int64) - 1 - bits, 0)
    rounded = (counts + ((1 << shift) >> 1)) >> shift
    levels: Counts = (shift << bits) + rounded  # one more than the largest mantissa is the smallest of the next level
    return levels


def _of_levels(levels: Counts, bits: int) -> Counts:
    """The inverse of `_levels`, but for the rounding."""
    shift = np.maximum((levels >> bits) - 1, 0)
    if len(shift) and shift.max() + bits > 61:
        raise ValueError("a count does not fit into 63 bits")
    counts: Counts = (levels - (shift << bits)) << shift
    return counts


def _to_varints(numbers: Counts) -> bytes:
    """LEB128: seven bits a byte, the lowest first, with the eighth set in all bytes but a number's last."""
    groups = [numbers & 127]
    left = numbers >> 7
    while left.any():
        groups.append(left & 127)
        left = left >> 7
    table = np.stack(groups, axis=1).astype(np.uint8)
    lengths = np.maximum(table.shape[1] - (table[:, ::-1] != 0).argmax(axis=1), 1)
    lengths[~table.any(axis=1)] = 1
    places = np.arange(table.shape[1])
    table[places < lengths[:, np.newaxis] - 1] |= 128
    found: bytes = table[places < lengths[:, np.newaxis]].tobytes()
    return found


def _of_varints(data: bytes) -> Counts:
    raw = np.frombuffer(data, np.uint8)
    if not len(raw):
        return np.zeros(0, np.int64)
    ends = (raw < 128).nonzero()[0]
    lengths = np.diff(ends, prepend=-1)
    if not len(ends) or ends[-1] != len(raw) - 1 or lengths.max() > 9:
        raise ValueError("expected whole integers of at most 63 bits")
    starts = ends - lengths + 1
    values: Counts = (raw[starts] & 127).astype(np.int64)
    for place in range(1, int(lengths.max())):
        longer = (lengths > place).nonzero()[0]
        values[longer] |= (raw[starts[longer] + place] & 127).astype(np.int64) << (7 * place)
    return values


def unpack_counts(packed: PackedCounts, size: int) -> Counts:
    """The histograms of codebooks of `size` ids. Raises ValueError for anything that `pack_counts` does not write."""
    codebooks, ids = len(packed.used), sum(packed.used)
    if any(not 0 <= used <= size for used in packed.used) or len(packed.text) > LONGEST_LIMIT:
        raise ValueError(f"expected histograms of at most {size} ids in at most {LONGEST_LIMIT} bytes")
    if packed.rounded_to is not None and not 0 <= packed.rounded_to <= 16:
        raise ValueError(f"rounded_to is {packed.rounded_to}, expected 0 to 16")
    try:
        data = zlib.decompress(base64.b64decode(packed.text, validate=True))
    except (ValueError, zlib.error) as error:  # binascii.Error is a ValueError
        raise ValueError(f"expected deflated histograms in base64: {error}") from None
    if len(data) > MOST_RAW_BYTES:
        raise ValueError(f"expected at most {MOST_RAW_BYTES} bytes of histograms, found {len(data)}")
    row_bytes = -(-size // 8)
    bits = np.frombuffer(data[: codebooks * row_bytes], np.uint8)
    found = _of_varints(data[codebooks * row_bytes :])
    if len(bits) != codebooks * row_bytes or len(found) != ids:
        raise ValueError(f"expected {codebooks} times {size} bits and {ids} counts, found {len(data)} bytes")
    if packed.rounded_to is not None:
        found = _of_levels(found, packed.rounded_to)
    occurs = np.unpackbits(bits.reshape(codebooks, row_bytes), axis=1, count=size).view(np.bool_)
    if tuple(np.count_nonzero(occurs, axis=1).tolist()) != packed.used or found.min(initial=1) < 1:
        raise ValueError(f"expected {packed.used} ids with positive counts")
    counts = np.zeros((codebooks, size), np.int64)
    counts[occurs] = found
    return counts
