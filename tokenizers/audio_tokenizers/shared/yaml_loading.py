"""Loading YAML, and its errors rendered in one line."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["describe_yaml_error", "load_yaml"]


def load_yaml(text: str | bytes, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:  # noqa: ANN401 (a file may hold anything)
    """The value of the text. Raises yaml.YAMLError on invalid YAML, and UnicodeDecodeError on bytes that are not text.

    PyYAML itself raises other exceptions for a date in month 13, `!!bool x`, and brackets nested too deep.
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
        reason = getattr(error, "reason", None)  # of characters that YAML forbids
        return (
            f"character {error.position}: {reason}" if isinstance(error, yaml.reader.ReaderError) else str(reason or error)
        )
    return f"line {mark.line + 1}, column {mark.column + 1}: {words}"
