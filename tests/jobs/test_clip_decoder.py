"""jobs/clip_decoder.py: what of a clip reaches the feed, and what does not."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from support.envelope import Envelope, envelope_spec
from support.lossy import lossy, use_lossy_decode
from support.small_run import mulaw_spec, wav

from audio_tokenizers.base import Audio, Backend, Batching, Utterance, Waveform
from audio_tokenizers.errors import ClipError
from audio_tokenizers.mulaw import FACTORY
from jobs import audio, clip_decoder, spec
from jobs.activities import Activities
from jobs.audio import decode
from jobs.batcher import Batcher
from jobs.clip_decoder import ClipDecoder
from jobs.clip_group import Clip
from jobs.clip_journal import MemberSum
from jobs.damage import Damage
from jobs.encoder import Encoder
from jobs.feed import Feed
from jobs.pending import Pending, Portion
from jobs.sidecars import Annotations
from jobs.spec import TokenizeSpec
from jobs.token_sink import TokenSink


def a_clip(data: bytes | None, text: str | None = None) -> Pending:
    audio = None if data is None else io.BytesIO(data)
    fault = ClipError("decode", "it has none") if data is None else None
    clip = Clip(0, "a.wav", audio, fault, annotations=Annotations(text=text))
    return Pending(clip, TokenSink(1))


def a_decoder(spec: TokenizeSpec, backend: Backend | None = None) -> tuple[ClipDecoder, Feed[Portion]]:
    batcher: Batcher[Portion] = Batcher(
        Batching.SINGLE, 1, max_samples=10**9, samples=lambda one: one.samples, order=lambda one: one.order
    )
    feed = Feed(batcher, most_bytes=10**9, most_items=100, most_undecoded=1, max_batch=1)
    backend = backend or FACTORY.load({}, "cpu")
    return ClipDecoder(spec, backend.info, Encoder(backend), feed, Activities()), feed


def portions(feed: Feed[Portion]) -> list[Portion]:
    """All that waits for the device."""
    found = []
    while (batch := feed.take(wait=False)) is not None:
        found += batch.items
    return found


def test_fragments() -> None:
    """A long clip comes as numbered fragments whose bytes are accounted for, with what belongs to their neighbours."""
    decoder, feed = a_decoder(mulaw_spec(max_tokens_per_fragment=60, num_tokens_overlap=10))
    pending = a_clip(wav(150))
    decoder.hand_over(pending)
    assert pending.share.bytes == 4 * (60 + 60 + 60 + 30)
    found = portions(feed)
    assert [(one.number, one.samples, one.drop_head, one.drop_tail) for one in found] == [
        (0, 60, 0, 10),
        (1, 60, 10, 10),
        (2, 60, 10, 10),
        (3, 30, 10, 0),
    ]
    assert [one.clip_samples for one in found] == [None, None, None, 150]


def test_a_clip_for_several_parts() -> None:
    """The feed counts what all of them hear, which waits in memory; the clip is as long as its one waveform."""

    class Parts(Envelope):
        def resample_by_part(self, wave: Waveform, sample_rate: int) -> tuple[Audio, tuple[Audio, ...]]:
            return wave, (wave, wave[:-1] / 2)

    decoder, feed = a_decoder(envelope_spec(), Parts())
    pending = a_clip(wav(100), "words")
    decoder.hand_over(pending)
    (found,) = portions(feed)
    assert pending.share.bytes == found.size == 4 * (100 + 99)
    assert (found.samples, found.clip_samples) == (100, 100)
    assert isinstance(found.item, Utterance)
    assert [len(wave) for wave in found.item.by_part] == [100, 99]


def test_a_clip_without_audio() -> None:
    """Why there is none is its error."""
    decoder, feed = a_decoder(mulaw_spec())
    with pytest.raises(ClipError, match="it has none"):
        decoder.hand_over(a_clip(None))
    assert portions(feed) == []


def test_fragments_that_an_earlier_attempt_has_left() -> None:
    """They are decoded and cut, and go no further; the others have the numbers and samples that they have in one go."""
    decoder, feed = a_decoder(mulaw_spec(max_tokens_per_fragment=60, num_tokens_overlap=10))
    whole, rest = a_clip(wav(150)), a_clip(wav(150))
    rest.resume(2, MemberSum(1, 2))
    decoder.hand_over(whole)
    found = portions(feed)
    decoder.hand_over(rest)
    assert rest.share.bytes == 4 * (60 + 30)
    for one, other in zip(found[2:], portions(feed), strict=True):
        assert (one.number, one.drop_head, one.clip_samples) == (other.number, other.drop_head, other.clip_samples)
        assert np.array_equal(one.item, other.item)  # type: ignore[arg-type]


def test_after_a_refusal_the_rest_is_not_encoded() -> None:
    """It is decoded to its end, where the last fragment says that this was all; the numbers have no gap."""
    spec = mulaw_spec(max_tokens_per_fragment=60, num_tokens_overlap=10)
    decoder, feed = a_decoder(spec)
    pending, first = a_clip(wav(500)), Portion(a_clip(None), np.zeros(60, np.float32), 240, 60)
    pending.encoded(first, ClipError("backend", "odd"), spec.fields, "mulaw")
    decoder.hand_over(pending)
    (last,) = portions(feed)
    assert (last.number, last.clip_samples) == (0, 500)


def test_a_clip_that_nobody_wants_is_not_decoded_to_where_it_was_left() -> None:
    """Which may take minutes, while a worker is to stop."""
    decoder, feed = a_decoder(mulaw_spec(max_tokens_per_fragment=60, num_tokens_overlap=10))
    pending = a_clip(wav(150))
    pending.resume(9, MemberSum(1, 2))
    feed.drop(pending.share)
    decoder.hand_over(pending)
    assert not portions(feed)


def test_the_bytes_of_a_long_clip_are_summed_once_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a journal can tell it from another one; a short one is spared that."""
    monkeypatch.setattr(clip_decoder, "LONG_CLIP_SECONDS", 100 / 8000)
    decoder, feed = a_decoder(mulaw_spec(max_tokens_per_fragment=60, num_tokens_overlap=10))
    long, short = wav(150), wav(100)
    decoder.hand_over(a_clip(long))
    assert [one.member for one in portions(feed)] == [MemberSum(len(long), zlib.crc32(long))] * 4
    decoder.hand_over(a_clip(short))
    assert [one.member for one in portions(feed)] == [None] * 2


def test_whole_clips() -> None:
    """A clip for a backend of whole clips is one portion, at the backend's rate, with its text."""
    decoder, feed = a_decoder(envelope_spec(), Envelope())
    pending = a_clip(wav(80, rate=16000), "words")
    decoder.hand_over(pending)
    (portion,) = portions(feed)
    assert isinstance(portion.item, Utterance)
    assert (portion.item.text, portion.samples, portion.clip_samples) == ("words", 40, 40)
    assert pending.share.bytes == portion.size == portion.item.wave.nbytes == 40 * np.dtype(np.float64).itemsize


@pytest.mark.parametrize(
    ("data", "kind"),
    [(None, "decode"), (b"", "empty"), (b"noise" * 99, "decode"), (wav(24000), "too_long"), (wav(0), "empty")],
)
def test_bad_clips(data: bytes | None, kind: str) -> None:
    """Each is an error of its kind."""
    decoder, _ = a_decoder(mulaw_spec(max_duration=2.0))
    with pytest.raises(ClipError) as caught:
        decoder.hand_over(a_clip(data))
    assert caught.value.kind == kind


def a_day_and_an_hour() -> bytes:
    """25 hours of silence at 1 kHz, in a FLAC of a few hundred kilobytes."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 1000, 1, format="FLAC", subtype="PCM_16") as sound:
        for _ in range(25):
            sound.write(np.zeros(3_600_000, np.int16))
    return file.getvalue()


@pytest.mark.slow
def test_no_clip_is_longer_than_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of 25 hours is `too_long`: its decoding stops at 24, and none is kept whole before that is known."""
    decoded = 0

    def counted(*arguments: Any, **settings: Any) -> Iterator[Any]:
        nonlocal decoded
        for block, rate in decode(*arguments, **settings):
            decoded += len(block)
            yield block, rate

    monkeypatch.setattr(clip_decoder, "decode", counted)
    monkeypatch.setattr(clip_decoder, "UNCOUNTED_BYTES", 10 << 20)
    decoder, _ = a_decoder(envelope_spec(), Envelope())
    pending = a_clip(a_day_and_an_hour())
    tracemalloc.start()
    try:
        with pytest.raises(ClipError, match="longer than 86400 s") as caught:
            decoder.hand_over(pending)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.kind == "too_long"
    assert 0 <= 24 * 3_600_000 - decoded < audio.BLOCK_FRAMES
    assert peak < 20 << 20
    assert pending.share.bytes <= 10 << 20


def test_max_duration_changes_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is given it counts, and not the default, for longer clips too."""
    monkeypatch.setattr(spec, "LONGEST_CLIP_SECONDS", 2.0)
    for whole_clips in (False, True):
        for longest, fits in ((None, False), (2.9, False), (3.0, True)):
            recipe = (envelope_spec if whole_clips else mulaw_spec)(max_duration=longest)
            decoder, feed = a_decoder(recipe, Envelope() if whole_clips else None)
            if fits:
                decoder.hand_over(a_clip(wav(24000)))
                assert portions(feed)
            else:
                with pytest.raises(ClipError, match="longer than 2"):
                    decoder.hand_over(a_clip(wav(24000)))


def test_whole_clip_that_is_counted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long clip is decoded twice, and comes out as if it had been decoded once."""
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 100)
    data = wav(1234)
    found = []
    for bound in (10**9, 1000, 0):
        monkeypatch.setattr(clip_decoder, "UNCOUNTED_BYTES", bound)
        decoder, feed = a_decoder(envelope_spec(), Envelope())
        decoder.hand_over(a_clip(data))
        (portion,) = portions(feed)
        assert isinstance(portion.item, Utterance)
        found.append(portion.item.wave)
    assert len(found[0]) == 1234
    for wave in found[1:]:
        np.testing.assert_array_equal(wave, found[0])


@pytest.mark.parametrize("whole_clips", [False, True])
def test_a_clip_that_nobody_wants(*, whole_clips: bool) -> None:
    """It is dropped in the middle, and nothing of it waits for the device."""
    decoder, feed = a_decoder(envelope_spec(), Envelope()) if whole_clips else a_decoder(mulaw_spec())
    pending = a_clip(wav(40))
    feed.drop(pending.share)
    decoder.hand_over(pending)
    assert portions(feed) == []


@pytest.mark.parametrize("whole", [False, True])
def test_what_a_watcher_sees(monkeypatch: pytest.MonkeyPatch, *, whole: bool) -> None:
    """While a clip is decoded it is named, with a sign for each block; a decoder that waits for room is not seen."""
    decoder, feed = a_decoder(envelope_spec(), Envelope()) if whole else a_decoder(mulaw_spec())
    activities: Activities = decoder._activities
    seen: list[list[str]] = []
    stamps: set[int] = set()

    def blocks(*_: object, **__: object) -> Iterator[tuple[Waveform, int]]:
        for _block in range(3):
            seen.append([str(one) for one in activities.seen()])
            stamps.update(one.stamp for one in activities.seen())
            yield np.zeros(80, np.float32), 8000

    def reserve(_share: object, _size: int) -> bool:
        assert activities.seen() == []
        return True

    monkeypatch.setattr("jobs.clip_decoder.decode", blocks)
    monkeypatch.setattr(feed, "reserve", reserve)
    pending = a_clip(wav(240), "words")
    pending.tar = "000012"
    decoder.hand_over(pending)
    assert seen == [["decoding clip 0 of 000012"]] * 3
    assert len(stamps) == 3
    assert activities.seen() == []


def lost(monkeypatch: pytest.MonkeyPatch, data: bytes, *, whole_clips: bool, max_damage: float) -> Portion:
    """The last portion of a clip that lacks something."""
    use_lossy_decode(monkeypatch)
    if whole_clips:
        decoder, feed = a_decoder(envelope_spec(max_damage=max_damage), Envelope())
    else:
        decoder, feed = a_decoder(mulaw_spec(max_tokens_per_fragment=6000, num_tokens_overlap=10, max_damage=max_damage))
    decoder.hand_over(a_clip(data, "words"))
    *before, last = portions(feed)
    assert [one.damage for one in before] == [None] * len(before)
    return last


@pytest.mark.parametrize("whole_clips", [False, True])
def test_a_damaged_clip_is_judged_when_all_is_decoded(monkeypatch: pytest.MonkeyPatch, *, whole_clips: bool) -> None:
    """Its last portion says what is missing, losses at its very end too; above the bound it is an error, though most of it
    was on its way already.
    """
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 1000)
    data = lossy(wav(16000), (0.03, "a frame"), (0.01, "its end"))
    assert lost(monkeypatch, data, whole_clips=whole_clips, max_damage=0.02).damage == Damage(0.04, "a frame; its end")
    much = lossy(wav(16000), *[(0.01, "a frame")] * 20)
    assert lost(monkeypatch, much, whole_clips=whole_clips, max_damage=0.1).damage == Damage(0.2, "a frame")
    for share in (0.0, 0.02):
        with pytest.raises(ClipError, match=r"damaged: 0.200 s of 2.200 s .*--max-damage") as caught:
            lost(monkeypatch, much, whole_clips=whole_clips, max_damage=share)
        assert caught.value.kind == "decode"


@pytest.mark.parametrize("whole_clips", [False, True])
def test_a_clip_that_is_whole_says_nothing(monkeypatch: pytest.MonkeyPatch, *, whole_clips: bool) -> None:
    """Whether damage is allowed or not."""
    for share in (0.0, 0.02, 1.0):
        assert lost(monkeypatch, wav(16000), whole_clips=whole_clips, max_damage=share).damage is None


@pytest.mark.parametrize("bound", [10**9, 1000, 0])
def test_what_is_decoded_twice_is_lost_once(monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    """A long clip that is counted first has the same damage as if it had been decoded once; so has its refusal."""
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 100)
    monkeypatch.setattr(clip_decoder, "UNCOUNTED_BYTES", bound)
    data = lossy(wav(16000), (0.2, "a frame"))
    assert lost(monkeypatch, data, whole_clips=True, max_damage=0.1).damage == Damage(0.2, "a frame")
    with pytest.raises(ClipError, match=r"damaged: 0.200 s of 2.200 s could not"):
        lost(monkeypatch, data, whole_clips=True, max_damage=0.02)


@pytest.mark.parametrize("whole_clips", [False, True])
def test_damage_speaks_before_shortness(monkeypatch: pytest.MonkeyPatch, *, whole_clips: bool) -> None:
    """What is left of a clip may be too short for the backend because of what is missing: that is what is said."""
    data = lossy(wav(16), (9.0, "nearly all of it"))
    with pytest.raises(ClipError, match="nearly all of it"):
        lost(monkeypatch, data, whole_clips=whole_clips, max_damage=0.02)
