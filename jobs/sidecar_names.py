"""Pure: which sidecar belongs to which audio file, by their names alone, wherever they stand.

A sidecar is called as its audio with another extension (`a.json` of `a.flac`) or with one more (`a.flac.json`). Names that
are equal win over names that only look equal: in another case, or with letters put together in another way (NFC, NFD).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

__all__ = ["AmbiguousName", "SidecarNames", "folded", "plain_path"]

T = TypeVar("T")


class AmbiguousName(Exception):  # noqa: N818 (what it names is no failure)
    """Several sidecars would fit an audio file as well as each other, or several audio files one sidecar; says which."""


def plain_path(name: str) -> str:
    """A path as everybody else writes it: `./a//b` is `a/b`. What leads upwards stays."""
    if not name.startswith(".") and "//" not in name and "/./" not in name:
        return name  # nearly all
    root = "/" if name.startswith("/") else ""
    return root + "/".join(part for part in name.split("/") if part not in ("", "."))


def folded(name: str) -> str:
    """What names have in common that look equal: one letter may be one character or two, small or large."""
    if name.isascii():
        return name if name.islower() else name.lower()  # nearly all, and then in memory once
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _bases(audio: str, *, keys: bool) -> list[str]:
    """What its sidecars may be called before their extension, the surest first."""
    audio = plain_path(audio)
    folder, slash, base = audio.rpartition("/")
    stem = base.rpartition(".")[0] or base
    found = [audio, folder + slash + stem]
    return [*found, folder + slash + base.partition(".")[0]] if keys else found


class SidecarNames(Generic[T]):
    """All names of a tar or folder, and what is known of each sidecar."""

    def __init__(self, *, keys: bool) -> None:
        """`keys`: whether a sidecar may be called by the WebDataset key, `a.json` of `a.mic1.wav`."""
        self._keys = keys
        self._sidecars: dict[tuple[str, str], list[T]] = {}
        """(name without extension, extension) -> all that are called so."""
        self._alike: dict[tuple[str, str], list[str]] = {}
        """The same of folded names -> the names."""
        self._audio: dict[str, str] = {}
        """Folded name that sidecars may have -> the first name of audio that looks so."""
        self._rivals: dict[str, set[str]] = {}
        """The same, of more than one -> all of them."""
        self.extensions: set[str] = set()
        """Of the sidecars, in lower case."""

    def add_audio(self, name: str) -> None:
        """Note an audio file."""
        for base in _bases(name, keys=self._keys):
            look = folded(base)
            first = self._audio.setdefault(look, base)
            if first != base:
                self._rivals.setdefault(look, {first}).add(base)

    def add_sidecar(self, name: str, value: T) -> None:
        """Note a sidecar; its extension counts in any case."""
        base, _, extension = plain_path(name).rpartition(".")
        place = base, extension.lower()
        self.extensions.add(place[1])
        if place not in self._sidecars:
            self._alike.setdefault((folded(base), place[1]), []).append(base)
        self._sidecars.setdefault(place, []).append(value)

    def of(self, audio: str, extension: str, wanted: Callable[[T], bool] = lambda _: True) -> T | None:
        """The sidecar of that extension that belongs to an audio file, among those that are `wanted`.

        Raises AmbiguousName where names alone do not tell.
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
                if name not in self._named(folded(name))  # or else it has its own audio
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
        """The names of audio that look so."""
        return self._rivals.get(look) or {self._audio[look]} if look in self._audio else set()


def _only(found: Sequence[T], words: str) -> T:
    if len(found) > 1:
        raise AmbiguousName(words)
    return found[0]


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names)[:3])
