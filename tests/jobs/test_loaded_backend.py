"""jobs/loaded_backend.py: single clips from Python get the tokens that a run gives them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from support.runs import call
from support.small_run import write_tar
from support.tars import audio_file
from support.tiny_models import build_model

from audio_tokenizers.errors import ClipError, ModelFilesError, UsageError
from audio_tokenizers.registry import get_factory
from jobs.loaded_backend import LoadedBackend, load_backend
from jobs.spec import load_preset
from jobs.tokenize_tar import tokenize_tar
from tools.reader import TokenizedClip, read_run

pytestmark = pytest.mark.slow

RATE = 22_050
SECONDS = {"whisper_features": 2, "bicodec": 2}


def noise(samples: int, channels: int = 2, seed: int = 0) -> npt.NDArray[Any]:
    """float32 [channels, samples] whose channels are not alike."""
    tones = np.sin(np.arange(samples) * np.linspace(0.02, 0.3, channels)[:, None])
    rough = np.random.default_rng(seed).uniform(-0.3, 0.3, (channels, samples))
    return (0.5 * tones + rough).astype(np.float32)


def run_of(folder: Path, members: dict[str, bytes], backend: str, *words: str) -> dict[str, TokenizedClip]:
    """Tokenize a tar of these members as a command does."""
    tar = write_tar(folder / "clips.tar", members)
    out = folder / "tokens"
    assert call(tokenize_tar, "--input-tar", tar, "--output-dir", out, "--backend", backend, "--device", "cpu", *words) == 0
    return {clip.audio_file: clip for clip in read_run(out, partial_ok=True)}


@pytest.fixture(scope="module")
def mulaw() -> LoadedBackend:
    return load_backend("mulaw", device="cpu")


@pytest.mark.parametrize(
    "backend",
    ["mulaw", "higgs", "mimi", "step_audio", "cosyvoice_s3", "bicodec", "whisper_features", "cosyvoice_text"],
)
def test_each_backend_gives_what_a_run_gives(backend: str, tmp_path: Path) -> None:
    """A stereo file at another rate, as a file and as an array: the keys, types and values of the run's record."""
    wave = noise(RATE * SECONDS.get(backend, 1) + 123)
    data = audio_file(wave.T, RATE, subtype="FLOAT")
    words = build_model(backend, tmp_path)
    said = "good morning"
    (recorded,) = run_of(tmp_path, {"a.wav": data, "a.txt": said.encode()}, backend, *words).values()
    model_path = words[1] if words else None
    options = dict(word.split("=") for word in words[3:])
    typed: dict[str, Any] = {key: {"true": True, "1": 1}[value] for key, value in options.items()}
    loaded = load_backend(backend, model_path=model_path, device="cpu", **typed)
    (tmp_path / "a.wav").write_bytes(data)
    found = [loaded.encode(wave, RATE, text=said), loaded.encode_file(tmp_path / "a.wav", text=said)]
    for arrays in found:
        assert list(arrays) == list(recorded.arrays)
        for key, array in recorded.arrays.items():
            assert arrays[key].dtype == array.dtype
            np.testing.assert_array_equal(arrays[key], array)


def test_fragments_and_formats(tmp_path: Path) -> None:
    """Fragments, the channel, and lossy files: each rule of a run holds here too."""
    files = {}
    for name in ("a.flac", "b.ogg", "c.mp3"):
        soundfile.write(tmp_path / name, noise(9000).T, 16_000)
        files[name] = (tmp_path / name).read_bytes()
    words = ("--max-tokens-per-fragment", "300", "--num-tokens-overlap", "20", "--channel", "right")
    recorded = run_of(tmp_path, files, "mulaw", *words)
    loaded = load_backend("mulaw", device="cpu", max_tokens_per_fragment=300, num_tokens_overlap=20, channel="right")
    assert set(recorded) == set(files)
    for name, clip in recorded.items():
        assert clip.tokens.shape[1] > 4 * 300
        np.testing.assert_array_equal(loaded.encode_file(tmp_path / name)["tokens"], clip.tokens)


def test_integers_and_shapes(mulaw: LoadedBackend) -> None:
    """int16 and int32 are at full scale, one axis is one channel, and a tensor of torch is as good as an array."""
    import torch

    whole = (noise(800, 1)[0] * 32767).astype(np.int16)
    expected = mulaw.encode(whole / 32768, 8000)["tokens"]
    assert len(np.unique(expected)) > 50
    for audio in (whole, whole[None], whole.astype(np.int32) << 16, torch.from_numpy(whole), np.stack([whole, whole])):
        np.testing.assert_array_equal(mulaw.encode(audio, 8000)["tokens"], expected)


@pytest.mark.parametrize(
    ("audio", "rate", "words"),
    [
        (np.zeros((100, 2)), 8000, r"expected \[channels, samples\], found the shape \[100, 2\]: transpose"),
        (np.zeros((1, 1, 9)), 8000, r"found the shape \[1, 1, 9\]"),
        (np.zeros((0, 9)), 8000, r"found the shape \[0, 9\]"),
        (np.zeros(9, np.uint8), 8000, "expected floats, int16 or int32, found uint8"),
        (np.zeros(9), 8000.0, "a whole number of Hz, found 8000.0"),
        (np.zeros(9), 0, "a whole number of Hz, found 0"),
    ],
)
def test_what_is_no_audio(mulaw: LoadedBackend, audio: npt.NDArray[Any], rate: int, words: str) -> None:
    """One message says what was expected and what was found."""
    with pytest.raises(UsageError, match=words):
        mulaw.encode(audio, rate)


def test_a_clip_that_would_be_an_error_record(mulaw: LoadedBackend, tmp_path: Path) -> None:
    """It raises with the kind of that record, and the next clip is encoded as if nothing had been."""
    (tmp_path / "a.wav").write_bytes(b"not audio")
    calls: dict[str, Callable[[], object]] = {
        "empty": lambda: mulaw.encode(np.zeros(0), 8000),
        "not_finite": lambda: mulaw.encode(np.array([0.0, np.nan]), 8000),
        "decode": lambda: mulaw.encode_file(tmp_path / "a.wav"),
    }
    for kind, attempt in calls.items():
        with pytest.raises(ClipError) as caught:
            attempt()
        assert caught.value.kind == kind
    with pytest.raises(ClipError) as caught:
        load_backend("mulaw", device="cpu", max_duration=0.5).encode(np.zeros(8000), 8000)
    assert caught.value.kind == "too_long"
    with pytest.raises(FileNotFoundError):
        mulaw.encode_file(tmp_path / "b.wav")
    assert mulaw.encode(np.zeros(3), 8000)["tokens"].tolist() == [[128, 128, 128]]


def test_threads_share_it(mulaw: LoadedBackend) -> None:
    """Calls from many threads give each its own clip's tokens, and leave no threads behind."""
    waves = [noise(500 + 10 * n, 1, n) for n in range(12)]
    expected = [mulaw.encode(wave, 8000)["tokens"] for wave in waves]
    before = threading.active_count()
    found: dict[int, npt.NDArray[Any]] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: mulaw.encode(waves[n], 8000)["tokens"]})) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert threading.active_count() == before
    for number, tokens in enumerate(expected):
        np.testing.assert_array_equal(found[number], tokens)


def test_options_have_their_defaults(tmp_path: Path) -> None:
    """Those of the preset over those of the backend; what does not exist is named."""
    build_model("encodec", tmp_path)
    loaded = load_backend("encodec", model_path=tmp_path / "model", device="cpu")
    assert loaded.spec.options["bandwidth"] == load_preset("encodec").options["bandwidth"]
    assert set(loaded.spec.options) == set(get_factory("hf").options)
    assert loaded.info.name == "hf"
    with pytest.raises(UsageError, match=r"'encodec' has no option 'band_width'.*did you mean 'bandwidth'"):
        load_backend("encodec", model_path=tmp_path / "model", device="cpu", band_width=6.0)
    with pytest.raises(UsageError, match="did you mean 'higgs'"):
        load_backend("higs")
    with pytest.raises(ModelFilesError, match=r"config\.json"):
        load_backend("higgs", model_path=tmp_path, device="cpu")


@pytest.mark.parametrize(("device", "words"), [("gpu", "expected auto, cpu, cuda or mps"), ("cuda:x", "cuda:N or mps")])
def test_a_device_that_does_not_exist(device: str, words: str) -> None:
    """The possible ones are listed."""
    with pytest.raises(UsageError, match=words):
        load_backend("mulaw", device=device)


def test_several_clips_of_one_file_are_refused() -> None:
    """`split` makes a clip of each channel, and one call has one clip."""
    with pytest.raises(UsageError, match="several clips of one"):
        load_backend("mulaw", device="cpu", channel="split")
