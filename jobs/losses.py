"""What of a clip could not be decoded, as decoders tell it while they go on with the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Losses"]


@dataclass(slots=True)
class Losses:
    """Of one clip. Decoders add to it; what it means for the clip is judged when all is decoded."""

    seconds: float = 0.0
    """Audio that the file holds, or promises, and that no decoder gave."""
    what: list[str] = field(default_factory=list)
    """In words, in the order of the file, each kind of loss once."""

    def add(self, seconds: float, what: str) -> None:
        """Note that `seconds` are missing for the reason `what`, such as `MP3 frames that cannot be decoded`."""
        self.seconds += seconds
        if what not in self.what:
            self.what.append(what)

    def take(self, others: Losses) -> None:
        """Add what has been told elsewhere of the same clip."""
        self.seconds += others.seconds
        self.what += [words for words in others.what if words not in self.what]
