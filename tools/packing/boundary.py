"""The boundary of a source: a link that leads out of it could pack a foreign file, such as a private key as a text."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from audio_tokenizers.errors import UsageError

__all__ = ["Boundary", "refuse_links"]

LINKS_SHOWN = 3
HUB_SNAPSHOT = re.compile(r"(?P<repository>.*/(?:datasets|models|spaces)--[^/]+)/snapshots/[^/]+(?:/.*)?")
"""In huggingface_hub's cache, the files of a snapshot are links to blobs beside it, which are part of it."""
FOLDERS_KEPT = 1 << 16


class Boundary:
    """A folder that tells whether paths below it stay inside once their links are resolved."""

    def __init__(self, folder: str | Path) -> None:
        self._given = os.path.normpath(Path(folder).absolute())
        self._real = os.path.realpath(folder)
        snapshot = HUB_SNAPSHOT.fullmatch(self._real)
        self._home = snapshot["repository"] if snapshot is not None else self._real
        self._resolve = functools.lru_cache(FOLDERS_KEPT)(os.path.realpath)

    def outside(self, path: str) -> str | None:
        """The target of a path below the folder, if that is outside, whether it exists or not.

        None if it stays inside, and for a path that is openly elsewhere: absolute, or with `..`.
        """
        parent, name = os.path.split(os.path.normpath(path))
        if not self._contains(self._given, parent):
            return None
        real = f"{self._resolve(parent).rstrip('/')}/{name}"
        if os.path.islink(real):  # noqa: PTH114 (text: once per clip of a manifest)
            real = os.path.realpath(real)
        return None if self._contains(self._home, real) else real

    @staticmethod
    def _contains(folder: str, path: str) -> bool:
        return path == folder or path.startswith(folder.rstrip("/") + "/")


def refuse_links(source: str | Path, links: Mapping[str, str]) -> None:
    """Raise UsageError if there are any links (name -> target)."""
    if not links:
        return
    shown = ", ".join(f"{name} -> {target}" for name, target in sorted(links.items())[:LINKS_SHOWN])
    more = f" and {len(links) - LINKS_SHOWN:,} more" if len(links) > LINKS_SHOWN else ""
    raise UsageError(
        f"{source}: refused: links lead out of it, to what would become part of the tars: {shown}{more}. If that belongs to "
        "the data set, --follow-links takes it; --exclude leaves a name out"
    )
