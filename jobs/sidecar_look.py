"""A look over all of a tar, for what its first pass cannot know: where a clip's sidecars stand that do not stand beside it,
and in which encoding the texts are. It costs a read of the headers; of a compressed tar, of all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import IO

from jobs.scratch import scratch_file, scratch_trouble
from jobs.sidecar_names import AmbiguousName, SidecarNames
from jobs.sidecars import LARGEST_SIDECAR, SIDECAR_EXTENSIONS, too_large
from jobs.tar_format import Member, TarDamage, TarStream

__all__ = ["SidecarLook", "texts_of"]

MOST_MEMBERS = 1 << 18
"""Whose names are kept, 100 MB or so. Sidecars behind them, apart from their audio, stay orphans, and are told as such."""
SPOOL_BYTES = 1 << 30
"""Of sidecars of a compressed tar in a scratch file; those of a plain one are read where they stand."""

OpenTar = Callable[[], TarStream]


@dataclass(frozen=True, slots=True)
class _Far:
    """A sidecar, wherever it stands."""

    name: str
    size: int
    place: int | None
    """In the tar, or in the scratch file; None where that was full."""
    archive: int
    """In which of those that were put end to end, from 0."""
    at_home: bool
    """Whether it stands beside audio of its key."""


class SidecarLook:
    """Which sidecars a tar holds, and whose they are by their names. A damaged tar is looked over up to the damage."""

    def __init__(
        self,
        open_tar: OpenTar,
        extensions: Collection[str],
        sidecars: Sequence[str] = SIDECAR_EXTENSIONS,
        *,
        sniff: bool = False,
    ) -> None:
        """`extensions` are those of audio, `sidecars` the others; `sniff`: files of any other may be audio, too. Raises
        OSError.
        """
        self._sidecars = sidecars
        self._sniff = sniff
        self._names: SidecarNames[_Far] = SidecarNames(keys=True)
        self._spool: IO[bytes] | None = None
        self._spooled = 0
        self.taken: set[str] = set()
        """Names of the sidecars that were given out."""
        self._stream = open_tar()
        audio: list[str] = []
        try:
            self._look(extensions, audio)
        except TarDamage:
            pass  # for the first pass to tell
        except BaseException:
            self.close()
            raise
        if self._names.extensions:  # else so many names of audio would be looked at for nothing
            for name in audio:
                self._names.add_audio(name)

    def close(self) -> None:
        """Close its files."""
        self._stream.close()
        if self._spool is not None:
            self._spool.close()

    def _look(self, extensions: Collection[str], audio: list[str]) -> None:
        """Note all sidecars, and the names of `audio`."""
        group: list[_Far] = []
        at, has_audio, members = ("", 0), False, 0
        for member in self._stream:
            placed = _place(member, extensions, self._sidecars)
            maybe = placed is None and self._sniff and member.kind in ("file", "link")
            if placed is None and not maybe:
                continue
            name, is_audio = placed or (_name(member), False)
            if (place := (_key(name), self._stream.ends)) != at:
                self._add(group, at_home=has_audio)
                group, at, has_audio = [], place, False
            has_audio |= is_audio or maybe
            if maybe:
                continue
            members += 1
            if members > MOST_MEMBERS:
                break
            if is_audio:
                audio.append(name)
            else:
                group.append(_Far(name, member.size, self._keep(member), self._stream.ends, at_home=False))
        self._add(group, at_home=has_audio)

    def _add(self, group: Sequence[_Far], *, at_home: bool) -> None:
        for far in group:
            self._names.add_sidecar(far.name, replace(far, at_home=at_home))

    def _keep(self, member: Member) -> int | None:
        if self._stream.is_plain or member.size > LARGEST_SIDECAR:
            return member.offset
        if self._spooled + member.size > SPOOL_BYTES:
            return None
        if self._spool is None:
            self._spool = scratch_file()
        data = self._stream.read(member.size)
        with scratch_trouble():
            self._spool.write(data)
        self._spooled += len(data)
        return self._spooled - len(data)

    def complete(self, audio: str, files: dict[str, tuple[str, bytes | str]], archive: int = 0) -> None:
        """Add to the sidecars of a clip, by extension, those that stand elsewhere in the tar.

        One that stands beside other audio of its key is given only to a clip that has nothing else, and of archives that
        were put end to end only to one in the same `archive`: in another one its name may be any recording's. Raises
        OSError.
        """
        alone = not files
        for extension in self._sidecars:
            if extension in files or extension not in self._names.extensions:
                continue
            try:
                found = self._names.of(audio, extension, lambda far: not far.at_home)
                if found is None and alone:
                    found = self._names.of(audio, extension, lambda far: far.archive == archive)
            except AmbiguousName as error:
                files[extension] = f"{audio}: its .{extension}", str(error)
                continue
            if found is not None:
                self.taken.add(found.name)
                files[extension] = found.name, self._content(found)

    def _content(self, far: _Far) -> bytes | str:
        if far.size > LARGEST_SIDECAR:
            return too_large()
        if far.place is None:
            return f"stands apart from its audio, behind {SPOOL_BYTES:,} bytes of sidecars: pack the tar again"
        if self._spool is None:
            self._stream.seek(far.place)
            next(iter(self._stream), None)
            return self._stream.read(far.size)
        with scratch_trouble():
            self._spool.seek(far.place)
            return self._spool.read(far.size)


def texts_of(open_tar: OpenTar, sidecars: Sequence[str] = SIDECAR_EXTENSIONS) -> Iterator[bytes]:
    """The contents of a tar's sidecars, from the first on, up to its end or damage. Raises OSError."""
    with closing(open_tar()) as stream:
        try:
            for member in stream:
                if _place(member, (), sidecars) is not None and member.size <= LARGEST_SIDECAR:
                    yield stream.read(member.size)
        except TarDamage:
            return


def _place(member: Member, extensions: Collection[str], sidecars: Sequence[str]) -> tuple[str, bool] | None:
    """(name, whether it is audio) of an audio file or sidecar."""
    name = _name(member)
    base = name.rpartition("/")[2]
    extension = base.rpartition(".")[2].lower() if "." in base else ""
    is_audio = extension in extensions and member.kind in ("file", "sparse", "link")
    if base.startswith("._") or not (is_audio or (extension in sidecars and member.kind == "file")):
        return None
    return name, is_audio


def _name(member: Member) -> str:
    return member.name.decode("utf-8", "backslashreplace")


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]
