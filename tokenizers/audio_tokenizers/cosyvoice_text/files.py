"""The files of a CosyVoice 1 model needed for its text embedding: `cosyvoice.yaml`, `llm.pt` and a .tiktoken file.

`cosyvoice.yaml` is HyperPyYAML, whose tags name classes; it defines which of two tokenizers the model was trained with and
the size of the embedding. The tokenizer's file is not in the model's directory: it comes with openai-whisper, or is in
CosyVoice's repository. Nothing here imports torch: a run can be planned on a login node.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from audio_tokenizers.cosyvoice_text.vocabulary import ASSETS, Vocabulary, VocabularyName, most_languages, read_vocabulary
from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.shared.hyper_yaml import read_hyper_yaml
from audio_tokenizers.shared.model_files import find_model, require_files

__all__ = ["Checkpoint", "open_checkpoint"]

CONFIG, WEIGHTS = "cosyvoice.yaml", "llm.pt"
LAYOUT = f"a CosyVoice 1 model (CosyVoice-300M, -25Hz, -SFT or -Instruct) with {CONFIG} and {WEIGHTS}"
LATER_CONFIGS = ("cosyvoice2.yaml", "cosyvoice3.yaml")
NOT_LATER = "CosyVoice 2 and 3 embed text with Qwen's table, which this backend does not read"
LANGUAGE_MODEL = "!new:cosyvoice.llm.llm.TransformerLM"
TOKENIZERS: Mapping[str, VocabularyName] = {
    "!name:whisper.tokenizer.get_tokenizer": "whisper",
    "!name:cosyvoice.tokenizer.tokenizer.get_tokenizer": "cosyvoice",
}
UPSTREAM_LANGUAGES = 99
"""Default of both tokenizers."""
SOURCES: Mapping[VocabularyName, str] = {
    "whisper": "install openai-whisper, which has it, or give it as --set tokenizer_path=FILE",
    "cosyvoice": "take it from cosyvoice/tokenizer/assets of github.com/FunAudioLLM/CosyVoice, and put it there or give it "
    "as --set tokenizer_path=FILE",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory with a supported config and a matching tokenizer; no tensor has been read."""

    config: Path
    weights: Path
    rows: int
    """Rows of the embedding: 51866, or 60515 in -25Hz."""
    width: int
    """Width of the embedding: 512."""
    tokenizer: Path
    languages: int
    """Number of language tokens in the vocabulary."""
    vocabulary: Vocabulary


def open_checkpoint(model_path: str, tokenizer_path: str | None) -> Checkpoint:
    """Open the checkpoint in a directory or of a hub id, which is downloaded only if it is not in the local cache.

    `tokenizer_path` is the .tiktoken file; None looks in the directory, then in openai-whisper. Raises ModelFilesError for
    anything that would fail to load later, and for files that do not belong together.
    """
    directory = find_model(model_path, lambda _: (WEIGHTS,), _check_directory, hub_first=(CONFIG,), layout=LAYOUT)
    _check_directory(directory)
    path = directory / CONFIG
    config, tags = read_hyper_yaml(path, "is this a CosyVoice 1 model?")
    llm, text = config.part("llm"), config.part("get_tokenizer")
    if tags["llm"] != LANGUAGE_MODEL:
        raise replace(config, advice=NOT_LATER).error(f"llm: {LANGUAGE_MODEL}", tags["llm"])
    if tags["get_tokenizer"] not in TOKENIZERS:
        raise config.error(f"get_tokenizer: {' or '.join(TOKENIZERS)}", tags["get_tokenizer"])
    name = TOKENIZERS[tags["get_tokenizer"]]
    text.require("multilingual", True)
    config.require("allowed_special", "all")
    languages = text.positive("num_languages", UPSTREAM_LANGUAGES)
    rows = llm.positive("text_token_size")
    tokenizer = _find_tokenizer(directory, name, tokenizer_path)
    vocabulary = read_vocabulary(tokenizer, name, languages)
    # -25Hz has a row for each language of its tokenizer, though its config may declare fewer.
    most = vocabulary.size + most_languages(name) - min(languages, most_languages(name))
    if rows not in {vocabulary.size, most}:
        raise ModelFilesError(
            f"{path}: expected a text_token_size of {vocabulary.size}, which is what {tokenizer} makes with {languages} "
            f"languages, found {rows}: these two do not belong together"
        )
    width = llm.positive("text_encoder_input_size")
    return Checkpoint(path, directory / WEIGHTS, rows, width, tokenizer, languages, vocabulary)


def _check_directory(directory: Path) -> None:
    for name in LATER_CONFIGS:
        if (directory / name).exists() and not (directory / CONFIG).exists():
            raise ModelFilesError(f"{directory / name}: expected {LAYOUT}: {NOT_LATER}")
    require_files(directory, [CONFIG, WEIGHTS], LAYOUT)


def _find_tokenizer(directory: Path, name: VocabularyName, given: str | None) -> Path:
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UsageError(
                f"tokenizer_path {given!r}: expected a .tiktoken file, found {'a folder' if path.exists() else 'nothing'}"
            )
        return path
    path = directory / ASSETS[name]
    if path.is_file():
        return path
    if name == "whisper" and (spec := importlib.util.find_spec("whisper")) and spec.submodule_search_locations:
        packaged = Path(spec.submodule_search_locations[0], "assets", ASSETS[name])
        if packaged.is_file():
            return packaged
    raise ModelFilesError(f"{path}: missing, and not part of the published model: {SOURCES[name]}")
