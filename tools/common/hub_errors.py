"""What the hub's refusals and a failing connection mean, for all commands that fetch from it."""

from __future__ import annotations

import sys

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared import wording

__all__ = ["client_errors", "first_line", "gated", "is_of_the_disk"]

MOST_CHARACTERS = 200


def client_errors() -> tuple[type[BaseException], ...]:
    """What huggingface_hub's HTTP client raises: requests up to 0.36, whose errors are OSErrors, then httpx and httpx2."""
    return (OSError, *(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules))


def is_of_the_disk(error: BaseException) -> bool:
    """Whether one of `client_errors` comes from the file system, and not from the network."""
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError))


def gated(place: str, page: str) -> UsageError:
    """The error for a repository that asks for consent; `page` is its path on the hub."""
    return UsageError(
        f"{place}: gated repository: accept its terms at https://huggingface.co/{page}, then `hf auth login` or set HF_TOKEN"
    )


def first_line(error: BaseException) -> str:
    """The first line of the error's text that is not empty, cut to a length for one message."""
    return wording.first_line(error, MOST_CHARACTERS)
