"""Model directories: finding them, and checking that their files are present and complete.

Nothing here imports torch, so that a run can be planned on a login node.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted, first_line
from audio_tokenizers.shared.yaml_loading import describe_yaml_error, load_yaml

__all__ = [
    "CONFIG",
    "INDEX",
    "SAVED_WEIGHTS",
    "WEIGHTS",
    "SavedModel",
    "check_whole",
    "find_model",
    "read_json",
    "read_yaml",
    "require_files",
    "require_saved_weights",
]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SAVED_WEIGHTS = (WEIGHTS, INDEX, "model-*.safetensors")
"""What save_pretrained writes beside CONFIG, as patterns: one file, or an index and shards."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PICKLES = (".pth", ".pt", ".bin")
GIT_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModel:
    """A directory whose config.json was understood and whose weights files look whole; no tensor has been read."""

    directory: Path
    config: Mapping[str, Any]
    """The parsed `config.json`."""
    weights: tuple[Path, ...]
    """The weights file, or the shards in the order of their names."""

    @property
    def config_path(self) -> Path:
        """The file that `config` was read from."""
        return self.directory / CONFIG


def find_model(
    model_path: str,
    hub_patterns: Callable[[Path], Sequence[str]],
    check: Callable[[Path], object],
    *,
    layout: str,
    hub_first: Sequence[str] = (CONFIG,),
) -> Path:
    """The directory `model_path`, or the snapshot of the hub id, downloaded only if the local cache lacks it.

    Of a hub repository the files `hub_first` are asked for, then what `hub_patterns` names after a look at those; `check`
    raises ModelFilesError where a directory is not whole. A directory that was given is returned unchecked. `layout`
    describes what the directory should be.
    """
    path = Path(model_path).expanduser()
    if path.exists() or model_path.startswith(("/", ".", "~")):
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            raise ModelFilesError(f"{path}: expected {layout}, found {found}")
        return path
    if HUB_ID.fullmatch(model_path):
        return _hub_directory(model_path, hub_patterns, check, hub_first, layout)
    raise ModelFilesError(
        f"model_path {model_path!r}: there is no such directory, and it is no Hugging Face id of the form owner/name"
    )


def _hub_directory(
    repo_id: str,
    hub_patterns: Callable[[Path], Sequence[str]],
    check: Callable[[Path], object],
    hub_first: Sequence[str],
    layout: str,
) -> Path:
    from huggingface_hub import snapshot_download

    def snapshot(*, offline: bool) -> Path:
        directory = Path(snapshot_download(repo_id, allow_patterns=list(hub_first), local_files_only=offline))
        patterns = [*hub_first, *hub_patterns(directory)]
        directory = Path(snapshot_download(repo_id, allow_patterns=patterns, local_files_only=offline))
        check(directory)
        return directory

    # Absent or incomplete: a cache entry may lack the weights.
    with contextlib.suppress(OSError, ValueError, ModelFilesError):
        return snapshot(offline=True)
    try:
        return snapshot(offline=False)
    except (OSError, ValueError, RuntimeError, ModelFilesError) as error:
        reason = first_line(error)
    raise ModelFilesError(
        f"{repo_id}: there is no such folder here, and as a hub id it is not in the local Hugging Face cache and could not "
        f"be downloaded ({reason}): run `hf download {repo_id}` or `{called('tools.fetch_model')} NAME` where there is "
        f"network, or give {layout} as --model-path"
    )


def require_files(directory: Path, names: Iterable[str], layout: str) -> list[Path]:
    """The paths of `names` in `directory`, each there and whole. `layout` describes what the directory should be."""
    paths = [directory / name for name in names]
    for path in paths:
        if not path.is_file():
            there = sorted(entry.name for entry in path.parent.iterdir())[:8] if path.parent.is_dir() else []
            raise ModelFilesError(f"{path}: missing: expected {layout}; found {', '.join(there) or 'nothing'}")
        check_whole(path)
    return paths


def require_saved_weights(directory: Path, layout: str) -> tuple[Path, ...]:
    """The safetensors files of a directory that save_pretrained has written: one, or all that its index names."""
    names = [WEIGHTS]
    if (directory / INDEX).exists() and not (directory / WEIGHTS).exists():
        shards = read_json(directory / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelFilesError(f"{directory / INDEX}: expected an object 'weight_map', found {type(shards).__name__}")
        names = sorted({str(name) for name in shards.values()})
    return tuple(require_files(directory, names, layout))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises ModelFilesError on anything else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFilesError(f"{path}: expected JSON, found something else or a cut file ({error})") from None
    if not isinstance(value, dict):
        raise ModelFilesError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """The YAML mapping in `path`. Raises ModelFilesError on anything else."""
    try:
        value = load_yaml(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else " ".join(str(error).split())
        raise ModelFilesError(f"{path}: expected YAML, found something else or a cut file ({reason})") from None
    if not isinstance(value, dict):
        raise ModelFilesError(f"{path}: expected a YAML mapping, found {type(value).__name__}")
    return value


def check_whole(path: Path) -> None:
    """Raises ModelFilesError on a file that is cut or no weights at all, from its first and last bytes alone.

    Knows safetensors and torch.save's files by suffix; of others it says whether they are empty or a git-lfs pointer.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if head.startswith(GIT_LFS):
            raise ModelFilesError(f"{path}: a git-lfs pointer instead of weights: run `git lfs pull` in {path.parent}")
        if path.suffix in PICKLES:
            if head.startswith(b"PK") and not zipfile.is_zipfile(path):
                raise ModelFilesError(
                    f"{path}: cut after {counted(size, 'byte')}, its zip directory is missing: download it again"
                )
            # torch wrote bare pickles before 1.6.
            if not head.startswith((b"PK", b"\x80")):
                raise ModelFilesError(f"{path}: expected a file of torch.save, found one that begins with {head[:8]!r}")
            return
        if path.suffix != ".safetensors":
            if not head:
                raise ModelFilesError(f"{path}: a file of 0 bytes: download it again")
            return
        # https://github.com/huggingface/safetensors: 8 bytes of header length, a JSON header, the data.
        header_size = struct.unpack("<Q", head[:8])[0] if size >= 8 else 0
        if not 2 <= header_size <= 100_000_000 or head[8:9] != b"{":
            raise ModelFilesError(f"{path}: expected a safetensors file, found one that begins with {head[:8]!r}")
        file.seek(8)
        try:
            header = json.loads(file.read(header_size))
            expected = (
                8 + header_size + max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            expected = None
    if expected != size:
        wanted = "a whole header" if expected is None else counted(expected, "byte")
        raise ModelFilesError(f"{path}: expected {wanted}, found a file of {counted(size, 'byte')}: download it again")
