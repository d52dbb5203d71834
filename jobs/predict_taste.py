"""python -m jobs.predict_taste: units that a trained model speaks by itself, beside the real ones (docs/taste.md)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.extras import install_words, is_installed
from jobs.commands import Verbose, run_command, setup_logging, writing_to
from jobs.devices import CUDA_ONLY, choose_device
from jobs.fileops import FileOps, write_atomically
from jobs.taste.settings import Settings

if TYPE_CHECKING:
    from jobs.taste.checkpoint import Checkpoint
    from jobs.taste.corpus import Corpus

__all__ = ["predict_taste"]

MOST_PER_TOKEN = 20.0
"""CosyVoice's own limit. A token of English text is worth about 15 units at 50 Hz."""


def predict_taste(
    training: Annotated[Path, typer.Option(help="folder of a training, with its checkpoint.pt")],
    data: Annotated[list[Path], typer.Option(help="the runs that it was trained on, or others")],
    output: Annotated[Path | None, typer.Option(help="JSON Lines with all units, one clip a line")] = None,
    clips: Annotated[int, typer.Option(help="how many; 0 is all", min=0)] = 8,
    part: Annotated[Literal["test", "train", "all"], typer.Option(help="which clips, by the training's split")] = "test",
    most_units: Annotated[
        float, typer.Option(help="units per text token after which a clip is cut", min=0)
    ] = MOST_PER_TOKEN,
    model_path: Annotated[
        str | None, typer.Option(help="folder of CosyVoice-300M, if it has moved since the training")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    verbose: Verbose = False,
) -> int:
    """Decode clips greedily from text and speech, print the first units beside the real ones, and write all of them."""
    setup_logging(verbose=verbose)
    if missing := [package for package in ("torch", "safetensors") if not is_installed(package)]:
        raise UsageError(f"prediction needs {', '.join(missing)}: {install_words('train_taste')}")
    chosen = choose_device(device, kinds=CUDA_ONLY)
    import torch

    from audio_tokenizers.shared.file_hashes import files_sha256
    from jobs.taste.begin import build_model, open_clips, prepare_device
    from jobs.taste.checkpoint import ELSEWHERE, NAME, read_checkpoint
    from jobs.taste.lm_files import find_language_model
    from jobs.taste.prediction import predict

    checkpoint = read_checkpoint(training)
    if checkpoint is None:
        raise UsageError(
            f"--training {training}: expected a folder with {NAME}, as {called('jobs.train_taste')} writes it, found none"
        )
    settings = msgspec.convert(checkpoint.settings, Settings)
    prepare_device(chosen, settings)
    files = find_language_model(model_path or settings.model_path)
    if str(files_sha256([files.weights])) != checkpoint.llm_sha256:
        raise UsageError(f"{files.weights}: the training had another one: give its folder as --model-path")
    corpus = open_clips(data, files)
    if (corpus.text_width, corpus.speech_width) != (checkpoint.text_width, checkpoint.speech_width):
        raise UsageError(
            f"--data: text and speech of {corpus.text_width} and {corpus.speech_width} floats, the training had "
            f"{checkpoint.text_width} and {checkpoint.speech_width}"
        )
    model = build_model(files, settings, corpus.text_width, corpus.speech_width, chosen).eval()
    trained = model.trained()
    with torch.no_grad():
        for name, value in checkpoint.weights.items():
            trained[name].copy_(value)
    numbers = _parts(checkpoint, settings, corpus)[part]
    if not numbers:
        why = " (the training was tested on other runs)" if checkpoint.corpus.endswith(ELSEWHERE) else ""
        raise UsageError(f"--part {part}: none of the {len(corpus)} clips is in it{why}: take --part all")
    lines = []
    for found in predict(model, corpus, numbers[: clips or None], chosen, most_units):
        print(found.words())
        lines.append(msgspec.json.encode(found.line()) + b"\n")
    corpus.close()
    if output is not None:
        with writing_to(output):
            write_atomically(FileOps(), output, b"".join(lines))
    return 0


def _parts(checkpoint: Checkpoint, settings: Settings, corpus: Corpus) -> dict[str, list[int]]:
    """Numbers of the clips that --part means. Those of other runs are all to test on if the training was tested on some."""
    from jobs.taste.checkpoint import ELSEWHERE
    from jobs.taste.sampling import split

    every = list(range(len(corpus)))
    elsewhere = checkpoint.corpus.endswith(ELSEWHERE)
    if elsewhere and checkpoint.corpus != corpus.fingerprint() + ELSEWHERE:
        return {"train": [], "test": every, "all": every}
    train, test = split(corpus.names, settings.subset_ratio, 0.0 if elsewhere else settings.test_ratio)
    return {"train": train.tolist(), "test": test.tolist(), "all": every}


if __name__ == "__main__":
    run_command(predict_taste)
