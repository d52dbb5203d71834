"""Pure: options of the tools that this project replaces (docs/coming-from.md) and that it does not have, with what to do."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from audio_tokenizers.shared.command_names import called

__all__ = ["answer_old_option"]

MODEL_DIR = "the folder of the weights is --model-path"
DEVICE = "the device of the whole backend is --device: auto, cpu, cuda or mps"
TOKENIZING: Mapping[str, str] = {
    "--sample-rate": "a codec has one rate; clips are resampled to it; leave the option out",
    "--model-dir": MODEL_DIR,
    "--trim": "it is an option of the backend: --set trim=true",
    "--funasr-device": DEVICE,
    "--torch-threads": "a worker computes with one thread, which decides its tokens; leave the option out",
    "--resume": "the same command always resumes; leave the option out",
    "--no-done": "there are no .done files: a .jsonl is complete once it is there; leave the option out",
    "--output-text": "each backend's run has one folder: --backend cosyvoice_text --output-dir FOLDER",
    "--output-whisper": "each backend's run has one folder: --backend whisper_features --output-dir FOLDER",
    "--jsonl": "{tools.pack} FILE.jsonl packs the clips of a manifest into tars",
}
RUNS: Mapping[str, str] = {
    "--input-dir": "{tools.generate_tar_list} --input-dir DIR lists the tars of a folder; --list takes the list",
    "--num-proc": "the number of processes is --workers on this machine, and --procs-per-gpu for each GPU",
    "--shard-count": "tars are the shards, and --workers or the cluster share them out; leave the option out",
    "--shard-index": "tars are the shards, and --workers or the cluster share them out; leave the option out",
    "--skip-existing": "finished tars are always skipped; leave the option out",
}
MODULE = re.compile(r"\{([\w.]+)\}")
OLD_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "tokenize_tar": TOKENIZING,
    "submit": {**TOKENIZING, **RUNS},
    "pack": {
        "--no-extract": "give the folder with the extracted files as SOURCE",
        "--extract-dir": "nothing is extracted to disk: give the archive or an extracted folder as SOURCE",
        "--out": "tars go to --output-dir; {tools.merge} makes one .jsonl.gz of their tokens",
        "--exclude-placeholder": "give a pattern: --exclude '*Placeholder*'",
        "--jsonl": "give the manifest as SOURCE",
        "--extensions": "audio is known by its extension; leave some out with --exclude '*.EXTENSION'",
    },
    "fetch_model": {"--deep-verify": "it is called --deep"},
}
"""Command -> option -> what to do instead; {MODULE} stands for the command of that module."""


def answer_old_option(command: str, words: Sequence[str], own: Collection[str]) -> str | None:
    """What to say about the first of `words` that is an old option, with - or _ in it, and none of the command's `own`."""
    known = OLD_OPTIONS.get(command, {})
    for word in words:
        if word == "--":
            break
        flag = word.partition("=")[0]
        answer = known.get(flag.replace("_", "-"))
        if answer is not None and flag not in own:
            return f"{flag}: {MODULE.sub(lambda found: called(found[1]), answer)}"
    return None
