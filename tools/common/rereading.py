"""A run's tar, read once more as the run read it: its clips are those of the run's records, by index and name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.parts import Cutting
from jobs.records import VERDICT_COMPLETE, Manifest
from jobs.spec import TokenizeSpec
from jobs.tar_reader import TarReader
from jobs.tar_source import TarSource
from jobs.text_rules import TextRules

__all__ = ["Rereading"]


@dataclass(frozen=True)
class Rereading:
    """What decides which members of a tar are clips, as `TarReader` takes it."""

    extensions: Sequence[str]
    sniff: bool = False
    follow_links: bool = True
    texts: TextRules | None = None
    """How sidecars are read and found. None where no segments are cut: no clip depends on it, and the tar need not be looked
    over.
    """
    cutting: Cutting | None = None

    @classmethod
    def of(cls, spec: TokenizeSpec, manifest: Manifest | None) -> Rereading:
        """That of a run, for the tar of which `manifest` speaks. Files from before links were clips do not count them."""
        is_old = manifest is not None and manifest.verdict == VERDICT_COMPLETE and manifest.linked_clips is None
        texts = spec.text_rules if spec.segments else None
        return cls(spec.extensions, spec.sniff, not is_old, texts, Cutting.of(spec))

    def open(self, tar: TarSource, *, skip_clips: int = 0) -> TarReader:
        """Begin to read; how the tar ends was judged when it was tokenized. Raises TarDamage, UsageError and OSError."""
        return TarReader(
            tar,
            self.extensions,
            skip_clips=skip_clips,
            sniff=self.sniff,
            follow_links=self.follow_links,
            allow_missing_end=True,
            allow_joined=True,
            texts=self.texts,
            cutting=self.cutting,
        )
