"""Lost audio of a clip, as decoders report it while they continue with the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["UNNOTICED_SECONDS", "Losses"]

UNNOTICED_SECONDS = 0.05
"""Seconds by which a segment may be off its stated place."""


@dataclass(slots=True)
class Losses:
    """Losses of one clip. Decoders add to them; their consequence is judged once the clip is decoded."""

    seconds: float = 0.0
    """Audio that the file holds or promises, but that was not decoded."""
    what: list[str] = field(default_factory=list)
    """Descriptions in file order, each kind of loss once."""
    shifted: bool = False
    """Audio is, or may be, missing before the next block: its place in the recording is unknown. Set as soon as decoders
    know; audio missing at the end does not count.
    """
    doubt: float = 0.0
    """Seconds by which the last audio may be off, if that exceeds the seconds missing: the file's times skip them though
    nothing is missing, or the missing duration is not known better.
    """
    torn: bool = False
    """Bytes were removed or inserted: by how much the following audio is off is unknown."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """(seconds decoded before the gap, seconds missing there) of each gap in `shifted` audio. All gaps, or none if their
    places or lengths are not known to UNNOTICED_SECONDS in total. All other losses are at the end.
    """

    @property
    def shift(self) -> float:
        """Seconds by which the last audio may be off."""
        return max(self.seconds, self.doubt)

    @property
    def are_placed(self) -> bool:
        """Whether the gaps fully determine the places of the decoded audio."""
        return (
            bool(self.gaps) and not self.torn and self.doubt <= sum(missing for _, missing in self.gaps) + UNNOTICED_SECONDS
        )

    def add(self, seconds: float, what: str) -> None:
        """Note that `seconds` are missing for the reason `what`, such as `MP3 frames that cannot be decoded`."""
        self.seconds += seconds
        if what not in self.what:
            self.what.append(what)

    def take(self, others: Losses) -> None:
        """Add other losses of the same clip."""
        self.seconds += others.seconds
        self.doubt += others.doubt
        self.shifted = self.shifted or others.shifted
        self.torn = self.torn or others.torn
        self.gaps += others.gaps
        self.what += [words for words in others.what if words not in self.what]
