"""A folder of audio and texts, at any depth, as a source of pairs."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from jobs.console import LOG_SECONDS, bar_on_terminal
from jobs.fileops import is_disk_trouble
from jobs.sidecars import LARGEST_SIDECAR, reading_of
from jobs.tar_reader import AUDIO_IN_MEMORY
from tools.packing.boundary import Boundary, refuse_links
from tools.packing.layouts.tree import Planned, plan_tree
from tools.packing.pairs import PACKED, Item, LeftOut, Pair, SourceOptions, is_excluded

__all__ = ["FolderSource", "Listing", "list_folder", "read_audio", "read_trouble", "with_progress"]

TELL_EVERY = 256
READ_BYTES = 1 << 20
BAD_DATA = {errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}
"""Errors of opening a file that are the file's fault, not the machine's (too many open files, a lost disk)."""

T = TypeVar("T")

log = logging.getLogger("tar2tokens")


@dataclass(slots=True)
class Listing:
    """The files below a folder."""

    root: Path
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    r"""Relative path with `/` -> (bytes, seconds of its last change). Bytes that are not UTF-8 are \xNN in the path. A link
    whose target is missing has 0 bytes."""
    links: list[str] = field(default_factory=list)
    """Linked folders and devices, which are not entered."""
    outside: dict[str, str] = field(default_factory=dict)
    """Linked files and folders whose target is not below the root -> that target. They are not read."""
    real: dict[str, str] = field(default_factory=dict)
    """The paths of files whose names are not UTF-8."""

    def path(self, name: str) -> str:
        """The path of a file."""
        return self.real.get(name) or f"{self.root}/{name}"


def list_folder(root: Path, *, follow_links: bool = False) -> Listing:
    """All files below `root`. Linked files are followed, linked folders are not, and output of tools.pack is skipped.

    With `follow_links` no link counts as outside, and linked folders are entered, each once, unless they are below `root`.
    Raises UsageError if a folder cannot be read, since its clips would be missing silently, and InfrastructureError on
    disk errors.
    """
    listing = Listing(root)
    deque(with_progress(_walk(listing, follow_links=follow_links), f"listing {root.name}", "file"), maxlen=0)
    return listing


def with_progress(items: Iterable[T], what: str, unit: str) -> Iterator[T]:
    """Pass items on and show their number: as a bar on a terminal, else as a log line now and then."""
    started = logged = time.monotonic()
    with bar_on_terminal(what, None, unit, brief=True) as bar:
        for number, item in enumerate(items):
            if bar is not None:
                bar.update()
            elif number % TELL_EVERY == 0 and time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                log.info("%s: %s %ss so far, %.0f/s", what, f"{number:,}", unit, number / (logged - started))
            yield item


def _walk(listing: Listing, *, follow_links: bool) -> Iterator[None]:
    """Fill the listing; yields once per file."""
    boundary = Boundary(listing.root)
    yield from _walk_below(listing, str(listing.root), boundary)
    if not follow_links:
        return
    entered = {os.path.realpath(listing.root)}
    while folders := sorted(name for name in listing.links if name in listing.outside):
        for name in folders:  # sorted: of two links to one folder the first is entered, whatever the disk's order
            real = listing.outside.pop(name)
            if real not in entered and Path(real).is_dir():
                listing.links.remove(name)
                entered.add(real)
                yield from _walk_below(listing, listing.path(name), boundary, entered)
    listing.outside.clear()


def _walk_below(listing: Listing, top: str, boundary: Boundary, entered: Collection[str] = frozenset()) -> Iterator[None]:
    """The part of the listing below one folder, without folders that were already `entered`."""
    prefix = len(str(listing.root).rstrip("/")) + 1  # of the paths that scandir makes
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
            packed = any(entry.name == PACKED for entry in found)
            if packed and folder != str(listing.root):  # or the next listing would have more files than this one
                continue
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != PACKED and not (entered and os.path.realpath(entry.path) in entered):
                        folders.append(entry.path)
                else:
                    _add(listing, entry, prefix, boundary)
                    yield
        except OSError as error:
            raise read_trouble(error.filename or folder, error) from error


def _add(listing: Listing, entry: os.DirEntry[str], prefix: int, boundary: Boundary) -> None:
    name = entry.path[prefix:]
    if not name.isascii():
        name = os.fsencode(name).decode("utf-8", "backslashreplace")
        if name != entry.path[prefix:]:
            listing.real[name] = entry.path
    if entry.is_symlink() and (target := boundary.outside(entry.path)) is not None:
        listing.outside[name] = target
    try:
        found = entry.stat()
    except OSError as error:
        if not (entry.is_symlink() and error.errno in BAD_DATA):
            raise
        listing.files[name] = (0, 0)  # reading it reports the error
        return
    if stat.S_ISREG(found.st_mode):
        listing.files[name] = (found.st_size, int(found.st_mtime))
    else:
        listing.links.append(name)


def read_trouble(path: str | Path, error: OSError) -> Tar2TokensError:
    """The exception for a file or folder that a source needs and that cannot be read."""
    if is_disk_trouble(error) or error.errno not in BAD_DATA:
        return InfrastructureError(f"{path}: cannot be read: {error.strerror}; run the same command again when it can")
    return UsageError(f"{path}: cannot be read: {error.strerror}; its contents would be missing silently: make it readable")


def read_audio(path: str | Path, name: str) -> tuple[bytes | BinaryIO, int] | LeftOut:
    """(content, or an open file if it is large; size in bytes). Raises InfrastructureError."""
    file: BinaryIO | None = None
    try:
        file = open(path, "rb")  # noqa: SIM115, PTH123 (the pair's consumer closes it)
        size = os.fstat(file.fileno()).st_size
        if size > AUDIO_IN_MEMORY:
            large, file = file, None
            return large, size
        data = file.read()
    except OSError as error:
        return LeftOut("unreadable_audio", name, _words(path, error))
    finally:
        if file is not None:
            file.close()
    return data, len(data)


def _words(path: str | Path, error: OSError) -> str:
    """What is wrong with one file. Raises InfrastructureError if the machine is at fault, or the file has just vanished."""
    if error.errno not in BAD_DATA:
        raise read_trouble(path, error) from error
    if error.errno == errno.ENOENT and not Path(path).is_symlink():
        message = "was there when the data set was listed, and is not any more: put it back and run the same command again"
        raise InfrastructureError(f"{path}: {message}") from error
    return "its link leads nowhere" if error.errno == errno.ENOENT else error.strerror or str(error)


class FolderSource:
    """The pairs of a folder, sorted by id; `plan_tree` decides which files belong together.

    The fingerprint covers the names and sizes of the audio and texts that make items, the contents of tables, and the times
    of the sidecars, to the second. Audio is seldom replaced by other audio of the same length, and its times differ
    between copies of a data set. A corrected letter in a sidecar keeps its size, and reading a million sidecars would take
    as long as packing them. `rsync -a`, `cp -a` and archives keep the times.
    """

    def __init__(self, listing: Listing, options: SourceOptions) -> None:
        self.name = listing.root.name or "data"
        self._listing = listing
        self._without_text = options.without_text
        plan = plan_tree(listing.files, options)
        self._items = plan.items
        self._layout = plan.layout
        self.found: Counter[str] = plan.found
        self.items_total = len(plan.items)
        self.bytes_total = sum(listing.files[item.audio][0] for item in plan.items)
        self._layout.reading = reading_of(options.texts, self._texts)
        self._refuse_outside(options)
        links = [LeftOut("link", name, "only linked files are followed") for name in sorted(listing.links)]
        digest = hashlib.sha256(b"folder 1\n")
        rows: list[LeftOut] = []
        for table in sorted(plan.layout.tables):
            with self._open_table(table) as file:
                while data := file.read(READ_BYTES):
                    digest.update(data)
        try:
            rows.extend(plan.layout.shelf.read(self._open_table, str(listing.root)))
        except UsageError as error:
            raise UsageError(f"{listing.root}/{error}") from None
        except OSError as error:
            raise read_trouble(error.filename or listing.root, error) from error
        for item in plan.items:
            digest.update(f"{item.audio}\0{listing.files[item.audio][0]}\n".encode())
            for text in item.files:
                size, seconds = listing.files[text] if text not in plan.layout.tables else (0, 0)
                digest.update(f"{text}\0{size}\0{seconds}\n".encode())
        self.fingerprint = digest.hexdigest()
        self.left_out: Sequence[LeftOut] = (*plan.left_out, *rows, *links)
        listing.files = {}  # frees a million sizes

    def _refuse_outside(self, options: SourceOptions) -> None:
        """Raise UsageError if a link leads out to something that exists and that items use, or would use."""
        outside = self._listing.outside
        used = {name for item in self._items for name in (item.audio, *item.files) if name in outside}
        there = {name for name in used if Path(outside[name]).exists()}
        folders = {name for name in self._listing.links if name in outside and Path(outside[name]).is_dir()}
        wanted = {name for name in folders if not is_excluded(name, options.exclude)}
        refuse_links(self._listing.root, {name: outside[name] for name in there | wanted})

    def _texts(self) -> Iterator[bytes]:
        """The contents of all readable sidecars."""
        for name in (name for item in self._items for name in item.files if name not in self._layout.tables):
            with suppress(OSError):
                self._check_is_there(name)
                with Path(self._listing.path(name)).open("rb") as file:
                    yield file.read(LARGEST_SIDECAR)

    def _open_table(self, table: str) -> BinaryIO:
        path = self._listing.path(table)
        try:
            return Path(path).open("rb")
        except OSError as error:
            raise read_trouble(path, error) from error

    def items(self, start: int) -> Iterator[Item]:
        """The pairs from number `start` on; see `Source.items`."""
        return (partial(self._read, item) for item in islice(self._items, start, None))

    def _check_is_there(self, name: str) -> None:
        """Raise FileNotFoundError for a link whose target did not exist when it was listed: it may exist by now."""
        if name in self._listing.outside:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def _read(self, planned: Planned) -> Pair | LeftOut:
        contents: dict[str, bytes] = {}
        for name in planned.files:
            if name in self._layout.tables:
                continue
            path = self._listing.path(name)
            try:
                self._check_is_there(name)
                with Path(path).open("rb") as file:
                    contents[name] = file.read(LARGEST_SIDECAR + 1)
            except OSError as error:
                fault = f"{name}: {_words(path, error)}"
                if not self._without_text:
                    return LeftOut("unreadable_text", planned.audio, fault)
                planned = planned.without(name)
        said = self._layout.annotate(planned, contents)
        if isinstance(said, LeftOut):
            return said
        path = self._listing.path(planned.audio)
        try:
            self._check_is_there(planned.audio)
        except FileNotFoundError as error:
            return LeftOut("unreadable_audio", planned.audio, _words(path, error))
        audio = read_audio(path, planned.audio)
        if isinstance(audio, LeftOut):
            return audio
        return Pair(
            id=planned.id,
            audio_name=planned.audio,
            audio=audio[0],
            size=audio[1],
            text=said.text,
            text_name=said.text_name,
            language=said.language,
            metadata=said.metadata,
        )
