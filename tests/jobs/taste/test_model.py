"""jobs/taste/model.py: sequences without padding inside, the loss's positions, what trains, and decoding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support.taste_reference import batch_of, plain_loss
from support.tiny_speech_lm import TINY, UNEQUAL, Sizes, build_speech_lm

from jobs.taste.language_model import LanguageModel, load_language_model
from jobs.taste.lm_files import LmFiles, StackShape, open_language_model
from jobs.taste.model import Batch, Part, Taste

ALL: tuple[Part, ...] = ("stack", "tables", "head")
SPEECH = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_speech_lm(tmp_path_factory.mktemp("taste") / "model")


def taste(folder: Path, frozen: Sequence[Part] = ALL, *, text_width: int = TINY.text_width) -> Taste:
    torch.manual_seed(1)
    model = Taste(load_language_model(open_language_model(folder)), text_width, SPEECH, "seed")
    model.freeze(frozen)
    return model


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alone(batch: Batch, row: int) -> Batch:
    """One utterance of a batch, without any padding."""
    text, frames = batch.text_lengths[row], batch.frames[row]
    return Batch(
        [batch.names[row]],
        batch.text[row : row + 1, :text],
        [text],
        batch.mid[row : row + 1, :frames],
        batch.final[row : row + 1, :frames],
        [frames],
        [batch.units[row]],
    )


def test_the_loss_does_not_depend_on_batch_mates(folder: Path) -> None:
    """A batch's loss is the sum over its utterances alone, whatever the lengths of text, speech and units."""
    model = taste(folder).eval()
    batch = batch_of(random(), [7, 2, 5, 1], [30, 9, 44, 12], [11, 25, 1, 6])
    together = model(batch)
    each = [model(alone(batch, row)) for row in range(4)]
    assert together.positions == sum(one.positions for one in each) == 11 + 25 + 1 + 6 + 4
    for row, one in enumerate(each):
        assert abs(together.losses[row].item() - one.losses.item()) < 1e-5 * one.positions
        assert abs(one.losses.item() / one.positions - plain_loss(model, alone(batch, row)).item()) < 2e-5
    mean = sum(one.losses.item() for one in each) / together.positions
    assert abs(together.losses.sum().item() / together.positions - mean) < 1e-5
    assert together.in_top == sum(one.in_top for one in each)


@pytest.mark.parametrize("sizes", [TINY, UNEQUAL], ids=["tiny", "unequal"])
def test_forward_and_five_steps_equal_the_plain_computation(tmp_path: Path, sizes: Sizes) -> None:
    """Where texts are equally long: the same loss, and the same weights after five steps of AdamW with clipping.

    Decay and clipping are large here, or they would not show. The bias of the keys is left out: softmax ignores it, so that
    its gradient is rounding noise, which Adam blows up.
    """
    folder = build_speech_lm(tmp_path / "model", sizes)
    models = [taste(folder, text_width=sizes.text_width).eval() for _ in range(2)]
    optimizers = [torch.optim.AdamW(model.trained().values(), lr=3e-3, weight_decay=0.3) for model in models]
    for step in range(5):
        batch = batch_of(random(step), [4, 4, 4], [20, 31, 8], [9, 3, 14], text_width=sizes.text_width, most=sizes.units)
        scores = models[0](batch)
        losses = [scores.losses.sum() / scores.positions, plain_loss(models[1], batch)]
        assert abs(losses[0].item() - losses[1].item()) < 2e-5
        for model, optimizer, loss in zip(models, optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.trained().values(), 0.5)
            optimizer.step()
    for name, parameter in models[0].trained().items():
        if name != "aggregator.k_proj.bias":
            assert (parameter - models[1].trained()[name]).abs().max().item() < 5e-5, name


def test_targets_begin_at_the_task_mark_and_end_with_the_end(folder: Path) -> None:
    """The first unit is learned too, zero is a unit, and the end mark is the number behind the last one."""
    model = taste(folder).eval()
    batch = batch_of(random(), [3, 3], [9, 9], [2, 3])
    units = [torch.tensor([0, 0]), torch.tensor([5, 0, 7])]
    batch = Batch(batch.names, batch.text, batch.text_lengths, batch.mid, batch.final, batch.frames, units)
    assert model(batch).targets.tolist() == [0, 0, 32, 5, 0, 7, 32]


@pytest.mark.parametrize(
    ("frozen", "trained"),
    [
        (ALL, {"aggregator", "fusion", "input_proj"}),
        (("tables", "head"), {"aggregator", "fusion", "input_proj", "llm"}),
        (("stack",), {"aggregator", "fusion", "input_proj", "llm_embedding", "speech_embedding", "llm_decoder"}),
        ((), {"aggregator", "fusion", "input_proj", "llm", "llm_embedding", "speech_embedding", "llm_decoder"}),
    ],
)
def test_what_is_frozen_neither_trains_nor_drops(folder: Path, frozen: Sequence[Part], trained: set[str]) -> None:
    """The count names exactly what has a gradient, and dropout is off in a frozen stack, also in training mode."""
    model = taste(folder, frozen).train()
    assert set(model.counts()) == trained
    assert sum(model.counts().values()) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    model(batch_of(random(), [3], [9], [4])).losses.sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(model.trained())
    assert model.lm.llm.training == ("llm" in trained)


def test_full_size_count() -> None:
    """At the published sizes the trained part and the language model have the parameters that the recipe speaks of."""
    shape = StackShape(1024, 1024, 16, 4096, 14, 0.1, 0.1, 0.0)
    files = LmFiles(Path("cosyvoice.yaml"), Path("llm.pt"), shape, 512, 51866, 4096, 50)
    with torch.device("meta"):
        model = Taste(LanguageModel(files), 512, 1280, "seed")
    model.freeze(ALL)
    assert sum(model.counts().values()) == 2_101_760
    assert sum(p.numel() for p in model.lm.parameters()) == 200_505_345


def test_decoding_with_a_cache_equals_the_full_forward(folder: Path) -> None:
    """Each unit is the most likely one after all before it, and decoding stops at the end mark or at the limit."""
    model = taste(folder).eval()
    batch = batch_of(random(3), [4, 2], [20, 15], [3, 3])
    found = model.decode(batch, [25, 7])
    assert len(found[1]) <= 7
    for row, units in enumerate(found):
        one = alone(batch, row)
        forced = Batch(one.names, one.text, one.text_lengths, one.mid, one.final, one.frames, [torch.tensor(units)])
        predicted = model(forced).predicted.tolist()
        assert predicted[: len(units)] == units
        if len(units) < (25, 7)[row]:
            assert predicted[-1] == model.lm.units
    with torch.no_grad():
        model.lm.llm_decoder.bias[model.lm.units] = 1e4
    assert model.decode(batch, [25, 7]) == [[], []]


@pytest.mark.parametrize("frozen", [("stack",), ()], ids=["tables and head", "everything"])
def test_it_can_overfit(folder: Path, frozen: Sequence[Part]) -> None:
    """Eight utterances are learned by heart, to a loss below 0.1, where tables and head train as well, or all does.

    With all of a random language model frozen nothing is learned: its head has no use for what it is given.
    """
    model = taste(folder, frozen).eval()  # without dropout
    batch = batch_of(random(5), [3, 5, 4, 6, 2, 5, 4, 3], [20, 25, 18, 30, 12, 26, 22, 17], [8, 12, 9, 14, 6, 10, 9, 7])
    optimizer = torch.optim.AdamW(model.trained().values(), lr=1e-2, weight_decay=1e-3)
    loss = torch.tensor(0.0)
    for _ in range(500):
        scores = model(batch)
        loss = scores.losses.sum() / scores.positions
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.trained().values(), 1.0)
        optimizer.step()
        if loss.item() < 0.1:
            break
    assert loss.item() < 0.1
