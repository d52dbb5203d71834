"""Backends by name, found through entry points, so that another package can add one.

A package adds a backend with an entry point in the group `tar2tokens.backends` that names a BackendFactory object. The
ones of this repository are also listed here, so that they exist in a checkout that is not installed.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata

from audio_tokenizers.base import BackendFactory, Options, Scalar
from audio_tokenizers.combined import CombinedFactory
from audio_tokenizers.errors import UsageError

__all__ = ["ENTRY_POINT_GROUP", "backend_names", "complete_options", "get_factory"]

ENTRY_POINT_GROUP = "tar2tokens.backends"
BUILT_IN = {
    name: f"audio_tokenizers.{name}:FACTORY"
    for name in ("mulaw", "higgs", "step_audio", "cosyvoice_s3", "bicodec", "hf", "whisper_features", "cosyvoice_text")
}


@functools.cache
def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    found = {name: importlib.metadata.EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in BUILT_IN.items()}
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        known = found.setdefault(point.name, point)
        if known.value != point.value:
            raise UsageError(
                f"two packages register the backend {point.name!r} ({known.value} and {point.value}): uninstall one"
            )
    return found


def backend_names() -> list[str]:
    """All registered names, sorted; imports none of them."""
    return sorted(_entry_points())


def get_factory(name: str) -> BackendFactory:
    """The factory registered as `name`, or of `a+b`, which is made of those of `a` and `b`.

    Raises UsageError that says what exists, and the nearest, or that another package's cannot be imported.
    """
    if "+" in name:
        return CombinedFactory([get_factory(part) for part in name.split("+")])
    point = _entry_points().get(name)
    if point is None:
        near = difflib.get_close_matches(name, backend_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no backend {name!r}: there are {', '.join(backend_names())}{hint}")
    try:
        factory: BackendFactory = point.load()
    except (ImportError, AttributeError) as error:
        if name in BUILT_IN:
            raise
        raise UsageError(
            f"the backend {name!r} ({point.value}) cannot be imported: {error}: install what its package needs, or "
            "uninstall that package"
        ) from error
    return factory


def complete_options(factory: BackendFactory, given: Options, asked: str = "") -> dict[str, Scalar]:
    """`given` over the factory's defaults. Raises UsageError on an option that the backend does not have.

    `asked` is the name that the user gave, such as a preset's.
    """
    for key in given:
        if key not in factory.options:
            known = ", ".join(sorted(factory.options)) or "none"
            near = difflib.get_close_matches(key, factory.options, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"backend {(asked or factory.name)!r} has no option {key!r}: it has {known}{hint}")
    return {key: given.get(key, default) for key, (default, _) in factory.options.items()}
