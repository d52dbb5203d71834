"""audio_tokenizers/yaml_words.py: where a YAML file is wrong, in one line."""

from __future__ import annotations

import pytest
import yaml

from audio_tokenizers.yaml_words import describe_yaml_error


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
