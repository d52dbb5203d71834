"""shared/config_reader.py: a value that does not fit is one message with its file, its key and what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.config_reader import ConfigReader

PATH = Path("/models/config.json")


def reader(**values: object) -> ConfigReader:
    return ConfigReader(PATH, values, advice="is this ours?")


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(ModelFilesError) as caught:
        ask()
    message = str(caught.value)
    assert message.startswith(f"{PATH}: expected ")
    assert message.endswith(": is this ours?")
    return message.removeprefix(f"{PATH}: expected ").removesuffix(": is this ours?")


@pytest.mark.parametrize(
    ("method", "right", "wrong", "expected"),
    [
        ("positive", [1, 5], [0, -1, True, 1.0, "1", [1]], "a positive integer 'key'"),
        ("positives", [[1], [3, 2]], [[], [0], [True], [1.5], 1, "12"], "a list of positive integers 'key'"),
        ("number", [0, -1.5, 6], [True, "6", [6]], "a number 'key'"),
        ("positive_numbers", [[1], [0.5, 6]], [[], [0], [True], ["1"], 1], "a list of positive numbers 'key'"),
        ("flag", [True, False], [0, 1, "true"], "true or false as 'key'"),
    ],
)
def test_values_of_each_kind(method: str, right: list[Any], wrong: list[Any], expected: str) -> None:
    """What fits is returned as it is (lists as tuples); True is no number, and nothing is converted."""
    for value in right:
        found = getattr(reader(key=value), method)("key")
        assert found == (tuple(value) if isinstance(value, list) else value)
        assert type(found) is (tuple if isinstance(value, list) else type(value))
    for value in wrong:
        shown = "true" if value is True else repr(value)
        assert (
            refusal(partial(lambda value: getattr(reader(key=value), method)("key"), value)) == f"{expected}, found {shown}"
        )
    for absent in (reader(), reader(key=None)):
        assert refusal(partial(lambda absent: getattr(absent, method)("key"), absent)) == f"{expected}, found no 'key'"


def test_defaults_stand_for_absent_keys_and_null() -> None:
    """Transformers writes null for what is not set; a value of another kind is not replaced by the default."""
    for absent in (reader(), reader(key=None)):
        assert absent.positive("key", 7) == 7
        assert absent.positives("key", (1, 2)) == (1, 2)
        assert absent.positive_numbers("key", (0.5,)) == (0.5,)
        assert absent.part("key", {}).values == {}
    assert "found '7'" in refusal(lambda: reader(key="7").positive("key", 7))
    assert "found []" in refusal(lambda: reader(key=[]).positives("key", (1, 2)))


def test_parts_say_where_they_are() -> None:
    """A key of the same name may stand in several parts."""
    inner = reader(encoder={"layers": {"width": "wide"}}).part("encoder").part("layers")
    assert refusal(lambda: inner.positive("width")) == "a positive integer 'width' in encoder.layers, found 'wide'"
    assert refusal(lambda: reader(encoder=[1]).part("encoder")) == "a mapping 'encoder', found [1]"
    assert refusal(lambda: reader().part("encoder")) == "a mapping 'encoder', found no 'encoder'"


def test_required_values() -> None:
    """One of those that are known; `default` is what an absent key means, and null is not absent here."""
    reader(kind="dac").require("kind", "dac", "encodec")
    reader().require("kind", "dac", default="dac")
    reader().require("chunk", None)
    ask = reader(kind="bert", null=None)
    assert refusal(lambda: ask.require("kind", "dac", "wavlm")) == "'kind' to be 'dac' or 'wavlm', found 'bert'"
    assert refusal(lambda: ask.require("none", True)) == "'none' to be true, found no 'none'"
    assert refusal(lambda: ask.require("none", 2, default=1)) == "'none' to be 2, found no 'none', which means 1"
    assert refusal(lambda: ask.require("null", 1, default=1)) == "'null' to be 1, found null"
    assert refusal(lambda: ask.require("kind", 1, why="clips are mono")) == "'kind' to be 1 (clips are mono), found 'bert'"


def test_unknown_keys() -> None:
    """The first few are named."""
    reader(a=1, b=2).only("a", "b", "c", what="arguments of the class")
    found = refusal(lambda: reader(**{f"k{number}": 1 for number in range(9)}).only("k0", what="arguments"))
    assert found == "only arguments, found ['k1', 'k2', 'k3', 'k4', 'k5']"


def test_codebooks_fit_in_int16() -> None:
    """A codebook of one code says nothing, and the codes of a large one would wrap around."""
    for size in (2, 32768):
        reader().check_codebook(size)
    for size in (1, 32769):
        assert "int16" in refusal(partial(lambda size: reader().check_codebook(size), size))


def test_a_reader_without_advice_ends_with_what_was_found() -> None:
    """No colon leads to nothing."""
    with pytest.raises(ModelFilesError, match=r"config\.json: expected a flag, found 3$"):
        raise ConfigReader(PATH, {}).error("a flag", 3)
