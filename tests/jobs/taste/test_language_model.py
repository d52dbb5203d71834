"""jobs/taste/language_model.py: llm.pt is loaded strictly where it is used, and not at all elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.tiny_speech_lm import TINY, build_speech_lm, state_dict

from audio_tokenizers.errors import ModelFilesError
from jobs.taste.language_model import LanguageModel, load_language_model
from jobs.taste.lm_files import open_language_model


def load(folder: Path, state: dict[str, object]) -> LanguageModel:
    build_speech_lm(folder)
    torch.save(state, folder / "llm.pt")
    return load_language_model(open_language_model(folder))


def test_each_tensor_has_its_place(tmp_path: Path) -> None:
    """The state dict of what was loaded is the file's, but for the parts that TASTE does without."""
    state = state_dict()
    found = load(tmp_path, dict(state)).state_dict()
    assert set(found) == {
        name for name in state if name.partition(".")[0] in ("llm", "llm_embedding", "speech_embedding", "llm_decoder")
    }
    assert all(torch.equal(found[name], state[name]) for name in found)


def test_what_a_trainer_adds_is_accepted(tmp_path: Path) -> None:
    """CosyVoice's own trainer saves the epoch and the step beside the tensors; other parts may lack."""
    state = {name: tensor for name, tensor in state_dict().items() if not name.startswith("text_")}
    assert load(tmp_path, {**state, "epoch": 3, "step": 1200}).units == TINY.units


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"llm.encoders.1.self_attn.pos_bias_u": None}, "1 missing: llm.encoders.1.self_attn.pos_bias_u"),
        ({"llm.encoders.2.norm1.weight": torch.ones(16)}, "1 unknown: llm.encoders.2.norm1.weight"),
        (
            {"speech_embedding.weight": torch.ones(31, 16)},
            r"1 of another shape: speech_embedding.weight \[31, 16\] instead of \[32, 16\]",
        ),
        ({"llm_decoder.bias": None}, "1 missing: llm_decoder.bias"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """A tensor that is missing, left over or of another shape."""
    state = {name: value for name, value in {**state_dict(), **change}.items() if value is not None}
    with pytest.raises(ModelFilesError, match=message):
        load(tmp_path, state)


def test_another_file_is_named(tmp_path: Path) -> None:
    """A cut download is one message."""
    build_speech_lm(tmp_path)
    (tmp_path / "llm.pt").write_bytes((tmp_path / "llm.pt").read_bytes()[:5000])
    with pytest.raises(ModelFilesError, match=r"llm\.pt: "):
        load_language_model(open_language_model(tmp_path))
