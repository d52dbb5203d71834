"""shared/yaml_loading.py: where a YAML file is wrong, in one line; and all that is no YAML is one kind of error."""

from __future__ import annotations

import pytest
import yaml

from audio_tokenizers.shared.yaml_loading import describe_yaml_error, load_yaml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "line 1, column 6: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n b: 2", "line 2, column 3: mapping values are not allowed here"),
        ("a: !what 1", "line 1, column 4: could not determine a constructor for the tag '!what'"),
        ("a: \x07", "character 3: special characters are not allowed"),
    ],
)
def test_line_and_column(text: str, words: str) -> None:
    """Counted from 1, as editors do, and without a made-up name for the file."""
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.safe_load(text)
    assert describe_yaml_error(caught.value) == words


@pytest.mark.parametrize(
    "text",
    [
        *("a: 2020-13-45", "a: 0b_", "a: !!bool x", "a: !!timestamp x", b"a: \x01"),
        pytest.param("[" * 2000, marks=pytest.mark.slow, id="deep"),
    ],
)
def test_what_is_no_yaml_is_one_kind_of_error(text: str | bytes) -> None:
    """A value that PyYAML itself stumbles over ends no command in a traceback."""
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
