"""jobs/audio_routes.py: odd files are decoded to their real end, as FFmpeg decodes them, and what is missing is told."""

from __future__ import annotations

import io
import random
import struct
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile
from support.heard_audio import before_shift, heard, place, seconds
from support.near import approx
from support.odd_audio import (
    APE,
    ID3V1,
    ID3V2,
    LYRICS,
    adts,
    adts_places,
    damaged,
    high_efficiency,
    in_blocks,
    mp3,
    ogg_pages,
    plain_mp3,
    resealed,
    speech,
    title,
)
from support.tars import Samples, audio_file, pyav_file

from audio_tokenizers.errors import ClipError
from jobs import audio_routes, mpeg_routes
from jobs.audio import decode, decode_channels
from jobs.flac_frames import frame_range, read_stream_info
from jobs.losses import Losses
from jobs.mp3_frames import scan_mp3

MP3, PLAIN = mp3(), plain_mp3()
FLAC = audio_file(speech(3.0), 16000, "FLAC")
VORBIS = audio_file(speech(3.0), 16000, "OGG", "VORBIS")
OPUS = audio_file(speech(3.0, 48000), 48000, "OGG", "OPUS")
WAV = audio_file(speech(3.0), 16000)
WEBM = pyav_file(speech(3.0, 48000), 48000, "webm", "libopus")
M4A = pyav_file(speech(3.0), 16000, "ipod", "aac", {"movflags": "faststart"})
ADTS, AAC_PLACES = adts(), adts_places(adts())
FRAME, AAC_FRAME = 576 / 16000, 1024 / 16000
JUNK = bytes([0x9A, 0x01])


def ffmpeg_seconds(data: bytes) -> float:
    """As FFmpeg's player goes on after packets that it cannot decode."""
    import av

    total = 0.0
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux(audio=0):
            try:
                total += sum(frame.samples / frame.sample_rate for frame in packet.decode())
            except av.error.FFmpegError:
                continue
    return total


def counting(count: int) -> bytes:
    """An MP3 whose first frame states so many others: 86 are right."""
    at = MP3.index(b"Xing") + 8
    return MP3[:at] + struct.pack(">I", count) + MP3[at + 4 :]


def radio(data: bytes = PLAIN) -> bytes:
    """Stream titles every so many bytes, as they fall."""
    return title().join(data[at : at + 1000] for at in range(0, len(data), 1000))


def wav_with(payload: bytes, size: int | None = None) -> bytes:
    """MP3 in WAV."""
    fields = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 16000, 3000, 1, 0, 12, 1, 2, 108, 1, 1393)
    body = b"WAVEfmt " + struct.pack("<I", len(fields)) + fields
    body += b"data" + struct.pack("<I", len(payload) if size is None else size) + payload
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wav_header(at: int, form: str, value: int) -> bytes:
    field = struct.pack(form, value)
    return WAV[:at] + field + WAV[at + len(field) :]


WHOLE: dict[str, tuple[Callable[[], bytes], float | None]] = {
    "MP3s end to end": (lambda: MP3 + MP3 + MP3, None),
    "MP3s end to end, each with its tags": (lambda: (ID3V2 + MP3 + ID3V1) * 2, None),
    "MP3s end to end, the second without a length": (lambda: MP3 + PLAIN, None),
    "MP3s end to end at two rates": (lambda: MP3 + mp3(2.0, 44100), None),
    "MP3 that goes on at a higher rate": (lambda: PLAIN + plain_mp3(2.0, 44100), None),
    "MP3 that goes on at a lower rate": (lambda: plain_mp3(2.0, 44100) + PLAIN, None),
    "MP3 that goes on in stereo": (lambda: PLAIN + plain_mp3(2.0, 16000, "stereo"), None),
    "MP3 that goes on in mono": (lambda: plain_mp3(2.0, 16000, "stereo") + PLAIN, None),
    "Xing states half of the frames": (lambda: counting(43), 3.0),
    "Xing states one frame less": (lambda: counting(85), 3.0),
    "Xing states one frame more": (lambda: counting(87), None),
    "Xing states far more frames, and the bytes that there are": (lambda: counting(500), None),
    "Xing, zeros after": (lambda: MP3 + bytes(300), 3.0),
    "Xing, a stream title between": (lambda: MP3[: place(MP3, 40)] + title() + MP3[place(MP3, 40) :], 3.0),
    **{
        f"MP3 without Xing, {name} after": (lambda after=after: PLAIN + after, 86 * FRAME)  # type: ignore[misc]
        for name, after in {
            "zeros": bytes(128),
            "more zeros than frames": bytes(50_000),
            "ID3v1": ID3V1,
            "ID3v2": ID3V2,
            "APE": APE,
            "APE and ID3v1": APE + ID3V1,
            "Lyrics3 and ID3v1": LYRICS + ID3V1,
            "text": b"Downloaded from somewhere nice\r\n" * 4,
        }.items()
    },
    "MP3, ID3v2 between": (lambda: PLAIN[: place(PLAIN, 40)] + ID3V2 + PLAIN[place(PLAIN, 40) :], 86 * FRAME),
    "MP3, stream titles between and within frames": (radio, 86 * FRAME),
    "MP3 in WAV": (lambda: wav_with(PLAIN), 86 * FRAME),
    "MP3 in WAV, with Xing": (lambda: wav_with(MP3), 3.0),
    "MP3 in WAV, size odd and too large": (lambda: wav_with(PLAIN, len(PLAIN) + 9), 86 * FRAME),
    **{
        f"FLAC, {name} after": (lambda after=after: FLAC + after, 3.0)  # type: ignore[misc]
        for name, after in {"ID3v1": ID3V1, "ID3v2": ID3V2, "APE": APE, "zeros": bytes(100), "text": b"text" * 90}.items()
    },
    "FLAC, ID3v2 before": (lambda: ID3V2 + ID3V2 + FLAC, 3.0),
    "FLAC end to end": (lambda: FLAC + audio_file(speech(1.5), 16000, "FLAC"), 4.5),
    "FLAC end to end, as long, with tags": (lambda: (ID3V2 + FLAC + ID3V1)[len(ID3V2) :] * 2, 6.0),
    "FLAC end to end at two rates": (lambda: FLAC + audio_file(speech(1.5, 44100), 44100, "FLAC"), 4.5),
    "chained Vorbis": (lambda: VORBIS + audio_file(speech(1.5), 16000, "OGG", "VORBIS"), 4.5),
    "chained Opus": (lambda: OPUS * 3, 9.0),
    "chained Opus and Vorbis, rates and channels that differ": (
        lambda: OPUS + audio_file(np.stack([speech(1.0, 44100)] * 2, axis=1), 44100, "OGG", "VORBIS") + VORBIS,
        7.0,
    ),
    "Ogg, ID3v2 before": (lambda: ID3V2 + VORBIS, 3.0),
    "Ogg, ID3v1 after": (lambda: OPUS + ID3V1, 3.0),
    "Vorbis without an end flag": (lambda: resealed(VORBIS, list(ogg_pages(VORBIS))[-1], flags=0), 3.0),
    "Opus without an end flag": (lambda: resealed(OPUS, list(ogg_pages(OPUS))[-1], flags=0), None),
    "Opus that ends between pages": (lambda: OPUS[: list(ogg_pages(OPUS))[-1][0]], None),
    "WAV, 18 bytes promised too many": (lambda: wav_header(40, "<I", 96_018), 3.0),
    "WAV, its header counted in": (lambda: wav_header(40, "<I", 96_044), 3.0),
    "WAV, an odd size": (lambda: wav_header(40, "<I", 95_999), 3.0),
    "WAV, an odd size and file": (lambda: wav_header(40, "<I", 95_999)[:-1], 3.0),
    "WAV, half a sample missing": (lambda: WAV[:-1], 3.0),
    **{f"WAV, block align {align}": (lambda align=align: wav_header(32, "<H", align), 3.0) for align in (0, 1, 3, 4)},  # type: ignore[misc]
    "WAV, ID3v2 before": (lambda: ID3V2 + WAV, 3.0),
    "AAC at two rates": (lambda: ADTS + adts(2.0, 44100), None),
    "AAC that goes on in stereo": (lambda: ADTS + adts(2.0, 16000, "stereo"), None),
    "AAC end to end, each with its tags": (lambda: (ID3V2 + ADTS + ID3V1) * 2, 96 * AAC_FRAME),
    "HE-AAC": (lambda: high_efficiency(ADTS), 48 * AAC_FRAME),
    "AAC that goes on as HE-AAC": (lambda: ADTS + high_efficiency(ADTS), 96 * AAC_FRAME),
    "AAC, several blocks in a frame": (lambda: in_blocks(ADTS, 3), 48 * AAC_FRAME),
    "AAC, two ID3v2 before": (lambda: ID3V2 * 2 + ADTS, 48 * AAC_FRAME),
    "AAC, ID3v2 between": (lambda: ADTS[: AAC_PLACES[20]] + ID3V2 + ADTS[AAC_PLACES[20] :], 48 * AAC_FRAME),
    "AAC, stream titles between and within frames": (lambda: radio(ADTS), 48 * AAC_FRAME),
    **{
        f"AAC, {name} after": (lambda after=after: ADTS + after, 48 * AAC_FRAME)  # type: ignore[misc]
        for name, after in {
            "zeros": bytes(500),
            "ID3v1": ID3V1,
            "APE": APE,
            "text": b"Downloaded from somewhere\r\n",
        }.items()
    },
    **{
        f"{form}, {name} before": (lambda data=data, before=before: before + data, length)  # type: ignore[misc]
        for form, data, length in (("MP3 without Xing", PLAIN, 86 * FRAME), ("AAC", ADTS, 48 * AAC_FRAME))
        for name, before in {
            "zeros": bytes(5000),
            "text": b"<html><body>It works</body></html>\n",
            "a server's answer": b"HTTP/1.0 200 OK\r\nContent-Type: audio\r\n\r\n",
            "zeros and APE": bytes(20) + APE,
            "an ID3v2 tag that is longer than it says": ID3V2[:14] + bytes([0, 0, 40, 0]) + ID3V2[18:] + JUNK * 2000,
        }.items()
    },
}
"""What costs no audio: the file, and how long it is, where it is not as long as FFmpeg has it."""


@pytest.mark.parametrize("kind", WHOLE)
def test_all_is_heard_and_nothing_is_missing(kind: str) -> None:
    """Whatever the header says and whatever stands beside the audio; strict callers take it, too."""
    make, length = WHOLE[kind]
    data = make()
    found, missing = seconds(data)
    assert missing == 0.0
    assert found == pytest.approx(ffmpeg_seconds(data) if length is None else length, abs=0.01)
    strict = sum(len(wave) / rate for wave, rate in decode(io.BytesIO(data), mono="mean"))
    assert strict == pytest.approx(found)


PAGES = list(ogg_pages(OPUS))
DAMAGED: dict[str, tuple[Callable[[], bytes], float]] = {
    "MP3, a header overwritten": (lambda: damaged(PLAIN, place(PLAIN, 40) - 4), 86 * FRAME),
    "MP3, many frames overwritten": (lambda: damaged(PLAIN, place(PLAIN, 40), 2000), 86 * FRAME),
    "MP3, a hole of zeros": (lambda: PLAIN[:4000] + bytes(1000) + PLAIN[5000:], 86 * FRAME),
    "Xing, a header overwritten": (lambda: damaged(MP3, place(MP3, 40)), 3.0),
    "Xing, cut": (lambda: MP3[: len(MP3) * 2 // 3], 3.0),
    "Xing, cut, another after it": (lambda: MP3[: place(MP3, 44)] + MP3, 6.12),
    "MP3 in WAV, a header overwritten": (lambda: wav_with(damaged(PLAIN, place(PLAIN, 40))), 86 * FRAME),
    "MP3 in WAV, cut": (lambda: wav_with(PLAIN[: place(PLAIN, 43)], len(PLAIN)), 86 * FRAME),
    "FLAC, the first frame damaged": (lambda: damaged(FLAC, FLAC.index(b"\xff\xf8", 50) + 300), 3.0),
    "FLAC, damaged in the middle": (lambda: damaged(FLAC, len(FLAC) // 2), 3.0),
    "FLAC, damaged at two places, length unknown": (
        lambda: damaged(damaged(FLAC[:21] + bytes([FLAC[21] & 0xF0]) + bytes(4) + FLAC[26:], 20_000), 50_000),
        3.0,
    ),
    "FLAC, the last frame damaged": (lambda: damaged(FLAC, len(FLAC) - 200), 3.0),
    "FLAC, bytes missing": (lambda: FLAC[:20_000] + FLAC[24_000:], 3.0),
    "FLAC, cut": (lambda: FLAC[: len(FLAC) * 2 // 3], 3.0),
    "FLAC, damaged, another after it": (lambda: damaged(FLAC, len(FLAC) // 2) + FLAC, 6.0),
    "Opus, a page damaged": (lambda: damaged(OPUS, PAGES[3][0] + 500), 3.0),
    "Opus, a page's header damaged": (lambda: damaged(OPUS, PAGES[3][0], 10), 3.0),
    "Opus, a page missing": (lambda: OPUS[: PAGES[3][0]] + OPUS[PAGES[3][1] :], 3.0),
    "Opus, cut within a page": (lambda: OPUS[: PAGES[-1][0] + 500], 3.0),
    "Vorbis, a page damaged": (lambda: damaged(VORBIS, list(ogg_pages(VORBIS))[-2][0] + 500), 3.0),
    "chained, a page damaged": (lambda: damaged(OPUS, PAGES[3][0] + 500) + OPUS, 6.0),
    "WAV, cut": (lambda: WAV[:-30_000], 3.0),
    "AIFF, cut": (lambda: audio_file(speech(3.0), 16000, "AIFF")[:-30_001], 3.0),
    "CAF, cut": (lambda: audio_file(speech(3.0), 16000, "CAF")[:-30_001], 3.0),
    "m4a, cut": (lambda: M4A[: len(M4A) * 2 // 3], 3.0),
    "WebM, cut": (lambda: WEBM[: len(WEBM) * 2 // 3], 3.0),
    "WebM, damaged between blocks": (lambda: damaged(WEBM, len(WEBM) // 2, 400), 3.0),
    "MP3, its first frames overwritten": (lambda: JUNK * 1000 + PLAIN[2000:], 86 * FRAME),
    "AAC, a header overwritten": (lambda: damaged(ADTS, AAC_PLACES[20] - 4), 48 * AAC_FRAME),
    "AAC, a frame overwritten": (lambda: damaged(ADTS, AAC_PLACES[20] + 20), 48 * AAC_FRAME),
    "AAC, many frames overwritten": (lambda: damaged(ADTS, AAC_PLACES[20] + 100, 4000), 48 * AAC_FRAME),
    "HE-AAC, many frames overwritten": (lambda: damaged(high_efficiency(ADTS), 11_000, 4000), 48 * AAC_FRAME),
    "AAC, a hole of zeros": (lambda: ADTS[:4000] + bytes(3000) + ADTS[7000:], 48 * AAC_FRAME),
    "AAC, a hole of zeros at its end": (lambda: ADTS[:-3000] + bytes(3000), 48 * AAC_FRAME),
    "AAC, a length damaged": (lambda: damaged(ADTS, AAC_PLACES[20] + 4, 1), 48 * AAC_FRAME),
    "AAC, its first frames overwritten": (lambda: JUNK * 2000 + ADTS[4000:], 48 * AAC_FRAME),
    "AAC, its first frames overwritten, ID3v2 before": (lambda: ID3V2 + JUNK * 2000 + ADTS[4000:], 48 * AAC_FRAME),
    "AAC, cut": (lambda: ADTS[:-30], 48 * AAC_FRAME),
    "AAC, cut within a header": (lambda: ADTS[: AAC_PLACES[-1] + 3], 48 * AAC_FRAME),
}
"""A file that lost something, and how long it was before."""


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_missing_is_told(kind: str) -> None:
    """What is heard and what is missing make the whole, but for a frame; as much is heard as FFmpeg plays, or more."""
    make, length = DAMAGED[kind]
    data = make()
    found, missing = seconds(data)
    assert missing > 0.0
    assert found > 0.4 * length
    assert found + missing == pytest.approx(length, abs=0.08)
    with pytest.raises(ClipError, match=r"s of it are missing: ") as caught:
        list(decode(io.BytesIO(data), mono="mean"))
    assert caught.value.kind == "decode"
    if "chained" not in kind and "another" not in kind and "FLAC" not in kind:  # which FFmpeg decodes in part, or as noise
        assert found == pytest.approx(ffmpeg_seconds(data), abs=0.01)


def lag(found: Samples, clean: Samples, rate: int) -> float:
    """By how many seconds the end of `found` stands elsewhere in `clean`; 0 where nothing tells."""
    worst, window = 0.0, rate // 4
    for before_end in (0.04, 0.3, 0.6):
        end = min(len(found), len(clean)) - int(before_end * rate)
        if end < window:
            break
        piece = found[end - window : end] - found[end - window : end].mean()
        if np.corrcoef(piece, clean[end - window : end])[0, 1] < 0.7:
            place = int(np.correlate(clean, piece, "valid").argmax())
            worst = max(worst, abs(place + window - end) / rate)
    return worst


NOTHING_FOLLOWS = (
    "FLAC, the last frame damaged",
    "Opus, cut within a page",
    "WebM, damaged between blocks",
    "AAC, a hole of zeros at its end",
    "AAC, cut within a header",
)
NOTHING_IS_SURE = (
    "FLAC, the first frame damaged",
    "Xing, cut, another after it",
    "MP3, its first frames overwritten",
    "AAC, its first frames overwritten",
    "AAC, its first frames overwritten, ID3v2 before",
)


@pytest.mark.parametrize("kind", DAMAGED)
def test_before_what_follows_damage_it_is_said_to_be_shifted(kind: str) -> None:
    """With the first block after it; what stands before is in its place. What is missing at the end shifts nothing."""
    data = DAMAGED[kind][0]()
    wave, rate, is_shifted = before_shift(data)
    assert is_shifted == (kind not in NOTHING_FOLLOWS and not kind.endswith(", cut"))
    if is_shifted and kind not in NOTHING_IS_SURE:
        assert 0.2 < len(wave) / rate < 3.01
        assert len(wave) / rate < seconds(data)[0]


@pytest.mark.parametrize("before", [b"", ID3V2, b"HTTP/1.0 200 OK\r\nContent-Type: audio\r\n\r\n"])
@pytest.mark.parametrize(("data", "frame"), [(PLAIN, FRAME), (ADTS, AAC_FRAME)], ids=["mp3", "aac"])
def test_first_frames_that_are_destroyed_are_a_loss(data: bytes, frame: float, before: bytes) -> None:
    """Whatever stands before them: as long as so many bytes of others. A part of a frame is none."""
    begins = AAC_PLACES if data is ADTS else list(map(int, scan_mp3(io.BytesIO(data), 0, len(data)).positions))
    for count in (2, 5):
        odd = before + (JUNK * begins[count])[: begins[count]] + data[begins[count] :]
        found, missing = seconds(odd)
        assert found + missing == pytest.approx(len(begins) * frame, abs=frame)
        assert missing == pytest.approx(count * frame, rel=0.25)
        assert before_shift(odd)[2]
    for size in (100, begins[1] - 20):
        odd = before + data[begins[1] - size :]
        assert heard(odd)[2] == Losses()
        assert seconds(odd)[0] == pytest.approx((len(begins) - 1) * frame, abs=frame)


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (OPUS + damaged(VORBIS, 5, 20) + OPUS, 9.0),
        (OPUS + OPUS[: PAGES[2][0]] + bytes(24_000) + OPUS, 9.0),
        (damaged(OPUS, PAGES[2][0] + 500) + OPUS, 6.0),
        (damaged(VORBIS, list(ogg_pages(VORBIS))[2][0], 4), 3.0),
        (damaged(OPUS, PAGES[-1][0], 4), 3.0),
    ],
)
def test_what_is_missing_of_a_stream_whose_times_do_not_tell(data: bytes, length: float) -> None:
    """Where its beginning is damaged, or its last page's name: at a guess, by its bytes."""
    found, missing = seconds(data)
    assert found < length - 0.3
    assert 0.6 * (length - found) < missing < 1.7 * (length - found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*WHOLE, *DAMAGED])
def test_all_channels(kind: str) -> None:
    """`decode_channels` gives as much, of one rate and one number of channels; from a file on disk, the same."""
    data = {**WHOLE, **DAMAGED}[kind][0]()
    wave, rate, told = heard(data)
    losses = Losses()
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        blocks = list(decode_channels(file, losses=losses))
        again = list(decode(file, mono="mean", losses=Losses()))
    assert {found for _, found in blocks} == {rate}
    assert len({block.shape[1] for block, _ in blocks}) == 1
    assert sum(len(block) for block, _ in blocks) == len(wave)
    assert losses == told
    np.testing.assert_array_equal(np.concatenate([block for block, _ in again]), wave)


@pytest.mark.parametrize("kind", ["FLAC", "VORBIS", "OPUS", "WAV", "MP3"])
def test_what_is_whole_is_libsndfiles(kind: str) -> None:
    """To the bit: also each link of a chain, and a FLAC up to its damage and after it."""
    data = {"FLAC": FLAC, "VORBIS": VORBIS, "OPUS": OPUS, "WAV": WAV, "MP3": MP3}[kind]
    true, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    if kind == "MP3":
        np.testing.assert_allclose(heard(data)[0], true, atol=1e-6)  # mpg123 rounds otherwise after a seek
    else:
        np.testing.assert_array_equal(heard(data)[0], true)
    if kind in ("VORBIS", "OPUS", "FLAC"):
        np.testing.assert_array_equal(heard(data + data)[0], np.concatenate([true, true]))


@pytest.mark.parametrize("block_frames", [5000, 1 << 18])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_damaged_flac_has_all_samples_of_all_other_frames(
    block_frames: int, subtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, wherever libsndfile stopped."""
    monkeypatch.setattr("jobs.audio.BLOCK_FRAMES", block_frames)
    data = audio_file(speech(3.0), 16000, "FLAC", subtype)
    true, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    wave, _, losses = heard(damaged(data, len(data) // 2))
    assert len(wave) == len(true) - 4096
    gap = int(np.flatnonzero(wave != true[: len(wave)])[0]) // 4096 * 4096
    words, place = ["FLAC frames that are damaged or missing"], (gap / 16000, 4096 / 16000)
    assert losses == Losses(4096 / 16000, words, shifted=True, gaps=[place])
    np.testing.assert_array_equal(wave[:gap], true[:gap])
    np.testing.assert_array_equal(wave[gap:], true[gap + 4096 :])


@pytest.mark.parametrize("removed", [0, 5, 11])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_frame_that_is_missing_is_no_silence(removed: int, channels: int) -> None:
    """LibFLAC puts zeros in its place, without a word; digital silence that was recorded stays."""
    wave = np.stack([speech(3.0)] * channels, axis=1)
    wave[20_000:40_000] = 0.0
    data = audio_file(wave, 16000, "FLAC")
    true, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(heard(data)[0], true[:, 0])
    info = read_stream_info(data[:64])
    assert info is not None
    places = [at for at in range(len(data)) if data.startswith(b"\xff\xf8", at)]
    starts = {
        frame[0] // 4096: at for at in places if (frame := frame_range(data[at : at + 16], info)) and not frame[0] % 4096
    }
    odd = data[: starts[removed]] + (data[starts[removed + 1] :] if removed < 11 else b"")
    expected = np.delete(true[:, 0], slice(4096 * removed, 4096 * (removed + 1)))
    for file in (io.BytesIO(odd), tempfile.TemporaryFile()):  # noqa: SIM115 (closed below)
        with file:
            file.write(odd)
            losses = Losses()
            found = np.concatenate([block for block, _ in decode(file, mono="mean", losses=losses)])
        np.testing.assert_array_equal(found, expected)
        assert losses.seconds == pytest.approx((48_000 - len(expected)) / 16000)


def gap_in(times: Callable[[int], float]) -> bytes:
    """A WebM whose packets, of 20 ms each, come at other times."""
    import av

    file = io.BytesIO()
    with av.open(io.BytesIO(WEBM), "r") as source, av.open(file, "w", format="webm") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for number, packet in enumerate(source.demux(audio=0)):
            if packet.size:
                packet.pts = packet.dts = int((packet.pts or 0) + times(number) * 1000)
                packet.stream = stream
                target.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("times", [lambda number: 0.8 * (number > 60), lambda _: 5.0, lambda number: 0.1 * number])
def test_a_gap_in_time_is_no_silence_and_no_loss(times: Callable[[int], float]) -> None:
    """A muted microphone, a recording that begins late: what was recorded is heard, one after the other."""
    found, missing = seconds(gap_in(times))
    assert (found, missing) == (approx(3.0, abs=0.03), 0.0)


@pytest.mark.parametrize(
    ("times", "jumps", "sure"),
    [
        (lambda number: 0.8 * (number > 60), 0.8, 1.2),
        (lambda _: 5.0, 0.0, 3.0),
        (lambda number: 0.1 * number, 14.9, 0.02),
        (lambda number: 0.005 * number, 0.0, 3.0),
        (lambda number: 0.04 * (number > 60), 0.04, 3.0),
    ],
)
def test_what_follows_a_gap_in_time_may_be_shifted(times: Callable[[int], float], jumps: float, sure: float) -> None:
    """Nothing is missing, but what follows has a later time. A little is rounding. Where the gaps are is told."""
    losses = heard(data := gap_in(times))[2]
    wave, rate, is_shifted = before_shift(data)
    gaps, losses.gaps = losses.gaps, []
    assert sum(missing for _, missing in gaps) == pytest.approx(losses.doubt if is_shifted else 0.0)
    assert losses == Losses(doubt=approx(jumps, abs=0.2 * jumps + 0.002), shifted=is_shifted)
    assert is_shifted == (sure < 3.0)
    assert len(wave) / rate == pytest.approx(sure, abs=0.05)


def test_a_gap_in_time_where_bytes_are_damaged_is_a_loss() -> None:
    """FFmpeg finds the next cluster, and the times are as if a microphone had been muted."""
    clusters = pyav_file(speech(12.0, 48000), 48000, "webm", "libopus", {"cluster_time_limit": "1000"})
    starts = [at for at in range(len(clusters)) if clusters.startswith(b"\x1f\x43\xb6\x75", at)]
    odd = clusters[: starts[4]] + bytes(starts[6] - starts[4]) + clusters[starts[6] :]
    found, missing = seconds(odd)
    wave, rate, is_shifted = before_shift(odd)
    assert is_shifted
    assert 3.0 < len(wave) / rate < 5.1
    assert lag(wave, heard(clusters)[0], rate) < 0.06
    assert 9.0 < found < 11.0
    assert found + missing == pytest.approx(12.0, abs=0.1)


def test_opus_cut_from_the_middle_of_a_stream() -> None:
    """Its granule positions begin late. It begins where FFmpeg has it begin: what a decoder needs first is not heard."""
    import av

    late = OPUS
    for page in list(ogg_pages(OPUS))[2:]:
        late = resealed(late, page, later=480_000)
    wave, rate, losses = heard(late)
    with av.open(io.BytesIO(late), "r") as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    expected = np.concatenate(frames)
    assert (rate, len(wave), losses) == (48000, len(expected), Losses())
    np.testing.assert_allclose(wave, expected, atol=1e-4)


def test_opus_as_ffmpeg_writes_it() -> None:
    """Its times begin as late as its pre-skip is long: its first and its last samples are those of the encoder's input."""
    wave = heard(pyav_file(speech(3.0, 48000), 48000, "ogg", "libopus"))[0]
    by_libsndfile = heard(OPUS)[0]
    assert len(wave) == len(by_libsndfile)
    for part in (slice(2000, 20_000), slice(-20_000, -1000)):
        assert np.corrcoef(wave[part], by_libsndfile[part])[0, 1] > 0.95


def test_the_right_samples_after_a_change_of_rate() -> None:
    """Each part sounds as it does alone, resampled."""
    tone = np.sin(2 * np.pi * 300 * np.arange(88_200) / 44100).astype(np.float32)
    together = heard(VORBIS + audio_file(tone, 44100, "OGG", "VORBIS"))[0]
    spectrum = np.abs(np.fft.rfft(together[48_000 + 4000 :][:16_000] * np.hanning(16_000)))
    assert int(spectrum.argmax()) == 300
    np.testing.assert_array_equal(together[:48_000], heard(VORBIS)[0])


def test_nothing_is_heard_of_what_nothing_is_left_of() -> None:
    """Then there is no clip, whatever was promised."""
    for data in (WAV[:44], FLAC[:100], damaged(OPUS, 0, len(OPUS)), damaged(PLAIN, 0, len(PLAIN)), ID3V2, ID3V2[:10]):
        with pytest.raises(ClipError) as caught:
            heard(data)
        assert caught.value.kind == "decode"


@pytest.mark.slow
def test_junk_of_many_kinds_is_bounded_in_time() -> None:
    """Files that look like a thousand frames, parts or tags end as quickly as others."""
    began = time.process_time()
    header = scan_mp3(io.BytesIO(PLAIN), 0, len(PLAIN)).positions[1]
    rates = b"".join(plain_mp3(0.1, rate)[:1200] for rate in (16000, 44100)) * 100
    for data in (
        PLAIN[:4] * 20_000,
        PLAIN[:header] * 200 + b"\xff" * 500_000,
        b"fLaC\0\0\0\x22" * 20_000,
        FLAC[:86] * 500,
        OPUS[: PAGES[1][1]] * 500,
        b"OggS\0" * 50_000,
        ID3V2[:10] * 20_000,
        b"StreamTitle='" * 20_000 + PLAIN,
        PLAIN + (PLAIN[:300] + b"StreamTitle='") * 2000,
        rates,
    ):
        try:
            heard(data)
        except ClipError as error:
            assert error.kind in ("decode", "empty")  # noqa: PT017 (either is right)
    assert time.process_time() - began < 60


FUZZED: dict[str, bytes] = {
    "mp3": MP3,
    "plain mp3": PLAIN,
    "flac": FLAC,
    "vorbis": VORBIS,
    "opus": OPUS,
    "chain": OPUS[:] + VORBIS,
    "wav": WAV,
    "mp3 in wav": wav_with(PLAIN),
    "webm": WEBM,
    "m4a": M4A,
    "adts": ADTS,
}
UNCHECKED = ("wav", "m4a", "webm")
"""Containers in which a field that is changed can hide audio from every decoder."""


def mutations(data: bytes, chance: random.Random) -> Iterator[bytes]:
    for _ in range(12):
        odd = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(odd))
            odd[at : at + 1] = chance.choice([b"", bytes([odd[at] ^ 1 << chance.randrange(8)]), chance.randbytes(2)])
        yield bytes(odd)
    for _ in range(4):
        at = chance.randrange(len(data))
        yield data[:at]
        yield data[:at] + chance.randbytes(chance.randint(1, 300)) + data[at:]
        yield data[:at] + data[at + chance.randint(1, 3000) :]


@pytest.mark.slow
@pytest.mark.parametrize("kind", FUZZED)
def test_fuzz(kind: str) -> None:
    """Of a file with a few wrong bytes all is heard, or what is missing is told, or it is refused; samples are finite."""
    data = FUZZED[kind]
    whole = seconds(data)[0]
    for odd in mutations(data, random.Random(kind)):
        try:
            wave, rate, losses = heard(odd)
        except ClipError as error:
            assert error.kind in ("decode", "empty", "not_finite")  # noqa: PT017 (each is right)
            continue
        assert np.isfinite(wave).all()
        assert losses.seconds >= 0.0
        missing = whole - len(wave) / rate - 2.5 * FRAME  # the last packets of a stream leave no trace but a word too few
        if kind not in UNCHECKED and len(odd) >= len(data) - 6 and missing > 0:
            assert losses.seconds > 0.5 * missing  # at a guess, where lengths are damaged


@pytest.mark.parametrize("kind", [kind for kind in FUZZED if kind not in UNCHECKED])
@pytest.mark.slow
def test_what_is_not_said_to_be_shifted_is_in_its_place(kind: str) -> None:
    """Whatever is damaged, cut out, overwritten or put in: else a segment's text would belong to other audio."""
    data, chance = FUZZED[kind], random.Random(kind)
    clean, rate, _ = heard(data)
    odd = [
        *mutations(data, chance),
        *(data[:at] + bytes(900) + data[at + 900 :] for at in chance.sample(range(len(data)), 6)),
    ]
    for one in odd:
        try:
            wave, odd_rate, _ = before_shift(one)
        except ClipError:
            continue
        if odd_rate == rate:
            assert lag(wave, clean, rate) < 0.06


def test_nothing_of_it_depends_on_how_often_it_is_read() -> None:
    """A second time, the same samples and losses: also of the file whose header is mended in place."""
    for data in (damaged(MP3, place(MP3, 40)), wav_header(40, "<I", 0), OPUS + VORBIS):
        file = io.BytesIO(data)
        first = [block.copy() for block, _ in decode(file, mono="mean", losses=Losses())]
        second = [block for block, _ in decode(file, mono="mean", losses=Losses())]
        np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


def test_clean_files_are_read_by_libsndfile_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decoded twice that is as it says."""
    for routes in (audio_routes, mpeg_routes):
        monkeypatch.setattr(routes, "decode_with_pyav", None)
    monkeypatch.setattr(audio_routes, "decode_flac", None)
    for data in (MP3, MP3 + ID3V1, FLAC, FLAC + ID3V1, VORBIS, OPUS, OPUS + VORBIS, WAV, wav_with(MP3)):
        assert seconds(data)[1] == 0.0
