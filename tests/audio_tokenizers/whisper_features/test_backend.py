from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.golden_audio import pcm, silence, square
from support.tiny_whisper import LAYERS, WIDTH, build_whisper

from audio_tokenizers.base import Batching, Utterance
from audio_tokenizers.errors import ClipError, InfrastructureError, UsageError
from audio_tokenizers.whisper_features.backend import FACTORY, WhisperFeatures, rows_of

WINDOW = 480000
SHORT = [1, 159, 160, 161, 200, 201, 319, 320, 321, 399, 400, 401, 639, 640, 641]
MIDDLE = [1600, 15999, 16000, 16001, 32160, 48123, 96000, 240000, 400001]
LONG = [479679, 479680, 479681, 479999, 480000]
"""At most one window: transformers itself takes these."""
OVER = [480001, 480321, 960000, 960001]
MADE = [("silence", 1), ("silence", 16000), ("silence", 480000), ("square", 320), ("square", 16000), ("square", 480000)]


def options(directory: Path, **changes: object) -> dict[str, object]:
    return {"model_path": str(directory), "layer": 1, "dtype": "float32", "tf32": False, **changes}


def floats(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / 32768


def clip(samples: int) -> np.ndarray:
    """Another piece of the speech examples for each length."""
    return floats(pcm(samples, start=37 * samples))


def encode(backend: WhisperFeatures, wave: np.ndarray) -> dict[str, np.ndarray]:
    return dict(backend.encode_clips([Utterance(wave)])[0])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return build_whisper(tmp_path_factory.mktemp("whisper") / "model")


@pytest.fixture(scope="module")
def backend(model) -> WhisperFeatures:
    return FACTORY.load(options(model), "cpu")


@pytest.fixture(scope="module")
def reference(model):
    """All hidden states of transformers' own feature extractor and encoder, [1500, width] each, for at most one window."""
    import torch
    import transformers

    extractor = transformers.WhisperFeatureExtractor(feature_size=80)
    whole = transformers.WhisperModel.from_pretrained(model).eval()

    def states(wave: np.ndarray) -> list[np.ndarray]:
        mel = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            found = whole.encoder(mel, output_hidden_states=True)
        assert torch.equal(found.hidden_states[-1], found.last_hidden_state)
        return [state[0].numpy() for state in found.hidden_states]

    return states


@pytest.mark.parametrize("lengths", [SHORT, MIDDLE, LONG], ids=["short", "middle", "long"])
def test_states_are_those_of_transformers_as_far_as_the_clip_goes(backend, reference, lengths):
    """Both states, bit for bit, at every length class; what transformers has beyond the clip is of its padding."""
    for samples in lengths:
        wave = clip(samples)
        ours, theirs = encode(backend, wave), reference(wave)
        rows = -(-samples // 320)
        assert list(ours) == ["mid", "final"]
        assert [(array.shape, array.dtype) for array in ours.values()] == [((rows, WIDTH), np.float32)] * 2
        assert np.array_equal(ours["mid"], theirs[1][:rows]), samples
        assert np.array_equal(ours["final"], theirs[-1][:rows]), samples
        assert rows == 1 or np.ptp(ours["final"], axis=0).min() > 0


def test_made_sounds_have_the_states_of_transformers(backend, reference):
    """Digital silence and a square wave at full scale, the ends of what the mel's logarithm sees."""
    for kind, samples in MADE:
        wave = floats(silence(samples) if kind == "silence" else square(samples))
        ours, theirs = encode(backend, wave), reference(wave)
        assert np.array_equal(ours["mid"], theirs[1][: rows_of(samples)]), (kind, samples)
        assert np.array_equal(ours["final"], theirs[-1][: rows_of(samples)]), (kind, samples)


@pytest.mark.parametrize("layer", [0, LAYERS - 1, None])
def test_any_layer_or_none_can_be_mid(model, reference, layer):
    """0 is the embedding, N the state that transformers numbers N; null leaves `final` alone."""
    wave = clip(20000)
    ours, theirs = encode(FACTORY.load(options(model, layer=layer), "cpu"), wave), reference(wave)
    assert np.array_equal(ours["final"], theirs[-1][:63])
    assert list(ours) == (["final"] if layer is None else ["mid", "final"])
    assert layer is None or np.array_equal(ours["mid"], theirs[layer][:63])


def test_a_long_clip_is_its_windows_one_after_the_other(backend):
    """Pieces of 30 s are encoded alone and laid end to end, a last one of a single sample included: no sample is lost."""
    for samples in OVER:
        wave = clip(samples)
        whole = encode(backend, wave)
        pieces = [encode(backend, wave[start : start + WINDOW]) for start in range(0, samples, WINDOW)]
        for name in ("mid", "final"):
            assert whole[name].shape == (rows_of(samples), WIDTH)
            assert np.array_equal(whole[name], np.concatenate([piece[name] for piece in pieces])), samples


def test_a_state_is_kept_if_its_centre_is_in_the_clip():
    """ceil(samples / 320), in whole numbers: a clip has no state that stands for padding alone, and none too few."""
    for samples in range(1, 2000):
        assert rows_of(samples) == len(range(0, samples, 320))
    assert [rows_of(n) for n in (479999, 480000, 480001)] == [1500, 1500, 1501]


def test_float16_is_the_rounding_of_float32(model, backend):
    """What is stored may be half as large; what is computed stays float32."""
    half = FACTORY.load(options(model, dtype="float16"), "cpu")
    wave = clip(50000)
    for name, array in encode(half, wave).items():
        assert array.dtype == np.float16
        assert np.array_equal(array, encode(backend, wave)[name].astype(np.float16))


def test_a_state_beyond_float16_is_an_error_and_never_infinite(model, tmp_path):
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


def test_features_do_not_depend_on_what_was_encoded_before(model, backend):
    """A clip has the same bytes first, later, in company, and in another process's backend."""
    waves = [clip(16000), clip(500), clip(100000)]
    first = [encode(backend, wave) for wave in waves]
    together = backend.encode_clips([Utterance(wave) for wave in reversed(waves)])
    again = [encode(FACTORY.load(options(model), "cpu"), wave) for wave in waves]
    for name in ("mid", "final"):
        for one, other, third in zip(first, reversed(together), again, strict=True):
            assert np.array_equal(one[name], other[name])
            assert np.array_equal(one[name], third[name])


def test_a_clip_without_samples_is_too_short(backend):
    """One sample has a state; none has none."""
    with pytest.raises(ClipError) as caught:
        encode(backend, np.zeros(0, np.float32))
    assert caught.value.kind == "too_short"
    assert encode(backend, clip(1))["final"].shape == (1, WIDTH)


def test_resampling_is_soxrs(backend):
    """Whole clips from any rate to 16 kHz with the HQ filter; at 16 kHz nothing is touched."""
    import soxr

    for rate in (8000, 24000, 44100, 48000):
        wave = floats(pcm(rate))
        assert np.array_equal(backend.resample(wave, rate), soxr.resample(wave, rate, 16000, "HQ"))
    assert backend.resample(wave, 16000) is wave


def test_what_it_declares(model):
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


def test_the_recipe_changes_with_what_decides_a_value_and_with_nothing_else(model, tmp_path):
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


@pytest.mark.parametrize("tf32", [False, True])
def test_arithmetic_flags_are_those_of_the_recipe(model, tf32):
    """The flags belong to the process and cuDNN's TF32 is on by default: each call sets them anew."""
    import torch

    backend = FACTORY.load(options(model, tf32=tf32), "cpu")
    flags = torch.backends.cudnn
    before = (flags.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    try:
        flags.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not tf32
        encode(backend, clip(320))
        assert (flags.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (tf32, tf32)
    finally:
        flags.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_running_out_of_memory_is_the_machines_fault_and_survived(backend, monkeypatch):
    """It must never become a record of the clip."""

    def exhaust(*_args: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(backend._encoder._encoder.layer_norm, "forward", exhaust)
        with pytest.raises(InfrastructureError, match="out of memory on cpu"):
            encode(backend, clip(320))
    assert encode(backend, clip(320))["final"].shape == (1, WIDTH)


def test_a_device_that_is_not_there_is_named(model, monkeypatch):
    """A job without its GPU says so before it reads the weights."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InfrastructureError, match=r"'cuda'.*no CUDA device"):
        FACTORY.load(options(model), "cuda")


@pytest.mark.parametrize(
    ("change", "device", "message"),
    [
        ({}, "tpu", "device 'tpu'"),
        ({"tf32": 1}, "cpu", "tf32"),
        ({"model_path": ""}, "cpu", "model_path"),
        ({"dtype": "bfloat16"}, "cpu", "dtype: expected float16 or float32"),
        ({"layer": LAYERS}, "cpu", r"layer: expected null or 0\.\.2 .* is `final`"),
        ({"layer": -1}, "cpu", "layer"),
        ({"layer": True}, "cpu", "layer"),
        ({"layer": "mid"}, "cpu", "layer"),
    ],
)
def test_options_of_the_wrong_kind_are_refused(model, change, device, message):
    """A slip in an option is one message, not a traceback from inside torch."""
    with pytest.raises(UsageError, match=message):
        FACTORY.describe(options(model, **change), device)


def test_describing_imports_no_torch_and_nothing_touches_the_network(model, monkeypatch):
    """Planning on a login node must not pay for torch; nodes have no network."""
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'safetensors', 'whisper'): sys.modules[name] = None\n"
        "from audio_tokenizers.whisper_features.backend import FACTORY\n"
        "given = {'model_path': sys.argv[1], 'layer': 1, 'dtype': 'float16', 'tf32': False}\n"
        "print(FACTORY.describe(given, 'cuda:3').name)\n"
    )
    command = [sys.executable, "-c", script, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": "tokenizers"})
    assert (done.stdout, done.returncode) == ("whisper_features\n", 0), done.stderr

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert encode(FACTORY.load(options(model), "cpu"), clip(320))["final"].shape == (1, WIDTH)


def test_a_missing_package_says_what_to_install(model, monkeypatch):
    """The base installation has no torch; the message names the extra."""
    import importlib.metadata

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(UsageError, match=r"pip install -e '\.\[whisper_features\]'"):
        FACTORY.describe(options(model), "cpu")
