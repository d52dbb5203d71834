"""Strict streaming tar reader -> clips: an audio member plus the sidecars of the same key beside it.

Keys are WebDataset's: a name up to the first dot after its last slash. Members with one key that stand together form a
group; a suffix that comes again begins a new one, so duplicate names are separate clips. Every audio member of a group is
a clip of its own.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING

from audio_tokenizers.errors import ClipError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.audio_magic import HEAD_BYTES, audio_kind
from jobs.left_out import data_suffix, leave_out
from jobs.scratch import scratch_file, scratch_trouble
from jobs.sidecar_look import SidecarLook, texts_of
from jobs.sidecars import LARGEST_SIDECAR, SIDECAR_EXTENSIONS, Annotations, Reading, read_sidecars, too_large
from jobs.tar_format import ACCEPTABLE, Member, TarDamage, TarStream
from jobs.tar_headers import BLOCK
from jobs.tar_links import LinkedData, Links
from jobs.tar_source import READ_BYTES, TarSource
from jobs.text_encoding import TextDecoder
from jobs.text_rules import TextRules

if TYPE_CHECKING:
    from jobs.parts import Cutting, FinishedMembers
    from jobs.recording import Part

__all__ = ["Clip", "TarReader"]

AUDIO_IN_MEMORY = 8 << 20
"""A larger member goes through a temporary file, so that memory does not grow with a clip's length."""
CLIPS_IN_GROUP = 64
"""A larger group is given out in parts: in a folder of `spk.0001.wav`, `spk.0002.wav`, ... all have the key `spk`."""
SIDECARS_IN_GROUP = 1 << 17
"""Then it is over, whatever comes: a few megabytes of tar.gz hold millions of empty ones."""
COPY_BYTES = 1 << 20
LOOK_BYTES = 8 * BLOCK
MOST_ORPHANS = 1 << 18
"""Names of sidecars without audio beside them that are remembered, until a clip asks for them."""


@dataclass(slots=True)
class Clip:
    """One audio member, or a part of one, with what stands beside it."""

    index: int
    """Position among the tar's clips, from 0."""
    name: str
    """The member's name, with `#` and that of the part; bytes that are not UTF-8 as \\xNN."""
    audio: IO[bytes] | None
    """The member's bytes, at position 0. None for a part, a clip that the caller asked to skip, and one with a fault."""
    fault: ClipError | None = None
    """Why a clip that was not skipped has no bytes, or cannot be cut out of its member."""
    annotations: Annotations = field(default_factory=Annotations)
    part: Part | None = None
    """Of the member, where it is no clip as a whole."""
    number: int = 0
    """Position among the member's parts, from 0."""

    @property
    def member_audio(self) -> IO[bytes] | None:
        """The bytes of the member that it is or is a part of, which a decoder may be reading."""
        return self.audio if self.part is None else self.part.audio

    def close(self) -> None:
        """Let its audio go."""
        for audio in (self.audio, self.part):
            if audio is not None:
                audio.close()


@dataclass(slots=True)
class _Group:
    """Members with one key that stand together."""

    key: str
    clips: list[tuple[str, Clip]] = field(default_factory=list)
    """(suffix, clip), in tar order."""
    sidecars: dict[str, tuple[str, bytes | str]] = field(default_factory=dict)
    """suffix -> (member name, content, or why it was not read)"""
    sidecar_bytes: int = 0
    used: set[str] = field(default_factory=set)
    """Suffixes of the sidecars that a clip has had."""
    suffixes: set[str] = field(default_factory=set)
    last_stem: str = ""
    bytes_in_memory: int = 0
    """Of its audio."""
    archive: int = 0
    """In which of those that were put end to end, from 0."""

    def sidecars_of(
        self, suffix: str, extensions: Sequence[str] = SIDECAR_EXTENSIONS, *, whole_names: bool = False
    ) -> dict[str, tuple[str, bytes | str]]:
        """Extension -> sidecar. `1.5_a.wav` has `1.5_a.txt` rather than `1.txt`, but `1.mic2.wav` may share `1.txt`.

        `whole_names`: `1.wav.txt` is `1.wav`'s before all others.
        """
        stem = suffix.rpartition(".")[0]
        found: dict[str, tuple[str, bytes | str]] = {}
        for extension in extensions:
            whole = (f"{suffix}.{extension}",) if whole_names else ()
            for candidate in (*whole, f"{stem}.{extension}" if stem else extension, extension):
                if candidate in self.sidecars:
                    found[extension] = self.sidecars[candidate]
                    self.used.add(candidate)
                    break
            else:
                self._add_in_language(found, stem, extension)
        return found

    def _add_in_language(self, found: dict[str, tuple[str, bytes | str]], stem: str, extension: str) -> None:
        """`talk.en.vtt` is beside `talk.m4a`, unless there are others: nobody knows then which language is spoken."""
        if extension in SIDECAR_EXTENSIONS:
            return
        others = [suffix for suffix in self.sidecars if suffix.endswith(f".{extension}")]
        if len(others) == 1 and not stem:
            found[extension] = self.sidecars[others[0]]
            self.used.add(others[0])

    def has_room(self, size: int) -> bool:
        """Whether a sidecar of `size` bytes fits beside the others: together they may take what one may."""
        return size > LARGEST_SIDECAR or self.sidecar_bytes + size <= LARGEST_SIDECAR  # one that is too large is not read

    def is_full_for(self, stem: str, size: int) -> bool:
        """Whether clips are to be given out to make room for a sidecar of another one."""
        return not self.has_room(size) and bool(self.clips) and _stem(self.clips[0][0]) != stem

    def rest(self) -> _Group:
        """The group that goes on after this part: the same key, and the sidecars that its clips share."""
        shared = {suffix: sidecar for suffix, sidecar in self.sidecars.items() if "." not in suffix}
        return _Group(self.key, [], shared, _size(shared), self.used & shared.keys(), self.suffixes, archive=self.archive)

    def split(self, stem: str) -> _Group:
        """The same, but the clips of `stem` that stand last go on, too, with their own sidecars."""
        rest = self.rest()
        while self.clips and _stem(self.clips[-1][0]) == stem:
            rest.clips.insert(0, self.clips.pop())
        if rest.clips:
            for suffix in [suffix for suffix in self.sidecars if "." in suffix and _stem(suffix) == stem]:
                rest.sidecars[suffix] = self.sidecars.pop(suffix)
        rest.sidecar_bytes = _size(rest.sidecars)
        return rest

    def close(self) -> None:
        """Drop the clips that nobody has taken."""
        for _, clip in self.clips:
            clip.close()


def _stem(suffix: str) -> str:
    return suffix.rpartition(".")[0]


def _size(sidecars: dict[str, tuple[str, bytes | str]]) -> int:
    return sum(len(content) for _, content in sidecars.values() if isinstance(content, bytes))


class TarReader:
    """Iterates over the clips of one tar, in one pass. Ends normally only if the tar ends properly; else TarDamage.

    At damage the group that was being read is not given out, since its sidecars may be missing: the verdict covers it.
    What a link leads to (jobs/tar_links.py) is looked for only if it is a sidecar or a clip that is not skipped, or may be a
    clip.
    """

    def __init__(
        self,
        source: TarSource,
        extensions: Sequence[str] = AUDIO_EXTENSIONS,
        *,
        skip_clips: int = 0,
        sniff: bool = False,
        follow_links: bool = True,
        allow_missing_end: bool = False,
        allow_joined: bool = False,
        texts: TextRules | None = None,
        cutting: Cutting | None = None,
        finished: FinishedMembers | None = None,
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        """`sniff`: what begins as audio is a clip, too, if its extension is neither one of `extensions` nor a sidecar's.
        `follow_links`: links to data are clips and sidecars, which once they were not. `texts` says how sidecars are read
        and found; None is for runs that began before there were rules: only beside their audio. `cutting` makes several
        clips of a member. Whose clips are `finished` is not read then: how many they are is known too late for
        `skip_clips`. `on_read` is called with each piece that the file system gives.
        """
        # A look that only wants headers: small pieces, and nothing read that can be passed over.
        self._open_look = partial(
            TarStream, source, read_bytes=LOOK_BYTES, seek_over=LOOK_BYTES, on_read=on_read, allow_joined=allow_joined
        )
        self._sidecar_extensions = (*SIDECAR_EXTENSIONS, *(cutting.sidecars if cutting is not None else ()))
        self._decoder: TextDecoder | None = None
        self._reading = Reading()
        if texts is not None:
            self._decoder = TextDecoder(texts.encoding, partial(texts_of, self._open_look, self._sidecar_extensions))
            self._reading = Reading(texts.keys, self._decoder.decode)
        self._look: SidecarLook | None = None
        self._orphans: Counter[str] = Counter()
        self._extensions = frozenset(extensions)
        self._cutting = cutting
        self._finished = finished
        self._skip_clips = skip_clips
        self._allow_missing_end = allow_missing_end
        self._sniff = sniff
        self._kinds = {"file", "sparse", *(("link",) if follow_links else ())}
        self._stream = stream = TarStream(source, on_read=on_read, allow_joined=allow_joined)

        def open_again(read_bytes: int) -> TarStream:
            wanted = read_bytes if stream.is_plain else READ_BYTES  # all of a compressed one is read anyway
            return TarStream(source, read_bytes=wanted, seek_over=wanted, on_read=on_read, allow_joined=allow_joined)

        self._links = Links(open_again, self._may_be_opened, self._accepts)
        self._next_index = self._next_part = 0
        self.ignored: Counter[str] = Counter()
        """Members that are no clips and no sidecars, by reason."""
        self.left_out: Counter[str] = Counter()
        """Those of them that may be data, by suffix (jobs/left_out.py)."""
        self.linked_clips = 0
        self._orphan_count = 0
        self.sidecar_faults = 0

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()
        self._links.close()
        if self._look is not None:
            self._look.close()

    @property
    def orphan_sidecars(self) -> int:
        """Sidecars that no clip has had so far."""
        return self._orphan_count - sum(name in self._orphans for name in (self._look.taken if self._look else ()))

    @property
    def sidecars_apart(self) -> int:
        """Sidecars that clips have had so far and that do not stand beside them."""
        return len(self._look.taken) if self._look is not None else 0

    @property
    def text_encoding(self) -> str:
        """Of the sidecars that do not show it themselves, as it was found; empty if there were none or none is sure."""
        return self._decoder.found if self._decoder is not None else ""

    @property
    def bytes_consumed(self) -> int:
        """Bytes of the file on disk that have been used, for progress."""
        return self._stream.bytes_consumed

    def __iter__(self) -> Iterator[Clip]:
        group = _Group("")
        try:
            for member in self._stream:
                place = self._place(member)
                if place is None:
                    continue
                name, key, suffix, is_clip = place
                stem = _stem(suffix)
                begins = key != group.key or self._stream.ends != group.archive
                if begins or suffix in group.suffixes or len(group.sidecars) >= SIDECARS_IN_GROUP:
                    yield from self._give_out(group)
                    group = _Group(key, archive=self._stream.ends)
                elif len(group.clips) >= CLIPS_IN_GROUP and stem != group.last_stem:
                    yield from self._give_out(group, last_part=False)
                    group = group.rest()
                elif not is_clip and group.is_full_for(stem, member.size):
                    rest = group.split(stem)
                    yield from self._give_out(group, last_part=False)
                    group = rest
                group.suffixes.add(suffix)
                group.last_stem = stem
                if is_clip:
                    group.clips.append((suffix, self._clip(name, member, group)))
                elif member.kind == "sparse":
                    self.ignored["sparse_sidecar"] += 1
                else:
                    group.sidecars[suffix] = (name, self._sidecar(member, group))
        except BaseException as error:
            if not (isinstance(error, TarDamage) and self._accepts(error)):
                group.close()
                raise
        yield from self._give_out(group)

    def _accepts(self, damage: TarDamage) -> bool:
        return self._allow_missing_end and damage.verdict in ACCEPTABLE

    def _place(self, member: Member) -> tuple[str, str, str, bool] | None:
        """(name, key, suffix in lower case, whether it is audio) of an audio file or sidecar; None for anything else, which
        is counted.
        """
        if member.kind not in self._kinds:
            self.ignored[member.kind] += 1
            return None
        name = member.name.decode("utf-8", "backslashreplace")
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        suffix = suffix.lower()
        extension = suffix.rpartition(".")[2]
        if base.startswith("._"):
            self.ignored["appledouble"] += 1
            return None
        is_clip = extension in self._extensions
        if not is_clip and extension not in self._sidecar_extensions:
            head = self._head(member)
            is_clip = (self._sniff and audio_kind(head) is not None) or self._leads_to_audio(member)
            if not is_clip:
                self.ignored["link" if member.kind == "link" else "other"] += 1
                missed = data_suffix(base, head)
                if missed is not None:
                    leave_out(self.left_out, missed)
                return None
        return name, folder + slash + stem, suffix, is_clip

    def _head(self, member: Member) -> bytes:
        """Its first bytes. What is at the end of a link is looked at only if it may be a clip."""
        if member.kind != "link":
            return self._stream.peek(HEAD_BYTES)
        data = self._links.open(member) if self._sniff else ""
        return data.read(HEAD_BYTES) if isinstance(data, LinkedData) else b""

    def _may_be_opened(self, link: Member) -> bool:
        base = link.name.rpartition(b"/")[2]
        extension = base.rpartition(b".")[2].decode("utf-8", "backslashreplace").lower() if b"." in base else ""
        known = extension in self._extensions or extension in self._sidecar_extensions or self._names_audio(link)
        return (known or self._sniff) and not base.startswith(b"._")

    def _names_audio(self, link: Member) -> bool:
        return link.target.rpartition(b".")[2].decode("utf-8", "backslashreplace").lower() in self._extensions

    def _leads_to_audio(self, member: Member) -> bool:
        """Whether it is a link that has no audio name, to a member that has one: `latest -> a.wav`."""
        return member.kind == "link" and self._names_audio(member) and isinstance(self._links.open(member), LinkedData)

    def _sidecar(self, member: Member, group: _Group) -> bytes | str:
        """The content, or why it is not read."""
        data = self._data(member)
        if isinstance(data, str):
            return data
        if data.size > LARGEST_SIDECAR:
            return too_large()
        if not group.has_room(data.size):
            return f"with the other sidecars of its group {too_large()}"
        group.sidecar_bytes += data.size
        return data.read(data.size)

    def _data(self, member: Member) -> LinkedData | str:
        """Its data, which may be another member's; or why it has none."""
        if member.kind == "link":
            return self._links.open(member)
        if member.kind == "sparse":
            return f"a sparse file that cannot be given back: {member.fault}: pack it again without --sparse"
        return LinkedData(member.size, self._stream.read)

    def _clip(self, name: str, member: Member, group: _Group) -> Clip:
        index = self._next_index
        self._next_index += 1
        self.linked_clips += member.kind == "link"
        if self._cutting is None:
            wanted = index >= self._skip_clips
        else:
            wanted = self._finished is None or not self._finished.has(name)
        if not wanted:
            return Clip(index, name, None)
        data = self._data(member)
        if isinstance(data, str):
            return Clip(index, name, None, ClipError("decode", data))
        return Clip(index, name, self._audio(data, group))

    def _audio(self, data: LinkedData, group: _Group) -> IO[bytes]:
        if group.bytes_in_memory + data.size <= AUDIO_IN_MEMORY:
            group.bytes_in_memory += data.size
            return io.BytesIO(data.read(data.size))
        file = scratch_file()
        try:
            while piece := data.read(COPY_BYTES):
                with scratch_trouble():
                    file.write(piece)
            with scratch_trouble():
                file.seek(0)
        except BaseException:
            with suppress(OSError):  # it tries once more to write what it holds
                file.close()
            raise
        return file

    def _give_out(self, group: _Group, *, last_part: bool = True) -> Iterator[Clip]:
        try:
            while group.clips:
                suffix, clip = group.clips[0]
                files = self._sidecars_of(clip.name, suffix, group)
                readable = files if self._cutting is None else self._cutting.readable(files)
                clip.annotations = read_sidecars(readable, self._reading)
                self.sidecar_faults += clip.annotations.faults
                del group.clips[0]
                if self._cutting is None:
                    yield clip
                    continue
                first = self._next_part
                wanted_from = max(self._skip_clips - first, 0)
                pieces = self._cutting.pieces(
                    clip.name, clip.audio, clip.annotations, files, self._reading, wanted_from=wanted_from
                )
                with closing(pieces):
                    for piece in pieces:
                        self._next_part += 1
                        one = Clip(first + piece.number, piece.name, None, piece.fault or clip.fault, piece.annotations)
                        one.part, one.number = piece.part, piece.number
                        if piece.whole and wanted_from == 0:
                            one.audio = clip.audio
                        elif piece.whole:
                            clip.close()
                        yield one
        finally:
            group.close()
        orphans = [suffix for suffix in group.sidecars.keys() - group.used if last_part or "." in suffix]
        self._orphan_count += len(orphans)
        if self._decoder is not None and len(self._orphans) < MOST_ORPHANS:
            self._orphans.update(group.sidecars[suffix][0] for suffix in orphans)

    def _sidecars_of(self, name: str, suffix: str, group: _Group) -> dict[str, tuple[str, bytes | str]]:
        """A clip's sidecars: those beside it, and once a clip has none beside it, those that stand elsewhere."""
        files = group.sidecars_of(suffix, self._sidecar_extensions, whole_names=self._decoder is not None)
        if self._decoder is None:
            return files
        if not files and self._look is None:
            self._look = SidecarLook(self._open_look, self._extensions, self._sidecar_extensions, sniff=self._sniff)
        if self._look is not None:
            self._look.complete(name, files, group.archive)
        return files
