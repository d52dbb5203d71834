"""Units that a trained model speaks by itself, beside the real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.plain_text import plain
from jobs.taste.batches import collate
from jobs.taste.corpus import Clip, Corpus
from jobs.taste.model import Taste

__all__ = ["Prediction", "predict"]

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Prediction:
    """One clip, decoded greedily."""

    clip: Clip
    predicted: list[int]

    @property
    def agreement(self) -> float:
        """Share of places with the same unit, of the longer of both: what is missing or too much counts as wrong."""
        real: list[int] = self.clip.units.tolist()
        same = sum(one == other for one, other in zip(real, self.predicted, strict=False))
        return same / max(len(real), len(self.predicted))

    def line(self) -> dict[str, Any]:
        """As in the JSONL file."""
        return {
            "tar_file": self.clip.tar_file,
            "audio_file": self.clip.audio_file,
            "text": self.clip.transcript,
            "units": self.clip.units.tolist(),
            "predicted": self.predicted,
            "agreement": round(self.agreement, 6),
        }

    def words(self) -> str:
        """The first units of each, as the script that this replaces prints them."""
        real = self.clip.units.tolist()
        return (
            f"{plain(self.clip.audio_file)} ({plain(self.clip.transcript)})\n"
            f"  real      {_shown(real)}\n  predicted {_shown(self.predicted)}\n  agreement {self.agreement:.3f}"
        )


def _shown(units: Sequence[int]) -> str:
    return f"{' '.join(map(str, units[:SHOWN]))}{' ...' if len(units) > SHOWN else ''} ({len(units)})"


def predict(
    model: Taste, corpus: Corpus, numbers: Sequence[int], device: str, most_per_token: float
) -> Iterator[Prediction]:
    """Each clip by itself, up to `most_per_token` units per text token. The model is in evaluation mode."""
    for number in numbers:
        clip = corpus.read(number)
        batch = collate([clip]).to(device)
        (units,) = model.decode(batch, [max(1, round(most_per_token * len(clip.text)))])
        yield Prediction(clip, units)
