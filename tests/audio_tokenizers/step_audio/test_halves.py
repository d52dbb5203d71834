"""audio_tokenizers/step_audio/halves.py: what a GPU does, here on the CPU: vq06 in torch, vq02 over windows, few waits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from support import golden_audio
from support.tiny_step_audio import build_step_audio

from audio_tokenizers.base import Scalar, Utterance
from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.step_audio.backend import FACTORY, StepAudio

DEFAULTS = {name: default for name, (default, _) in FACTORY.options.items()}
LENGTHS = (1440, 4720, 3840, 16_000, 40_000, 8560, 100_000, 2320, 479, 480_100, 480_480)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_step_audio(tmp_path_factory.mktemp("model"))


def load(directory: Path, recipe_of: str, **changes: Scalar) -> StepAudio:
    """As the factory does for a device of the class `recipe_of`, but on the CPU."""
    info, (checkpoint, choices) = FACTORY._describe(DEFAULTS | {"model_path": str(directory)} | changes, recipe_of)
    return StepAudio(info, checkpoint, choices, "cpu")


@pytest.fixture(scope="module")
def gpu(model: Path) -> StepAudio:
    return load(model, "cuda", raw_codes=True)


@pytest.fixture(scope="module")
def cpu(model: Path) -> StepAudio:
    return load(model, "cpu", raw_codes=True)


def clips(lengths: tuple[int, ...] = LENGTHS) -> list[npt.NDArray[Any]]:
    return [golden_audio.wave(golden_audio.pcm(samples, 1000 * i)) for i, samples in enumerate(lengths)]


def test_vq06_in_torch_is_vq06_in_onnxruntime(gpu: StepAudio, cpu: StepAudio) -> None:
    """Of the same file, at all lengths: what a piece is, what is dropped, and which mel it has. vq02 but for rounding."""
    assert (gpu.info.recipe["vq06_device"], cpu.info.recipe["vq06_device"]) == ("cuda", "cpu")
    equal = []
    for ours, theirs in zip(gpu._codes(clips()), cpu._codes(clips()), strict=True):
        assert [codes.dtype for codes in ours] == [np.int16, np.int16]
        assert np.array_equal(ours[1], theirs[1])
        assert ours[0].shape == theirs[0].shape
        equal.append(ours[0] == theirs[0])
    assert np.concatenate(equal).mean() > 0.99
    assert [len(gpu._codes([wave])[0][1]) for wave in clips((479, 480_100, 480_480))] == [0, 750, 751]


def test_a_clip_has_the_same_tokens_in_any_company(gpu: StepAudio) -> None:
    """Alone, and in reverse."""
    whole = [wave for wave in clips() if len(wave) >= 1440]
    together = [values["tokens"] for values in gpu.encode_clips([Utterance(wave) for wave in whole])]
    backwards = [values["tokens"] for values in gpu.encode_clips([Utterance(wave) for wave in whole[::-1]])][::-1]
    for wave, tokens, found in zip(whole, together, backwards, strict=True):
        assert np.array_equal(tokens, found)
        assert np.array_equal(gpu.encode_clips([Utterance(wave)])[0]["tokens"], tokens)


def test_features_are_made_in_threads(model: Path, gpu: StepAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch's features would take longer than the device has work; but the noise of dither has one generator for all."""
    noisy = load(model, "cuda", dither=1.0)
    for backend, here in ((gpu, False), (noisy, True)):
        plain = backend._frontend.features
        names: list[threading.Thread] = []

        def features(wave: Any, plain: Any = plain, names: list[threading.Thread] = names) -> Any:
            names.append(threading.current_thread())
            return plain(wave)

        monkeypatch.setattr(backend._frontend, "features", features)
        first = backend._codes(clips()[:3])
        assert {name is threading.current_thread() for name in names} == {here}
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, backend._codes(clips()[:3]), strict=True))


def test_a_file_that_torch_cannot_read_stays_in_onnxruntime(model: Path, tmp_path: Path, gpu: StepAudio) -> None:
    """Another export of the same graph has other names: the codes are the same, and the recipe says where they come from."""
    import shutil

    other = Path(shutil.copytree(model, tmp_path / "other"))
    file = other / "speech_tokenizer_v1.onnx"
    graph = onnx.load(file)
    for initializer in graph.graph.initializer:
        if initializer.name == "encoders.conv1.weight":
            initializer.name = "renamed"
    for node in graph.graph.node:
        for number, name in enumerate(node.input):
            if name == "encoders.conv1.weight":
                node.input[number] = "renamed"
    onnx.save(graph, file)
    backend = load(other, "cuda", raw_codes=True)
    recipe = backend.info.recipe
    assert (recipe["vq06_device"], "vq06_rows_per_product" in recipe, "onnxruntime" in recipe) == ("cpu", False, True)
    for ours, theirs in zip(backend._codes(clips()[:4]), gpu._codes(clips()[:4]), strict=True):
        assert all(map(np.array_equal, ours, theirs))


def test_trouble_in_either_half_is_reported_as_what_it_is(gpu: StepAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running out of memory is the machine's fault on both sides, and the backend goes on with the next clip."""

    def exhaust(*_args: object) -> None:
        raise MemoryError

    assert gpu._halves is not None
    for part, name in ((gpu._halves._windows, "nearest"), (gpu._halves._vq06, "_block"), (gpu._frontend, "features")):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, exhaust)
            with pytest.raises(InfrastructureError, match="out of memory"):
                gpu.encode_clips([Utterance(clips()[0])])
    assert len(gpu.encode_clips([Utterance(clips()[0])])[0]["tokens"]) == 5


def test_streams_go_step_by_step(gpu: StepAudio) -> None:
    """Alone, in windows of one: the codes of the whole clip but for rounding."""
    wave = clips((40_000,))[0]
    assert gpu._halves is not None
    plain = gpu._halves.codes([wave])[0][0]
    streamed = [gpu.stream(wave[start : start + 5000], "live", is_final=start == 35_000) for start in range(0, 40_000, 5000)]
    assert np.mean(np.concatenate(streamed) == plain) > 0.95
