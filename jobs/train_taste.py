"""python -m jobs.train_taste: train TASTE's aggregator on the features of a run (docs/taste.md)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands import Verbose, run_command, setup_logging
from jobs.devices import CUDA_ONLY, choose_device
from jobs.signals import StopFlag
from jobs.taste.settings import read_settings
from jobs.taste.training import Training, train

__all__ = ["train_taste"]


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

    Exits 0 after the last epoch, 128 + the signal's number if a signal stopped it, 1 or 2 after an error. It is one of
    several processes if torchrun starts it, or RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and LOCAL_RANK are set.
    """
    setup_logging(verbose=verbose, log_file=log_file)
    settings = read_settings(config, {"model_path": model_path, "subset_ratio": subset_ratio, "epochs": epochs})
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK") or 0) if device != "cpu" else 0, CUDA_ONLY)
    training = Training(settings=settings.plain(), data=tuple(map(str, data)), test_data=tuple(map(str, test_data or ())))
    stop = StopFlag()
    with stop.on_signals():
        finished = train(training, output_dir, chosen, stop=stop)
    if finished:
        return 0
    print("interrupted: run the same command again to go on", file=sys.stderr)
    return 128 + (stop.signal or signal.SIGTERM)  # or another rank's


if __name__ == "__main__":
    run_command(train_taste)
