"""jobs/recipe_options.py: what decides the bytes is asked for in the same words by each command."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.main import get_command

from audio_tokenizers.base import Scalar
from audio_tokenizers.errors import UsageError
from hpc.submit import submit
from jobs.option_struct import option_words
from jobs.recipe_options import BackendOptions, parse_settings
from jobs.tokenize_tar import tokenize_tar


def test_commands_ask_in_the_same_words() -> None:
    """Every option of the recipe has the same names and the same help in both."""
    found = []
    for function in (submit, tokenize_tar):
        app = typer.Typer()
        app.command()(function)
        params: list[Any] = get_command(app).params
        found.append({one.name: (one.opts, one.secondary_opts, one.help) for one in params})
    for name in BackendOptions.__struct_fields__:
        assert found[0][name] == found[1][name]


def test_weights_are_an_option_of_the_backend() -> None:
    """--model-path is short for --set model_path=, and wins over it."""
    asked = BackendOptions(backend="x", settings={"tf32": True, "model_path": "a"})
    assert asked.options == {"tf32": True, "model_path": "a"}
    assert BackendOptions(backend="x", settings=asked.settings, model_path="b").options == {"tf32": True, "model_path": "b"}


def test_values_of_settings_are_scalars_of_yaml() -> None:
    """Numbers, booleans, null and text, with spaces and further equal signs."""
    found = parse_settings(["a=1", "b = true", "c=x=y z", "d=", "e=1.5", "f='07'", "g=null", "model_path=/a b/c"])
    expected = {"a": 1, "b": True, "c": "x=y z", "d": None, "e": 1.5, "f": "07", "g": None, "model_path": "/a b/c"}
    assert found == expected


@pytest.mark.parametrize("setting", ["a", "=1", "", " =1", "a=[1]", "a={b: 1}", "a=[", "a='", "a=2020-01-01", "a=!x y"])
def test_settings_that_are_none_are_refused(setting: str) -> None:
    """What is no option=value is bad usage, and never a traceback of the parser."""
    with pytest.raises(UsageError, match="expected option=value") as caught:
        parse_settings([setting])
    assert repr(setting) in str(caught.value)


def test_settings_as_words() -> None:
    """What --set was given is given again, quoted where it has to be."""
    settings: dict[str, Scalar] = {
        "a": 1,
        "b": True,
        "c": "x=y z",
        "d": None,
        "e": 1.5,
        "f": "07",
        "g": "é: [",
        "h": "x" * 200,
    }
    words = option_words(BackendOptions(backend="x", settings=settings), BackendOptions(backend="x"))
    assert words[::2] == ["--set"] * 8
    assert parse_settings(words[1::2]) == settings
