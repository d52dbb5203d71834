"""Strict streaming tar reader -> clips: an audio member plus the adjacent sidecars with the same key.

Keys are WebDataset's: a name up to the first dot after its last slash. Adjacent members with one key form a group; a
repeated suffix begins a new group, so duplicate names are separate clips. Every audio member of a group is its own clip.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING

from audio_tokenizers.errors import ClipError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.audio_magic import HEAD_BYTES, audio_kind
from jobs.clip_group import Clip, ClipGroup, stem_of
from jobs.left_out import data_suffix, leave_out
from jobs.scratch import scratch_file, scratch_trouble
from jobs.sidecar_look import SidecarLook, texts_of
from jobs.sidecars import LARGEST_SIDECAR, SIDECAR_EXTENSIONS, Reading, read_sidecars, too_large
from jobs.tar_format import ACCEPTABLE, Member, TarDamage, TarStream
from jobs.tar_headers import BLOCK
from jobs.tar_links import LinkedData, Links
from jobs.tar_source import READ_BYTES, TarSource
from jobs.text_encoding import TextDecoder
from jobs.text_rules import TextRules

if TYPE_CHECKING:
    from jobs.parts import Cutting, FinishedMembers
    from jobs.subset import Subset

__all__ = ["TarReader"]

AUDIO_IN_MEMORY = 8 << 20
"""A larger member goes to a temporary file: memory must not grow with a clip's length."""
CLIPS_IN_GROUP = 64
"""A larger group is yielded in parts: in a folder of `spk.0001.wav`, `spk.0002.wav`, ... all have the key `spk`."""
SIDECARS_IN_GROUP = 1 << 17
"""Limit that always ends a group: a few megabytes of tar.gz can hold millions of empty sidecars."""
COPY_BYTES = 1 << 20
LOOK_BYTES = 8 * BLOCK
MOST_ORPHANS = 1 << 18
"""Names kept of sidecars without adjacent audio, until a clip uses them."""


class TarReader:
    """Iterates over the clips of one tar, in one pass. Ends normally only if the tar ends properly; else TarDamage.

    At damage the group being read is not yielded, since its sidecars may be missing: the verdict covers it. Links are
    resolved (jobs/tar_links.py) only if they are sidecars, clips that are not skipped, or possible clips.
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
        subset: Subset | None = None,
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        """`sniff`: a file with any other extension is a clip, too, if its content begins like audio. `follow_links`: links
        to data are clips and sidecars; False for older runs. `texts`: how sidecars are read and found; None for runs older
        than these rules, which find only adjacent sidecars. `cutting` makes several clips of a member; then members whose
        clips are all `finished` are not read, since the number of their clips is known too late for `skip_clips`. Members
        outside of `subset` are no clips, and their audio is not read. `on_read` is called after each read from the file
        system.
        """
        # A pass over headers only: small reads, and seeking over everything else.
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
        self._subset = subset
        self._skip_clips = skip_clips
        self._allow_missing_end = allow_missing_end
        self._sniff = sniff
        self._kinds = {"file", "sparse", *(("link",) if follow_links else ())}
        self._stream = stream = TarStream(source, on_read=on_read, allow_joined=allow_joined)

        def open_again(read_bytes: int) -> TarStream:
            wanted = read_bytes if stream.is_plain else READ_BYTES  # a compressed tar is read as a whole anyway
            return TarStream(source, read_bytes=wanted, seek_over=wanted, on_read=on_read, allow_joined=allow_joined)

        self._links = Links(open_again, self._may_be_opened, self._accepts)
        self._next_index = self._next_part = 0
        self.ignored: Counter[str] = Counter()
        """Members that are neither clips nor sidecars, by reason."""
        self.left_out: Counter[str] = Counter()
        """Ignored members that may be data, by suffix (jobs/left_out.py)."""
        self.outside_subset = 0
        """Audio members that are no clips because they are outside of `subset`."""
        self.linked_clips = 0
        self.next_offset = 0
        """Byte of the uncompressed tar at which the first member begins that belongs to no clip yielded so far."""
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
        """Number of sidecars that no clip has used so far."""
        return self._orphan_count - sum(name in self._orphans for name in (self._look.taken if self._look else ()))

    @property
    def sidecars_apart(self) -> int:
        """Number of sidecars used so far that are not adjacent to their clip."""
        return len(self._look.taken) if self._look is not None else 0

    @property
    def text_encoding(self) -> str:
        """Detected encoding of sidecars that do not show theirs; empty if there were none or detection is uncertain."""
        return self._decoder.found if self._decoder is not None else ""

    @property
    def bytes_consumed(self) -> int:
        """Bytes consumed of the file on disk, for progress."""
        return self._stream.bytes_consumed

    def __iter__(self) -> Iterator[Clip]:
        group = ClipGroup("")
        try:
            for member in self._stream:
                self.next_offset = member.offset
                place = self._place(member)
                if place is None:
                    continue
                name, key, suffix, is_clip = place
                stem = stem_of(suffix)
                begins = key != group.key or self._stream.ends != group.archive
                if begins or suffix in group.suffixes or len(group.sidecars) >= SIDECARS_IN_GROUP:
                    yield from self._give_out(group)
                    group = ClipGroup(key, archive=self._stream.ends)
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
        self.next_offset = self._stream.offset
        yield from self._give_out(group)

    def _accepts(self, damage: TarDamage) -> bool:
        return self._allow_missing_end and damage.verdict in ACCEPTABLE

    def _place(self, member: Member) -> tuple[str, str, str, bool] | None:
        """(name, key, suffix in lower case, whether it is audio) of an audio file or sidecar; else count it, return None."""
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
        """A member's first bytes. A link's target is read only if it may be a clip."""
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
        """Whether it is a link to a member with an audio name, such as `latest -> a.wav`."""
        return member.kind == "link" and self._names_audio(member) and isinstance(self._links.open(member), LinkedData)

    def _sidecar(self, member: Member, group: ClipGroup) -> bytes | str:
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
        """Its data, possibly another member's; or why it has none."""
        if member.kind == "link":
            return self._links.open(member)
        if member.kind == "sparse":
            return f"a sparse file that cannot be given back: {member.fault}: pack it again without --sparse"
        return LinkedData(member.size, self._stream.read)

    def _clip(self, name: str, member: Member, group: ClipGroup) -> Clip:
        if self._subset is not None and not self._subset.has(name):
            self.outside_subset += 1
            return Clip(-1, name, None, outside=True)
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

    def _audio(self, data: LinkedData, group: ClipGroup) -> IO[bytes]:
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
            with suppress(OSError):  # close flushes its buffer again
                file.close()
            raise
        return file

    def _give_out(self, group: ClipGroup, *, last_part: bool = True) -> Iterator[Clip]:
        try:
            while group.clips:
                suffix, clip = group.clips[0]
                files = self._sidecars_of(clip.name, suffix, group)
                if clip.outside:
                    del group.clips[0]
                    continue
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

    def _sidecars_of(self, name: str, suffix: str, group: ClipGroup) -> dict[str, tuple[str, bytes | str]]:
        """A clip's adjacent sidecars; from the first clip without any on, also those elsewhere in the tar."""
        files = group.sidecars_of(suffix, self._sidecar_extensions, whole_names=self._decoder is not None)
        if self._decoder is None:
            return files
        if not files and self._look is None:
            self._look = SidecarLook(self._open_look, self._extensions, self._sidecar_extensions, sniff=self._sniff)
        if self._look is not None:
            self._look.complete(name, files, group.archive)
        return files
