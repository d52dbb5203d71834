"""jobs/taste/trainer.py: the same losses whatever interrupts it or how a step is cut, and trouble that stops it."""

from __future__ import annotations

import csv
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.taste_runs import make_taste_run, some_speech
from support.taste_training import losses_of, make_trainer
from support.tiny_speech_lm import build_speech_lm

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.fileops import FileOps
from jobs.taste.checkpoint import read_checkpoint
from jobs.taste.trainer import Trainer

CLIPS = 23
OPEN = {"freeze": "none", "warmup_steps": 5, "checkpoint_steps": 4}
"""With all of dropout, optimizer and schedule at work."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_speech_lm(tmp_path_factory.mktemp("taste") / "model")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_taste_run(tmp_path_factory.mktemp("taste") / "run", {"a": some_speech(CLIPS)})


@pytest.fixture
def make(model: Path, run: Path) -> Callable[..., Trainer]:
    return functools.partial(make_trainer, model, run)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.trained().items()}


def stop_after(looks: int) -> Callable[[], bool]:
    left = iter([False] * looks)
    return lambda: next(left, True)


class KilledError(Exception):
    pass


def test_a_killed_training_equals_an_undisturbed_one(tmp_path: Path, make: Callable[..., Trainer]) -> None:
    """Bit for bit: each step's loss, the metrics and the last weights, after kills between, at and behind checkpoints, and
    after signals, in training and in tests.
    """
    whole, expected, finished = losses_of(functools.partial(make, tmp_path / "whole", OPEN))
    assert finished
    assert list(expected) == list(range(1, 1 + whole.step))

    losses: dict[int, float] = {}
    for kill_at in (3, 4, 7, 9):

        def on_step(step: int, loss: float, kill_at: int = kill_at) -> None:
            if step == kill_at:
                raise KilledError
            losses[step] = loss

        trainer = make(tmp_path / "killed", OPEN, on_step=on_step)
        with pytest.raises(KilledError):
            trainer.run()
        trainer.parts.corpus.close()
    for looks in (1, 2, 3, 4, 5):
        trainer, found, finished = losses_of(functools.partial(make, tmp_path / "killed", OPEN, stop=stop_after(looks)))
        losses |= found
    trainer, found, finished = losses_of(functools.partial(make, tmp_path / "killed", OPEN))
    losses |= found
    assert finished
    assert losses == expected
    assert all(torch.equal(value, weights(trainer)[name]) for name, value in weights(whole).items())
    assert (tmp_path / "killed" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


def test_what_people_look_at(tmp_path: Path, make: Callable[..., Trainer]) -> None:
    """A line of figures per epoch for training and tests, and a training that is over does nothing when it is run again."""
    trainer, losses, _ = losses_of(
        functools.partial(make, tmp_path / "t", {"freeze": ["stack"], "learning_rate": 1e-2, "epochs": 6})
    )
    rows = list(csv.DictReader((tmp_path / "t" / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert int(rows[-1]["step"]) == trainer.step == len(losses)
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) - 0.3
    assert all(
        0 <= float(row[f"{part}_{name}"]) <= 1
        for row in rows
        for part in ("train", "test")
        for name in ("accuracy", "top5", "f1")
    )
    assert all(float(row["test_perplexity"]) > 1 for row in rows)
    _, again, finished = losses_of(
        functools.partial(make, tmp_path / "t", {"freeze": ["stack"], "learning_rate": 1e-2, "epochs": 6})
    )
    assert (again, finished) == ({}, True)


def test_how_a_step_is_cut_changes_no_loss(tmp_path: Path, make: Callable[..., Trainer]) -> None:
    """Accumulated gradients of micro-batches are those of the whole step, however long their clips are."""
    _, whole, _ = losses_of(functools.partial(make, tmp_path / "whole", {"batch_size": 6}))
    _, cut, _ = losses_of(functools.partial(make, tmp_path / "cut", {"batch_size": 6, "micro_batch_size": 4}))
    assert whole.keys() == cut.keys()
    assert max(abs(whole[step] - cut[step]) for step in whole) < 1e-4


def test_frozen_parts_stay_as_published(tmp_path: Path, make: Callable[..., Trainer]) -> None:
    """Nothing of the language model changes, and the checkpoint holds only what is trained."""
    trainer = make(tmp_path / "t")
    before = {name: value.clone() for name, value in trainer.model.lm.state_dict().items()}
    trainer.run()
    trainer.parts.corpus.close()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.lm.state_dict().items())
    checkpoint = read_checkpoint(tmp_path / "t")
    assert checkpoint is not None
    assert {name.partition(".")[0] for name in checkpoint.weights} == {"aggregator", "fusion", "input_proj"}


def test_bfloat16(tmp_path: Path, make: Callable[..., Trainer]) -> None:
    """Under autocast losses are near those of float32, and what is trained stays float32."""
    _, exact, _ = losses_of(functools.partial(make, tmp_path / "exact", {"epochs": 1}))
    trainer, rough, _ = losses_of(functools.partial(make, tmp_path / "rough", {"epochs": 1, "precision": "bf16"}))
    assert exact != rough
    assert max(abs(exact[step] - rough[step]) for step in exact) < 0.2
    assert {value.dtype for value in trainer.model.trained().values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bf16", 0.2)])
def test_on_a_gpu(tmp_path: Path, make: Callable[..., Trainer], precision: str, tolerance: float) -> None:
    """Losses are near those of a CPU, and a training that was stopped goes on."""
    _, expected, _ = losses_of(functools.partial(make, tmp_path / "cpu"))
    device = {"precision": precision}
    _, found, finished = losses_of(functools.partial(make, tmp_path / "gpu", device, device="cuda:0", stop=stop_after(6)))
    assert not finished
    _, rest, finished = losses_of(functools.partial(make, tmp_path / "gpu", device, device="cuda:0"))
    assert finished
    assert (found | rest).keys() == expected.keys()
    assert max(abs((found | rest)[step] - expected[step]) for step in expected) < tolerance


def test_warm_up(tmp_path: Path, make: Callable[..., Trainer]) -> None:
    """The rate rises in a line to its value, and stays there."""
    rates = []
    trainer = make(tmp_path / "t", {"warmup_steps": 4, "epochs": 2, "learning_rate": 0.4})
    trainer.on_step = lambda _step, _loss: rates.append(trainer._optimizer.param_groups[0]["lr"])
    trainer.run()
    trainer.parts.corpus.close()
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4] + [0.4] * (trainer.step - 4))


def test_a_loss_that_is_no_number_stops_it(tmp_path: Path, model: Path) -> None:
    """With the step and the clip; the last checkpoint stays."""
    clips = some_speech(12)
    clips[7].mid[2, 3] = float("nan")
    run = make_taste_run(tmp_path / "run", {"a": clips})
    trainer = make_trainer(model, run, tmp_path / "t", {"test_ratio": 0.0, "checkpoint_steps": 1, "batch_size": 3})
    with pytest.raises(InfrastructureError, match=r"step \d+: the loss is nan .* clips: 1/007\.wav of .*a\.tar\. The last"):
        trainer.run()
    trainer.parts.corpus.close()
    checkpoint = read_checkpoint(tmp_path / "t")
    assert checkpoint is None or all(value.isfinite().all() for value in checkpoint.weights.values())


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, make: Callable[..., Trainer]) -> None:
    """The training ends with the error, and goes on from the last whole checkpoint when there is room."""

    class Full(FileOps):
        full = False

        def write(self, fd: int, data: bytes) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(fd, data)

    ops = Full()

    def fill(step: int, _loss: float) -> None:
        ops.full = step == 8

    trainer = make(tmp_path / "t", {"checkpoint_steps": 4}, ops=ops, on_step=fill)
    with pytest.raises(OSError, match="No space left"):
        trainer.run()
    trainer.parts.corpus.close()
    again = make(tmp_path / "t", {"checkpoint_steps": 4})
    assert 4 <= again.step < 8
    assert again.run()
    again.parts.corpus.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1.0}, "learning_rate: 1.0, and 0.003 before"),
        ({"freeze": "none"}, "freeze: none, and llm before"),
    ],
)
def test_another_training_is_not_continued(
    tmp_path: Path, make: Callable[..., Trainer], changes: dict[str, Any], message: str
) -> None:
    """Other settings or other clips in the same folder are refused, and the difference is named."""
    losses_of(functools.partial(make, tmp_path / "t", {"epochs": 1}))
    with pytest.raises(UsageError, match=message):
        make(tmp_path / "t", {"epochs": 1, **changes})


def test_other_clips_are_not_continued(tmp_path: Path, make: Callable[..., Trainer], model: Path) -> None:
    """A run with other clips is another training; more epochs are the same one."""
    losses_of(functools.partial(make, tmp_path / "t", {"epochs": 1}))
    other = make_taste_run(tmp_path / "other", {"a": some_speech(CLIPS, seed=1)})
    with pytest.raises(UsageError, match="--data: other clips"):
        make_trainer(model, other, tmp_path / "t", {"epochs": 1})
    trainer, losses, finished = losses_of(functools.partial(make, tmp_path / "t", {"epochs": 2}))
    assert finished
    assert min(losses) == trainer.step // 2 + 1
