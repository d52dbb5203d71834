"""Pure: match sidecars to audio files by name alone, wherever they are.

A sidecar has the name of its audio with another extension (`a.json` for `a.flac`) or with one more (`a.flac.json`). Equal
names win over names that only look equal: in another case or another Unicode normal form (NFC, NFD).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

__all__ = ["AmbiguousName", "SidecarNames", "folded", "plain_path"]

T = TypeVar("T")


class AmbiguousName(Exception):  # noqa: N818 (not a failure)
    """Several sidecars fit an audio file equally well, or several audio files one sidecar; the message names them."""


def plain_path(name: str) -> str:
    """Normalize a path: `./a//b` becomes `a/b`. `..` is kept."""
    if not name.startswith(".") and "//" not in name and "/./" not in name:
        return name  # nearly all
    root = "/" if name.startswith("/") else ""
    return root + "/".join(part for part in name.split("/") if part not in ("", "."))


def folded(name: str) -> str:
    """A form shared by all names that look equal: case folded, in NFC."""
    if name.isascii():
        return name if name.islower() else name.lower()  # nearly all names, which then share one string
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _bases(audio: str, *, keys: bool) -> list[str]:
    """Possible names of its sidecars without their extension, the surest first."""
    audio = plain_path(audio)
    folder, slash, base = audio.rpartition("/")
    stem = base.rpartition(".")[0] or base
    found = [audio, folder + slash + stem]
    return [*found, folder + slash + base.partition(".")[0]] if keys else found


class SidecarNames(Generic[T]):
    """An index of the names in a tar or folder, with a value for each sidecar."""

    def __init__(self, *, keys: bool) -> None:
        """`keys`: whether a sidecar may be named by the WebDataset key, such as `a.json` for `a.mic1.wav`."""
        self._keys = keys
        self._sidecars: dict[tuple[str, str], list[T]] = {}
        """(name without extension, extension) -> the values of all sidecars with that name."""
        self._alike: dict[tuple[str, str], list[str]] = {}
        """(folded name without extension, extension) -> the names."""
        self._audio: dict[str, str] = {}
        """Folded name that sidecars may have -> the first audio name that folds to it."""
        self._rivals: dict[str, set[str]] = {}
        """The same -> all audio names that fold to it, if there are several."""
        self.extensions: set[str] = set()
        """Of the sidecars, in lower case."""

    def add_audio(self, name: str) -> None:
        """Add an audio file."""
        for base in _bases(name, keys=self._keys):
            look = folded(base)
            first = self._audio.setdefault(look, base)
            if first != base:
                self._rivals.setdefault(look, {first}).add(base)

    def add_sidecar(self, name: str, value: T) -> None:
        """Add a sidecar; the case of its extension is ignored."""
        base, _, extension = plain_path(name).rpartition(".")
        place = base, extension.lower()
        self.extensions.add(place[1])
        if place not in self._sidecars:
            self._alike.setdefault((folded(base), place[1]), []).append(base)
        self._sidecars.setdefault(place, []).append(value)

    def of(self, audio: str, extension: str, wanted: Callable[[T], bool] = lambda _: True) -> T | None:
        """Return the `wanted` sidecar with that extension that belongs to an audio file, or None.

        Raises AmbiguousName if names alone do not decide.
        """
        bases = _bases(audio, keys=self._keys)
        for base in bases:
            found = [value for value in self._sidecars.get((base, extension), ()) if wanted(value)]
            if found:
                return _only(found, f"{len(found)} sidecars of the name {base}.{extension}")
        for base in bases:
            names = [
                name
                for name in self._alike.get((folded(base), extension), ())
                if name not in self._named(folded(name))  # otherwise it has audio of its own
                and any(map(wanted, self._sidecars[name, extension]))
            ]
            if not names:
                continue
            if len(rivals := self._named(folded(base))) > 1:
                raise AmbiguousName(f"{names[0]}.{extension} looks like the name of {_listed(rivals)}")
            _only(names, f"{_listed(f'{name}.{extension}' for name in names)} look alike")
            found = [value for value in self._sidecars[names[0], extension] if wanted(value)]
            return _only(found, f"{len(found)} sidecars of the name {names[0]}.{extension}")
        return None

    def _named(self, look: str) -> set[str]:
        """The audio names that fold to `look`."""
        return self._rivals.get(look) or {self._audio[look]} if look in self._audio else set()


def _only(found: Sequence[T], words: str) -> T:
    if len(found) > 1:
        raise AmbiguousName(words)
    return found[0]


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names)[:3])
