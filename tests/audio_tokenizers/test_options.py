"""audio_tokenizers/options.py: a value of another type is named, not guessed at."""

from __future__ import annotations

import pytest

from audio_tokenizers.errors import UsageError
from audio_tokenizers.options import LANES_ON_GPU, lanes_of, model_path_of, switch


def test_good_values() -> None:
    """What is right comes back as it is."""
    assert model_path_of({"model_path": "/models/a"}) == "/models/a"
    assert switch({"tf32": True}, "tf32") is True
    assert switch({"tf32": False}, "tf32") is False


@pytest.mark.parametrize("value", [None, "", 3, True])
def test_a_path_that_is_none(value: object) -> None:
    """`--set model_path=` is no path."""
    with pytest.raises(UsageError, match="model_path: expected a directory or hub id"):
        model_path_of({"model_path": value})


@pytest.mark.parametrize("value", [None, "yes", 1, 0.0])
def test_a_switch_that_is_none(value: object) -> None:
    """YAML's true and false, not numbers or other words."""
    with pytest.raises(UsageError, match="tf32: expected true or false"):
        switch({"tf32": value}, "tf32")


@pytest.mark.parametrize(
    ("value", "device", "lanes"), [(None, "cpu", 0), (None, "cuda:1", LANES_ON_GPU), (0, "cuda", 0), (4, "cpu", 4)]
)
def test_lanes(value: object, device: str, lanes: int) -> None:
    """Single clips are the CPU's default, lanes a GPU's; a number decides on either."""
    assert lanes_of({"lanes": value}, device) == lanes


def test_a_run_that_is_older_than_lanes() -> None:
    """Its frozen options do not have the word, and it goes on with the single clips that it began with."""
    assert lanes_of({"tf32": False}, "cuda") == 0


@pytest.mark.parametrize("value", [-1, 1025, 1.5, True, "four"])
def test_lanes_that_are_none(value: object) -> None:
    """What is no number of lanes is named."""
    with pytest.raises(UsageError, match="lanes: expected a number from 0 to 1024"):
        lanes_of({"lanes": value}, "cuda")
