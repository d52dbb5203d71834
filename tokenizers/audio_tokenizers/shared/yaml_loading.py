"""YAML, and what is wrong with it in words for whoever reads the message."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["describe_yaml_error", "load_yaml"]


def load_yaml(text: str | bytes, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:  # noqa: ANN401 (a file may hold anything)
    """What the text says. Raises yaml.YAMLError on all that is no YAML, UnicodeDecodeError on other bytes than text: of a
    date in month 13, of `!!bool x` and of brackets without an end PyYAML itself tells in other ways.
    """
    try:
        return yaml.load(text, loader)  # noqa: S506 (a SafeLoader)
    except UnicodeDecodeError:
        raise
    except (ValueError, KeyError, AttributeError) as error:
        raise yaml.YAMLError(f"a value that is none of its type: {error}") from None
    except RecursionError:
        raise yaml.YAMLError("nested too deep") from None


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
