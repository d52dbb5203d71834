"""jobs/audio.py: what is decoded, to which samples; what is refused, and how; blocks and fragments."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tars import Samples, audio_file, noise, pyav_file

from audio_tokenizers.base import MonoRule
from audio_tokenizers.errors import ClipError
from jobs import audio
from jobs.audio import FragmentCutter, decode, resample


def decoded(data: bytes, mono: MonoRule = "mean", max_seconds: float | None = None) -> tuple[Samples, int]:
    blocks = list(decode(io.BytesIO(data), mono=mono, max_seconds=max_seconds))
    assert len({rate for _, rate in blocks}) == 1
    return np.concatenate([wave for wave, _ in blocks]), blocks[0][1]


def refused(data: bytes, mono: MonoRule = "mean", max_seconds: float | None = None) -> tuple[str, str]:
    with pytest.raises(ClipError) as caught:
        decoded(data, mono, max_seconds)
    assert " at 0x" not in str(caught.value)
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize(
    ("kind", "subtype", "step"),
    [
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
        ("AIFF", "PCM_16", 2**-15),
        ("AU", "PCM_16", 2**-15),
        ("CAF", "PCM_16", 2**-15),
        ("W64", "PCM_16", 2**-15),
        ("RF64", "PCM_16", 2**-15),
        ("NIST", "PCM_16", 2**-15),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_formats(kind: str, subtype: str, step: float, channels: int) -> None:
    """Lossless files give their samples, exact to half a step, averaged over their channels or the first of them."""
    wave = noise(5000, channels)
    data = audio_file(wave, 22050, kind, subtype)
    columns = wave.reshape(5000, channels)
    for mono, expected in (("mean", columns.mean(axis=1)), ("first", columns[:, 0])):
        found, rate = decoded(data, mono)  # type: ignore[arg-type]
        assert rate == 22050
        assert found.dtype == np.float32
        assert found.shape == (5000,)
        np.testing.assert_allclose(found, expected, atol=step + 1e-7)


@pytest.mark.parametrize(
    ("kind", "subtype", "rate"), [("OGG", "VORBIS", 16000), ("OGG", "OPUS", 48000), ("MP3", "MPEG_LAYER_III", 16000)]
)
def test_lossy_formats_of_libsndfile(kind: str, subtype: str, rate: int) -> None:
    """Lossy files give as many samples as went in, and what libsndfile decodes in one piece."""
    data = audio_file(noise(30_000), rate, kind, subtype)
    found, found_rate = decoded(data)
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    assert found_rate == rate
    assert len(found) == 30_000
    np.testing.assert_allclose(found, whole, atol=1e-6)  # mpg123 rounds otherwise after a seek


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [
        ("ipod", "aac", 44100),
        ("mp4", "aac", 16000),
        ("adts", "aac", 44100),
        ("webm", "libopus", 48000),
        ("matroska", "ac3", 48000),
        ("ipod", "alac", 44100),
        ("mp3", "libmp3lame", 16000),
        ("mp2", "mp2", 16000),
    ],
)
def test_formats_of_pyav(kind: str, codec: str, rate: int) -> None:
    """m4a, webm and odd codecs decode through PyAV, at their own rate, to what went in and a little padding."""
    seconds = np.arange(rate * 2, dtype=np.float32) / rate
    wave = (np.sin(2 * np.pi * 440 * seconds) * 0.5).astype(np.float32)
    found, found_rate = decoded(pyav_file(wave, rate, kind, codec))
    assert found_rate == rate
    assert len(wave) - 4096 <= len(found) <= len(wave) + 4096
    middle = found[rate // 2 : rate + rate // 2]
    loudest = np.fft.rfft(middle * np.hanning(len(middle)).astype(np.float32))
    assert int(np.abs(loudest).argmax()) == 440
    np.testing.assert_allclose(np.sqrt(np.mean(middle**2)), 0.5 / np.sqrt(2), rtol=0.05)


def test_mp3_without_a_length() -> None:
    """An MP3 that does not say how long it is gives all its samples; libsndfile's guess neither cuts nor refuses it."""
    rate = 16000
    loud_then_quiet = np.concatenate([noise(rate * 3) * np.float32(5), np.zeros(rate * 20, np.float32)])
    data = pyav_file(loud_then_quiet, rate, "mp3", "libmp3lame", {"write_xing": "0"})
    found, _ = decoded(data)
    assert len(loud_then_quiet) <= len(found) <= len(loud_then_quiet) + 4096


def test_mp3_without_a_length_whose_guess_is_too_low() -> None:
    """Where a loud beginning makes libsndfile guess a length that is too short, nothing is lost."""
    loud = pyav_file(noise(32000), 16000, "mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}, 128_000)
    quiet = pyav_file(noise(320_000), 16000, "mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}, 16_000)
    whole, _ = soundfile.read(io.BytesIO(loud + quiet))
    assert len(whole) < 150_000
    assert len(decoded(loud + quiet)[0]) > 350_000


def test_mean_is_a_sum_in_channel_order() -> None:
    """The mean is float32 all along: channels added in order, then divided, to the bit."""
    wave = noise(1000, 6)
    total = wave[:, 0].copy()
    for channel in range(1, 6):
        total += wave[:, channel]
    np.testing.assert_array_equal(decoded(audio_file(wave, 8000, "WAV", "FLOAT"))[0], total / np.float32(6))


@pytest.mark.parametrize("rate", [1000, 8000, 192_000, 768_000])
def test_rates_that_exist(rate: int) -> None:
    """Rates from 1 to 768 kHz are decoded."""
    assert decoded(audio_file(noise(2000), rate))[1] == rate


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2**31 - 1])
def test_rates_that_do_not(rate: int) -> None:
    """A header with an absurd rate is refused."""
    data = audio_file(noise(2000), 8000)
    kind, message = refused(data[:24] + struct.pack("<I", rate) + data[28:])
    assert kind == "decode"
    assert f"{rate} Hz" in message


def test_one_sample() -> None:
    """A file of 1 sample is decoded."""
    for kind in ("WAV", "FLAC", "AIFF"):
        assert len(decoded(audio_file(noise(1), 8000, kind))[0]) == 1


def test_empty() -> None:
    """0 bytes, and a good file of 0 samples, are empty."""
    assert refused(b"")[0] == "empty"
    for kind in ("WAV", "AIFF", "AU"):
        assert refused(audio_file(noise(0), 8000, kind))[0] == "empty"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    """A NaN or an infinity anywhere is an error of its own kind, unless it is in a channel that is not used."""
    wave = noise(1000, 2)
    wave[777, 1] = bad
    data = audio_file(wave, 8000, "WAV", "FLOAT")
    assert refused(data)[0] == "not_finite"
    assert len(decoded(data, "first")[0]) == 1000


def test_large_but_finite() -> None:
    """Samples whose squares overflow are finite all the same."""
    wave = np.full(1000, 3e38, np.float32)
    np.testing.assert_array_equal(decoded(audio_file(wave, 8000, "WAV", "FLOAT"))[0], wave)


@pytest.mark.parametrize(
    "data",
    [
        b"This is a transcript, not audio.\n" * 30,
        b"\0" * 1000,
        b"RIFF",
        b"RIFF\xff\xff\xff\xffWAVE",
        b"fLaC" + bytes(100),
        b"ID3\x03\0\0\0\0\0\0",
        b"\xff\xfb" + bytes(500),
        b"OggS" + bytes(500),
        b"\0\0\0\x20ftypM4A " + bytes(200),
        b"\x1aE\xdf\xa3" + bytes(100),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"x",
    ],
)
def test_what_is_not_audio(data: bytes) -> None:
    """Text, zeros, pictures and bare headers are refused; the message is the same each time."""
    first = refused(data)
    assert first[0] in ("decode", "empty")
    assert refused(data) == first


def test_a_playlist_opens_nothing(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that is a playlist cannot make FFmpeg read other files or addresses."""
    monkeypatch.chdir(str(tmp_path))
    with open("secret.wav", "wb") as file:  # noqa: PTH123 (a relative name, on purpose)
        file.write(audio_file(noise(8000), 8000))
    assert refused(b"ffconcat version 1.0\nfile secret.wav\n")[0] == "decode"
    assert refused(b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\nsecret.wav\n#EXT-X-ENDLIST\n")[0] == "decode"


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG", "AIFF", "AU", "CAF", "W64", "RF64", "NIST"])
def test_cut_files(kind: str) -> None:
    """A file that is cut is an error, not a shorter clip."""
    data = audio_file(noise(50_000), 16000, kind)
    for part in (0.3, 0.6, 0.9):
        assert refused(data[: int(len(data) * part)])[0] == "decode"


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [("ipod", "aac", {}), ("ipod", "aac", {"movflags": "faststart"}), ("webm", "libopus", {}), ("matroska", "ac3", {})],
)
def test_cut_files_of_pyav(kind: str, codec: str, options: dict[str, str]) -> None:
    """So is an m4a with its index in front or behind, and a webm, that is cut between packets or inside one."""
    data = pyav_file(noise(96_000), 48000, kind, codec, options)
    assert len(decoded(data)[0]) >= 94_000
    for length in range(len(data) // 4, len(data) * 3 // 4, len(data) // 40):
        assert refused(data[:length])[0] == "decode"


def test_lying_wav_headers() -> None:
    """A data size far beyond the file is refused; a little too large, or as programs write into a pipe, it costs nothing."""
    data = audio_file(noise(8000), 8000)

    def lie(riff: int, size: int) -> bytes:
        return data[:4] + struct.pack("<I", riff) + data[8:40] + struct.pack("<I", size) + data[44:]

    for riff, size in ((0xFFFFFFFF, 100_000), (0, 0x10000000)):
        assert refused(lie(riff, size))[0] == "decode"
    true, _ = decoded(data)
    for riff, size in (
        (len(data) - 8, 16002),
        (len(data) - 8, 16001),
        (len(data) - 8, 16000 + 44),
        (0, 0),
        (8, 0),
        (36, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFF024, 0x7FFFF000),
        (0, 16000),
        (0, 0xFFFFFFFF),
    ):
        np.testing.assert_array_equal(decoded(lie(riff, size))[0], true)
    shorter, _ = decoded(lie(len(data) - 8, 8000))
    np.testing.assert_array_equal(shorter, true[:4000])


def test_lying_flac_header() -> None:
    """How many samples a FLAC has its frames say, the last of which is shorter, whatever its header says."""
    data = bytearray(audio_file(noise(8000), 8000, "FLAC"))
    whole = decoded(bytes(data))[0]
    total = int.from_bytes(data[21:26], "big")
    assert total & (1 << 36) - 1 == 8000
    for stated in (0, 1, 4096, 7999, 8001, 8500, (1 << 36) - 1):
        data[21:26] = (total - 8000 + stated).to_bytes(5, "big")
        np.testing.assert_array_equal(decoded(bytes(data))[0], whole)


def test_damaged_flac() -> None:
    """Bytes overwritten in the middle of a FLAC are an error."""
    data = bytearray(audio_file(noise(50_000), 16000, "FLAC"))
    data[len(data) // 2 : len(data) // 2 + 50] = b"\xaa" * 50
    assert refused(bytes(data))[0] == "decode"


def test_max_seconds() -> None:
    """A clip at the limit passes, and one of a sample more is too long, before all of it has been decoded."""
    assert len(decoded(audio_file(noise(8000), 8000), max_seconds=1.0)[0]) == 8000
    kind, message = refused(audio_file(noise(8001), 8000), max_seconds=1.0)
    assert (kind, message) == ("too_long", "longer than 1 s")


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block is longer than BLOCK_FRAMES, and together they are the clip."""
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 1000)
    for frames in (999, 1000, 1001, 4000, 4567):
        wave = noise(frames)
        blocks = [block for block, _ in decode(io.BytesIO(audio_file(wave, 8000, "WAV", "FLOAT")), mono="mean")]
        assert max(len(block) for block in blocks) <= 1000
        np.testing.assert_array_equal(np.concatenate(blocks), wave)


@pytest.mark.slow
def test_many_channels_make_short_blocks() -> None:
    """A block's memory does not grow with the channels, of which a header may state a thousand; the samples are the same."""
    wave = noise(20_000, channels=500, seed=3)
    data = audio_file(wave, 8000)
    tracemalloc.start()
    try:
        sizes = [len(block) for block, _ in decode(io.BytesIO(data), mono="first")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(sizes) * 500 <= audio.MOST_BLOCK_SAMPLES
    assert peak < 3 * 4 * audio.MOST_BLOCK_SAMPLES
    np.testing.assert_allclose(decoded(data, "first")[0], wave[:, 0], atol=2**-15)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FLAC", "MP3"])
def test_memory_does_not_grow_with_length(kind: str) -> None:
    """Twenty minutes of audio are decoded and resampled in a small part of the memory that they would fill."""
    rate, minutes = 8000, 20
    loud, quiet = noise(rate * 60), np.zeros(rate * 60, np.float32)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format=kind) as sound:
        for minute in range(minutes):
            sound.write(loud if minute % 7 == 0 else quiet)
    file.seek(0)
    whole = rate * 60 * minutes * 4
    tracemalloc.start()
    samples = sum(len(wave) for wave in resample(decode(file, mono="mean"), 16000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples == rate * 60 * minutes * 2
    assert peak < whole / 4


PAIRS = [
    (44100, 16000),
    (48000, 24000),
    (16000, 24000),
    (22050, 16000),
    (8000, 16000),
    (192_000, 8000),
    (11025, 44100),
    (44100, 24000),
]


@pytest.mark.parametrize(("rate", "wanted"), PAIRS)
@pytest.mark.parametrize("frames", [1, 999, 1000, 1001, 7777])
def test_resampling_in_blocks_is_exact(rate: int, wanted: int, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks, the samples are those of soxr in one piece, bit for bit."""
    wave = noise(frames)
    expected = soxr.resample(wave, rate, wanted, "HQ")
    for size in (1000, 333, 1 << 18):
        monkeypatch.setattr(audio, "BLOCK_FRAMES", size)
        blocks = decode(io.BytesIO(audio_file(wave, rate, "WAV", "FLOAT")), mono="mean")
        np.testing.assert_array_equal(np.concatenate(list(resample(blocks, wanted))), expected)


def test_no_resampling_at_the_same_rate() -> None:
    """Audio at the backend's rate passes untouched."""
    wave = noise(5000)
    blocks = decode(io.BytesIO(audio_file(wave, 16000, "WAV", "FLOAT")), mono="mean")
    np.testing.assert_array_equal(np.concatenate(list(resample(blocks, 16000))), wave)


def whole_array_fragments(samples: int, length: int, overlap: int, hop: int) -> list[tuple[int, int, int, int]]:
    """(begin, end, head, tail) of the scheme in andreaskoepf/audio_tokenization, over a clip that is there as a whole."""
    found = []
    position = 0
    while True:
        begin = max(position - overlap * hop, 0)
        end = begin + length * hop
        last = end >= samples
        head = overlap if position > 0 else 0
        tail = 0 if last else overlap
        found.append((begin, min(end, samples), head, tail))
        if last:
            return found
        position += (length - head - tail) * hop


def split(wave: Samples, cuts: list[int]) -> Iterator[Samples]:
    edges = sorted({0, len(wave), *(cut % (len(wave) + 1) for cut in cuts)})
    return iter([wave[a:b] for a, b in pairwise(edges)] or [wave])


@pytest.mark.slow
@settings(max_examples=300)
@given(
    samples=st.integers(0, 3000),
    overlap=st.integers(0, 5),
    more=st.integers(1, 20),
    hop=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
)
def test_fragments(samples: int, overlap: int, more: int, hop: int, cuts: list[int]) -> None:
    """However the clip comes in blocks, its fragments are those of the scheme, and their frames add up to the clip's."""
    length = 2 * overlap + more
    wave = np.arange(samples, dtype=np.float32)
    fragments = list(FragmentCutter(length, overlap, hop, 1).cut(split(wave, cuts)))
    expected = whole_array_fragments(samples, length, overlap, hop)
    assert [(f.drop_head, f.drop_tail) for f in fragments] == [(head, tail) for _, _, head, tail in expected]
    for fragment, (begin, end, _, _) in zip(fragments, expected, strict=True):
        np.testing.assert_array_equal(fragment.wave, wave[begin:end])
    frames = sum(-(-len(f.wave) // hop) - f.drop_head - f.drop_tail for f in fragments)
    assert frames == -(-samples // hop)


@settings(max_examples=200)
@given(samples=st.integers(1, 2000), length=st.integers(5, 30), hop=st.integers(1, 9), shortest=st.integers(1, 40))
def test_a_remainder_too_short_stays_with_its_neighbour(samples: int, length: int, hop: int, shortest: int) -> None:
    """Without overlap, no fragment but a whole clip is shorter than min_samples, none grows by more, and nothing is lost."""
    shortest = min(shortest, length * hop)
    wave = np.arange(samples, dtype=np.float32)
    fragments = list(FragmentCutter(length, 0, hop, shortest).cut(iter([wave])))
    np.testing.assert_array_equal(np.concatenate([f.wave for f in fragments]), wave)
    assert all(len(f.wave) == length * hop for f in fragments[:-1])
    assert len(fragments[-1].wave) < length * hop + shortest
    assert len(fragments) == 1 or len(fragments[-1].wave) >= shortest


CORPUS = [
    audio_file(noise(3000), 8000),
    audio_file(noise(3000), 8000, "FLAC"),
    audio_file(noise(3000), 16000, "MP3"),
    audio_file(noise(3000), 16000, "OGG", "VORBIS"),
    pyav_file(noise(3000), 16000, "ipod", "aac"),
    pyav_file(noise(3000), 48000, "webm", "libopus"),
    pyav_file(noise(3000), 16000, "mp3", "libmp3lame", {"write_xing": "0"}),
    pyav_file(noise(3000), 48000, "mpegts", "mp2"),
    audio_file(noise(3000), 8000, "CAF"),
]


def outcome(data: bytes) -> bytes:
    try:
        wave, _ = decoded(data, max_seconds=60)
    except ClipError as error:
        return f"{error.kind} {error}".encode()
    assert np.isfinite(wave).all()
    return hashlib.sha256(wave.tobytes()).hexdigest().encode()


@settings(max_examples=150)
@given(
    which=st.integers(0, len(CORPUS) - 1),
    edits=st.lists(st.tuples(st.integers(0, 100_000), st.binary(min_size=1, max_size=4)), max_size=5),
    cut=st.integers(0, 100_000) | st.none(),
)
@pytest.mark.slow
def test_fuzz(which: int, edits: list[tuple[int, bytes]], cut: int | None) -> None:
    """Whatever bytes are damaged, a clip decodes to finite samples or is a ClipError with the same words each time."""
    data = bytearray(CORPUS[which])
    for place, new in edits:
        place %= len(data)  # noqa: PLW2901
        data[place : place + len(new)] = new[: len(data) - place]
    if cut is not None:
        del data[cut % len(data) :]
    first = outcome(bytes(data))
    assert b" at 0x" not in first
    assert outcome(bytes(data)) == first
