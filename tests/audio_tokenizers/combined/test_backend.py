"""combined/backend.py: each clip has exactly what each part gives of it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_higgs import speech_like
from support.tiny_taste import SMALL, TASTE, build_taste

from audio_tokenizers.base import Audio, BackendInfo, Batching, Field, LaneShape, Utterance, Values, Waveform, hear
from audio_tokenizers.combined.backend import Combined
from audio_tokenizers.combined.parts import combined_info
from audio_tokenizers.errors import ClipError, InfrastructureError
from audio_tokenizers.registry import complete_options, get_factory
from jobs.spec import load_preset

LENGTHS = (9000, 20011, 640, 9000, 31007)
RATE = 22050


class Part:
    """A model that gives its clip's first sample, and notes its batches."""

    def __init__(self, name: str, **changes: Any) -> None:
        field = Field(name="tokens", form="list", codebook_size=1000)
        settings = {"batching": Batching.ANY, "max_batch": 2, "min_samples": 2, **changes}
        self.info = BackendInfo(
            name=name,
            sample_rate=10,
            hop_length=1,
            fields=(field,),
            mono="mean",
            kind="clips",
            max_tokens_per_fragment=None,
            recipe={},
            **settings,
        )
        self.batches: list[list[int]] = []

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        return wave[:: sample_rate // 10]

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        self.batches.append([len(clip.wave) for clip in clips])
        if any(clip.wave[0] < 0 for clip in clips):
            raise ClipError("backend", "a negative sample")
        return [{"tokens": clip.wave[:1].astype(np.int64)} for clip in clips]


class Halved(Part):
    """Its resampler is another."""

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        return wave[:: sample_rate // 10] / 2


def combine(*parts: Part) -> Combined:
    return Combined(combined_info("a+b", [part.info for part in parts]), parts)


def clips_of(backend: Combined, *waves: Sequence[float]) -> list[Utterance]:
    return [hear(backend, np.array(wave, np.float32), 10) for wave in waves]


def test_each_part_hears_its_own_resampler() -> None:
    """And gets batches that it declares exact; records tell the parts' keys apart."""
    first, second = Part("a"), Halved("b", batching=Batching.SINGLE, max_batch=1)
    backend = combine(first, second)
    found = backend.encode_clips(clips_of(backend, [2, 0], [4, 0, 0], [6, 0]))
    assert [{key: int(array[0]) for key, array in values.items()} for values in found] == [
        {"a_tokens": 2, "b_tokens": 1},
        {"a_tokens": 4, "b_tokens": 2},
        {"a_tokens": 6, "b_tokens": 3},
    ]
    assert (first.batches, second.batches) == ([[2, 3], [2]], [[2], [3], [2]])


def test_equal_resamplers_run_once() -> None:
    """What parts hear alike is computed and kept once."""
    first, second = Part("a"), Part("b")
    for part in (first, second):
        part.resampler = "the same"  # type: ignore[attr-defined]
    clip = hear(combine(first, second, Halved("c")), np.ones(40, np.float32), 20)
    assert clip.by_part[0] is clip.by_part[1] is clip.wave
    assert clip.nbytes == 2 * 20 * 4


def test_an_error_names_the_part() -> None:
    """A record has all keys or none; the kind is the part's."""
    backend = combine(Part("a"), Part("b", min_samples=3))
    with pytest.raises(ClipError, match=r"^a: a negative sample$") as caught:
        backend.encode_clips(clips_of(backend, [1, 1, 1], [-1, 1, 1]))
    assert caught.value.kind == "backend"
    with pytest.raises(ClipError, match=r"^b: 2 samples, expected at least 3$") as caught:
        backend.encode_clips(clips_of(backend, [1, 1]))
    assert caught.value.kind == "too_short"


def test_clips_that_were_resampled_for_nobody() -> None:
    """One waveform for all parts would give other tokens in silence."""
    with pytest.raises(InfrastructureError, match="not resampled for each of its parts"):
        combine(Part("a"), Part("b")).encode_clips([Utterance(np.ones(9, np.float32))])


def test_a_part_that_loses_results_is_a_bug() -> None:
    """It is named, and nothing is written."""

    class Losing(Part):
        def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
            return []

    backend = combine(Part("a"), Losing("b"))
    with pytest.raises(InfrastructureError, match="b gave 0 results for 1 clips: a bug in it"):
        backend.encode_clips(clips_of(backend, [1, 1]))


def test_no_lanes_no_calls_with_lanes() -> None:
    """It is the caller's bug."""
    backend = combine(Part("a"), Part("b"))
    with pytest.raises(InfrastructureError, match="has no lanes"):
        backend.encode_lanes(clips_of(backend, [1, 1]), LaneShape(2, 10))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_taste(tmp_path_factory.mktemp("models"))


class TestTaste:
    """The three models of the preset."""

    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"cosyvoice_s3.engine": "torch"},
            {"whisper_features.lanes": 3, "cosyvoice_s3.engine": "torch"},
        ],
        ids=["single", "batches", "lanes"],
    )
    def test_it_equals_its_parts(self, models: Path, more: Mapping[str, Any]) -> None:
        """Bit for bit, from a file of another rate: each part resamples and encodes as it does alone."""
        options = {**load_preset("taste").options, "model_path": str(models), **SMALL, **more}
        factory = get_factory(TASTE)
        backend = factory.load(complete_options(factory, options), "cpu")
        assert isinstance(backend, Combined)
        waves = [speech_like(length, seed=length) for length in LENGTHS]
        texts = [f"clip {number}" for number in range(len(waves))]
        clips = [hear(backend, wave, RATE, text) for wave, text in zip(waves, texts, strict=True)]
        shape = LaneShape(3, 320 * 80)

        def together(some: list[Utterance]) -> list[Values]:
            return backend.encode_lanes(some, shape)() if "whisper_features.lanes" in more else backend.encode_clips(some)

        found = [*together(clips[:3]), *together(clips[3:])]
        assert [list(values) for values in found] == [["text_tokens", "text_embedding", "mid", "final", "tokens"]] * 5
        for part in backend.parts:
            alone = [hear(part, wave, RATE, text) for wave, text in zip(waves, texts, strict=True)]
            for clip, values in zip(alone, found, strict=True):
                lanes = part.info.batching is Batching.LANES
                expected = part.encode_lanes([clip], shape)()[0] if lanes else part.encode_clips([clip])[0]  # type: ignore[attr-defined]
                for key, array in expected.items():
                    assert values[key].dtype == array.dtype
                    assert np.array_equal(values[key], array), (part.info.name, key)
