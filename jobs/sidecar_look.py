"""An extra pass over a whole tar for what the first pass cannot know: sidecars that are not beside their clip, and the
encoding of the texts. It reads only the headers of a plain tar, but all of a compressed one.
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
"""Members whose names are kept, about 100 MB. Sidecars beyond them and apart from their audio are reported as orphans."""
SPOOL_BYTES = 1 << 30
"""Limit of the scratch file for a compressed tar's sidecars; those of a plain tar are read in place."""

OpenTar = Callable[[], TarStream]


@dataclass(frozen=True, slots=True)
class _Far:
    """A sidecar anywhere in the tar."""

    name: str
    size: int
    place: int | None
    """Offset in the tar or the scratch file; None if the scratch file was full."""
    archive: int
    """Index, from 0, of its archive among those that were concatenated."""
    at_home: bool
    """Whether it is adjacent to audio with the same key."""


class SidecarLook:
    """A tar's sidecars, matched to audio by name. A damaged tar is scanned up to the damage."""

    def __init__(
        self,
        open_tar: OpenTar,
        extensions: Collection[str],
        sidecars: Sequence[str] = SIDECAR_EXTENSIONS,
        *,
        sniff: bool = False,
    ) -> None:
        """`extensions` are those of audio, `sidecars` those of sidecars; with `sniff`, files with any other extension may be
        audio, too. Raises OSError.
        """
        self._sidecars = sidecars
        self._sniff = sniff
        self._names: SidecarNames[_Far] = SidecarNames(keys=True)
        self._spool: IO[bytes] | None = None
        self._spooled = 0
        self.taken: set[str] = set()
        """Names of the sidecars assigned to clips."""
        self._stream = open_tar()
        audio: list[str] = []
        try:
            self._look(extensions, audio)
        except TarDamage:
            pass  # the first pass reports it
        except BaseException:
            self.close()
            raise
        if self._names.extensions:  # without sidecars, indexing the audio names would be wasted
            for name in audio:
                self._names.add_audio(name)

    def close(self) -> None:
        """Close its files."""
        self._stream.close()
        if self._spool is not None:
            self._spool.close()

    def _look(self, extensions: Collection[str], audio: list[str]) -> None:
        """Record all sidecars; append the names of audio files to `audio`."""
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
        """Add to `files`, a clip's sidecars by extension, those found elsewhere in the tar.

        A sidecar adjacent to other audio of its key goes only to a clip that has no sidecar beside it and is in the same
        `archive`: in another of several concatenated archives its name may mean a different recording. Raises OSError.
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
    """Yield the contents of a tar's sidecars in order, up to its end or to damage. Raises OSError."""
    with closing(open_tar()) as stream:
        try:
            for member in stream:
                if _place(member, (), sidecars) is not None and member.size <= LARGEST_SIDECAR:
                    yield stream.read(member.size)
        except TarDamage:
            return


def _place(member: Member, extensions: Collection[str], sidecars: Sequence[str]) -> tuple[str, bool] | None:
    """(name, whether it is audio) of an audio file or sidecar; None for anything else."""
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
