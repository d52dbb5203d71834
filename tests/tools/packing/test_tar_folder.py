"""tools/packing/tar_folder.py: an output folder holds one data set by one plan, and knows which of its shards stand."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from audio_tokenizers.errors import UsageError
from tools.packing.pairs import LeftOut
from tools.packing.shards import Shard
from tools.packing.tar_folder import PackPlan, TarFolder

PLAN = PackPlan(source="fake", fingerprint="f", items=4, max_bytes=10, max_clips=None, exclude=(), without_text=False)


def shard(number: int, size: int = 5) -> Shard:
    """What a shard of two items says."""
    return Shard(f"fake-{number:06}.tar", 2 * number, 2 * number + 2, 2, size, 4, 1.0, [])


def with_shards(path: Path, sizes: list[int]) -> TarFolder:
    """A folder with shards of these sizes that all say that they have 5 bytes."""
    folder = TarFolder(path)
    folder.freeze(PLAN)
    for number, size in enumerate(sizes):
        folder.tar(PLAN, number).write_bytes(bytes(size))
        folder.keep(number, shard(number))
    return folder


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """Tars of two plans never stand in one folder; the message says what differs."""
    folder = with_shards(tmp_path, [])
    folder.freeze(PLAN)
    other = msgspec.structs.replace(PLAN, max_bytes=20, exclude=("x",), subset_ratio=0.5)
    with pytest.raises(UsageError, match="different: --max-size, --exclude, --subset-ratio"):
        folder.freeze(other)
    with pytest.raises(UsageError, match="different: the source's files"):
        folder.freeze(msgspec.structs.replace(PLAN, fingerprint="g"))


def test_a_plan_that_is_none(tmp_path: Path) -> None:
    """A damaged plan is named, not overwritten."""
    folder = TarFolder(tmp_path)
    folder.freeze(PLAN)
    (tmp_path / ".pack" / "plan.json").write_text("{")
    with pytest.raises(UsageError, match="not a plan"):
        folder.freeze(PLAN)


def test_tars_of_somebody_else(tmp_path: Path) -> None:
    """A folder with tars that are not ours is left alone; one with other files may be used."""
    (tmp_path / "README").touch()
    TarFolder(tmp_path).check_is_free()
    (tmp_path / "x.tar").touch()
    with pytest.raises(UsageError, match=r"found x\.tar: choose another"):
        TarFolder(tmp_path).check_is_free()
    with pytest.raises(UsageError, match="expected a folder, found a file"):
        TarFolder(tmp_path / "README").check_is_free()


def test_shards_that_stand(tmp_path: Path) -> None:
    """Shards count up to the first that is missing, cut or not written down: the rest is made again."""
    assert with_shards(tmp_path / "a", [5, 5]).finished(PLAN) == [shard(0), shard(1)]
    assert with_shards(tmp_path / "b", [5, 4, 5]).finished(PLAN) == [shard(0)]
    folder = with_shards(tmp_path / "c", [5, 5])
    (tmp_path / "c" / ".pack" / "000000.json").unlink()
    assert folder.finished(PLAN) == []
    folder = with_shards(tmp_path / "d", [5, 5])
    folder.tar(PLAN, 1).unlink()
    assert folder.finished(PLAN) == [shard(0)]


def test_the_end(tmp_path: Path) -> None:
    """The list names the tars by absolute paths, and only those that are; what was left out stands beside it."""
    folder = with_shards(tmp_path, [5])
    assert not folder.is_listed()
    nothing = Shard("", 2, 4, 0, 0, 0, 0.0, [])
    folder.finish([shard(0), nothing], [LeftOut("link", "語")])
    assert folder.is_listed()
    assert folder.list_file.read_text() == f"{tmp_path}/fake-000000.tar\n"
    assert folder.left_out_file.read_text() == '{"reason":"link","name":"語","detail":""}\n'
