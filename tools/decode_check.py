"""python -m tools.decode_check: decode some clips' tokens to audio, to hear and measure beside the originals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from hpc.progress import scan
from hpc.run import Run
from jobs.commands import Verbose, run_command, setup_logging
from jobs.devices import choose_device
from jobs.spec import read_spec
from tools.listening.clips import choose_clips
from tools.listening.comparison import compare_all, render
from tools.listening.decoders import decoding_factory, load_decoder

__all__ = ["decode_check"]


def decode_check(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    clips: Annotated[int, typer.Option(min=1, help="how many clips, at random")] = 8,
    seed: Annotated[int, typer.Option(help="which ones: the same seed picks the same clips of the same run")] = 0,
    wav_dir: Annotated[Path, typer.Option(help="where to write NNN.original.wav and NNN.decoded.wav")] = Path(
        "decode_check"
    ),
    model_path: Annotated[str | None, typer.Option(help="where the model is now; default: where it was for the run")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or mps: a Mac's GPU")] = "auto",
    verbose: Verbose = False,
) -> int:
    """Decode random committed clips and compare them with their originals. Exits 1 if one fails, or has another length."""
    setup_logging(verbose=verbose)
    run = Run(output_dir.absolute())
    spec = read_spec(run.output_dir)
    if spec is None:
        raise UsageError(f"{run.output_dir}: no run here yet: give another --output-dir")
    decoding_factory(spec)
    states = [state for state in scan(run, run.listed()) if state.state == "committed"]
    picks = choose_clips(states, run, clips, seed)
    if not picks:
        raise UsageError(f"{run.output_dir}: no committed clip with tokens yet: see {called('tools.check_progress')}")
    decoder = load_decoder(spec, model_path, choose_device(device))
    verdicts = compare_all(picks, decoder, spec, wav_dir)
    print(render(verdicts, spec, wav_dir))
    return 1 if any(verdict.fault is not None for verdict in verdicts) else 0


if __name__ == "__main__":
    run_command(decode_check)
