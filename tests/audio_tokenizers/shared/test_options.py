"""shared/options.py: a value of another type is named, not guessed at."""

from __future__ import annotations

import pytest

from audio_tokenizers.base import Batching, Scalar
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.options import (
    LANES_ON_GPU,
    LANES_OPTIONS,
    ModelChoices,
    check_device_name,
    model_path_of,
    precision_of,
    refuse_mps,
    switch,
)

OPTIONS = {"model_path": "/models/a", **{name: default for name, (default, _) in LANES_OPTIONS.items()}}


def lanes_of(options: dict[str, Scalar], device: str) -> int:
    return ModelChoices.of({"model_path": "/models/a", "tf32": False, **options}, device).lanes


def test_good_values() -> None:
    """What is right comes back as it is."""
    assert model_path_of({"model_path": "/models/a"}) == "/models/a"
    assert switch({"tf32": True}, "tf32") is True
    assert switch({"tf32": False}, "tf32") is False


@pytest.mark.parametrize("value", [None, "", 3, True])
def test_a_path_that_is_none(value: Scalar) -> None:
    """`--set model_path=` is no path."""
    with pytest.raises(UsageError, match="model_path: expected a directory or hub id"):
        model_path_of({"model_path": value})


@pytest.mark.parametrize("value", [None, "yes", 1, 0.0])
def test_a_switch_that_is_none(value: Scalar) -> None:
    """YAML's true and false, not numbers or other words."""
    with pytest.raises(UsageError, match="tf32: expected true or false"):
        switch({"tf32": value}, "tf32")


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({"tf32": False}, "fp32"),
        ({"tf32": True}, "tf32"),
        ({"tf32": False, "precision": "fp32"}, "fp32"),
        ({"tf32": False, "precision": "tf32"}, "tf32"),
        ({"tf32": True, "precision": "fp32"}, "tf32"),
        ({"tf32": True, "precision": "tf32"}, "tf32"),
        ({"tf32": False, "precision": "bf16"}, "bf16"),
    ],
)
def test_precisions(options: dict[str, Scalar], precision: str) -> None:
    """The older switch, which frozen runs and presets have, means what it meant."""
    assert precision_of(options) == precision


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tf32": False, "precision": "fp16"}, "precision: expected fp32, tf32 or bf16, found 'fp16'"),
        ({"tf32": False, "precision": None}, "precision: expected fp32, tf32 or bf16, found null"),
        ({"tf32": 1}, "tf32: expected true or false"),
        ({"tf32": True, "precision": "bf16"}, "precision=bf16 and tf32=true.*one of the two"),
    ],
)
def test_precisions_that_are_none(options: dict[str, Scalar], message: str) -> None:
    """Another word, or two that contradict one another."""
    with pytest.raises(UsageError, match=message):
        precision_of(options)


def test_a_backend_without_bfloat16() -> None:
    """It says why, and takes the others."""
    assert precision_of({"tf32": True}, "no use") == "tf32"
    with pytest.raises(UsageError, match="precision: expected fp32 or tf32, found bf16: no use"):
        precision_of({"tf32": False, "precision": "bf16"}, "no use")


@pytest.mark.parametrize(
    ("value", "device", "lanes"), [(None, "cpu", 0), (None, "cuda:1", LANES_ON_GPU), (0, "cuda", 0), (4, "cpu", 4)]
)
def test_lanes(value: Scalar, device: str, lanes: int) -> None:
    """Single clips are the CPU's default, lanes a GPU's; a number decides on either."""
    assert lanes_of({"lanes": value}, device) == lanes


def test_a_run_that_is_older_than_lanes() -> None:
    """Its frozen options do not have the word, and it goes on with the single clips that it began with."""
    assert lanes_of({"tf32": False}, "cuda") == 0


@pytest.mark.parametrize("value", [-1, 1025, 1.5, True, "four"])
def test_lanes_that_are_none(value: Scalar) -> None:
    """What is no number of lanes is named."""
    with pytest.raises(UsageError, match="lanes: expected a number from 0 to 1024"):
        lanes_of({"lanes": value}, "cuda")


def test_choices() -> None:
    """What a backend's factory makes of all of them: lanes decide what it declares."""
    choices = ModelChoices.of(OPTIONS, "cpu")
    assert (choices.model_path, choices.precision, choices.dtype) == ("/models/a", "fp32", "float32")
    assert (choices.lanes, choices.batching, choices.max_batch) == (0, Batching.SINGLE, 1)
    choices = ModelChoices.of({**OPTIONS, "precision": "bf16"}, "cuda:1")
    assert (choices.precision, choices.dtype) == ("bf16", "bfloat16")
    assert (choices.lanes, choices.batching, choices.max_batch) == (LANES_ON_GPU, Batching.LANES, LANES_ON_GPU)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "mps:0", "CPU"])
def test_devices_that_are_none(name: str) -> None:
    """cpu, cuda, cuda:N and mps, and nothing that torch would fail on later."""
    for good in ("cpu", "cuda", "cuda:12", "mps"):
        check_device_name(good)
    with pytest.raises(UsageError, match="expected cpu, cuda, cuda:N or mps"):
        check_device_name(name)
    with pytest.raises(UsageError, match="expected cpu, cuda, cuda:N or mps"):
        ModelChoices.of(OPTIONS, name)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_macs_gpu_computes_in_float32(precision: str) -> None:
    """It has no TF32, and bfloat16 depends on its generation and macOS. Lanes are for who asks for them."""
    assert ModelChoices.of(OPTIONS, "mps").lanes == 0
    assert ModelChoices.of({**OPTIONS, "lanes": 4}, "mps").lanes == 4
    with pytest.raises(UsageError, match=rf"precision={precision}: a Mac's GPU \(mps\) is used with fp32 only"):
        ModelChoices.of({**OPTIONS, "precision": precision}, "mps")


def test_what_does_not_run_on_a_macs_gpu() -> None:
    """It says so, and runs elsewhere."""
    refuse_mps("cuda:1", "it runs on cpu and cuda")
    with pytest.raises(UsageError, match="device 'mps': it runs on cpu and cuda"):
        refuse_mps("mps", "it runs on cpu and cuda")
