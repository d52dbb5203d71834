"""WebDataset tars given to tools.pack: they are checked and listed, not packed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted
from jobs.commands import writing_to
from jobs.text_rules import TextRules
from tools.common.tar_finding import write_tar_list
from tools.packing.folder import with_progress
from tools.packing.sources import check_ready_tar

__all__ = ["list_ready_tars"]


def list_ready_tars(tars: Sequence[Path], output_dir: Path, workers: int, texts: TextRules) -> str:
    """Check WebDataset tars, write a list of them in place, and return a summary."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            counts = list(
                with_progress(pool.map(partial(check_ready_tar, texts=texts), tars), "looking through tars", "tar")
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    clips, without = sum(count.clips for count in counts), sum(count.without_text for count in counts)
    if not clips:
        raise UsageError(f"{tars[0].parent}: expected tars with audio in them, found none in {counted(len(tars), 'tar')}")
    with writing_to(output_dir):
        write_tar_list(output_dir / "tars.txt", tars)
    return (
        f"WebDataset tars already, which stay where they are: {counted(len(tars), 'tar')} of {counted(clips, 'clip')}"
        f"{f', {without:,} of them without text' if without else ''}\nThe list of tars: {output_dir.absolute() / 'tars.txt'}"
    )
