"""jobs/parts.py: one audio member -> the clips that it holds."""

from __future__ import annotations

import functools
import io
import json
import math
import random
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from support.small_run import mulaw_spec
from support.tars import audio_file, noise, pyav_file

from jobs import parts
from jobs.clip_group import Clip
from jobs.parts import Cutting, FinishedMembers, Piece, count_channels, mixer_for
from jobs.sidecars import Annotations, read_sidecars

SEGMENTS = Annotations(
    metadata_json=json.dumps(
        {"segments": [{"start": 0, "end": 1}, {"start": 3, "end": 2}, {"start": 0.5, "end": 1, "id": "x"}]}
    ).encode()
)
NOTHING = Annotations()
BOTH = Cutting(channels=True, segments=True)


def stereo(channels: int = 2) -> io.BytesIO:
    return io.BytesIO(audio_file(noise(2000, channels), 1000))


def pieces(cutting: Cutting, audio: io.BytesIO | None = None, said: Annotations = NOTHING, **settings: Any) -> list[Piece]:
    return list(cutting.pieces("a.wav", audio, said, {}, **settings))


def test_what_a_run_cuts() -> None:
    """Nothing, unless it says so."""
    assert Cutting.of(mulaw_spec()) is None
    assert Cutting.of(mulaw_spec(channel="right")) is None
    cutting = functools.partial(Cutting, max_damage=0.02)
    assert Cutting.of(mulaw_spec(channel="split")) == cutting(channels=True)
    assert Cutting.of(mulaw_spec(segments=True)) == cutting(segments=True)
    assert Cutting.of(mulaw_spec(segments=True, max_duration=1e6)) == cutting(segments=True, most_seconds=1e6)
    assert Cutting.of(mulaw_spec(segments=True, max_duration=30.0)) == cutting(segments=True)
    assert Cutting.of(mulaw_spec(segments=True, max_damage=1.0)) == cutting(segments=True, max_damage=1.0)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels(channels: int) -> None:
    """Each has its number after `#`, the only one of a mono file too, and what is said of the file."""
    said = Annotations("text", "en")
    found = pieces(Cutting(channels=True), stereo(channels), said)
    assert [(one.number, one.name) for one in found] == [(n, f"a.wav#{n}") for n in range(channels)]
    assert all(one.annotations is said and one.part is not None for one in found)
    assert [one.part.cut.channel for one in found if one.part] == list(range(channels))


def test_segments() -> None:
    """Each has its id or number after `#`; one that cannot be cut says why and has no audio."""
    found = pieces(Cutting(segments=True), stereo(), SEGMENTS)
    assert [(one.number, one.name, one.part is None, one.fault is None) for one in found] == [
        (0, "a.wav#0", False, True),
        (1, "a.wav#1", True, False),
        (2, "a.wav#x", False, True),
    ]


def test_channels_of_segments() -> None:
    """Both, the segment first."""
    names = ["a.wav#0#0", "a.wav#0#1", "a.wav#1#0", "a.wav#1#1", "a.wav#x#0", "a.wav#x#1"]
    found = pieces(BOTH, stereo(), SEGMENTS)
    assert [one.name for one in found] == names
    spans = [(one.part.cut.start, one.part.needed_from) for one in found if one.part]
    assert spans == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, math.inf)]


def test_a_member_without_segments_is_one_clip() -> None:
    """With its own name and its audio."""
    audio = stereo()
    (found,) = pieces(Cutting(segments=True), audio, Annotations("x"))
    assert (found.name, found.part, found.whole, found.annotations.text) == ("a.wav", None, True, "x")
    assert not audio.closed


def test_a_list_that_is_none_is_one_error() -> None:
    """And its audio is let go."""
    audio = stereo()
    (found,) = pieces(Cutting(segments=True), audio, read_sidecars({"json": ("a.json", b'{"segments": []}')}))
    assert (found.name, found.part, str(found.fault)) == ("a.wav", None, "its list of segments is empty")
    assert audio.closed


def test_without_audio() -> None:
    """Names and numbers are the same where the audio is not needed any more."""
    assert [one.name for one in pieces(Cutting(segments=True), None, SEGMENTS)] == ["a.wav#0", "a.wav#1", "a.wav#x"]
    assert [one.name for one in pieces(Cutting(channels=True))] == ["a.wav#0"]
    assert [one.name for one in pieces(Cutting(segments=True))] == ["a.wav"]


def test_only_the_parts_that_are_wanted() -> None:
    """Those before have names and no audio, and nobody waits for them."""
    audio = stereo()
    found = pieces(BOTH, audio, SEGMENTS, wanted_from=4)
    assert [one.part is None for one in found] == [True, True, True, True, False, False]
    for one in found[4:]:
        assert one.part is not None
        with closing(one.part):
            assert sum(len(block) for block, _ in one.part.blocks()) == 500
    assert audio.closed


def test_a_reader_that_stops_in_between() -> None:
    """The audio is let go with the parts that were given out."""
    audio = stereo()
    giving = BOTH.pieces("a.wav", audio, SEGMENTS, {})
    first = next(giving)
    giving.close()
    assert first.part is not None
    assert not audio.closed
    first.part.close()
    assert audio.closed


def test_mixing() -> None:
    """A channel that is a clip stands for itself; a segment is mixed as the run says."""
    block = noise(10, 3)
    spec = mulaw_spec(channel="split")
    for number, one in enumerate(pieces(Cutting(channels=True), stereo(3))):
        assert np.array_equal(mixer_for(Clip(0, one.name, None, part=one.part), spec).mix(block), block[:, number])
    (segment, *_) = pieces(Cutting(segments=True), stereo(), SEGMENTS)
    clip = Clip(0, segment.name, None, part=segment.part)
    assert np.array_equal(mixer_for(clip, mulaw_spec(channel="right", segments=True)).mix(block), block[:, 1])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "m4a", "webm"])
def test_counting_channels(kind: str, channels: int) -> None:
    """By the header, whoever decodes it; the file is left where it was."""
    wave, layout = noise(8000, channels), "mono" if channels == 1 else "stereo"
    if kind == "m4a":
        data = pyav_file(wave, 8000, "mp4", "aac", layout=layout)
    elif kind == "webm":
        data = pyav_file(wave, 48000, "webm", "libopus", layout=layout)
    else:
        data = audio_file(wave, 8000, kind)
    file = io.BytesIO(data)
    assert (count_channels(file), file.tell()) == (channels, 0)


def test_what_has_no_channels_has_one_clip() -> None:
    """Which says what is wrong with it; whatever the bytes are."""
    whole = stereo().getvalue()
    for data in (b"", b"noise" * 99, whole[:20]):
        assert count_channels(io.BytesIO(data)) == 1
    for seed in range(200):
        broken = bytearray(whole[:600])
        chance = random.Random(seed)
        for _ in range(chance.randrange(1, 20)):
            broken[chance.randrange(44 if seed % 2 else 600)] = chance.randrange(256)
        assert 1 <= count_channels(io.BytesIO(bytes(broken))) <= 1024


def test_a_machine_in_trouble_decides_no_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second channel would be lost without a word."""

    class Failing(io.BytesIO):
        def readinto(self, _: Any) -> int:
            raise OSError(5, "Input/output error")

        def read(self, _: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        count_channels(Failing(b"x" * 100))

    def no_memory() -> None:
        raise MemoryError

    monkeypatch.setattr(parts, "require_memory", no_memory)
    with pytest.raises(MemoryError):
        count_channels(io.BytesIO(b"noise"))


def test_members_that_are_finished() -> None:
    """A member whose clips stand before those of another one; the last one may have more to come."""
    done = ["a.wav#0", "a.wav#x", "b.wav", "c.wav#0", "c.wav#1"]
    finished = FinishedMembers(done)
    assert [finished.has(name) for name in ("a.wav", "b.wav", "c.wav", "d.wav")] == [True, True, False, False]


def test_members_of_one_name() -> None:
    """They are told apart by their place; which of them is finished is not known, so it is read."""
    finished = FinishedMembers(["a.wav#0", "a.wav#0", "b.wav#0"])
    assert [finished.has(name) for name in ("a.wav", "a.wav", "b.wav")] == [True, False, False]
    finished = FinishedMembers(["a.wav#0", "b.wav"])
    assert [finished.has(name) for name in ("a.wav", "b.wav", "a.wav")] == [True, False, False]
    assert not FinishedMembers([]).has("a.wav")


def test_no_member_that_is_not_finished_is_taken_for_it() -> None:
    """Whatever the names are: a seeded search."""
    for seed in range(500):
        chance = random.Random(seed)
        members = [(chance.choice(["a", "b", "a#0", "a#0#1"]), chance.randrange(1, 4)) for _ in range(6)]
        lines = [(number, f"{name}#{part}") for number, (name, count) in enumerate(members) for part in range(count)]
        done = lines[: chance.randrange(len(lines) + 1)]
        finished = FinishedMembers([name for _, name in done])
        for number, (name, count) in enumerate(members):
            if finished.has(name):
                assert sum(at == number for at, _ in done) == count
