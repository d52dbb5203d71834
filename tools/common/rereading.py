"""Reads a run's tar again as the run read it: its clips match the run's records, by index and name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.manifest import VERDICT_COMPLETE, Manifest
from jobs.parts import Cutting
from jobs.spec import TokenizeSpec
from jobs.subset import Subset
from jobs.tar_reader import TarReader
from jobs.tar_source import TarSource
from jobs.text_rules import TextRules

__all__ = ["Rereading"]


@dataclass(frozen=True)
class Rereading:
    """The settings of `TarReader` that decide which members of a tar are clips."""

    extensions: Sequence[str]
    sniff: bool = False
    follow_links: bool = True
    texts: TextRules | None = None
    """How sidecars are read and found. None if no segments are cut: no clip depends on sidecars then, and the tar is not
    scanned for them.
    """
    cutting: Cutting | None = None
    subset_ratio: float = 1.0
    """The share of the clips that the run takes."""

    @classmethod
    def of(cls, spec: TokenizeSpec, manifest: Manifest | None) -> Rereading:
        """Those of a run, for the tar of `manifest`. Files from versions in which links were no clips do not count links."""
        is_old = manifest is not None and manifest.verdict == VERDICT_COMPLETE and manifest.linked_clips is None
        texts = spec.text_rules if spec.segments else None
        return cls(spec.extensions, spec.sniff, not is_old, texts, Cutting.of(spec), spec.subset_ratio)

    def open(self, tar: TarSource, *, skip_clips: int = 0) -> TarReader:
        """Begin to read. The tar's end was judged when it was tokenized. Raises TarDamage, UsageError and OSError."""
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
            subset=Subset.of(self.subset_ratio, tar),
        )
