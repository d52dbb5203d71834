"""loss_curve.png, by matplotlib, and TensorBoard logs, by tensorboard: each where its package is installed."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_tokenizers.shared.extras import install_words, is_installed
from jobs.fileops import FileOps, write_atomically

__all__ = ["Board", "draw_losses", "missing_words"]

log = logging.getLogger("tar2tokens")

CURVE = "loss_curve.png"


def missing_words() -> list[str]:
    """What will not be written, and how to have it."""
    wants = {
        "matplotlib": f"{CURVE} is not drawn (metrics.csv has its figures)",
        "tensorboard": "no TensorBoard logs are written",
    }
    return [
        f"{package} is not installed: {what}; {install_words('train_taste')}"
        for package, what in wants.items()
        if not is_installed(package)
    ]


def draw_losses(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Train and test loss by epoch, into `folder`/loss_curve.png, if matplotlib is installed."""
    if not is_installed("matplotlib"):
        return
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and asks for a display
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for part, style in (("train", "o-"), ("test", "s--")):
        points = [(row["epoch"], row[f"{part}_loss"]) for row in rows if f"{part}_loss" in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=part, markersize=4)
    axes.set(xlabel="epoch", ylabel="cross-entropy per unit", title="TASTE")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png")
    write_atomically(FileOps(), folder / CURVE, image.getvalue())


class Board:
    """Scalars for TensorBoard, if tensorboard is installed; a resumed training removes what came after its checkpoint."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer: Any = None
        if is_installed("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Scalars by name, at a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
