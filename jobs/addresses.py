"""Pure: list entries that are not paths: an address, or a command whose output is the tar.

Such an entry is the tar's name in records, logs and tables, where everyone can read it: entries with secrets are refused.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from audio_tokenizers.errors import UsageError

__all__ = ["PIPE", "SCHEMES", "check_address", "hide_secrets", "is_address", "is_pipe", "place_of", "scheme_of"]

PIPE = "pipe:"
SCHEMES = ("s3", "https", "http", "hf")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
SECRET_KEY = re.compile(
    r"(?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid|googleaccessid|auth|authorization"
    r"|key|(?:.*[-_])?(?:token|password|passwd|pwd|secret|api[-_]?key|access[-_]?key)(?:[-_].*)?)",
    re.IGNORECASE,
)
QUERY_ITEM = re.compile(r"([?&])([^=&?\s'\"]+)=([^&\s'\"]*)")
USERINFO = re.compile(r"(?<=://)[^/\s@'\"?#]+@")
IN_COMMAND = re.compile(
    r"(?:authorization:|\b(?:bearer|basic))\s+(?!bearer\b|basic\b)[^$\s'\"]"
    r"|(?:^|\s)(?:-u|--user)[ =]?['\"]?[^$\s'\"]+:[^$\s'\"]",
    re.IGNORECASE,
)
TAR_WORD = re.compile(r"\.(?:tar(?:\.(?:gz|zst|zstd))?|tgz|tzst)$", re.IGNORECASE)
UNFIT = re.compile(r"[\x00-\x1f\x7f/]")


def scheme_of(entry: str) -> str | None:
    """`s3` of `s3://bucket/a.tar`; None for a path or a command."""
    match = SCHEME.match(entry)
    return match[1] if match is not None else None


def is_pipe(entry: str) -> bool:
    """Whether the entry is a command in WebDataset's syntax: `pipe:curl -s https://host/a.tar`."""
    return entry.startswith(PIPE)


def is_address(entry: str) -> bool:
    """Whether the entry is an address or a command, not a path."""
    return is_pipe(entry) or scheme_of(entry) is not None


def check_address(entry: str) -> None:
    """Raise UsageError for an entry that cannot be opened or holds a secret; the message does not repeat the secret."""
    shown = hide_secrets(entry)
    if is_pipe(entry):
        if not entry.removeprefix(PIPE).strip():
            raise UsageError(f"{shown!r}: expected a command after {PIPE}")
        if shown != entry or IN_COMMAND.search(entry):
            raise UsageError(
                f"{shown.split(' ')[0]} ...: the command holds a password or a signature, and would stand in every record: "
                'let it read that from a file or the environment, such as -H "Authorization: Bearer $TOKEN" or curl --netrc'
            )
        return
    scheme = scheme_of(entry)
    if scheme not in SCHEMES:
        raise UsageError(
            f"{shown}: {scheme}:// is not read: {', '.join(f'{known}://' for known in SCHEMES)} are, paths, and with "
            f"--allow-pipe the output of commands, such as {PIPE}gsutil cat gs://bucket/a.tar"
        )
    try:
        parts = urlsplit(entry)
    except ValueError as error:
        raise UsageError(f"{shown}: no address: {error}") from None
    if shown != entry:
        where = "in ~/.aws or the environment" if scheme == "s3" else "in ~/.netrc, and `hf auth login` for the hub,"
        raise UsageError(
            f"{shown}: it holds a password or a signature, and an address stands in every record: leave that out; "
            f"credentials {where} are used (docs/data.md)"
        )
    if not parts.netloc or not _names(parts):
        raise UsageError(f"{shown}: expected an address of a tar, such as {scheme}://host-or-bucket/folder/a.tar")


def hide_secrets(text: str) -> str:
    """Remove passwords and signature values from addresses in a text, such as a library's message."""
    return QUERY_ITEM.sub(_hidden_item, USERINFO.sub("...@", text))


def _hidden_item(match: re.Match[str]) -> str:
    secret = SECRET_KEY.fullmatch(unquote(match[2])) is not None and not match[3].startswith("$")
    return f"{match[1]}{match[2]}=..." if secret else match[0]


def place_of(tar: str) -> Path:
    """The path that an output's name is made from: `/host/folder/a.tar` for `https://host/folder/a.tar?x=1`.

    A command is named after the last tar that it mentions, or else by a hash.
    """
    if is_pipe(tar):
        return _place_of_command(tar.removeprefix(PIPE))
    scheme = scheme_of(tar)
    if scheme is None:
        return Path(tar)
    parts = urlsplit(tar)
    query = parts.query if scheme == "s3" and parts.query else ""  # a key may hold a question mark
    names = _names(parts._replace(path=f"{parts.path}?{query}") if query else parts)
    if scheme in ("http", "https"):
        names = [unquote(name, errors="replace") for name in names]
    return Path("/", UNFIT.sub("_", parts.netloc), *(UNFIT.sub("_", name) for name in names if name not in (".", "..")))


def _names(parts: SplitResult) -> list[str]:
    return [name for name in parts.path.split("/") if name not in ("", ".", "..")]


def _place_of_command(command: str) -> Path:
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for word in reversed(words):
        address = word.partition("?")[0]
        if TAR_WORD.search(address):
            return (
                place_of(address)
                if scheme_of(address)
                else Path("/", *(n for n in address.split("/") if n not in ("", "..")))
            )
    return Path(f"/pipe-{hashlib.sha256(command.encode()).hexdigest()[:8]}")
