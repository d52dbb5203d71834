"""jobs/taste/settings.py: defaults with reasons, and messages for what is no setting."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from audio_tokenizers.errors import UsageError
from jobs.taste.settings import DEFAULTS, Settings, read_settings


def test_defaults_are_those_of_the_recipe() -> None:
    """AdamW at 1e-4 with decay 1e-3, batches of 4, 10 epochs, clipping at 1, float32, all of the language model frozen."""
    settings = read_settings(None)
    assert (settings.learning_rate, settings.weight_decay, settings.clip_norm) == (1e-4, 1e-3, 1.0)
    assert (settings.batch_size, settings.epochs, settings.precision, settings.fusion) == (4, 10, "float32", "seed")
    assert settings.frozen_parts == ("stack", "tables", "head")
    assert set(Settings.__struct_fields__) == {
        line.split(":")[0] for line in DEFAULTS.read_text().splitlines() if line[:1].isalpha()
    }


def test_a_file_and_the_command_line_change_them(tmp_path: Path) -> None:
    """The command line wins; what neither names stays."""
    path = tmp_path / "taste.yaml"
    path.write_text("epochs: 3\nfreeze: [stack]\nlearning_rate: 1\n")
    settings = read_settings(path, {"epochs": 5, "model_path": None})
    assert (settings.epochs, settings.frozen_parts, settings.learning_rate, settings.model_path) == (
        5,
        ("stack",),
        1.0,
        None,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "'learning_rat' is no setting of a training: did you mean 'learning_rate'"),
        ("epochs: 0", "Expected `int` >= 1 - at `$.epochs`"),
        ("freeze: everything", "freeze"),
        ("subset_ratio: 1.5", "subset_ratio"),
        ("epochs: [", "expected YAML"),
        ("- 1", "found list"),
    ],
)
def test_what_is_no_setting(tmp_path: Path, text: str, message: str) -> None:
    """One message that names the file and the setting."""
    path = tmp_path / "taste.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_what_may_change_when_a_training_goes_on() -> None:
    """More epochs do; another learning rate would be another training."""
    settings = read_settings(None)
    before = settings.plain()
    assert msgspec.structs.replace(settings, epochs=20, checkpoint_steps=7).differences(before) == []
    changed = msgspec.structs.replace(settings, learning_rate=1e-3, freeze=("stack",))
    assert changed.differences(before) == ["freeze: ['stack'], and llm before", "learning_rate: 0.001, and 0.0001 before"]
