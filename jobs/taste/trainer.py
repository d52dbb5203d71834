"""The training itself: steps, tests and checkpoints. Kill it at any instant: the same call resumes with the same losses."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audio_tokenizers.shared.torch_device import fix_arithmetic
from jobs.fileops import FileOps, write_atomically
from jobs.taste.batches import read_ahead
from jobs.taste.checkpoint import ELSEWHERE, ON_A_SHARE, Checkpoint, read_checkpoint, write_checkpoint
from jobs.taste.corpus import Corpus
from jobs.taste.curves import Board, draw_losses
from jobs.taste.endings import LossNotFiniteError
from jobs.taste.metrics import Totals, csv_text
from jobs.taste.model import Batch, Scores, Taste
from jobs.taste.ranks import Ranks
from jobs.taste.sampling import epoch_steps
from jobs.taste.settings import Settings
from jobs.taste.status import Status, other_training, write_status

__all__ = ["Parts", "Trainer"]

log = logging.getLogger("tar2tokens")

METRICS = "metrics.csv"
NAMES_IN_MESSAGE = 8
LOG_SECONDS = 30.0
STATUS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The clips of a training, and of its tests, which may be of another corpus."""

    corpus: Corpus
    train: Sequence[int]
    test_corpus: Corpus
    test: Sequence[int]


@dataclass(slots=True)
class Trainer:
    """One training in one folder. All ranks make the same calls; rank 0 writes."""

    model: Taste
    settings: Settings
    parts: Parts
    folder: Path
    device: str
    llm_sha256: str
    ranks: Ranks = field(default_factory=Ranks)
    stop: Callable[[], bool] = lambda: False
    on_step: Callable[[int, float], None] = lambda _step, _loss: None
    """Called with each step's number, from 1, and its loss."""
    ops: FileOps = field(default_factory=FileOps)
    step: int = 0
    epoch: int = 0
    in_epoch: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: Totals = field(init=False)
    _optimizer: torch.optim.AdamW = field(init=False)
    _saved: tuple[int, int] | None = None
    _logged: float = 0.0
    _told: float = 0.0
    _steps: int = 0
    """Of the current epoch."""
    _loss: float | None = None
    """Of the last step."""
    _fingerprint: str = field(init=False)
    """Of the clips (Checkpoint.corpus)."""

    def __post_init__(self) -> None:
        """Raises UsageError if the folder holds another training."""
        self.totals = Totals(self.model.lm.units)
        tested = ON_A_SHARE if self.parts.test_corpus is self.parts.corpus else ELSEWHERE
        self._fingerprint = self.parts.corpus.fingerprint() + tested
        self._optimizer = torch.optim.AdamW(
            list(self.model.trained().values()), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        checkpoint = read_checkpoint(self.folder)
        if checkpoint is not None:
            self._go_on(checkpoint)

    def run(self) -> bool:
        """Train until the last epoch, or until `stop`; whether it came to the end. Raises LossNotFiniteError on NaN."""
        board = Board(self.folder, self.step) if self.ranks.rank == 0 else None
        fix_arithmetic(tf32=self.settings.precision == "tf32")
        self._write_status()
        try:
            while self.epoch < self.settings.epochs:
                if not self._run_epoch(board):
                    self._save()
                    return False
            self._write_results()
        finally:
            if board is not None:
                board.close()
        return True

    def _run_epoch(self, board: Board | None) -> bool:
        train = np.asarray(self.parts.train)
        lengths = self.parts.corpus.texts[train] + self.parts.corpus.units[train]
        settings = self.settings
        steps = epoch_steps(lengths, settings.batch_size, settings.bucket_batches, settings.seed, self.epoch)
        self._steps = len(steps)
        clips = [train[places].tolist() for places in steps[self.in_epoch :]]
        chunks = [self._chunks(self.ranks.share(each)) for each in clips]
        with contextlib.closing(read_ahead(self.parts.corpus, itertools.chain.from_iterable(chunks))) as batches:
            for numbers, parts in zip(clips, chunks, strict=True):
                loss, stopped = self._train_step(numbers, itertools.islice(batches, len(parts)))
                self._tell(loss, board)
                if self.step % settings.checkpoint_steps == 0:
                    self._save()
                if stopped:
                    return False
        if (tested := self._test()) is None:
            return False
        self._end_epoch(tested, board)
        return True

    def _chunks(self, numbers: Sequence[int]) -> list[Sequence[int]]:
        """A rank's clips of a step as the device gets them."""
        size = self.settings.micro_batch_size or max(1, len(numbers))
        return [numbers[begin : begin + size] for begin in range(0, len(numbers), size)]

    def _train_step(self, numbers: Sequence[int], batches: Iterator[Batch]) -> tuple[float, bool]:
        """One step of the optimizer; its loss, and whether any rank wants to stop."""
        self._seed()
        self.model.train()
        positions = int((self.parts.corpus.units[np.asarray(numbers)] + 1).sum())
        parameters = list(self.model.trained().values())
        self._optimizer.zero_grad(set_to_none=True)
        shared = torch.zeros(2, dtype=torch.float64, device=self.device)
        broken: list[str] = []
        for batch in batches:
            scores = self._scores(batch)
            (scores.losses.sum() / positions).backward()
            shared[0] += scores.losses.detach().double().sum()
            broken += [name for name, fine in zip(batch.names, scores.losses.isfinite().tolist(), strict=True) if not fine]
            if not broken:
                self.totals.add(scores)
        shared[1] = float(self.stop())
        self.ranks.add_up(shared)
        loss = shared[0].item() / positions
        self.ranks.add_up_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm)
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            self._refuse(loss, broken, numbers)
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * min(1.0, (self.step + 1) / max(1, self.settings.warmup_steps))
        self._optimizer.step()
        self.step += 1
        self.in_epoch += 1
        return loss, shared[1].item() > 0

    def _seed(self) -> None:
        """Dropout depends on the seed, the step and the rank alone, whatever was drawn before."""
        state = np.random.SeedSequence([self.settings.seed, self.step, self.ranks.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def _scores(self, batch: Batch) -> Scores:
        on_device = batch.to(self.device)
        kind = self.device.partition(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.settings.precision == "bf16"):
            scores: Scores = self.model(on_device)
        return scores

    def _refuse(self, loss: float, broken: Sequence[str], numbers: Sequence[int]) -> None:
        names = list(broken)
        if not names:
            names = [f"{audio} of {tar}" for tar, audio, _ in (self.parts.corpus.names[number] for number in numbers)]
        raise LossNotFiniteError(
            f"step {self.step + 1}: the loss is {loss:.4g} and its gradient is not finite; clips: "
            f"{', '.join(names[:NAMES_IN_MESSAGE])}{', ...' if len(names) > NAMES_IN_MESSAGE else ''}. The last checkpoint "
            "stays: look at these clips, or begin in another folder with a lower learning_rate, or with warmup_steps"
        )

    def _test(self) -> Totals | None:
        """Over all test clips, summed over all ranks; None where a rank wants to stop."""
        self.model.eval()
        test = np.asarray(self.parts.test, np.int64)
        order = test[np.argsort(self.parts.test_corpus.units[test], kind="stable")].tolist()
        size = self.settings.batch_size
        batches = [order[begin : begin + size] for begin in range(0, len(order), size)][self.ranks.rank :: self.ranks.world]
        totals, stopped = Totals(self.model.lm.units), False
        with contextlib.closing(
            read_ahead(self.parts.test_corpus, itertools.chain.from_iterable(map(self._chunks, batches)))
        ) as found:
            for batch in found:
                with torch.inference_mode():
                    totals.add(self._scores(batch))
                if stopped := self.stop():
                    break
        shared = torch.cat((totals.values, torch.tensor([float(stopped)], dtype=torch.float64))).to(self.device)
        self.ranks.add_up(shared)
        return None if shared[-1].item() else Totals(self.model.lm.units, shared[:-1].cpu())

    def _end_epoch(self, tested: Totals, board: Board | None) -> None:
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        for part, totals in (("train", self._summed()), ("test", tested)):
            row |= {f"{part}_{name}": value for name, value in totals.measures().items()}
        self.rows.append(row)
        self.epoch, self.in_epoch, self.totals = self.epoch + 1, 0, Totals(self.model.lm.units)
        words = (
            f"{part} loss {row[f'{part}_loss']:.4f} | {part} acc {row[f'{part}_accuracy']:.4f}"
            for part in ("train", "test")
            if f"{part}_loss" in row
        )
        if board is not None:
            log.info("Epoch %02d | %s", self.epoch, " | ".join(words))
            board.add({name.replace("_", "/", 1): value for name, value in row.items() if "_" in name}, self.step)
        self._save()
        self._write_results()

    def _summed(self) -> Totals:
        values = self.totals.values.to(self.device, copy=True)  # what each rank has goes on growing
        self.ranks.add_up(values)
        return Totals(self.model.lm.units, values.cpu())

    def _tell(self, loss: float, board: Board | None) -> None:
        self._loss = loss
        self.on_step(self.step, loss)
        if board is None:
            return
        if time.monotonic() - self._told > STATUS_SECONDS:
            self._write_status()
        board.add({"step/loss": loss, "step/learning_rate": self._optimizer.param_groups[0]["lr"]}, self.step)
        if time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            log.info("epoch %d, step %d of %d: loss %.4f", self.epoch + 1, self.in_epoch, self._steps, loss)

    def _save(self) -> None:
        totals = self._summed()  # by all ranks
        if self.ranks.rank == 0 and self._saved != (self.step, self.epoch):
            checkpoint = Checkpoint(
                settings=self.settings.plain(),
                corpus=self._fingerprint,
                llm_sha256=self.llm_sha256,
                text_width=self.parts.corpus.text_width,
                speech_width=self.parts.corpus.speech_width,
                step=self.step,
                epoch=self.epoch,
                in_epoch=self.in_epoch,
                totals=totals.values,
                rows=self.rows,
                weights={name: value.detach() for name, value in self.model.trained().items()},
                optimizer=self._optimizer.state_dict(),
            )
            write_checkpoint(self.folder, checkpoint, self.ops)
        self._saved = (self.step, self.epoch)
        self._write_status()
        self.ranks.wait(self.device)

    def _write_status(self) -> None:
        if self.ranks.rank:
            return
        self._told = time.monotonic()
        last = self.rows[-1] if self.rows else {}
        losses = {part: last.get(f"{part}_loss", math.nan) for part in ("train", "test")}
        status = Status(
            settings=self.settings.plain(),
            epochs=self.settings.epochs,
            epoch=self.epoch,
            step=self.step,
            saved=self._saved[0] if self._saved is not None else 0,
            in_epoch=self.in_epoch,
            steps=self._steps,
            loss=self._loss,
            losses={part: loss for part, loss in losses.items() if math.isfinite(loss)},
        )
        write_status(self.folder, status)

    def _write_results(self) -> None:
        """What people look at; made from the checkpoint's rows, so that it is never ahead of it."""
        if self.ranks.rank == 0 and self.rows:
            write_atomically(self.ops, self.folder / METRICS, csv_text(self.rows).encode())
            draw_losses(self.rows, self.folder)

    def _go_on(self, checkpoint: Checkpoint) -> None:
        differences = self.settings.differences(checkpoint.settings)
        (clips, *tested), (now, where) = checkpoint.corpus.split(" ", 1), self._fingerprint.split(" ", 1)
        if clips != now:
            differences.append("--data: other clips, or other recipes")
        elif tested not in ([], [where]):
            differences.append(f"--test-data: {where}, and {tested[0]} before")
        if checkpoint.llm_sha256 != self.llm_sha256:
            differences.append("model_path: another llm.pt")
        if differences:
            raise other_training(self.folder, differences)
        trained = self.model.trained()
        with torch.no_grad():
            for name, value in checkpoint.weights.items():
                trained[name].copy_(value)
        self._optimizer.load_state_dict(checkpoint.optimizer)
        self.step, self.epoch, self.in_epoch = checkpoint.step, checkpoint.epoch, checkpoint.in_epoch
        self.rows = checkpoint.rows
        if self.ranks.rank == 0:
            self.totals = Totals(self.model.lm.units, checkpoint.totals)
        self._saved = (self.step, self.epoch)
