"""Speech in tar archives -> discrete codec tokens: reading what a run has made, and encoding single clips, from Python.

    from tar2tokens import read_run

    for clip in read_run("tokens"):            # or read_run("all.jsonl.gz")
        clip.tokens, clip.seconds, clip.text   # int64 [codebooks, frames]

    from tar2tokens import join_runs

    for clip in join_runs("text", "whisper"):  # the keys of both, of each clip that both have
        clip.arrays["text_tokens"], clip.arrays["mid"]

    from torch.utils.data import DataLoader
    from tar2tokens import TokenDataset

    for clips in DataLoader(TokenDataset("tokens"), batch_size=16, num_workers=4, collate_fn=list):
        clips[0]["tokens"], clips[0]["text"]

    from tar2tokens import load_backend

    higgs = load_backend("higgs", model_path="/models/higgs-audio-v2-tokenizer")
    higgs.encode(audio, 44100)["tokens"]       # as a run would; or higgs.encode_file("a.mp3")

What a name needs is imported when the name is first used: only `TokenDataset` and the backends need torch. The commands
are `tar2tokens --help`.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audio_tokenizers.step_audio.tokenizer import StepAudioTokenizer
    from jobs.loaded_backend import LoadedBackend, load_backend
    from tools.joined_runs import JoinedRuns, join_runs
    from tools.reader import TokenizedClip, read_run
    from tools.torch_dataset import TokenDataset

    __version__: str

__all__ = [
    "JoinedRuns",
    "LoadedBackend",
    "StepAudioTokenizer",
    "TokenDataset",
    "TokenizedClip",
    "__version__",
    "join_runs",
    "load_backend",
    "read_run",
]

MODULES = {
    "JoinedRuns": "tools.joined_runs",
    "LoadedBackend": "jobs.loaded_backend",
    "StepAudioTokenizer": "audio_tokenizers.step_audio.tokenizer",
    "TokenDataset": "tools.torch_dataset",
    "TokenizedClip": "tools.reader",
    "join_runs": "tools.joined_runs",
    "load_backend": "jobs.loaded_backend",
    "read_run": "tools.reader",
}
"""Name -> where it is."""


def own_packages_first() -> None:
    """See jobs/run_module.py, which is loaded by its path: another `jobs` may come first on sys.path."""
    place = Path(__file__).absolute().parent.parent / "jobs" / "run_module.py"
    spec = importlib.util.spec_from_file_location("tar2tokens.run_module", place)
    if spec is None or spec.loader is None:
        raise ImportError(f"{place}: expected a module of tar2tokens; install it again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.own_packages_first()


def __getattr__(name: str) -> object:
    """Import what belongs to a name that is used for the first time."""
    if name not in (*MODULES, "__version__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    own_packages_first()
    if name == "__version__":
        value = importlib.import_module("jobs.version").version()
    else:
        try:
            value = getattr(importlib.import_module(MODULES[name]), name)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ImportError(f"tar2tokens.{name} needs torch, which is not installed: pip install torch") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
