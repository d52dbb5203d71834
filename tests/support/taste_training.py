"""A tiny training: its model, its run, and a trainer in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.taste.begin import build_model, open_clips
from jobs.taste.lm_files import find_language_model
from jobs.taste.sampling import split
from jobs.taste.settings import read_settings
from jobs.taste.trainer import Parts, Trainer

__all__ = ["losses_of", "make_trainer"]


def make_trainer(model: Path, run: Path, folder: Path, changes: dict[str, Any] | None = None, **settings: Any) -> Trainer:
    """`changes` are settings of the training, `settings` arguments of Trainer."""
    device = settings.pop("device", "cpu")
    chosen = read_settings(
        None, {"model_path": str(model), "epochs": 3, "test_ratio": 0.2, "learning_rate": 3e-3, **(changes or {})}
    )
    files = find_language_model(chosen.model_path)
    corpus = open_clips([run], files)
    train, test = split(corpus.names, chosen.subset_ratio, chosen.test_ratio)
    network = build_model(files, chosen, corpus.text_width, corpus.speech_width, device)
    folder.mkdir(exist_ok=True)
    return Trainer(network, chosen, Parts(corpus, train.tolist(), corpus, test.tolist()), folder, device, "sha", **settings)


Losses = dict[int, float]


def losses_of(make: Callable[..., Trainer]) -> tuple[Trainer, Losses, bool]:
    """A trainer that has run, the loss of each step, and whether it came to the end."""
    losses: Losses = {}
    trainer = make(on_step=losses.__setitem__)
    finished = trainer.run()
    trainer.parts.corpus.close()
    return trainer, losses, finished
