"""python -m jobs.train_taste: train TASTE's aggregator on the features of a run (docs/taste.md)."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import install_words, is_installed
from jobs.commands import Verbose, run_command, setup_logging, writing_to
from jobs.devices import CUDA_ONLY, choose_device
from jobs.signals import StopFlag
from jobs.taste.settings import Settings, read_settings

if TYPE_CHECKING:
    from jobs.taste.ranks import Ranks
    from jobs.taste.trainer import Trainer

__all__ = ["train_taste"]

log = logging.getLogger("tar2tokens")


def train_taste(
    data: Annotated[
        list[Path],
        typer.Option(
            help="a run with text, speech and units (--backend taste); or several over the same tars, one --data each"
        ),
    ],
    output_dir: Annotated[Path, typer.Option(help="folder of the training; the same command resumes where it stopped")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with settings other than those of jobs/taste/defaults.yaml")
    ] = None,
    test_data: Annotated[
        list[Path] | None, typer.Option(help="runs to test on, instead of a share of --data (test_ratio)")
    ] = None,
    model_path: Annotated[str | None, typer.Option(help="folder of CosyVoice-300M; wins over --config")] = None,
    subset_ratio: Annotated[float | None, typer.Option(help="share of the clips, by a hash of their names")] = None,
    epochs: Annotated[int | None, typer.Option(help="wins over --config; a larger number trains on")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    log_file: Annotated[Path | None, typer.Option(help="log to this file too")] = None,
    verbose: Verbose = False,
) -> int:
    """Train on a finished run, writing checkpoints, metrics.csv, loss_curve.png and TensorBoard logs.

    Ends with 0 after the last epoch, 128 and the signal's number where a signal stopped it, and else not with 0. With
    torchrun, or RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and LOCAL_RANK set, it is one of several processes.
    """
    setup_logging(verbose=verbose, log_file=log_file)
    settings = read_settings(config, {"model_path": model_path, "subset_ratio": subset_ratio, "epochs": epochs})
    if missing := [package for package in ("torch", "safetensors") if not is_installed(package)]:
        raise UsageError(f"training needs {', '.join(missing)}: {install_words('train_taste')}")
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK") or 0) if device != "cpu" else 0, CUDA_ONLY)
    from jobs.taste.ranks import joined_ranks

    stop = StopFlag()
    with stop.on_signals(), joined_ranks(os.environ, chosen) as ranks:
        trainer = _prepared(settings, data, test_data or [], output_dir, chosen, ranks, stop)
        with writing_to(output_dir):
            finished = _run(trainer)
    if finished:
        return 0
    print("interrupted: run the same command again to go on", file=sys.stderr)
    return 128 + (stop.signal or signal.SIGTERM)  # or another rank's


def _prepared(
    settings: Settings,
    data: Sequence[Path],
    test_data: Sequence[Path],
    output_dir: Path,
    device: str,
    ranks: Ranks,
    stop: StopFlag,
) -> Trainer:
    from audio_tokenizers.shared.file_hashes import files_sha256
    from jobs.taste.begin import build_model, find_language_model, open_clips, prepare_device
    from jobs.taste.curves import missing_words
    from jobs.taste.sampling import split
    from jobs.taste.trainer import Parts, Trainer

    if ranks.rank:
        log.setLevel(logging.WARNING)
    prepare_device(device, settings)
    files = find_language_model(settings.model_path)
    corpus = open_clips(data, files)
    train, test = split(corpus.names, settings.subset_ratio, 0.0 if test_data else settings.test_ratio)
    test_corpus = open_clips(test_data, files) if test_data else corpus
    if test_data:
        test = split(test_corpus.names, 1.0, 1.0)[1]
    if not len(train):
        raise UsageError(f"none of {len(corpus)} clips is left to train on: raise subset_ratio, or lower test_ratio")
    with writing_to(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    model = build_model(files, settings, corpus.text_width, corpus.speech_width, device)
    parts = Parts(corpus, train.tolist(), test_corpus, test.tolist())
    trainer = Trainer(model, settings, parts, output_dir, device, str(files_sha256([files.weights])), ranks=ranks, stop=stop)
    for line in missing_words():
        log.warning("%s", line)
    log.info("%d clips to train on, %d to test on", len(train), len(test))
    counts = model.counts()
    log.info("training %s parameters: %s", f"{sum(counts.values()):,}", ", ".join(f"{k} {n:,}" for k, n in counts.items()))
    if trainer.step:
        log.info("going on after step %d, epoch %d", trainer.step, trainer.epoch + 1)
    return trainer


def _run(trainer: Trainer) -> bool:
    from audio_tokenizers.shared.torch_device import on_device

    return on_device(trainer.device, trainer.run, smaller="a smaller micro_batch_size")


if __name__ == "__main__":
    run_command(train_taste)
