"""jobs/recording.py: several clips of one audio that is decoded once, in bounded memory."""

from __future__ import annotations

import io
import itertools
import random
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import soundfile
from support.tars import Samples, audio_file, noise
from support.waiting import until

from audio_tokenizers.errors import ClipError, InfrastructureError
from jobs import recording
from jobs.activities import Activities
from jobs.audio import decode_channels
from jobs.channels import Block
from jobs.recording import Cut, Kept, Part, Recording

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
    monkeypatch.setattr(recording, "KEPT_IN_MEMORY", in_memory)
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
    monkeypatch.setattr(recording, "KEPT_IN_MEMORY", 5000)
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


def test_a_long_recording_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour in segments, sorted and not: a fraction of the 14 megabytes that it has."""
    monkeypatch.setattr(recording, "KEPT_IN_MEMORY", 1 << 18)
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


def test_damage_costs_only_the_parts_that_it_concerns() -> None:
    """Those before it come whole, in any order; for others there is nothing left."""
    whole = audio_file(noise(10_000, seed=3), RATE, "FLAC", "PCM_16")
    broken = bytearray(whole)
    broken[len(broken) // 2 : len(broken) // 2 + 2000] = bytes(2000)
    parts = parts_of(io.BytesIO(bytes(broken)), [Cut(2.0, 3.0), Cut(9.0, 9.5), Cut(0.0, 1.0), Cut(8.0, 9.0)])
    assert len(take(parts[0])) == 1000
    assert refusal(parts[1])[0] == "segment"
    assert len(take(parts[2])) == 1000
    assert refusal(parts[3])[0] == "segment"


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
    monkeypatch.setattr(recording, "KEPT_IN_MEMORY", 1000)

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(recording, "scratch_file", Full)
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


def test_what_is_kept_moves_back_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is for as long as there is too much."""
    monkeypatch.setattr(recording, "KEPT_IN_MEMORY", 1000)
    kept = Kept()
    wave = noise(1000).reshape(-1, 1)
    for at in range(0, 1000, 100):
        kept.append(wave[at : at + 100])
    assert kept._file is not None
    assert np.array_equal(kept.read(5, 1000), wave[5:])
    kept.drop_before(950)
    assert kept._file is None
    kept.append(wave[:10])
    assert np.array_equal(kept.read(955, 1000), wave[955:])
    assert np.array_equal(kept.read(1000, 1010), wave[:10])
