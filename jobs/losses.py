"""What of a clip could not be decoded, as decoders tell it while they go on with the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["UNNOTICED_SECONDS", "Losses"]

UNNOTICED_SECONDS = 0.05
"""How far a segment may stand from where its list says that it is."""


@dataclass(slots=True)
class Losses:
    """Of one clip. Decoders add to it; what it means for the clip is judged when all is decoded."""

    seconds: float = 0.0
    """Audio that the file holds, or promises, and that no decoder gave."""
    what: list[str] = field(default_factory=list)
    """In words, in the order of the file, each kind of loss once."""
    shifted: bool = False
    """Something is missing, or may be, before what decoders give next: its place in the recording is not known. It is said
    as soon as decoders know, and not of what is missing at the end.
    """
    doubt: float = 0.0
    """Seconds by which what comes last may be off, if that is more than what is missing: the file's times pass over them
    though nothing is missing, or nobody knows better how much is.
    """
    torn: bool = False
    """Bytes were taken out or put in: by how much what follows is off nobody can tell."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """Where what is `shifted` lacks something: after so many seconds of what was decoded, so many. All such places, or none
    where they or their lengths are not known to UNNOTICED_SECONDS in all. What else is missing is so at the end.
    """

    @property
    def shift(self) -> float:
        """By how many seconds what comes last may be off."""
        return max(self.seconds, self.doubt)

    @property
    def are_placed(self) -> bool:
        """The gaps say all about the places of what was decoded."""
        return (
            bool(self.gaps) and not self.torn and self.doubt <= sum(missing for _, missing in self.gaps) + UNNOTICED_SECONDS
        )

    def add(self, seconds: float, what: str) -> None:
        """Note that `seconds` are missing for the reason `what`, such as `MP3 frames that cannot be decoded`."""
        self.seconds += seconds
        if what not in self.what:
            self.what.append(what)

    def take(self, others: Losses) -> None:
        """Add what has been told elsewhere of the same clip."""
        self.seconds += others.seconds
        self.doubt += others.doubt
        self.shifted = self.shifted or others.shifted
        self.torn = self.torn or others.torn
        self.gaps += others.gaps
        self.what += [words for words in others.what if words not in self.what]
