"""Choose the decoder for each part of a clip, by its bytes alone.

libsndfile decodes what it can decode without loss. FFmpeg decodes what libsndfile does not know, or would not decode to the
real end: damage, wrong lengths, audio of several forms. Files put end to end are decoded one after the other.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from audio_tokenizers.errors import ClipError
from jobs.adts_frames import AdtsScan, looks_like_adts, scan_adts
from jobs.adts_places import missing_frames
from jobs.audio_headers import missing_bytes, mp3_in_wav
from jobs.audio_magic import HEAD_BYTES, audio_kind
from jobs.audio_tags import TAG_HEAD, id3v2_size
from jobs.channels import Block
from jobs.flac_decoder import decode_flac
from jobs.flac_frames import ends_as_stated, flac_files, frames_in_order, read_stream_info
from jobs.frame_gaps import audio_gaps, left_before, tags_inside, without
from jobs.frame_scan import Gap
from jobs.losses import Losses
from jobs.mp3_frames import Mp3Scan, looks_like_mp3, scan_mp3, stated_parts
from jobs.mp3_places import frame_times, is_torn
from jobs.ogg_pages import OggLink, scan_ogg
from jobs.pyav_decoder import decode_with_pyav
from jobs.refusals import WatchedFile
from jobs.soundfile_decoder import Sound, opened_sound, reading_aside
from jobs.spans import SpanFile

__all__ = ["Limits", "decode_parts"]

HEAD = 64
LONGEST_FRAME_SECONDS = 0.072
"""Longest MP3 frame: where the rate changes, FFmpeg still gives one frame at the old rate."""
FEW_FRAMES = 4
"""Frames that prove MP3 or AAC behind a tag of a wrong size, or behind damage: fewer may be chance."""
FRONT_BYTES = 1 << 16
"""Range in which the first frames are searched for where a file begins with damage."""
BEHIND_TAGS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b"riff", b".snd")
"""Formats that libsndfile misreads behind an ID3 tag."""
FLAC_BYTES_PER_SECOND = 32_000
"""Estimate where nothing is known."""
NO_LENGTH = "its length is not stated."
Blocks = Iterator[tuple[Block, int]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of libsndfile's blocks."""

    frames: int
    samples: int
    """Of all channels together."""


class _Counted:
    """Passes blocks through and counts their seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def each(self, blocks: Blocks) -> Blocks:
        for block, rate in blocks:
            self.seconds += len(block) / max(rate, 1)
            yield block, rate


def decode_parts(file: IO[bytes], losses: Losses, limits: Limits) -> Blocks:
    """Blocks of float32 [samples, channels], with their rate in Hz: channels and rate may change between parts of the file.

    Raises ClipError `decode` where nothing can be decoded; any other loss is added to `losses`.
    """
    end = file.seek(0, io.SEEK_END)
    begin = _after_tags(file)
    if begin >= end:
        begin = 0
    file.seek(begin)
    head = file.read(HEAD)
    if head.startswith(b"OggS"):
        yield from _ogg(file, begin, losses, limits)
    elif read_stream_info(head):
        yield from _flac(file, begin, losses, limits)
    elif looks_like_adts(head):
        yield from _adts(file, begin, losses, limits)
    elif looks_like_mp3(head) or (begin and scan_mp3(file, begin, end).frames >= FEW_FRAMES):
        yield from _mp3(file, (begin, end), losses, limits, as_stated=file)
    elif _begins_late(file, begin, end, scan_adts):
        yield from _adts(file, begin, losses, limits)
    elif _begins_late(file, begin, end, scan_mp3):
        yield from _mp3(file, (begin, end), losses, limits, as_stated=file)
    else:
        inside = _part(file, begin, end) if begin and head[:4] in BEHIND_TAGS else file
        cut = missing_bytes(inside)  # before anything else: it may repair the header
        payload = mp3_in_wav(inside)
        heard = _Counted()
        if payload is not None:
            yield from heard.each(_mp3(inside, payload, losses, limits, as_stated=inside))
        else:
            yield from heard.each(_any(inside, begin, losses, limits))
        _tell_cut(cut, heard.seconds, losses)


def _after_tags(file: IO[bytes]) -> int:
    """Where the audio begins, after any ID3v2 tags."""
    begin = 0
    while True:
        file.seek(begin)
        size = id3v2_size(file.read(TAG_HEAD))
        if not size:
            return begin
        begin += size


def _part(file: IO[bytes], begin: int, end: int) -> IO[bytes]:
    return SpanFile(file, [(begin, end)])  # type: ignore[return-value]


def _tell_cut(cut: tuple[int, int], seconds: float, losses: Losses) -> None:
    missing, promised = cut
    if not missing:
        return
    words = f"its end: {promised} bytes of samples are promised, the file has {promised - missing}"
    if not seconds:
        raise ClipError("decode", f"cut short: {words}")
    losses.add(seconds * missing / (promised - missing), words)


def _any(file: IO[bytes], begin: int, losses: Losses, limits: Limits, *, rewind: bool = False) -> Blocks:
    """Decode with libsndfile, or with PyAV where libsndfile refuses."""
    refusal = NO_LENGTH
    is_mp3 = False
    with opened_sound(file) as sound:
        if isinstance(sound, str):
            refusal = sound
        elif sound.format == "MP3":
            is_mp3 = True
        elif sound.promised is not None:
            if rewind:
                sound.rewind()
            yield from _to_its_end(sound, losses, limits)
            return
    if is_mp3:
        yield from _mp3(file, (begin, file.seek(0, io.SEEK_END)), losses, limits, as_stated=file)
        return
    file.seek(0)
    yield from decode_with_pyav(WatchedFile(file), refusal, losses)


def _to_its_end(sound: Sound, losses: Losses, limits: Limits) -> Blocks:
    """Yield what libsndfile decodes, and add to `losses` what it promised beyond that.

    Raises ClipError if libsndfile gives nothing: falling back to FFmpeg would let a transient error choose the decoder.
    """
    if not sound.error:
        yield from sound.blocks(limits.frames, limits.samples)
    if sound.error and not sound.read:
        raise ClipError("decode", f"damaged after sample 0: {sound.error}")
    missing = (sound.promised or 0) - sound.read
    if missing:
        words = f"what follows sample {sound.read}"
        losses.add(missing / sound.rate, f"{words}: {sound.error}" if sound.error else words)


def _in_turn(parts: Sequence[tuple[Callable[[], Blocks], float]], losses: Losses) -> Blocks:
    """Decode the parts in turn. An undecodable part counts as lost, with its seconds; if all are, raise the first error."""
    errors: list[ClipError] = []
    for blocks, seconds in parts:
        losses.shifted = losses.shifted or bool(losses.what)
        try:
            yield from blocks()
        except ClipError as error:
            if len(parts) == 1 or error.kind != "decode":
                raise
            errors.append(error)
            losses.add(seconds, f"a part of which nothing can be decoded: {error}")
    if len(parts) > 1:
        losses.gaps.clear()  # each part counts its gaps from its own beginning
    if len(errors) == len(parts) and errors:
        raise errors[0]


def _flac(file: IO[bytes], begin: int, losses: Losses, limits: Limits) -> Blocks:
    pieces = flac_files(file, begin)

    def piece(start: int, end: int) -> Blocks:
        part = file if len(pieces) == 1 and not start else _part(file, start, end)
        file.seek(start)
        info = read_stream_info(file.read(HEAD))
        if info is None:
            raise ClipError("decode", "a FLAC header that is cut")
        refusal, done = NO_LENGTH, 0
        in_order: bool | None = None
        with opened_sound(part) as sound:
            if isinstance(sound, str):
                refusal = sound
            elif sound.promised is not None:
                for block, rate in sound.blocks(limits.frames, limits.samples):
                    if in_order is None and _may_hide_a_frame(block, info.block):
                        with reading_aside(file):
                            in_order = frames_in_order(file, start, end, info)
                    if in_order is False:
                        break
                    yield block, rate
                    done += len(block)
                refusal = sound.error or "frames are missing."
        if done and done == info.samples and ends_as_stated(file, start, end, info):
            return
        part.seek(0)
        yield from decode_flac(WatchedFile(part), info, done, refusal, losses)

    def seconds(start: int, end: int) -> float:
        file.seek(start)
        info = read_stream_info(file.read(HEAD))
        return info.samples / info.rate if info and info.rate and info.samples else (end - start) / FLAC_BYTES_PER_SECOND

    yield from _in_turn([(lambda span=span: piece(*span), seconds(*span)) for span in pieces], losses)  # type: ignore[misc]


def _may_hide_a_frame(block: Block, frame: int) -> bool:
    """Whether there may be silence as long as a FLAC frame: libFLAC silently fills in a missing frame with zeros."""
    looked_at = block[:: max(frame // 2, 1)]
    if looked_at.all():
        return False  # nearly always
    silent = np.logical_not(np.any(looked_at, axis=1))
    return bool(np.any(silent[1:] & silent[:-1]))


def _ogg(file: IO[bytes], begin: int, losses: Losses, limits: Limits) -> Blocks:
    links = scan_ogg(file, begin)
    if not links:
        yield from _any(file, begin, losses, limits)
        return

    def stream(link: OggLink) -> Blocks:
        part = file if len(links) == 1 else _part(file, link.begin, link.end)
        if not (link.damaged or link.open_end):
            late = link.codec == "opus" and bool(link.start)
            yield from _any(part, 0, losses, limits, rewind=late)
            return
        heard = _Counted()

        def times_at(place: int) -> tuple[None, float] | None:
            end = link.page_ends.get(place)
            return None if end is None else (None, end)

        part.seek(0)
        blocks = decode_with_pyav(WatchedFile(part), "pages are damaged.", losses, tells=False, times_at=times_at)
        yield from heard.each(_shifted_from(link.sound_seconds, blocks, losses))
        lost = link.missing_seconds(heard.seconds)
        if lost > 0:
            losses.add(lost, "Ogg pages that are damaged, cut or missing")

    yield from _in_turn([(lambda link=link: stream(link), link.likely_seconds()) for link in links], losses)  # type: ignore[misc]


def _mp3(file: IO[bytes], span: tuple[int, int], losses: Losses, limits: Limits, *, as_stated: IO[bytes]) -> Blocks:
    """MPEG audio in `span` of `file`; libsndfile reads `as_stated` if the first frame states the right length."""
    audio = file  # including leading ID3 tags, which both decoders know; of a WAV, only the payload
    if span[1] < file.seek(0, io.SEEK_END) or mp3_in_wav(file):
        audio, span = _part(file, *span), (0, span[1] - span[0])
    found = scan_mp3(audio, *span)
    gaps = audio_gaps(audio, found)
    stated, incomplete = (0.0, []) if found.whole else stated_parts(audio, found)
    if cut := tags_inside(audio, found, gaps):
        audio = as_stated = SpanFile(audio, without(cut, audio.seek(0, io.SEEK_END)))  # type: ignore[assignment]
        found = scan_mp3(audio, 0, audio.seek(0, io.SEEK_END))
        gaps = audio_gaps(audio, found)
        incomplete = [(left_before(begin, cut), left_before(end, cut)) for begin, end in incomplete]
    refusal = NO_LENGTH
    if found.whole and not gaps:
        with opened_sound(as_stated) as sound:
            if isinstance(sound, str):
                refusal = sound
            elif sound.promised is not None and _fits(sound.promised, found):
                yield from _to_its_end(sound, losses, limits)
                return
    heard = _Counted()
    audio.seek(0)
    container = "mp3" if found.frames > 1 else None
    times_at = None if stated else frame_times(found, gaps)
    blocks = decode_with_pyav(WatchedFile(audio), refusal, losses, container, tells=not found.frames, times_at=times_at)
    yield from heard.each(_shifted_from(_sound_seconds(audio, found, gaps, incomplete), blocks, losses))
    lost, doubt = _mp3_lost(audio, found, gaps, heard.seconds, stated)
    if not losses.gaps:
        losses.doubt, losses.torn = losses.doubt + doubt, losses.torn or is_torn(found, gaps)
    if lost > 0:
        losses.add(lost, "MP3 frames that are damaged or missing")


def _begins_late(file: IO[bytes], begin: int, end: int, scan: Callable[[IO[bytes], int, int], Mp3Scan | AdtsScan]) -> bool:
    """Whether frames begin within FRONT_BYTES, after bytes of no known format."""
    file.seek(begin)
    return (
        audio_kind(file.read(HEAD_BYTES)) is None and scan(file, begin, min(end, begin + FRONT_BYTES)).frames >= FEW_FRAMES
    )


def _adts(file: IO[bytes], begin: int, losses: Losses, limits: Limits) -> Blocks:
    """AAC with ADTS headers: FFmpeg silently skips what it cannot decode."""
    audio = file
    found = scan_adts(audio, begin, file.seek(0, io.SEEK_END))
    if not found.frames:
        yield from _any(file, begin, losses, limits)
        return
    gaps = audio_gaps(audio, found)
    if cut := tags_inside(audio, found, gaps):
        audio = SpanFile(audio, without(cut, audio.seek(0, io.SEEK_END)))  # type: ignore[assignment]
        found = scan_adts(audio, begin, audio.seek(0, io.SEEK_END))
        gaps = audio_gaps(audio, found)
    missing = missing_frames(found, gaps)
    heard = _Counted()
    sound_seconds = _sound_seconds(audio, found, gaps, ())
    if broken := [(gap.begin, gap.end) for gap in gaps if gap.begin < found.end]:  # FFmpeg would lose what follows too
        audio = SpanFile(audio, without(broken, audio.seek(0, io.SEEK_END)))  # type: ignore[assignment]
    audio.seek(0)
    blocks = decode_with_pyav(WatchedFile(audio), NO_LENGTH, losses, "aac", tells=False, times_at=missing.times_at)
    yield from heard.each(_shifted_from(sound_seconds, blocks, losses))
    in_gaps = sum(gap.seconds for gap in gaps)
    lost = max(in_gaps, found.seconds + in_gaps - heard.seconds)
    if not losses.gaps:
        losses.doubt, losses.torn = losses.doubt + missing.most_seconds, losses.torn or missing.torn
    if lost > (0.0 if gaps else 0.5 * found.frame_seconds):
        losses.add(lost, "AAC frames that are damaged or missing")


def _shifted_from(seconds: float | None, blocks: Blocks, losses: Losses) -> Blocks:
    """Pass the blocks through; after `seconds` (None: never) set `losses.shifted`: the place of what follows is unknown."""
    heard = 0.0
    for block, rate in blocks:
        sure = len(block) if seconds is None else int((seconds - heard) * rate)
        if losses.shifted or sure >= len(block):
            yield block, rate
        else:
            if sure > 0:
                yield block[:sure], rate
            losses.shifted = True
            yield block[max(sure, 0) :], rate
        heard += len(block) / max(rate, 1)


def _sound_seconds(
    file: IO[bytes], found: Mp3Scan | AdtsScan, gaps: Sequence[Gap], incomplete: Sequence[tuple[int, int]]
) -> float | None:
    """Seconds that can be heard before the first loss that is not at the end; None if there is no such loss.

    In a part with fewer frames than it states and no gap, any frame may be missing, unless its last frame is cut: then what
    follows that frame is missing.
    """
    places = [gap.begin for gap in gaps if gap.begin < found.end]
    cut = [gap.begin for gap in gaps if _is_last_frame(file, gap)]
    for begin, end in incomplete:
        if not any(begin <= place <= end for place in (*places, *cut)):
            places.append(begin)
    return found.seconds_before(min(places)) if places else None


def _fits(promised: int, found: Mp3Scan) -> bool:
    """Whether libsndfile took its length from the first frame, rather than guessing."""
    samples = found.frames * found.samples_per_frame
    return samples - found.padding - found.samples_per_frame <= promised <= samples


def _mp3_lost(file: IO[bytes], found: Mp3Scan, gaps: Sequence[Gap], heard: float, stated: float) -> tuple[float, float]:
    """(seconds missing, seconds possibly missing), by the bytes between frames or the lengths `stated`, and by the whole
    frames that were not heard.

    Where frames differ in length, the bytes of a gap do not give the number of missing frames; a count stated in front does.
    """
    if not found.frames:
        return 0.0, 0.0
    frame = found.samples_per_frame / found.rate
    cut = sum(gap.seconds for gap in gaps if gap.begin < found.end or not _is_last_frame(file, gap))
    most = sum(gap.end - gap.begin for gap in gaps if gap.begin < found.end) / found.shortest * frame
    counted = -1.0 if found.stated_frames is None else (found.stated_frames - found.frames) * frame
    if most and 0 <= counted <= most + frame:
        cut, most = counted or cut, 0.0
    missing = found.seconds + cut - found.padding / found.rate - heard
    if cut or stated:
        return max(cut, stated, missing), most
    slack = (1.5 if found.padding else 0.5) * frame + found.changes * LONGEST_FRAME_SECONDS
    return (missing if missing > slack else 0.0), most


def _is_last_frame(file: IO[bytes], gap: Gap) -> bool:
    """Whether the gap is a last frame that is cut: FFmpeg plays the part that is there."""
    file.seek(gap.begin)
    return looks_like_mp3(file.read(4))
