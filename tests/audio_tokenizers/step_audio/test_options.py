"""audio_tokenizers/step_audio/options.py: options become choices, fields and versions; test_step_audio.py has the rest."""

from __future__ import annotations

import pytest

from audio_tokenizers.errors import UsageError
from audio_tokenizers.step_audio.backend import FACTORY
from audio_tokenizers.step_audio.options import check_options, fields_of, versions

DEFAULTS = {name: default for name, (default, _) in FACTORY.options.items()}


def test_options_become_choices() -> None:
    """The older word for TF32 is the newer one, and a number may be whole."""
    choices = check_options(DEFAULTS | {"tf32": True, "dither": 1})
    assert (choices.precision, choices.tf32, choices.dither, choices.trim) == ("tf32", True, 1.0, False)
    with pytest.raises(UsageError, match="dither: expected a number from 0"):
        check_options(DEFAULTS | {"dither": -1})


def test_fields_follow_the_options() -> None:
    """More keys are asked for; of a trimmed clip nothing is known of the length."""
    assert [field.name for field in fields_of(check_options(DEFAULTS))] == ["tokens"]
    more = fields_of(check_options(DEFAULTS | {"raw_codes": True, "shifted_ids": True, "trim": True}))
    assert [field.name for field in more] == ["tokens", "token_ids", "vq02", "vq06"]
    assert {field.samples_per_item for field in more} == {None}


def test_the_recipe_has_the_packages_that_decide() -> None:
    """Whichever makes vq06, onnxruntime or s3tokenizer, and librosa only where it trims."""
    plain, trimming = check_options(DEFAULTS), check_options(DEFAULTS | {"trim": True})
    assert {"onnxruntime", "s3tokenizer", "librosa"} & set(versions(plain, onnx=True)) == {"onnxruntime"}
    assert {"onnxruntime", "s3tokenizer", "librosa"} & set(versions(trimming, onnx=False)) == {"s3tokenizer", "librosa"}
