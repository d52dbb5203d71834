"""The choice of the hub, and the user's consent to licences."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from audio_tokenizers.errors import UsageError
from tools.fetching.model_sources import Hub, Licence, ModelSource

__all__ = ["choose_hub", "consent"]


def choose_hub(source: str | None, files: ModelSource) -> Hub:
    """`source`, or the hub that has the files. Raises UsageError if `source` is no hub, or does not have them."""
    if source is None:
        return "huggingface" if files.huggingface else "modelscope"
    if source not in {"huggingface", "modelscope"}:
        raise UsageError(f"--source {source!r}: expected huggingface or modelscope")
    hub: Hub = "huggingface" if source == "huggingface" else "modelscope"
    if files.repository_on(hub) is None:
        other = "modelscope" if hub == "huggingface" else "huggingface"
        raise UsageError(f"--source {hub}: {files.repository} is only known on the other one: give --source {other}")
    return hub


def consent(licences: Sequence[Licence], *, accept: bool) -> bool:
    """Print each licence; ask if one restricts use, unless `accept`. Raises UsageError if stdin is no terminal."""
    for licence in licences:
        print(f"licence: {licence.name}, {licence.url}" + (f": {licence.restriction}" if licence.restriction else ""))
    sys.stdout.flush()
    if accept or not any(licence.restriction for licence in licences):
        return True
    if not sys.stdin.isatty():
        raise UsageError("this licence restricts use: read it, and give --accept-licence if you agree")
    print("Do you agree? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
