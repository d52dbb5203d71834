"""tools/exporting/plan.py: which files become which part, and what is said when a folder holds another export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs.manifest import Manifest
from tools.common.run_files import CommittedFile
from tools.exporting.plan import FORMATS, ExportFormat, Plan, differences, make_plan


def file(name: str, size: int = 10, *, features: int = 0, sha256: str = "0") -> CommittedFile:
    manifest = Manifest(
        tar_file=f"/d/{name}.tar",
        input_bytes=1,
        input_mtime_ns=1,
        fingerprint="f",
        output_bytes=size,
        output_sha256=sha256,
        features_bytes=features,
    )
    return CommittedFile(name, f"/d/{name}.tar", Path(f"/run/{name}.jsonl"), manifest)


def plan(names: str, to: ExportFormat = "parquet", **settings: Any) -> Plan:
    return make_plan([file(name) for name in names.split()], to=to, **{"fingerprint": "f", "part_bytes": 25, **settings})


def test_files_that_follow_one_another_share_a_parquet_file() -> None:
    """In list order, up to the size given; a file is never split, and floats count as lines do."""
    files = [file("b", 10), file("a", 15), file("c", 1), file("huge", 100), file("d", 1, features=25), file("e", 1)]
    parts = make_plan(files, to="parquet", fingerprint="f", part_bytes=25).parts
    assert [[source.name for source in part.sources] for part in parts] == [["b", "a"], ["c"], ["huge"], ["d"], ["e"]]
    assert [part.path for part in parts][:2] == ["part-00000-of-00005.parquet", "part-00001-of-00005.parquet"]


def test_one_part_per_tar() -> None:
    """WebDataset and npz follow the run's names, with their folders."""
    assert [part.path for part in plan("x/1 x/2", "webdataset").parts] == ["x/1.tar", "x/2.tar"]
    assert [part.path for part in plan("x/1 x/2", "npz").parts] == ["x/1", "x/2"]
    assert [part.path for part in plan("1 2 3", "hf").parts] == [
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]


def test_a_folder_is_not_taken_for_a_finished_part() -> None:
    """Where one tar is called like another one's folder, npz gives it another name: existing would mean finished."""
    assert [part.path for part in plan("x/y/1 x x/y", "npz").parts] == ["x/y/1", "x.clips", "x/y.clips"]


@pytest.mark.parametrize(
    ("frozen", "asked", "words"),
    [
        (plan("a"), plan("a", "hf"), "--to parquet, this command says --to hf"),
        (plan("a", "webdataset", with_audio=True), plan("a", "webdataset"), "begun with --with-audio"),
        (plan("a"), plan("a", keeps_damaged=True), "its columns are those of a run without notes"),
        (plan("a"), plan("a", fingerprint="g"), "recipe f, the run has g"),
        (plan("a"), plan("a b c"), "not in it: 2 tars that the run has, the first b"),
        (plan("a b"), plan("b"), "in it: 1 tar that the run does not have, the first a"),
        (plan("a b"), plan("b a"), "another order"),
        (
            plan("a"),
            make_plan([file("a", sha256="1")], to="parquet", fingerprint="f"),
            "tokenized again since: 1 tar, the first a",
        ),
        (msgspec.structs.replace(plan("a"), version=0), plan("a"), "another version"),
    ],
)
def test_differences_are_named(frozen: Plan, asked: Plan, words: str) -> None:
    """Whoever gives the folder of another export hears what differs."""
    assert words in "; ".join(differences(frozen, asked))


def test_the_same_export_has_no_differences() -> None:
    """A plan comes back from its file as it was."""
    assert differences(msgspec.json.decode(msgspec.json.encode(plan("a b")), type=Plan), plan("a b")) == []


def test_which_exports_have_notes() -> None:
    """Parquet of runs that keep damaged clips, and of all in which a record notes something; others have them by clip.

    A plan from before there were any is that of a run without.
    """
    noted = file("n")
    noted = replace(noted, manifest=msgspec.structs.replace(noted.manifest, notes={"opposite_phase": 1}))
    assert [plan("a", to).notes for to in FORMATS] == [False] * 4
    assert [plan("a", to, keeps_damaged=True).notes for to in FORMATS] == [to in ("parquet", "hf") for to in FORMATS]
    assert make_plan([file("a"), noted], to="parquet", fingerprint="f").notes
    assert msgspec.json.decode(b'{"to": "parquet", "fingerprint": "f", "parts": []}', type=Plan).notes is False
