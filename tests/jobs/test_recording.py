"""jobs/recording.py: several clips of one audio that is decoded once, in bounded memory."""

from __future__ import annotations

import functools
import io
import itertools
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from support.near import approx
from support.odd_audio import adts_places
from support.tars import Samples, audio_file, noise, pyav_file
from support.waiting import until

from audio_tokenizers.errors import ClipError, InfrastructureError
from jobs import recording, sample_window
from jobs.activities import Activities
from jobs.audio import decode_channels
from jobs.channels import Block
from jobs.damage import judge
from jobs.losses import Losses
from jobs.mp3_frames import scan_mp3
from jobs.recording import Cut, Part, Recording

RATE = 1000


def wav(wave: Samples, rate: int = RATE) -> io.BytesIO:
    return io.BytesIO(audio_file(wave, rate, "WAV", "FLOAT"))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that seconds of audio are many blocks."""
    monkeypatch.setattr("jobs.audio.BLOCK_FRAMES", 700)


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Samples that were decoded, by decoding."""
    found: list[int] = []

    def counted(*arguments: Any, **settings: Any) -> Iterator[tuple[Block, int]]:
        found.append(0)
        for block, rate in decode_channels(*arguments, **settings):
            found[-1] += len(block)
            yield block, rate

    monkeypatch.setattr(recording, "decode_channels", counted)
    return found


def take(part: Part, max_seconds: float | None = None) -> Samples:
    with closing(part):
        return np.concatenate([block for block, _ in part.blocks(max_seconds=max_seconds)])


def refusal(part: Part, max_seconds: float | None = None) -> tuple[str, str]:
    with pytest.raises(ClipError) as caught:
        take(part, max_seconds)
    return caught.value.kind, str(caught.value)


def parts_of(audio: io.BytesIO, cuts: list[Cut], **settings: Any) -> list[Part]:
    """All of them, each told from where on the later ones need the recording."""
    held = Recording(audio, **settings)
    found = [held.part(cut, min((one.start for one in cuts[at + 1 :]), default=np.inf)) for at, cut in enumerate(cuts)]
    held.release()
    return found


SORTED = [Cut(0.5, 1.0), Cut(1.0, 3.2), Cut(3.2, 3.3), Cut(8.0, 9.5)]
OVERLAPPING = [Cut(0.0, 9.0), Cut(1.0, 2.0), Cut(1.5, 8.0), Cut(1.5, 8.0)]


@pytest.mark.parametrize("in_memory", [8 << 20, 4000, 1])
@pytest.mark.parametrize("cuts", [SORTED, SORTED[::-1], OVERLAPPING, OVERLAPPING[::-1], [Cut(), Cut(), Cut(2.5)]])
def test_each_part_is_its_piece_and_the_audio_is_decoded_once(
    cuts: list[Cut], in_memory: int, decodings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their order, whether they overlap, and wherever what is still needed lies."""
    monkeypatch.setattr(sample_window, "KEPT_IN_MEMORY", in_memory)
    wave = noise(10_000, 2)
    audio = wav(wave)
    for cut, part in zip(cuts, parts_of(audio, cuts), strict=True):
        last = len(wave) if cut.end is None else round(cut.end * RATE)
        assert np.array_equal(take(part), wave[round(cut.start * RATE) : last])
    assert len(decodings) == 1
    assert audio.closed


def test_neighbours_share_no_sample_and_lose_none() -> None:
    """Where one segment ends, the next one begins, at any times."""
    wave = noise(10_000)
    times = [0.0, *sorted(random.Random(0).uniform(0, 10) for _ in range(50)), 10.0]
    cuts = [Cut(start, end) for start, end in itertools.pairwise(times)]
    found = [take(part) for part in parts_of(wav(wave), cuts)]
    assert np.array_equal(np.concatenate(found)[:, 0], wave)


def test_any_list_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seeded search for windows that lose or mix samples."""
    monkeypatch.setattr(sample_window, "KEPT_IN_MEMORY", 5000)
    wave = noise(5000)
    for seed in range(200):
        chance = random.Random(seed)
        cuts = []
        for _ in range(chance.randrange(1, 12)):
            start = chance.uniform(0, 5)
            cuts.append(Cut(start, min(5.0, start + chance.choice([0, 0.01, 0.5, 5]))))
        for cut, part in zip(cuts, parts_of(wav(wave), cuts), strict=True):
            first, last = int(cut.start * RATE + 0.5), int((cut.end or 0) * RATE + 0.5)
            if chance.random() < 0.2:
                part.close()  # nobody wants it
            else:
                assert np.array_equal(take(part)[:, 0], wave[first:last])


def test_threads_take_their_parts_in_turn(decodings: list[int]) -> None:
    """Each of many threads gets its own piece, whichever comes first."""
    wave = noise(20_000)
    cuts = [Cut(at / 5, at / 5 + 0.3) for at in range(95)]
    parts = parts_of(wav(wave), cuts)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(take, parts))
    for cut, piece in zip(cuts, found, strict=True):
        assert np.array_equal(piece[:, 0], wave[round(cut.start * RATE) : round(cut.start * RATE) + 300])
    assert len(decodings) == 1


def test_who_waits_for_its_turn_is_not_to_blame() -> None:
    """Only the part whose turn it is shows as being decoded."""
    first, second = parts_of(wav(noise(1000)), [Cut(0, 0.5), Cut(0.5, 1.0)])
    activities = Activities()
    begun = threading.Event()

    def decode_second() -> Samples:
        with activities.doing("decode", tar="a", clip=1) as step, closing(second):
            begun.set()
            return np.concatenate([block for block, _ in second.blocks(step)])

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(decode_second)
        begun.wait()
        until(lambda: not activities.seen())
        first.close()
        assert len(waiting.result()) == 500


@pytest.mark.slow
def test_a_long_recording_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour in segments, sorted and not: a fraction of the 14 megabytes that it has."""
    monkeypatch.setattr(sample_window, "KEPT_IN_MEMORY", 1 << 18)
    file = io.BytesIO()
    soundfile.write(file, np.zeros(3_600_000, np.int16), RATE, format="FLAC", subtype="PCM_16")
    for step in (1, -1):
        cuts = [Cut(at, at + 3) for at in range(0, 3590, 4)][::step]
        starts = np.array([cut.start for cut in cuts])
        later = [*np.minimum.accumulate(starts[::-1])[::-1][1:], np.inf]
        held = Recording(io.BytesIO(file.getvalue()))
        tracemalloc.start()
        try:
            for cut, needed_from in zip(cuts, later, strict=True):
                assert len(take(held.part(cut, needed_from))) == 3000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        held.release()
        assert peak < 4 << 20


def test_a_small_part_keeps_no_large_block() -> None:
    """Its samples are its own: of the block that they come from nothing stays."""
    (part,) = parts_of(wav(noise(10_000)), [Cut(1.0, 1.1)])
    (block,) = [block for block, _ in part.blocks()]
    assert block.base is None
    part.close()


def test_a_little_beyond_the_end_is_forgiven() -> None:
    """Times are rounded; but a segment of which half a second or half of it is missing has another text than its audio."""
    forgiven, refused, empty = (
        [(8.0, 10.4), (9.8, 10.1)],
        [(8.0, 10.6), (9.9, 10.2), (10.0, 10.1), (50.0, 60.0)],
        (50.0, 50.0),
    )
    cuts = [Cut(*span) for span in (*forgiven, *refused, empty)]
    parts = parts_of(wav(noise(10_000)), cuts)
    assert [len(take(part)) for part in parts[:2]] == [2000, 200]
    for part in parts[2:6]:
        kind, words = refusal(part)
        assert (kind, words.endswith("the audio ends at 10.000 s")) == ("segment", True)
    assert take(parts[6]).shape == (0, 1)


TONES = 12
TONE_RATE = 16_000


def tones() -> Samples:
    """A second each of another tone."""
    time = np.arange(TONE_RATE) / TONE_RATE
    waves = [0.5 * np.sin(2 * np.pi * (400 + 300 * number) * time) for number in range(TONES)]
    return np.concatenate(waves).astype(np.float32)


def heard_tone(wave: Samples, rate: int = TONE_RATE) -> int:
    """The number of the tone of which there is most."""
    spectrum = np.abs(np.fft.rfft(wave[:, 0] * np.hanning(len(wave))))
    return round((int(spectrum.argmax()) * rate / len(wave) - 400) / 300)


SECONDS = [Cut(float(number), number + 1.0) for number in range(TONES)]
BEHIND_DAMAGE = 8 * TONE_RATE


@functools.cache
def tones_mp3() -> bytes:
    return audio_file(tones(), TONE_RATE, "MP3")


@functools.cache
def tones_flac() -> bytes:
    return audio_file(tones(), TONE_RATE, "FLAC")


@functools.cache
def tones_opus() -> bytes:
    return audio_file(tones(), TONE_RATE, "OGG", "OPUS")


@functools.cache
def tones_aac() -> bytes:
    return pyav_file(np.repeat(tones(), 3), 48_000, "adts", "aac")


def overwritten(data: bytes, count: int, at: float = 0.5) -> bytes:
    """Bad bytes in the middle."""
    begin = int(len(data) * at)
    return data[:begin] + b"\x55" * count + data[begin + count :]


def without_frames(data: bytes, frames: int) -> bytes:
    """Bad bytes in place of so many frames of an MP3, from the middle on."""
    places = scan_mp3(io.BytesIO(data), 0, len(data)).positions
    begin, end = (int(places[len(places) // 2 + count]) for count in (0, frames))
    return data[:begin] + b"\x55" * (end - begin) + data[end:]


def outcomes(data: bytes, cuts: list[Cut] = SECONDS, **settings: Any) -> list[tuple[int, float] | str]:
    """Of each part the tone, and how much its record says is missing; or of which kind its error is."""
    found: list[tuple[int, float] | str] = []
    for part in parts_of(io.BytesIO(data), cuts, **settings):
        losses = Losses()
        try:
            with closing(part):
                blocks = list(part.blocks(losses=losses))
            wave, rate = np.concatenate([block for block, _ in blocks]), blocks[0][1]
            damage = judge(losses, len(wave) / rate, settings["max_damage"])
            if isinstance(damage, ClipError):
                raise damage
            found.append((heard_tone(wave, rate), damage.seconds if damage else 0.0))
        except ClipError as error:
            found.append(error.kind)
    return found


def heard(data: bytes) -> Losses:
    """What decoding it to its end tells."""
    losses = Losses()
    for _ in decode_channels(io.BytesIO(data), losses=losses):
        pass
    return losses


def uncounted(data: bytes) -> bytes:
    """An MP3 without the frame that states how many there are."""
    return data[int(scan_mp3(io.BytesIO(data), 0, len(data)).positions[1]) :]


def test_segments_before_damage_are_whole_and_none_behind_it_has_another_ones_audio(decodings: list[int]) -> None:
    """Of an MP3 of which 0.7 s are missing in the middle, and nobody knows how much. Until now the texts behind it stood
    beside audio that is later.
    """
    data = without_frames(uncounted(tones_mp3()), 20)
    assert outcomes(data, max_damage=0.5) == [*((number, 0.0) for number in range(5)), *["segment"] * 7]
    assert len(decodings) == 1  # the rest was decoded for nothing, and none of it again
    found = outcomes(data, max_damage=1.0)
    assert found[:5] == [(number, 0.0) for number in range(5)]
    later = [one for one in found[6:11] if not isinstance(one, str)]
    assert [one[0] for one in later] == [number + 1 for number in range(6, 11)]
    assert all(0.7 < one[1] < 3 for one in later)
    assert found[11] == "segment"  # which there is no audio for
    assert len(decodings) == 3


def test_an_mp3_of_frames_of_many_lengths_without_a_count() -> None:
    """How many are missing nobody knows: by the shortest frame more than 50 ms, though by the one before it are fewer."""
    found = scan_mp3(io.BytesIO(tones_mp3()), 0, len(tones_mp3()))
    assert 2 * found.shortest < int(np.diff(found.positions).max())
    data = without_frames(uncounted(tones_mp3()), 20)
    assert outcomes(data, max_damage=0.5) == [*((number, 0.0) for number in range(5)), *["segment"] * 7]


@pytest.mark.slow
@pytest.mark.parametrize("make", [tones_mp3, tones_flac, tones_opus, tones_aac], ids=["mp3", "flac", "opus", "aac"])
@pytest.mark.parametrize("count", [300, 4000, 9000])
def test_no_text_stands_beside_other_audio(make: Callable[[], bytes], count: int) -> None:
    """In any format, wherever the damage is: what is given out is the segment's own, to 50 ms."""
    for at in (0.05, 0.3, 0.6, 0.9):
        found = outcomes(overwritten(make(), count, at), max_damage=0.02)
        for number, one in enumerate(found):
            assert one in ("segment", "decode", (number, 0.0)) or (
                isinstance(one, tuple) and one[0] == number and one[1] <= 0.05
            )


@pytest.mark.parametrize(("max_damage", "kept"), [(0.02, True), (0.0, False), (1.0, True)])
def test_a_little_damage_shifts_a_little(max_damage: float, kept: bool, decodings: list[int]) -> None:
    """A few bytes that are no frames, between frames of many lengths: nobody knows how much they were, but at most 36 ms.
    The segments from there on have it as damage, those before nothing.
    """
    data = uncounted(tones_mp3())
    scan = scan_mp3(io.BytesIO(data), 0, len(data))
    middle = int(scan.positions[len(scan.positions) // 2])
    found = outcomes(data[:middle] + b"\x55" * scan.shortest + data[middle:], max_damage=max_damage)
    assert found[:5] == [(number, 0.0) for number in range(5)]
    lost = approx(0.036, abs=0.01)
    assert found[6:] == ([(number, lost) for number in range(6, 12)] if kept else ["segment"] * 6)
    assert len(decodings) == 1 + kept


def test_the_same_parts_whatever_was_asked_for_before() -> None:
    """A worker that goes on behind some of the parts, and lists in any order, get what the others do."""
    data = without_frames(tones_mp3(), 1)
    whole = outcomes(data, max_damage=0.02)
    for seed in range(6):
        order = random.Random(seed).sample(range(TONES), random.Random(seed).randint(1, TONES))
        assert outcomes(data, [SECONDS[number] for number in order], max_damage=0.02) == [whole[one] for one in order]


def test_what_is_missing_at_the_end_shifts_nothing(decodings: list[int]) -> None:
    """A file that is cut is decoded once; only a segment that reaches the end hears of it."""
    found = outcomes(tones_mp3()[: len(tones_mp3()) * 2 // 3], max_damage=0.02)
    assert found[:7] == [(number, 0.0) for number in range(7)]
    assert found[8:] == ["segment"] * 4
    assert len(decodings) == 1


def test_parts_that_are_all_of_a_damaged_recording(decodings: list[int]) -> None:
    """Its channels, say: each is told what is missing, as a clip is, and it is decoded once."""
    parts = parts_of(io.BytesIO(overwritten(tones_flac(), 3000)), [Cut(channel=0), Cut(channel=1)], max_damage=0.02)
    told = [Losses(), Losses()]
    for part, losses in zip(parts, told, strict=True):
        with closing(part):
            assert sum(len(block) for block, _ in part.blocks(losses=losses)) / TONE_RATE + losses.seconds == TONES
    assert told[0] == told[1]
    assert 0.2 < told[0].seconds < 0.6
    assert len(decodings) == 1


def test_parts_that_go_to_the_end_of_a_damaged_recording() -> None:
    """What begins before the damage is told what is missing; what begins behind it is at its place, and whole."""
    early, late = parts_of(io.BytesIO(overwritten(tones_flac(), 3000)), [Cut(2.0), Cut(9.0)], max_damage=0.02)
    losses = Losses()
    with closing(early):
        assert sum(len(block) for block, _ in early.blocks(losses=losses)) / TONE_RATE + losses.seconds == TONES - 2
    told = Losses()
    with closing(late):
        found = np.concatenate([block for block, _ in late.blocks(losses=told)])
    assert np.array_equal(found, take(parts_of(io.BytesIO(tones_flac()), [Cut(9.0)])[0]))
    assert told == Losses()


def test_all_of_a_recording_after_a_segment_that_nobody_wants_any_more(decodings: list[int]) -> None:
    """While the rest is decoded for nothing: nobody who wants all of it lacks any."""
    data = overwritten(tones_flac(), 3000)
    whole = take(parts_of(io.BytesIO(data), [Cut()], max_damage=0.02)[0])
    decodings.clear()
    parts = parts_of(io.BytesIO(data), [Cut(0.0, 1.0), Cut(11.0, 12.0), Cut()], max_damage=0.02)
    take(parts[0])
    with closing(parts[1]):
        assert not sum(len(block) for block, _ in parts[1].blocks(wanted=lambda: decodings[0] < BEHIND_DAMAGE))
    assert np.array_equal(take(parts[2]), whole)
    assert decodings == [len(whole), len(whole)]


def test_a_part_that_nobody_wants_while_the_rest_is_decoded_for_nothing(decodings: list[int]) -> None:
    """The next ones go on with that."""
    cuts = [Cut(10.0, 11.0), Cut(1.0, 2.0), Cut(10.0, 11.0)]
    parts = parts_of(io.BytesIO(without_frames(tones_mp3(), 1)), cuts, max_damage=0.02)
    with closing(parts[0]):
        assert not sum(len(block) for block, _ in parts[0].blocks(wanted=lambda: decodings[0] < BEHIND_DAMAGE))
    assert BEHIND_DAMAGE <= decodings[0] < 11 * TONE_RATE
    assert heard_tone(take(parts[1])) == 1
    assert heard_tone(take(parts[2])) == 10
    assert len(decodings) == 2


def test_a_recording_with_damage_in_front_of_all_of_it() -> None:
    """The rate of what follows is known before anything else is; where it stands, if its frames have numbers."""
    found = outcomes(overwritten(tones_flac(), 3000, 0.01), max_damage=0.02)
    assert found == ["decode", *((number, 0.0) for number in range(1, TONES))]


def test_segments_behind_a_gap_in_time() -> None:
    """Of a whole WebM, whose times pass over 3 s after 5: a list's times are those of a player."""
    plain = pyav_file(np.repeat(tones(), 3), 48_000, "webm", "libopus")
    file = io.BytesIO()
    with av.open(io.BytesIO(plain), "r") as source, av.open(file, "w", format="webm") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.pts is not None:
                packet.pts = packet.dts = packet.pts + 3000 * (packet.pts > 5000)
                packet.stream = stream
                target.mux(packet)
    cuts = [Cut(3.0, 4.0), Cut(10.0, 11.0), Cut(4.5, 9.0), Cut(5.5, 7.5)]
    found = outcomes(file.getvalue(), cuts, max_damage=0.7)
    assert found[:2] == [(3, 0.0), (7, 0.0)]
    assert found[2] == (5, approx(3.0, abs=0.02))
    assert found[3] == "decode"  # there is nothing
    assert outcomes(file.getvalue(), cuts, max_damage=0.02) == [(3, 0.0), (7, 0.0), "decode", "decode"]


@functools.cache
def tones_cbr() -> bytes:
    return pyav_file(np.repeat(tones(), 3), 48_000, "mp3", "libmp3lame", {"write_xing": "0"}, 64_000)


@functools.cache
def tones_vorbis() -> bytes:
    return audio_file(np.repeat(tones(), 3) + 0.2 * noise(3 * TONES * TONE_RATE), 48_000, "OGG", "VORBIS")


@functools.cache
def tones_webm() -> bytes:
    return pyav_file(np.repeat(tones(), 3), 48_000, "webm", "libopus")


TRUE_PLACES = {
    "cbr": tones_cbr,
    "count": tones_mp3,
    "flac": tones_flac,
    "opus": tones_opus,
    "vorbis": tones_vorbis,
    "webm": tones_webm,
}


def change(data: bytes, number: int, **settings: Any) -> float:
    """Seconds from the middle of a tone to the next one, of what is cut there: half a window early."""
    (part,) = parts_of(io.BytesIO(data), [Cut(number + 0.5, number + 1.5)], **settings)
    wave = take(part)
    rate = len(wave)  # of a second
    window = rate // 25
    return next(at / rate for at in range(0, rate, rate // 200) if heard_tone(wave[at : at + window], rate) == number + 1)


@pytest.mark.slow
@pytest.mark.parametrize("form", TRUE_PLACES)
def test_damage_moves_no_segment_behind_it_where_it_is_known_how_much_is_missing(form: str, decodings: list[int]) -> None:
    """By the bytes between frames, their count or numbers, by pages' positions or times: all segments but those with the
    damage in them are whole, and within 50 ms of where they are in the whole file.
    """
    data = TRUE_PLACES[form]()
    middle = len(data) * 45 // 100
    damaged = data[:middle] + b"\x55" * (len(data) // 12) + data[middle + len(data) // 12 :]
    found = outcomes(damaged, max_damage=0.02)
    assert len(decodings) == 2
    lost = [number for number, one in enumerate(found) if one != (number, 0.0)]
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert 3 <= lost[0] <= lost[-1] <= (9 if form == "webm" else 7)  # of which all of a cluster is lost
    at_edges = [found[number] for number in (lost[0], lost[-1])]
    assert all(found[number] == "decode" for number in lost[1:-1])
    assert all(one == "decode" or (isinstance(one, tuple) and one[1] <= 0.05) for one in at_edges)
    for number in range(lost[-1] + 1, TONES - 1):
        assert abs(change(damaged, number, max_damage=0.02) - 0.48) <= 0.05


@pytest.mark.parametrize("form", ["cbr", "flac"])
def test_two_places_of_damage(form: str) -> None:
    """What stands between them is whole, too."""
    data = TRUE_PLACES[form]()
    found = outcomes(overwritten(overwritten(data, 2500, 0.3), 2500, 0.7), max_damage=0.02)
    lost = [number for number, one in enumerate(found) if one == "decode"]
    assert 2 <= len(lost) <= 4
    assert all(one in ("decode", (number, 0.0)) for number, one in enumerate(found))
    assert found[5:7] == [(5, 0.0), (6, 0.0)]


def test_bytes_that_were_taken_out_or_put_in() -> None:
    """Where they are not whole frames, nobody knows how many there were: nothing behind them is cut."""
    begin = len(tones_cbr()) // 2
    for data in (
        tones_cbr()[:begin] + tones_cbr()[begin + 3001 :],
        tones_cbr()[:begin] + b"\x55" * 3001 + tones_cbr()[begin:],
    ):
        assert outcomes(data, max_damage=0.5) == [*((number, 0.0) for number in range(5)), *["segment"] * 7]


def test_bytes_taken_out_of_an_mp3_without_a_count() -> None:
    """Those that are left are fewer than a frame: seconds may be missing, though so few bytes of others take 30 ms."""
    for data in (tones_cbr(), uncounted(tones_mp3())):
        places = scan_mp3(io.BytesIO(data), 0, len(data)).positions
        begin, end = int(places[len(places) // 2 - 15]), int(places[len(places) // 2 + 20])
        cut = data[: begin + 20] + data[end - 20 :]
        assert heard(cut).shift <= 0.05
        assert outcomes(cut, max_damage=0.5) == [*((number, 0.0) for number in range(5)), *["segment"] * 7]


@pytest.mark.slow
def test_frames_of_aac_that_cannot_be_decoded_move_nothing(decodings: list[int]) -> None:
    """Their headers tell of them, though a header be damaged in which the length still stands."""
    places = adts_places(tones_aac())
    data = bytearray(tones_aac())
    for number in range(260, 300):
        data[places[number] + 30 : places[number + 1] - 2] = b"\x9a" * (places[number + 1] - 2 - places[number] - 30)
    data[places[280] : places[280] + 2] = b"\x9a\x9a"
    lost = sum(missing for _, missing in heard(bytes(data)).gaps)
    assert 0.4 < lost < 0.9
    found = outcomes(bytes(data), max_damage=0.02)
    assert len(decodings) == 2
    assert all(one == (number, 0.0) for number, one in enumerate(found) if number not in (5, 6))
    for number in range(7, TONES - 1):
        assert abs(change(bytes(data), number, max_damage=0.02) - 0.48) <= 0.05


def test_aac_of_which_nobody_knows_how_much_is_missing() -> None:
    """One frame of 21 ms is a little; what is left of twenty is not, though there are fewer bytes of it."""
    places = adts_places(tones_aac())
    begin, end = places[281], places[300]
    assert outcomes(tones_aac()[:begin] + b"\x9a" * 40 + tones_aac()[begin + 40 :], max_damage=0.02) == [
        *((number, 0.0) for number in range(5)),
        *((number, approx(0.021, abs=0.01)) for number in range(5, 12)),
    ]
    cut = tones_aac()[: begin + 20] + tones_aac()[end - 20 :]
    assert heard(cut).shift <= 0.05
    assert outcomes(cut, max_damage=0.5) == [*((number, 0.0) for number in range(5)), *["segment"] * 7]


def test_segments_behind_damage_whatever_was_asked_for_before() -> None:
    """A worker that goes on behind some of the parts, and lists in any order, get the same samples."""
    data = overwritten(tones_cbr(), 4000)
    cuts = [*SECONDS, Cut(9.5), Cut(3.2, 9.1)]
    whole = [take(part) for part in parts_of(io.BytesIO(data), cuts, max_damage=1.0)]
    for seed in range(6):
        chance = random.Random(seed)
        order = chance.sample(range(len(cuts)), chance.randint(1, len(cuts)))
        for number, part in zip(
            order, parts_of(io.BytesIO(data), [cuts[one] for one in order], max_damage=1.0), strict=True
        ):
            assert np.array_equal(take(part), whole[number])


def test_segments_behind_damage_with_no_share_allowed() -> None:
    """Those that lack nothing are kept; the one with the damage in it is not, however little it is."""
    found = outcomes(without_frames(tones_mp3(), 1), max_damage=0.0)
    assert {one for one in found if isinstance(one, str)} == {"decode"}
    assert [number for number, one in enumerate(found) if one != (number, 0.0)] in ([5], [6], [5, 6])


def test_segments_behind_damage_in_a_recording_that_is_cut(decodings: list[int]) -> None:
    """The last one that there is lacks its end, and nothing of what is missing in the middle."""
    data = overwritten(tones_cbr(), 3000, 0.3)[: len(tones_cbr()) * 5 // 6]
    found = outcomes(data, max_damage=0.02)
    assert found[5:9] == [(number, 0.0) for number in range(5, 9)]
    assert found[10:] == ["segment"] * 2


@pytest.mark.parametrize(("data", "kind"), [(b"", "empty"), (b"noise" * 99, "decode")])
def test_what_is_no_audio_is_told_of_each_part(data: bytes, kind: str) -> None:
    """In the words of decoding."""
    for part in parts_of(io.BytesIO(data), [Cut(0, 1), Cut(1, 2)]):
        assert refusal(part)[0] == kind


def test_trouble_with_the_machine_is_no_end_of_the_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    """No later part is refused for it: each raises it again."""

    def failing(*_arguments: Any, **_settings: Any) -> Iterator[tuple[Block, int]]:
        yield np.zeros((500, 1), np.float32), RATE
        raise OSError("stale file handle")

    monkeypatch.setattr(recording, "decode_channels", failing)
    for part in parts_of(wav(noise(10)), [Cut(0, 1), Cut(1, 2), Cut(0.9, 2)]):
        with pytest.raises(OSError, match="stale file handle"):
            take(part)


def test_no_room_for_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the machine's trouble, and says where."""
    monkeypatch.setattr(sample_window, "KEPT_IN_MEMORY", 1000)

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample_window, "scratch_file", Full)
    for part in parts_of(wav(noise(10_000)), [Cut(9.0, 10.0), Cut(0.0, 1.0)]):  # the second finds no other samples there
        with pytest.raises(InfrastructureError, match="folder for temporary files"):
            take(part)


def test_what_is_too_long() -> None:
    """By what it says before it is decoded, and else where it shows; the recording itself may be longer."""
    parts = parts_of(wav(noise(10_000)), [Cut(0, 3), Cut(2, 4), Cut(), Cut(9)], max_seconds=11)
    assert refusal(parts[0], 2.5) == ("too_long", "longer than 2.5 s")
    assert len(take(parts[1], 2.5)) == 2000
    assert refusal(parts[2], 2.5) == ("too_long", "longer than 2.5 s")
    assert len(take(parts[3], 2.5)) == 1000


def test_a_recording_is_decoded_no_further_than_allowed(decodings: list[int]) -> None:
    """What promises years of silence does not cost them."""
    parts = parts_of(wav(noise(10_000)), [Cut(1, 2), Cut(8, 9)], max_seconds=3)
    assert len(take(parts[0])) == 1000
    assert refusal(parts[1]) == ("too_long", "longer than 3 s")
    assert decodings[0] < 4000


def test_a_part_that_nobody_wants_any_more(decodings: list[int]) -> None:
    """Nobody waits until the recording has been decoded as far; and it is no error."""
    first, second = parts_of(wav(noise(10_000)), [Cut(9, 10), Cut(0.5, 1)])
    with closing(first):
        assert sum(len(block) for block, _ in first.blocks(wanted=lambda: False)) == 0
    assert decodings[0] <= 700
    assert len(take(second)) == 500


def test_other_channels_than_its_header_states() -> None:
    """None of them is dropped without a word."""
    (part,) = parts_of(wav(noise(100, 2)), [Cut()], channels=1)
    assert refusal(part) == ("decode", "its header states 1 channels, 2 are decoded")


def test_the_file_is_closed_with_the_last_part() -> None:
    """And not before whoever makes parts has made them all."""
    audio = wav(noise(1000))
    held = Recording(audio)
    first = held.part(Cut(0, 0.1))
    take(first)
    assert not audio.closed
    second = held.part(Cut(0.1, 0.2))
    held.release()
    assert not audio.closed
    second.close()
    second.close()
    assert audio.closed
