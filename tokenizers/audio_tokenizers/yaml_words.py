"""What is wrong with a YAML file, in words for whoever reads the message."""

from __future__ import annotations

import yaml

__all__ = ["describe_yaml_error"]


def describe_yaml_error(error: yaml.YAMLError) -> str:
    """`line 3, column 7: expected ',' or '}', but got '<stream end>'`. yaml itself calls every file `<unicode string>`."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    words = getattr(error, "problem", None) or getattr(error, "context", None)
    if mark is None or words is None:
        reason = getattr(error, "reason", None)  # of characters that no YAML file has
        return (
            f"character {error.position}: {reason}" if isinstance(error, yaml.reader.ReaderError) else str(reason or error)
        )
    return f"line {mark.line + 1}, column {mark.column + 1}: {words}"
