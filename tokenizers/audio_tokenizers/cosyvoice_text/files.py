"""The files of a CosyVoice 1 model that its text embedding needs: `cosyvoice.yaml`, `llm.pt` and a .tiktoken file.

`cosyvoice.yaml` is HyperPyYAML, whose tags name the classes; it says which of two tokenizers the model was trained with
and how large the embedding is. The tokenizer's file is not in the model's directory: it comes with openai-whisper, or lies
in CosyVoice's repository. Nothing here imports torch, so that a run can be planned on a login node.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audio_tokenizers.cosyvoice_text.vocabulary import ASSETS, Vocabulary, VocabularyName, most_languages, read_vocabulary
from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.shared.model_files import find_model, require_files
from audio_tokenizers.shared.wording import shown
from audio_tokenizers.shared.yaml_loading import describe_yaml_error

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
"""What both tokenizers take when the config does not say."""
SOURCES: Mapping[VocabularyName, str] = {
    "whisper": "install openai-whisper, which has it, or give it as --set tokenizer_path=FILE",
    "cosyvoice": "take it from cosyvoice/tokenizer/assets of github.com/FunAudioLLM/CosyVoice, and put it there or give it "
    "as --set tokenizer_path=FILE",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory whose config was understood and whose tokenizer fits it; no tensor has been read."""

    config: Path
    weights: Path
    rows: int
    """Of the embedding: 51866, or 60515 in -25Hz."""
    width: int
    """Of the embedding: 512."""
    tokenizer: Path
    languages: int
    """Language tokens of the vocabulary."""
    vocabulary: Vocabulary


def open_checkpoint(model_path: str, tokenizer_path: str | None) -> Checkpoint:
    """The checkpoint in a directory, or of a hub id, which is downloaded only if the local cache does not have it.

    `tokenizer_path` is the .tiktoken file; None looks in the directory, then in openai-whisper. Raises ModelFilesError on
    anything that could not be loaded later, or that does not fit together.
    """
    directory = find_model(model_path, lambda _: (WEIGHTS,), _check_directory, hub_first=(CONFIG,), layout=LAYOUT)
    _check_directory(directory)
    path = directory / CONFIG
    config = _Config(path)
    if config.tag("llm") != LANGUAGE_MODEL:
        raise config.error(f"llm: {LANGUAGE_MODEL}", config.tag("llm"), NOT_LATER)
    name = TOKENIZERS.get(config.tag("get_tokenizer"))
    if name is None or config.value("get_tokenizer", "multilingual") != "True":
        raise config.error(f"get_tokenizer: {' or '.join(TOKENIZERS)}, multilingual", config.tag("get_tokenizer"))
    if config.value("allowed_special") != "all":
        raise config.error("allowed_special: 'all'", config.value("allowed_special"))
    languages = config.positive("get_tokenizer", "num_languages", default=UPSTREAM_LANGUAGES)
    rows = config.positive("llm", "text_token_size")
    tokenizer = _find_tokenizer(directory, name, tokenizer_path)
    vocabulary = read_vocabulary(tokenizer, name, languages)
    # -25Hz has a row for each language that its tokenizer knows, though its config may name fewer of them.
    most = vocabulary.size + most_languages(name) - min(languages, most_languages(name))
    if rows not in {vocabulary.size, most}:
        raise ModelFilesError(
            f"{path}: expected a text_token_size of {vocabulary.size}, which is what {tokenizer} makes with {languages} "
            f"languages, found {rows}: these two do not belong together"
        )
    width = config.positive("llm", "text_encoder_input_size")
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


class _Config:
    """Checked access to HyperPyYAML without running what its tags name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            reason = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else str(error)
            raise ModelFilesError(f"{path}: expected YAML, found something else ({reason})") from None
        self._root = _items(node)

    def error(self, expected: str, found: object, advice: str = "is this a CosyVoice 1 model?") -> ModelFilesError:
        return ModelFilesError(f"{self._path}: expected {expected}, found {shown(found)}: {advice}")

    def tag(self, key: str) -> str:
        """The tag of a top-level value, as in `key: !new:module.Class`."""
        return self._root[key].tag if key in self._root else f"no {key!r}"

    def value(self, *keys: str) -> str:
        """The scalar at `keys`; `!ref <name>` is what stands at `name` of the top level."""
        node: Any = None
        items = self._root
        for key in keys:
            node = items.get(key)
            items = _items(node)
        if node is not None and node.tag == "!ref" and (match := re.fullmatch(r"<(\w+)>", str(node.value))):
            node = self._root.get(match[1])
        return str(node.value) if isinstance(node, yaml.ScalarNode) else f"no {keys[-1]!r}"

    def positive(self, *keys: str, default: int | None = None) -> int:
        value = self.value(*keys)
        if default is not None and value.startswith("no "):
            return default
        if not re.fullmatch(r"[1-9]\d{0,8}", value):
            raise self.error(f"a positive integer {keys[-1]!r}", value)
        return int(value)


def _items(node: Any) -> dict[str, Any]:  # noqa: ANN401 - PyYAML has no types for what it composes
    """The entries of a mapping node by their key; nothing of any other node."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): value for key, value in node.value}
