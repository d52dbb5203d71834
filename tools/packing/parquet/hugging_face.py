"""Data sets of the Hugging Face hub with an Audio column, from their Parquet files or the hub's conversion to Parquet.

All files are downloaded to huggingface_hub's cache before the first is read: a clip's number in the data set must be known,
and the same command offline reads the same files.
"""

from __future__ import annotations

import glob
import io
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.extras import install_words
from tools.common.hub_errors import client_errors, first_line, gated, is_of_the_disk
from tools.packing.pairs import Source, SourceOptions, describe_found
from tools.packing.parquet.source import SPLIT, ParquetSource, open_parquet

__all__ = ["open_hub", "open_parquet"]

ADDRESS = re.compile(
    r"(hf://datasets/|https://huggingface\.co/datasets/)?(?P<repo>[\w.-]+/[\w.-]+)"
    r"(@(?P<revision>refs/convert/[\w.-]+|refs/pr/[0-9]+|[^/@]+))?(/(?P<folder>.+?))?/?"
)
CONVERTED = "refs/convert/parquet"
"""The branch on which the hub keeps its own conversion of a data set."""
NAMES_SHOWN = 12
SAY_EVERY_S = 30.0

log = logging.getLogger("tar2tokens")


def open_hub(repo_id: str, options: SourceOptions) -> Source:
    """A data set of the hub: `owner/name`, `owner/name@revision` or `hf://datasets/owner/name@revision/folder`.

    Takes its Parquet files, or else the hub's own conversion, and downloads what is missing in huggingface_hub's cache.
    Raises UsageError if there is no such data set or no usable file, InfrastructureError without network.
    """
    address = ADDRESS.fullmatch(repo_id)
    if address is None:
        raise UsageError(
            f"{repo_id}: expected owner/name, owner/name@revision or hf://datasets/owner/name@revision/folder of a data set "
            "on the Hugging Face hub"
        )
    repo, revision, folder = address["repo"], address["revision"], address["folder"] or ""
    with _hub_errors(repo):
        snapshot, there = _look_up(repo, revision)
        chosen = _choose(there, repo, folder)
        if not chosen and revision is None:
            chosen, snapshot = _choose_converted(repo, folder, snapshot)
        if not chosen:
            raise UsageError(
                f"{repo}{f'/{folder}' if folder else ''}: expected Parquet files there or on {CONVERTED}, found "
                f"{describe_found(_kinds(there))}: fetch it with huggingface_hub's snapshot_download, and give the folder"
            )
        log.info("%s at %s: fetching what is not in the cache", repo, snapshot.name)
        pattern = f"{glob.escape(folder)}/*.parquet" if folder else "*.parquet"
        _fetch(repo, snapshot.name, [pattern], None if sys.stderr.isatty() else _Lines)

    def locate(shard: Path, audio: str) -> Path | None:
        """No path: the author of a downloaded file must not choose files of this machine."""
        inside = PurePosixPath(audio)
        if inside.is_absolute() or ".." in inside.parts:
            return None
        return next((root / inside for root in (shard.parent, snapshot) if (root / inside).is_file()), None)

    name = re.sub(r"[^\w.-]+", "-", f"{repo.partition('/')[2]}/{folder}".rstrip("/"))
    return ParquetSource([(snapshot / path, path) for path in chosen], name, options, locate)


def _look_up(repo: str, revision: str | None) -> tuple[Path, list[str]]:
    """(folder of the snapshot, named after the commit; paths of the repository). Offline, those of the cache."""
    from huggingface_hub import get_cached_repo_tree

    small = [".gitattributes", "README.md"]
    snapshot = Path(_fetch(repo, revision, small, _Lines))
    return snapshot, [file.path for file in get_cached_repo_tree(repo, repo_type="dataset", revision=snapshot.name)]


def _choose(there: Iterable[str], repo: str, folder: str) -> list[str]:
    """The Parquet files below the folder. Raises UsageError if they are of several configurations."""
    chosen = [path for path in there if path.endswith(".parquet") and path.startswith(f"{folder}/" if folder else "")]
    folders = ([part for part in path.split("/")[:-1] if not SPLIT.fullmatch(part)] for path in chosen)
    configs = sorted({"/".join(parts) for parts in folders})
    if len(configs) > 1 and not folder:
        shown = ", ".join(config or "(none)" for config in configs[:NAMES_SHOWN]) + (
            ", ..." if configs[NAMES_SHOWN:] else ""
        )
        raise UsageError(
            f"{repo}: expected one configuration, found {len(configs)}: {shown}: give the folder of one, such as "
            f"hf://datasets/{repo}/{configs[-1]}"
        )
    return chosen


def _choose_converted(repo: str, folder: str, otherwise: Path) -> tuple[list[str], Path]:
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

    try:
        snapshot, there = _look_up(repo, CONVERTED)
    except (RevisionNotFoundError, LocalEntryNotFoundError):
        return [], otherwise
    chosen = _choose(there, repo, folder)
    partial = [path for path in chosen if "/partial-" in f"/{path}"]
    if partial:
        raise UsageError(
            f"{repo}: expected Parquet files of all of it, found that the hub has converted the beginning only "
            f"({partial[0]}): fetch it with huggingface_hub's snapshot_download, and give the folder"
        )
    return chosen, snapshot


def _kinds(paths: Iterable[str]) -> Counter[str]:
    return Counter(PurePosixPath(path).suffix or PurePosixPath(path).name for path in paths)


def _fetch(repo: str, revision: str | None, patterns: list[str], bar: type[tqdm[Any]] | None) -> str:
    """Download these files; returns the folder of the snapshot."""
    from huggingface_hub import snapshot_download

    return snapshot_download(
        repo,
        repo_type="dataset",
        revision=revision,
        allow_patterns=patterns,
        # Explicit, because huggingface_hub reads the variable only at import.
        endpoint=os.environ.get("HF_ENDPOINT") or None,
        tqdm_class=bar,  # type: ignore[arg-type]  # any tqdm will do
    )


class _Lines(tqdm):  # type: ignore[type-arg]
    """Replaces huggingface_hub's progress bar without a terminal: logs a line now and then."""

    said = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # tqdm's
        self.created = time.monotonic()
        super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

    def display(self, *_: object, **__: object) -> None:
        """Called for each redraw; only the bar that counts bytes logs."""
        now = time.monotonic()
        if self.unit == "B" and self.n and now - max(_Lines.said, self.created) >= SAY_EVERY_S:
            _Lines.said = now
            words = {**self.format_dict, "bar_format": "{n_fmt}B of {total_fmt}B, {rate_fmt}, {remaining} left"}
            log.info("fetched %s", self.format_meter(**words))


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turns errors of huggingface_hub and its HTTP client into one message."""
    try:
        from huggingface_hub import constants
        from huggingface_hub.errors import (
            CachedRepoTreeNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise UsageError(f"data sets of the hub need a newer huggingface_hub: {install_words('pack')}") from None
    again = "run the same command again with a network: it resumes"
    try:
        yield
    except GatedRepoError as error:
        raise gated(repo, f"datasets/{repo}") from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise UsageError(
            f"{repo}: no such data set on the hub, no such revision, or no access ({first_line(error)}): look at its "
            "name, and `hf auth login` or set HF_TOKEN if it is private"
        ) from error
    except (LocalEntryNotFoundError, CachedRepoTreeNotFoundError) as error:
        if constants.HF_HUB_OFFLINE:
            raise UsageError(
                f"{repo}: HF_HUB_OFFLINE is set, and the cache does not have all of it: unset it, or {again}"
            ) from error
        raise InfrastructureError(f"{repo} cannot be reached: {first_line(error)}: {again}") from error
    except HfHubHTTPError as error:
        if getattr(error.response, "status_code", None) in {401, 403}:
            raise UsageError(f"{repo}: no access ({first_line(error)}): `hf auth login`, or another HF_TOKEN") from error
        raise InfrastructureError(f"{repo}: the server answered {first_line(error)}: {again}") from error
    except client_errors() as error:
        if is_of_the_disk(error):
            raise
        raise InfrastructureError(f"{repo} broke off: {first_line(error)}: {again}") from error
