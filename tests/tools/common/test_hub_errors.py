"""tools/common/hub_errors.py: the network's trouble is told from the disk's, and each is one line."""

from __future__ import annotations

import errno
import sys
from types import SimpleNamespace

import pytest

from tools.common.hub_errors import client_errors, first_line, gated, is_of_the_disk


class ClientError(Exception):
    """As httpx has one, which is no OSError."""


@pytest.mark.parametrize("client", ["httpx", "httpx2"])
def test_errors_of_the_client_that_is_in_use(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub has changed its client before: whichever is imported counts, and OSError always."""
    monkeypatch.delitem(sys.modules, "httpx", raising=False)
    monkeypatch.delitem(sys.modules, "httpx2", raising=False)
    assert client_errors() == (OSError,)
    monkeypatch.setitem(sys.modules, client, SimpleNamespace(HTTPError=ClientError))
    assert client_errors() == (OSError, ClientError)


@pytest.mark.parametrize(
    ("error", "disk"),
    [
        (OSError(errno.ENOSPC, "No space left"), True),
        (PermissionError(errno.EACCES, "denied"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), False),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), False),
        (OSError("requests raises those without a number"), False),
        (ClientError("no route"), False),
    ],
)
def test_the_disk_is_told_from_the_network(error: Exception, disk: bool) -> None:
    """Trying again where there is network would not help against a full disk."""
    assert is_of_the_disk(error) is disk


def test_a_gated_repository() -> None:
    """The page where its terms are accepted, which for a data set is another than for a model."""
    assert str(gated("lab/speech", "datasets/lab/speech")) == (
        "lab/speech: gated repository: accept its terms at https://huggingface.co/datasets/lab/speech, then `hf auth login` "
        "or set HF_TOKEN"
    )


def test_one_line() -> None:
    """Of errors that fill a screen, and of those that say nothing."""
    assert first_line(ValueError("\n  first \nsecond")) == "first"
    assert first_line(ValueError("x" * 300)) == "x" * 200
    assert first_line(ValueError("")) == "ValueError"
