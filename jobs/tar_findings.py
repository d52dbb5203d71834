"""What an attempt found out about its tar, for the manifest."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

import msgspec

from jobs.manifest import Findings
from jobs.spec import DECODERS, DETECTOR
from jobs.tar_format import TarDamage
from jobs.tar_reader import TarReader

__all__ = ["findings_of", "versions"]


def findings_of(reader: TarReader | None, damage: TarDamage | None) -> Findings:
    """What the manifest says of a tar that has been read to its end, or to its damage."""
    found = Findings()
    if reader is not None:
        found = Findings(
            ignored_members=dict(sorted(reader.ignored.items())),
            linked_clips=reader.linked_clips,
            left_out=dict(sorted(reader.left_out.items())),
            outside_subset=reader.outside_subset,
            orphan_sidecars=reader.orphan_sidecars,
            sidecar_faults=reader.sidecar_faults,
            text_encoding=reader.text_encoding,
            versions=versions(),
        )
    if damage is None:
        return found
    return msgspec.structs.replace(found, verdict=damage.verdict, verdict_detail=str(damage), verdict_offset=damage.offset)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what took part, for the manifest; those that decide tokens are in the recipe too."""
    found = {"python": platform.python_version()}
    for package in ("tar2tokens", "numpy", *DECODERS, DETECTOR):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # tar2tokens itself, in a checkout that is not installed
            found[package] = "not installed"
    return found
