"""MP3 and raw AAC: the frames say what there is, FFmpeg or libsndfile decodes it, and the difference is lost.

These formats have no index and no checksums that decoders report: damaged frames are left out silently. So their headers are
scanned first, and the seconds that were heard are compared with the seconds that the frames promise.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO

from jobs.adts_frames import AdtsScan, scan_adts
from jobs.adts_places import missing_frames
from jobs.audio_headers import mp3_in_wav
from jobs.decoded_blocks import NO_LENGTH, Blocks, Counted, Limits, part_of, shifted_from, to_its_end
from jobs.frame_gaps import audio_gaps, left_before, tags_inside, without
from jobs.frame_scan import Gap
from jobs.losses import Losses
from jobs.mp3_frames import Mp3Scan, looks_like_mp3, scan_mp3, stated_parts
from jobs.mp3_places import frame_times, is_torn
from jobs.pyav_decoder import decode_with_pyav
from jobs.refusals import WatchedFile
from jobs.soundfile_decoder import opened_sound
from jobs.spans import SpanFile

__all__ = ["decode_adts", "decode_mp3"]

LONGEST_FRAME_SECONDS = 0.072
"""Longest MP3 frame: where the rate changes, FFmpeg still gives one frame at the old rate."""


def decode_mp3(file: IO[bytes], span: tuple[int, int], losses: Losses, limits: Limits, *, as_stated: IO[bytes]) -> Blocks:
    """MPEG audio in `span` of `file`; libsndfile reads `as_stated` if the first frame states the right length."""
    audio = file  # including leading ID3 tags, which both decoders know; of a WAV, only the payload
    if span[1] < file.seek(0, io.SEEK_END) or mp3_in_wav(file):
        audio, span = part_of(file, *span), (0, span[1] - span[0])
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
                yield from to_its_end(sound, losses, limits)
                return
    heard = Counted()
    audio.seek(0)
    container = "mp3" if found.frames > 1 else None
    times_at = None if stated else frame_times(found, gaps)
    blocks = decode_with_pyav(WatchedFile(audio), refusal, losses, container, tells=not found.frames, times_at=times_at)
    yield from heard.each(shifted_from(_sound_seconds(audio, found, gaps, incomplete), blocks, losses))
    lost, doubt = _mp3_lost(audio, found, gaps, heard.seconds, stated)
    if not losses.gaps:
        losses.doubt, losses.torn = losses.doubt + doubt, losses.torn or is_torn(found, gaps)
    if lost > 0:
        losses.add(lost, "MP3 frames that are damaged or missing")


def decode_adts(file: IO[bytes], begin: int, found: AdtsScan, losses: Losses) -> Blocks:
    """AAC with ADTS headers from `begin` on, whose frames are `found`: FFmpeg silently skips what it cannot decode."""
    audio = file
    gaps = audio_gaps(audio, found)
    if cut := tags_inside(audio, found, gaps):
        audio = SpanFile(audio, without(cut, audio.seek(0, io.SEEK_END)))  # type: ignore[assignment]
        found = scan_adts(audio, begin, audio.seek(0, io.SEEK_END))
        gaps = audio_gaps(audio, found)
    missing = missing_frames(found, gaps)
    heard = Counted()
    sound_seconds = _sound_seconds(audio, found, gaps, ())
    if broken := [(gap.begin, gap.end) for gap in gaps if gap.begin < found.end]:  # FFmpeg would lose what follows too
        audio = SpanFile(audio, without(broken, audio.seek(0, io.SEEK_END)))  # type: ignore[assignment]
    audio.seek(0)
    blocks = decode_with_pyav(WatchedFile(audio), NO_LENGTH, losses, "aac", tells=False, times_at=missing.times_at)
    yield from heard.each(shifted_from(sound_seconds, blocks, losses))
    in_gaps = sum(gap.seconds for gap in gaps)
    lost = max(in_gaps, found.seconds + in_gaps - heard.seconds)
    if not losses.gaps:
        losses.doubt, losses.torn = losses.doubt + missing.most_seconds, losses.torn or missing.torn
    if lost > (0.0 if gaps else 0.5 * found.frame_seconds):
        losses.add(lost, "AAC frames that are damaged or missing")


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
