"""One training from its order to its end: what the command, and a task of hpc, do in each of its processes."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import install_words, is_installed
from jobs.claims import Claim, Hold, nobody_knows
from jobs.commands import writing_to
from jobs.fileops import FileOps
from jobs.spec import spec_path
from jobs.taste.settings import Settings, read_settings

if TYPE_CHECKING:
    from jobs.taste.ranks import Ranks
    from jobs.taste.trainer import Trainer

__all__ = ["NAME", "Owner", "Training", "train"]

NAME = "training"
"""Of its claim, and of the one thing that a task of it tries."""

log = logging.getLogger("tar2tokens")


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What is trained, on what."""

    settings: dict[str, Any]
    """As Settings.plain gives them."""
    data: tuple[str, ...]
    """Folders of runs."""
    test_data: tuple[str, ...] = ()
    """Folders of runs to test on, instead of a share of `data`."""
    contents: str = ""
    """Fingerprint of what these runs hold, when the training was submitted; empty if it was not."""

    def chosen(self) -> Settings:
        """Its settings. Raises UsageError where they are of another version."""
        return read_settings(None, self.settings)


class Owner(msgspec.Struct, frozen=True):
    """On whose behalf a process trains, for its claim."""

    task: str = ""
    gone: Callable[[str], bool] = nobody_knows
    """Whether the task that another claim names has ended."""


def train(
    training: Training,
    output_dir: Path,
    device: str,
    *,
    stop: Callable[[], bool],
    environment: Mapping[str, str] = os.environ,
    listener: socket.socket | None = None,
    owner: Owner = Owner(),  # noqa: B008 (immutable)
) -> bool:
    """Train until the last epoch or until `stop`; whether it came to the end. Every rank makes this call.

    `environment` and `listener` say which rank of how many this is (jobs/taste/ranks.py). Raises ClaimLostError if another
    process trains in the folder, UsageError, InfrastructureError.
    """
    if missing := [package for package in ("torch", "safetensors") if not is_installed(package)]:
        raise UsageError(f"training needs {', '.join(missing)}: {install_words('train_taste')}")
    from audio_tokenizers.shared.torch_device import on_device
    from jobs.taste.ranks import joined_ranks

    with joined_ranks(environment, device, listener) as ranks, contextlib.ExitStack() as held:

        def claim() -> None:
            if ranks.rank == 0:
                held.enter_context(_claimed(output_dir, owner))

        trainer = _prepared(training, output_dir, device, ranks, stop, claim)
        with writing_to(output_dir):
            return on_device(trainer.device, trainer.run, smaller="a smaller micro_batch_size")


@contextlib.contextmanager
def _claimed(output_dir: Path, owner: Owner) -> Iterator[None]:
    """Hold the folder: two trainings in it would replace each other's checkpoints."""
    path = output_dir / ".run" / "claims" / f"{NAME}.json"
    mine = Claim.of_this_process(uuid.uuid4().hex[:12], owner.task)
    with writing_to(output_dir):
        hold = Hold.take(FileOps(), path, mine, name=str(output_dir), gone=owner.gone)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            hold.give_back()


def _prepared(
    training: Training, output_dir: Path, device: str, ranks: Ranks, stop: Callable[[], bool], claim: Callable[[], None]
) -> Trainer:
    """The training as its last checkpoint has it. `claim` is called before anything is read from the folder."""
    from audio_tokenizers.shared.file_hashes import files_sha256
    from jobs.taste.begin import build_model, open_clips, prepare_device
    from jobs.taste.curves import missing_words
    from jobs.taste.lm_files import find_language_model
    from jobs.taste.sampling import split
    from jobs.taste.trainer import Parts, Trainer

    if ranks.rank:
        log.setLevel(logging.WARNING)
    settings = training.chosen()
    prepare_device(device, settings)
    files = find_language_model(settings.model_path)
    corpus = open_clips([Path(folder) for folder in training.data], files)
    train_part, test = split(corpus.names, settings.subset_ratio, 0.0 if training.test_data else settings.test_ratio)
    test_corpus = corpus
    if training.test_data:
        test_corpus = open_clips([Path(folder) for folder in training.test_data], files)
        test = split(test_corpus.names, 1.0, 1.0)[1]
    if not len(train_part):
        raise UsageError(f"none of {len(corpus)} clips is left to train on: raise subset_ratio, or lower test_ratio")
    with writing_to(output_dir):
        if spec_path(output_dir).exists():
            raise UsageError(f"--output-dir {output_dir}: it holds a run of tokens: give another folder for the training")
        output_dir.mkdir(parents=True, exist_ok=True)
    claim()
    model = build_model(files, settings, corpus.text_width, corpus.speech_width, device)
    parts = Parts(corpus, train_part.tolist(), test_corpus, test.tolist())
    trainer = Trainer(model, settings, parts, output_dir, device, str(files_sha256([files.weights])), ranks=ranks, stop=stop)
    for line in missing_words():
        log.warning("%s", line)
    log.info("%d clips to train on, %d to test on", len(train_part), len(test))
    counts = model.counts()
    log.info("training %s parameters: %s", f"{sum(counts.values()):,}", ", ".join(f"{k} {n:,}" for k, n in counts.items()))
    if trainer.step:
        log.info("going on after step %d, epoch %d", trainer.step, trainer.epoch + 1)
    return trainer
