from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.golden_audio import pcm, silence, square
from support.tiny_whisper import LAYERS, WIDTH, build_whisper

from audio_tokenizers.base import Batching, Scalar, Utterance
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.whisper_features.backend import FACTORY, WhisperFeatures, rows_of

WINDOW = 480000
SHORT = [1, 159, 160, 161, 200, 201, 319, 320, 321, 399, 400, 401, 639, 640, 641]
MIDDLE = [1600, 15999, 16000, 16001, 32160, 48123, 96000, 240000, 400001]
LONG = [479679, 479680, 479681, 479999, 480000]
"""At most one window: transformers itself takes these."""
OVER = [480001, 480321, 960000, 960001]
MADE = [("silence", 1), ("silence", 16000), ("silence", 480000), ("square", 320), ("square", 16000), ("square", 480000)]


def options(directory: Path, **changes: Scalar) -> dict[str, Scalar]:
    return {"model_path": str(directory), "layer": 1, "dtype": "float32", "tf32": False, **changes}


def floats(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return samples.astype(np.float32) / 32768


def clip(samples: int) -> npt.NDArray[Any]:
    """Another piece of the speech examples for each length."""
    return floats(pcm(samples, start=37 * samples))


def encode(backend: WhisperFeatures, wave: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    return dict(backend.encode_clips([Utterance(wave)])[0])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_whisper(tmp_path_factory.mktemp("whisper") / "model")


@pytest.fixture(scope="module")
def backend(model: Path) -> WhisperFeatures:
    return FACTORY.load(options(model), "cpu")


@pytest.fixture(scope="module")
def reference(model: Path) -> Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """All hidden states of transformers' own feature extractor and encoder, [1500, width] each, for at most one window."""
    import torch
    import transformers

    extractor = transformers.WhisperFeatureExtractor(feature_size=80)
    whole = transformers.WhisperModel.from_pretrained(model).eval()

    def states(wave: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        mel = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            found = whole.encoder(mel, output_hidden_states=True)
        assert torch.equal(found.hidden_states[-1], found.last_hidden_state)
        return [state[0].numpy() for state in found.hidden_states]

    return states


@pytest.mark.parametrize("lengths", [SHORT, MIDDLE, LONG], ids=["short", "middle", "long"])
def test_states_are_those_of_transformers_as_far_as_the_clip_goes(
    backend: WhisperFeatures, reference: Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]], lengths: list[int]
) -> None:
    """Both states, bit for bit, at every length class; what transformers has beyond the clip is of its padding."""
    for samples in lengths:
        wave = clip(samples)
        ours, theirs = encode(backend, wave), reference(wave)
        rows = -(-samples // 320)
        assert list(ours) == ["mid", "final"]
        assert [(array.shape, array.dtype) for array in ours.values()] == [((rows, WIDTH), np.dtype(np.float32))] * 2
        assert np.array_equal(ours["mid"], theirs[1][:rows]), samples
        assert np.array_equal(ours["final"], theirs[-1][:rows]), samples
        assert rows == 1 or np.ptp(ours["final"], axis=0).min() > 0


def test_made_sounds_have_the_states_of_transformers(
    backend: WhisperFeatures, reference: Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]]
) -> None:
    """Digital silence and a square wave at full scale, the ends of what the mel's logarithm sees."""
    for kind, samples in MADE:
        wave = floats(silence(samples) if kind == "silence" else square(samples))
        ours, theirs = encode(backend, wave), reference(wave)
        assert np.array_equal(ours["mid"], theirs[1][: rows_of(samples)]), (kind, samples)
        assert np.array_equal(ours["final"], theirs[-1][: rows_of(samples)]), (kind, samples)


@pytest.mark.parametrize("layer", [0, LAYERS - 1, None])
def test_any_layer_or_none_can_be_mid(
    model: Path, reference: Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]], layer: int | None
) -> None:
    """0 is the embedding, N the state that transformers numbers N; null leaves `final` alone."""
    wave = clip(20000)
    ours, theirs = encode(FACTORY.load(options(model, layer=layer), "cpu"), wave), reference(wave)
    assert np.array_equal(ours["final"], theirs[-1][:63])
    assert list(ours) == (["final"] if layer is None else ["mid", "final"])
    assert layer is None or np.array_equal(ours["mid"], theirs[layer][:63])


def test_a_long_clip_is_its_windows_one_after_the_other(backend: WhisperFeatures) -> None:
    """Pieces of 30 s are encoded alone and laid end to end, a last one of a single sample included: no sample is lost."""
    for samples in OVER:
        wave = clip(samples)
        whole = encode(backend, wave)
        pieces = [encode(backend, wave[start : start + WINDOW]) for start in range(0, samples, WINDOW)]
        for name in ("mid", "final"):
            assert whole[name].shape == (rows_of(samples), WIDTH)
            assert np.array_equal(whole[name], np.concatenate([piece[name] for piece in pieces])), samples


def test_a_state_is_kept_if_its_centre_is_in_the_clip() -> None:
    """ceil(samples / 320), in whole numbers: a clip has no state that stands for padding alone, and none too few."""
    for samples in range(1, 2000):
        assert rows_of(samples) == len(range(0, samples, 320))
    assert [rows_of(n) for n in (479999, 480000, 480001)] == [1500, 1500, 1501]


def test_float16_is_the_rounding_of_float32(model: Path, backend: WhisperFeatures) -> None:
    """What is stored may be half as large; what is computed stays float32."""
    half = FACTORY.load(options(model, dtype="float16"), "cpu")
    wave = clip(50000)
    for name, array in encode(half, wave).items():
        assert array.dtype == np.float16
        assert np.array_equal(array, encode(backend, wave)[name].astype(np.float16))


def test_a_state_beyond_float16_is_an_error_and_never_infinite(model: Path, tmp_path: Path) -> None:
    """Some layers have outliers of several thousand; one beyond 65504 must not become inf in a data set."""
    from safetensors.torch import load_file, save_file

    directory = Path(shutil.copytree(model, tmp_path / "model"))
    state = load_file(directory / "model.safetensors")
    state["model.encoder.layers.0.fc2.bias"][3] = 1e5
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ClipError, match=r"mid .*float16.*dtype=float32") as caught:
        encode(FACTORY.load(options(directory, dtype="float16"), "cpu"), clip(16000))
    assert caught.value.kind == "backend"
    assert np.isfinite(encode(FACTORY.load(options(directory), "cpu"), clip(16000))["mid"]).all()


def test_a_clip_without_samples_is_too_short(backend: WhisperFeatures) -> None:
    """One sample has a state; none has none."""
    with pytest.raises(ClipError) as caught:
        encode(backend, np.zeros(0, np.float32))
    assert caught.value.kind == "too_short"
    assert encode(backend, clip(1))["final"].shape == (1, WIDTH)


def test_resampling_is_soxrs(backend: WhisperFeatures) -> None:
    """Whole clips from any rate to 16 kHz with the HQ filter; at 16 kHz nothing is touched."""
    import soxr

    for rate in (8000, 24000, 44100, 48000):
        wave = floats(pcm(rate))
        assert np.array_equal(backend.resample(wave, rate), soxr.resample(wave, rate, 16000, "HQ"))
    assert backend.resample(wave, 16000) is wave


def test_what_it_declares(model: Path) -> None:
    """Rows of 320 samples, the model's width and the stored dtype; whole clips, one at a time."""
    info = FACTORY.describe(options(model, dtype="float16"), "cuda:1")
    assert [(field.name, field.form, field.width, field.dtype) for field in info.fields] == [
        ("mid", "features", WIDTH, "float16"),
        ("final", "features", WIDTH, "float16"),
    ]
    assert {field.samples_per_item for field in info.fields} == {320}
    assert (info.sample_rate, info.hop_length, info.mono, info.min_samples) == (16000, 320, "mean", 1)
    assert (info.batching, info.max_batch, info.max_tokens_per_fragment) == (Batching.SINGLE, 1, None)
    assert not info.needs_text


def test_the_recipe_changes_with_what_decides_a_value_and_with_nothing_else(model: Path, tmp_path: Path) -> None:
    """Runs are compared by it: a copy elsewhere continues a run; another layer, dtype, config, file or device does not."""
    recipe = FACTORY.describe(options(model), "cpu").recipe
    assert recipe == FACTORY.load(options(model), "cpu").info.recipe
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    assert FACTORY.describe(options(moved), "cpu").recipe == recipe
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"activation_function": "relu"}))
    other = build_whisper(tmp_path / "other", seed=1)
    changed = {
        "config_sha256": FACTORY.describe(options(moved), "cpu").recipe,
        "weights_sha256": FACTORY.describe(options(other), "cpu").recipe,
        "layer": FACTORY.describe(options(model, layer=2), "cpu").recipe,
        "stored_dtype": FACTORY.describe(options(model, dtype="float16"), "cpu").recipe,
        "tf32": FACTORY.describe(options(model, tf32=True), "cpu").recipe,
        "device": FACTORY.describe(options(model), "cuda:1").recipe,
    }
    for key, value in changed.items():
        assert {k for k in recipe if recipe[k] != value[k]} == {key}
    assert (recipe["dtype"], recipe["attention"], recipe["rows"]) == ("float32", "sdpa", "ceil(samples / 320)")
    assert {"torch", "transformers", "soxr"} < set(recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "bfloat16"}, "dtype: expected float16 or float32"),
        ({"layer": LAYERS}, r"layer: expected null or 0\.\.2 .* is `final`"),
        ({"layer": -1}, "layer"),
        ({"layer": True}, "layer"),
        ({"layer": "mid"}, "layer"),
    ],
)
def test_options_of_the_wrong_kind_are_refused(model: Path, change: dict[str, Any], message: str) -> None:
    """A slip in an option is one message, not a traceback from inside torch."""
    with pytest.raises(UsageError, match=message):
        FACTORY.describe(options(model, **change), "cpu")
