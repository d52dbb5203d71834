"""jobs/taste/stack.py: CosyVoice's own numbers, from weights of any widths, at once and step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_speech_lm import TINY, UNEQUAL, Sizes, build_speech_lm

from jobs.taste.language_model import LanguageModel, load_language_model
from jobs.taste.lm_files import open_language_model

GOLDEN = Path(__file__).parent / "golden" / "taste.npz"
"""Made by tests/support/make_taste_golden.py with upstream's code."""
LENGTHS = (37, 12, 1)
UNIT_LENGTHS, TEXT_LENGTHS = (11, 4, 7), (5, 9, 2)
TOLERANCE = 5e-5


@pytest.fixture(params=[("tiny", TINY), ("unequal", UNEQUAL)], ids=["tiny", "every width another, 3 heads"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LanguageModel, dict[str, torch.Tensor]]:
    """The model from its files, and what upstream computes with the same."""
    name, sizes = request.param
    with np.load(GOLDEN) as golden:
        expected = {
            key.removeprefix(f"{name}_"): torch.from_numpy(golden[key]) for key in golden if key.startswith(f"{name}_")
        }
    return load(tmp_path, sizes), expected


def load(folder: Path, sizes: Sizes) -> LanguageModel:
    return load_language_model(open_language_model(build_speech_lm(folder / "model", sizes)))


def worst(found: torch.Tensor, expected: torch.Tensor) -> float:
    return (found - expected).abs().max().item()


def test_equals_cosyvoice(case: tuple[LanguageModel, dict[str, torch.Tensor]]) -> None:
    """Each position of each sequence, whatever padding stands behind it."""
    model, expected = case
    with torch.inference_mode():
        y = model.llm(expected["x"])
        for row, length in enumerate(LENGTHS):
            assert worst(y[row, :length], expected["y"][row, :length]) < TOLERANCE
            assert worst(model.llm(expected["x"][row : row + 1, :length])[0], y[row, :length]) < 1e-5


def test_step_by_step_equals_cosyvoice(case: tuple[LanguageModel, dict[str, torch.Tensor]]) -> None:
    """A cache of keys and values gives what upstream's forward_chunk gives, one position at a time or some at once."""
    model, expected = case
    with torch.inference_mode():
        for pieces in ([1] * 37, [20, 1, 1, 15], [37]):
            cache = model.llm.start(40, "cpu")
            found = [model.llm.step(piece, cache) for piece in expected["x"][:1].split(pieces, dim=1)]
            assert worst(torch.cat(found, 1), expected["chunks"]) < TOLERANCE
            assert cache.length == 37


def test_head_and_loss_equal_cosyvoice(case: tuple[LanguageModel, dict[str, torch.Tensor]]) -> None:
    """Over the sequence that upstream builds, the logits and the mean cross-entropy are upstream's."""
    model, expected = case
    with torch.inference_mode():
        logits = model.llm_decoder(model.llm(expected["sequence"]))
    targets = torch.full(logits.shape[:2], -1)
    for row, (text, units) in enumerate(zip(TEXT_LENGTHS, UNIT_LENGTHS, strict=True)):
        start = 2 + text  # upstream has a speaker vector behind [SOS]
        assert worst(logits[row, : start + units + 1], expected["logits"][row, : start + units + 1]) < TOLERANCE
        targets[row, start : start + units] = expected["units"][row, :units]
        targets[row, start + units] = model.units
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
    assert abs(loss.item() - expected["loss"].item()) < 2e-5


def test_nothing_later_reaches_a_position(case: tuple[LanguageModel, dict[str, torch.Tensor]]) -> None:
    """Causal: another tail changes no bit before it, so padding at the end needs no mask."""
    model, expected = case
    x = expected["x"].clone()
    with torch.inference_mode():
        before = model.llm(x)[:, :12]
        x[:, 12:] = 1e3
        assert torch.equal(model.llm(x)[:, :12], before)


def test_dropout_is_where_the_config_says(tmp_path: Path) -> None:
    """In training mode the rates of the file count; a loaded model is in evaluation mode and needs no gradient."""
    model = load(tmp_path, TINY)
    x = torch.ones(1, 5, TINY.inputs)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model.llm(x), model.llm(x))
    model.train()
    assert not torch.equal(model.llm(x), model.llm(x))
