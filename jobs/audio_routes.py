"""Choose the decoder for each part of a clip, by its bytes alone.

libsndfile decodes what it can decode without loss. FFmpeg decodes what libsndfile does not know, or would not decode to the
real end: damage, wrong lengths, audio of several forms. Files put end to end are decoded one after the other.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import IO

import numpy as np

from audio_tokenizers.errors import ClipError
from jobs.adts_frames import AdtsScan, looks_like_adts, scan_adts
from jobs.audio_headers import missing_bytes, mp3_in_wav
from jobs.audio_magic import HEAD_BYTES, audio_kind
from jobs.audio_tags import TAG_HEAD, id3v2_size
from jobs.channels import Block
from jobs.decoded_blocks import NO_LENGTH, Blocks, Counted, Limits, part_of, shifted_from, to_its_end
from jobs.flac_decoder import decode_flac
from jobs.flac_frames import ends_as_stated, flac_files, frames_in_order, read_stream_info
from jobs.losses import Losses
from jobs.mp3_frames import Mp3Scan, looks_like_mp3, scan_mp3
from jobs.mpeg_routes import decode_adts, decode_mp3
from jobs.ogg_pages import OggLink, scan_ogg
from jobs.pyav_decoder import decode_with_pyav
from jobs.refusals import WatchedFile
from jobs.soundfile_decoder import opened_sound, reading_aside

__all__ = ["decode_parts"]

HEAD = 64
FEW_FRAMES = 4
"""Frames that prove MP3 or AAC behind a tag of a wrong size, or behind damage: fewer may be chance."""
FRONT_BYTES = 1 << 16
"""Range in which the first frames are searched for where a file begins with damage."""
BEHIND_TAGS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b"riff", b".snd")
"""Formats that libsndfile misreads behind an ID3 tag."""
FLAC_BYTES_PER_SECOND = 32_000
"""Estimate where nothing is known."""


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
        yield from decode_mp3(file, (begin, end), losses, limits, as_stated=file)
    elif _begins_late(file, begin, end, scan_adts):
        yield from _adts(file, begin, losses, limits)
    elif _begins_late(file, begin, end, scan_mp3):
        yield from decode_mp3(file, (begin, end), losses, limits, as_stated=file)
    else:
        inside = part_of(file, begin, end) if begin and head[:4] in BEHIND_TAGS else file
        cut = missing_bytes(inside)  # before anything else: it may repair the header
        payload = mp3_in_wav(inside)
        heard = Counted()
        if payload is not None:
            yield from heard.each(decode_mp3(inside, payload, losses, limits, as_stated=inside))
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
            yield from to_its_end(sound, losses, limits)
            return
    if is_mp3:
        yield from decode_mp3(file, (begin, file.seek(0, io.SEEK_END)), losses, limits, as_stated=file)
        return
    file.seek(0)
    yield from decode_with_pyav(WatchedFile(file), refusal, losses)


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
        part = file if len(pieces) == 1 and not start else part_of(file, start, end)
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
        part = file if len(links) == 1 else part_of(file, link.begin, link.end)
        if not (link.damaged or link.open_end):
            late = link.codec == "opus" and bool(link.start)
            yield from _any(part, 0, losses, limits, rewind=late)
            return
        heard = Counted()

        def times_at(place: int) -> tuple[None, float] | None:
            end = link.page_ends.get(place)
            return None if end is None else (None, end)

        part.seek(0)
        blocks = decode_with_pyav(WatchedFile(part), "pages are damaged.", losses, tells=False, times_at=times_at)
        yield from heard.each(shifted_from(link.sound_seconds, blocks, losses))
        lost = link.missing_seconds(heard.seconds)
        if lost > 0:
            losses.add(lost, "Ogg pages that are damaged, cut or missing")

    yield from _in_turn([(lambda link=link: stream(link), link.likely_seconds()) for link in links], losses)  # type: ignore[misc]


def _begins_late(file: IO[bytes], begin: int, end: int, scan: Callable[[IO[bytes], int, int], Mp3Scan | AdtsScan]) -> bool:
    """Whether frames begin within FRONT_BYTES, after bytes of no known format."""
    file.seek(begin)
    return (
        audio_kind(file.read(HEAD_BYTES)) is None and scan(file, begin, min(end, begin + FRONT_BYTES)).frames >= FEW_FRAMES
    )


def _adts(file: IO[bytes], begin: int, losses: Losses, limits: Limits) -> Blocks:
    found = scan_adts(file, begin, file.seek(0, io.SEEK_END))
    yield from decode_adts(file, begin, found, losses) if found.frames else _any(file, begin, losses, limits)
