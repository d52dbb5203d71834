"""HyperPyYAML, the format of CosyVoice's configs, read without running what its tags name.

`!new:`, `!name:` and `!apply:` name Python objects, which stay names here; `!ref <name>` is the scalar at `name` of the top
level. Source: https://github.com/speechbrain/HyperPyYAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.config_reader import ConfigReader
from audio_tokenizers.shared.yaml_loading import describe_yaml_error

__all__ = ["read_hyper_yaml"]


def read_hyper_yaml(path: Path, advice: str) -> tuple[ConfigReader, Mapping[str, str]]:
    """The scalars and mappings of the file, and the tag of each entry by its dotted keys (`llm.text_encoder`).

    `advice` ends each message about the values. Raises ModelFilesError if the file is no YAML.
    """
    try:
        top = _items(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
        tags: dict[str, str] = {}
        values = {key: _value(node, top, key, tags) for key, node in top.items()}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else str(error)
        raise ModelFilesError(f"{path}: expected YAML, found something else ({reason})") from None
    return ConfigReader(path, values, advice=advice), tags


def _value(node: Any, top: Mapping[str, Any], place: str, tags: dict[str, str]) -> object:  # noqa: ANN401 - PyYAML has no types for what it composes
    """A mapping, the value of a scalar, or the tag of anything else; notes the tag of each entry."""
    tags[place] = node.tag
    if isinstance(node, yaml.MappingNode):
        return {name: _value(item, top, f"{place}.{name}", tags) for name, item in _items(node).items()}
    if node.tag == "!ref" and (match := re.fullmatch(r"<(\w+)>", str(node.value))):
        node = top.get(match[1], node)
    if not isinstance(node, yaml.ScalarNode):
        return node.tag
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError, KeyError, AttributeError):  # a tag of others, or not a value of its type
        return f"{node.tag} {node.value}"


def _items(node: Any) -> dict[str, Any]:  # noqa: ANN401 - PyYAML has no types for what it composes
    """The entries of a mapping node by their key; nothing of any other node."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): value for key, value in node.value}
