"""A digest of a file of any size."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["hash_file"]

BLOCK = 1 << 20


def hash_file(path: Path, algorithm: str = "sha256", prefix: bytes = b"") -> str:
    """Hex digest of `prefix` and the file's bytes."""
    digest = hashlib.new(algorithm, prefix, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
