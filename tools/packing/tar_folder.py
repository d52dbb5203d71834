"""The output folder of tools.pack: its plan, a record per finished shard, and at the end the list of tars.

tars/NAME-000000.tar ...   the shards
tars/tars.txt              written last: what hpc.submit takes
tars/left_out.jsonl        what no tar holds, with the reason
tars/.pack/plan.json       what decides the bytes; another plan is refused
tars/.pack/000000.json     what shard 0 holds, written once it stands
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from jobs.any_json import decode_json
from jobs.fileops import FileOps, write_atomically
from jobs.text_encoding import AUTO
from jobs.text_rules import TEXT_KEYS
from tools.common.tar_finding import write_tar_list
from tools.common.whole_files import sweep
from tools.packing.pairs import PACKED, LeftOut
from tools.packing.shards import Shard

__all__ = ["PackPlan", "TarFolder"]


class PackPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the bytes of the tars."""

    format: int = 1
    source: str
    """The base name of the tars."""
    fingerprint: str
    """Of what the source listed."""
    items: int
    max_bytes: int
    max_clips: int | None
    exclude: tuple[str, ...]
    without_text: bool
    subset_ratio: float = 1.0
    text_keys: tuple[str, ...] = TEXT_KEYS
    text_encoding: str = AUTO


WORDS = {
    "source": "the source",
    "fingerprint": "the source's files",
    "items": "the number of its clips",
    "max_bytes": "--max-size",
    "max_clips": "--max-clips",
    "exclude": "--exclude",
    "without_text": "--without-text",
    "subset_ratio": "--subset-ratio",
    "text_keys": "--text-key",
    "text_encoding": "--text-encoding",
    "format": "the version of tar2tokens",
}


class TarFolder:
    """An output folder of tools.pack. It holds one data set."""

    def __init__(self, path: Path, ops: FileOps | None = None) -> None:
        self.path = path
        self._ops = ops or FileOps()
        self.state = path / PACKED
        self.list_file = path / "tars.txt"
        self.left_out_file = path / "left_out.jsonl"

    @property
    def _plan_file(self) -> Path:
        return self.state / "plan.json"

    def _shard_file(self, number: int) -> Path:
        return self.state / f"{number:06}.json"

    def tar(self, plan: PackPlan, number: int) -> Path:
        """The path of a shard."""
        return self.path / f"{plan.source}-{number:06}.tar"

    def check_is_free(self) -> None:
        """Raise UsageError if the folder holds tars that tools.pack did not make."""
        if self._plan_file.exists() or not self.path.exists():
            return
        if not self.path.is_dir():
            raise UsageError(f"--output-dir {self.path}: expected a folder, found a file")
        strangers = sorted(path.name for path in self.path.iterdir() if path.suffix == ".tar" or path.name == "tars.txt")
        if strangers:
            raise UsageError(
                f"--output-dir {self.path}: expected a new folder or one of an earlier {called('tools.pack')}, found "
                f"{strangers[0]}: choose another"
            )

    def freeze(self, plan: PackPlan) -> None:
        """Store `plan`, or compare it with the stored one. Raises UsageError that names the differences."""
        try:
            frozen = decode_json(self._plan_file.read_bytes(), PackPlan)
        except FileNotFoundError:
            write_atomically(self._ops, self._plan_file, msgspec.json.format(msgspec.json.encode(plan)))
            return
        except msgspec.DecodeError as error:
            raise UsageError(f"{self._plan_file}: not a plan of this version: {error}: use another --output-dir") from None
        differing = [words for field, words in WORDS.items() if getattr(frozen, field) != getattr(plan, field)]
        if differing:
            raise UsageError(
                f"--output-dir {self.path}: its tars were begun with another plan; different: {', '.join(differing)}. Give "
                "the same as then, or another --output-dir"
            )

    def finished(self, plan: PackPlan) -> list[Shard]:
        """The finished shards, up to the first missing one."""
        sweep(self.path)
        shards: list[Shard] = []
        while True:
            try:
                shard = decode_json(self._shard_file(len(shards)).read_bytes(), Shard)
                if shard.tar and self.tar(plan, len(shards)).stat().st_size != shard.bytes:
                    return shards
            except (FileNotFoundError, msgspec.DecodeError):
                return shards
            shards.append(shard)

    def keep(self, number: int, shard: Shard) -> None:
        """Record a finished shard."""
        write_atomically(self._ops, self._shard_file(number), msgspec.json.encode(shard))

    def is_listed(self) -> bool:
        """Whether an earlier command finished."""
        return self.list_file.exists()

    def finish(self, shards: Sequence[Shard], left_out: Iterable[LeftOut]) -> None:
        """Write the list of what was left out, then the list of tars."""
        lines = [msgspec.json.encode(item) + b"\n" for item in left_out]
        write_atomically(self._ops, self.left_out_file, b"".join(lines))
        write_tar_list(self.list_file, [self.path / shard.tar for shard in shards if shard.tar], self._ops)
