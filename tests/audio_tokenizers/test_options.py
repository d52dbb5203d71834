"""audio_tokenizers/options.py: a value of another type is named, not guessed at."""

from __future__ import annotations

import pytest

from audio_tokenizers.errors import UsageError
from audio_tokenizers.options import model_path_of, switch


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
