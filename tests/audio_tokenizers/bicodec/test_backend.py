from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from support.golden_audio import pcm, wave
from support.make_bicodec_golden import GOLDEN, Case, cases
from support.tiny_bicodec import CODEBOOK_SIZE, build_spark_tts, weights_digest

from audio_tokenizers.base import Batching, Scalar, Utterance
from audio_tokenizers.bicodec.audio import normalize_volume
from audio_tokenizers.bicodec.backend import FACTORY, BiCodec
from audio_tokenizers.errors import ClipError, UsageError


def options(directory: Path, **changes: Scalar) -> dict[str, Scalar]:
    return {"model_path": str(directory), "volume_normalize": True, "tf32": False, **changes}


def encode(backend: BiCodec, samples: npt.NDArray[Any], rate: int = 16000) -> dict[str, npt.NDArray[Any]]:
    return dict(backend.encode_clips([Utterance(backend.resample(samples, rate))])[0])


def equal(one: dict[str, npt.NDArray[Any]], other: dict[str, npt.NDArray[Any]]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in ("global_tokens", "semantic_tokens"))


Parity = list[tuple[Case, dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]]
"""Cases, upstream's tokens and ours."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_spark_tts(tmp_path_factory.mktemp("spark"))


@pytest.fixture(scope="module")
def backend(model: Path) -> BiCodec:
    return FACTORY.load(options(model), "cpu")


@pytest.fixture(scope="module")
def bare(model: Path) -> BiCodec:
    """Without volume normalisation."""
    return FACTORY.load(options(model, volume_normalize=False), "cpu")


@pytest.fixture(scope="module")
def parity(model: Path, backend: BiCodec, bare: BiCodec) -> Parity:
    """(case, upstream's tokens, ours) for each case of the golden file."""
    with np.load(GOLDEN) as golden:
        assert weights_digest(model) == golden["weights_sha256"], "the tiny checkpoint is not the one of the golden file"
        stored = [Case(**json.loads(str(text))) for text in golden["cases"]]
        assert stored == list(cases()), "the clips are not those of the golden file"
        semantic = np.split(golden["semantic_tokens"], np.cumsum(golden["semantic_counts"])[:-1])
        theirs = [
            {"global_tokens": voice, "semantic_tokens": words}
            for voice, words in zip(golden["global_tokens"], semantic, strict=True)
        ]
    ours = [encode(backend if case.volume_normalize else bare, wave(case.pcm()), case.rate) for case in stored]
    return list(zip(stored, theirs, ours, strict=True))


def test_tokens_equal_those_of_spark_tts_itself(
    parity: Parity,
) -> None:
    """On the same files, each token is the one that BiCodecTokenizer gives: all lengths, rates and volumes."""
    normalised = [entry for entry in parity if entry[0].volume_normalize]
    assert len(normalised) >= 60
    differing = [case for case, theirs, ours in normalised if not equal(theirs, ours)]
    assert not differing, f"{len(differing)} of {len(normalised)} cases, first {differing[:3]}"


def test_tokens_without_volume_normalisation_equal_those_of_rwkvtts(
    parity: Parity,
) -> None:
    """RWKVTTS hands its clips over as arrays, which its fork does not normalise; `volume_normalize: false` is that."""
    loose = [entry for entry in parity if not entry[0].volume_normalize]
    assert len(loose) >= 10
    differing = [case for case, theirs, ours in loose if not equal(theirs, ours)]
    assert not differing, f"{len(differing)} of {len(loose)} cases, first {differing[:3]}"


def test_golden_tokens_vary(parity: Parity) -> None:
    """Tokens that hardly vary would agree by chance."""
    voices = {tuple(theirs["global_tokens"]) for _, theirs, _ in parity}
    assert len(voices) > 0.9 * len(parity)
    assert len(np.unique([theirs["global_tokens"] for _, theirs, _ in parity])) > 500
    assert len(np.unique(np.concatenate([theirs["semantic_tokens"] for _, theirs, _ in parity]))) > 100
    assert all(len(set(theirs["semantic_tokens"])) > 10 for case, theirs, _ in parity if case.samples > 40000 and case.start)


def test_the_number_of_tokens_follows_from_the_number_of_samples(
    parity: Parity,
) -> None:
    """32 global tokens, and (n - 80) // 320 semantic ones for n samples at 16 kHz, as small integers in their ranges."""
    for case, _, ours in parity:
        voice, words = ours["global_tokens"], ours["semantic_tokens"]
        if case.rate == 16000:
            assert len(words) == (case.samples - 80) // 320
        assert (voice.dtype, words.dtype, voice.shape) == (np.dtype(np.int16), np.dtype(np.int16), (32,))
        assert 0 <= voice.min() <= voice.max() < 4096
        assert 0 <= words.min() <= words.max() < CODEBOOK_SIZE


def test_what_the_pipeline_plans_with(model: Path) -> None:
    """Two lists per record, the first channel of a file as it is, and whole clips one at a time."""
    info = FACTORY.describe(options(model), "cpu")
    voice, words = info.fields
    assert (voice.name, voice.form, voice.items, voice.codebook_size) == ("global_tokens", "list", 32, 4096)
    assert (words.name, words.form, words.items, words.codebook_size) == ("semantic_tokens", "list", None, CODEBOOK_SIZE)
    assert (voice.samples_per_item, words.samples_per_item, words.slack) == (None, 320, 2)
    assert (info.sample_rate, info.hop_length, info.mono, info.min_samples) == (16000, 320, "first", 400)
    assert info.max_tokens_per_fragment is None
    assert (info.batching, info.max_batch, info.needs_text) == (Batching.SINGLE, 1, False)


def test_a_clip_that_wav2vec2_cannot_hear_is_too_short(backend: BiCodec) -> None:
    """400 samples at 16 kHz make the first frame; upstream raises for fewer, and for none at all in the normalisation."""
    assert len(encode(backend, wave(pcm(400)))["semantic_tokens"]) == 1
    for samples in (399, 1, 0):
        with pytest.raises(ClipError, match=rf"{samples} samples.* 400") as caught:
            encode(backend, wave(pcm(samples)))
        assert caught.value.kind == "too_short"


def test_clips_are_resampled_and_normalised_in_float64(backend: BiCodec, bare: BiCodec) -> None:
    """Upstream reads files as float64 and rounds once, behind the volume: what the networks hear is float32."""
    clip = wave(pcm(44100))
    heard = soxr.resample(clip.astype(np.float64), 44100, 16000, "VHQ")
    for loaded, expected in ((bare, heard), (backend, normalize_volume(heard))):
        found = loaded.resample(clip, 44100)
        assert (found.dtype, found.shape) == (np.dtype(np.float32), (16000,))
        assert np.array_equal(found, expected.astype(np.float32))
    early = normalize_volume(heard.astype(np.float32))
    assert not np.array_equal(early, backend.resample(clip, 44100))


def test_the_volume_is_the_decoders_work(backend: BiCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sorts a whole clip: decoder threads do that, and never the thread for which a device would wait."""
    heard = backend.resample(wave(pcm(16000)), 16000)

    def refuse(*_: object) -> None:
        raise AssertionError("normalised while a device waits")

    monkeypatch.setattr("audio_tokenizers.bicodec.backend.normalize_volume", refuse)
    assert len(backend.encode_clips([Utterance(heard)])[0]["semantic_tokens"]) == 49


def test_global_tokens_come_from_six_seconds_and_semantic_ones_from_all(bare: BiCodec) -> None:
    """What lies behind the reference clip cannot change the voice, though each semantic token attends to it."""
    clip, other = pcm(112000), pcm(112000)
    other[96000:] = pcm(16000, 300000)
    one, two = encode(bare, wave(clip)), encode(bare, wave(other))
    assert np.array_equal(one["global_tokens"], two["global_tokens"])
    assert not np.array_equal(one["semantic_tokens"][:299], two["semantic_tokens"][:299])


def test_the_recipe_changes_with_what_decides_a_token_and_with_nothing_else(model: Path, tmp_path: Path) -> None:
    """Runs are compared by it: a copy elsewhere continues a run; other weights, config, rounding or device do not."""
    recipe = FACTORY.describe(options(model), "cpu").recipe
    moved = shutil.copytree(model, tmp_path / "moved")
    assert FACTORY.describe(options(moved), "cpu").recipe == recipe
    with (moved / "BiCodec" / "config.yaml").open("a") as file:
        file.write("\nmore: 1\n")
    other = build_spark_tts(tmp_path / "other", seed=2)
    changed = {
        "config_sha256": FACTORY.describe(options(moved), "cpu").recipe,
        "weights_sha256": FACTORY.describe(options(other), "cpu").recipe,
        "volume_normalize": FACTORY.describe(options(model, volume_normalize=False), "cpu").recipe,
        "tf32": FACTORY.describe(options(model, tf32=True), "cpu").recipe,
        "device": FACTORY.describe(options(model), "cuda:1").recipe,
    }
    for key, value in changed.items():
        assert {k for k in recipe if recipe[k] != value[k]} == {key}
    assert recipe == FACTORY.load(options(model), "cpu").info.recipe
    assert (recipe["dtype"], recipe["attention"], recipe["resampler"]) == ("float32", "sdpa", "soxr VHQ float64")
    assert recipe["reference_samples"] == 96000
    assert {"torch", "torchaudio", "transformers", "numpy"} < set(recipe)


def test_a_checkpoint_that_wants_no_normalisation_says_so(model: Path, tmp_path: Path) -> None:
    """Upstream follows config.yaml; an option that contradicts it is a question to the user, not a choice of ours."""
    directory = shutil.copytree(model, tmp_path / "model")
    config = directory / "config.yaml"
    config.write_text(config.read_text().replace("volume_normalize: true", "volume_normalize: false"))
    with pytest.raises(UsageError, match=r"config.yaml.*volume_normalize=false"):
        FACTORY.describe(options(directory), "cpu")
    assert FACTORY.describe(options(directory, volume_normalize=False), "cpu").recipe["volume_normalize"] is False
