"""cluster.yaml, the defaults of a site or a user for every run: found and read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.yaml_loading import describe_yaml_error, load_yaml
from hpc.launch_options import Site, check_slurm_settings, parse_gpus, parse_minutes
from jobs.trust import Trust, check_files, owned

__all__ = ["read_site", "site_defaults"]

SITE_FILE = "cluster.yaml"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes `2:00:00` for a number in base 60; here a number is digits only."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[0-9]+$"), list("0123456789"))


def site_defaults(places: Sequence[Path] | None = None, *, trust: Trust | None = None) -> Site:
    """The first cluster.yaml among the current folder and the user's configuration folder. Raises UsageError.

    Its setup lines are commands: with `trust`, a file that others can write is refused.
    """
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path(os.environ.get("HOME", "/")) / ".config")
    for folder in places if places is not None else (Path(), home / "tar2tokens"):
        path = folder / SITE_FILE
        if path.is_file():
            return read_site(path, trust)
    return Site()


def read_site(path: Path, trust: Trust | None = None) -> Site:
    """A site's defaults. Raises UsageError that names the key at fault."""
    with path.open("rb") as file:
        if trust is not None:
            check_files([owned(path, os.fstat(file.fileno()))], trust)
        data = file.read()
    try:
        values: Any = load_yaml(data.decode(), _Loader) or {}
        site = msgspec.convert(values, Site)
        _check_texts(site)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        keys = ", ".join(sorted(Site.__struct_fields__))
        reason = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else str(error)
        raise UsageError(f"{path}: not a site's defaults: {reason}; its keys are {keys}") from None
    return site


def _check_texts(site: Site) -> None:
    """Raise UsageError for a text whose form is checked where it is used, now that the file can be named."""
    check_slurm_settings(site.slurm)
    if site.time is not None:
        parse_minutes(site.time)
    if site.gpus_per_node is not None:
        parse_gpus(site.gpus_per_node)
    _ = site.buffer_bytes, site.guard
