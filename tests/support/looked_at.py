"""Runs and folders that commands of tools/ look at, and what these say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc.run import Run
from jobs.progress import DeviceSeconds, Try
from jobs.spec import freeze_spec
from jobs.tar_paths import read_manifest
from support.fake_cluster import Campaign
from support.runs import call, read_json
from support.small_run import mulaw_spec, small_tar, stopping_after, tokenize
from tools.check_progress import check_progress
from tools.failures import failures

__all__ = ["folder_of_tars", "report_of", "said", "shown_commands", "spoil", "tell_of_device", "three_tars"]


def three_tars(here: Path) -> Run:
    """A run of three tars: one committed, one begun, one not started."""
    tars = [small_tar(here / "data" / f"00000{number}.tar") for number in (1, 2, 3)]
    run = Run(here / "tokens")
    freeze_spec(run.output_dir, mulaw_spec())
    run.add_to_list([str(tar) for tar in tars], keep_dirs=False)
    tokenize(tars[0], run.output_dir)
    tokenize(tars[1], run.output_dir, **stopping_after(2))
    return run


def report_of(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[dict[str, Any], str]:
    """The report as JSON and in words."""
    assert call(check_progress, *arguments, "--json") == code
    out, err = capsys.readouterr()
    assert err == ""
    assert call(check_progress, *arguments) == code
    return read_json(out), capsys.readouterr().out


def tell_of_device(run: Run, name: str, spent: DeviceSeconds) -> None:
    """Have a tar's manifest say that its device did this."""
    manifest = read_manifest(run.paths(name).manifest)
    assert manifest is not None
    run.paths(name).manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, device_seconds=spent)))


def said(capsys: pytest.CaptureFixture[str], code: int) -> str:
    """What the command prints."""
    capsys.readouterr()  # what the workers of the test have said
    assert call(failures) == code
    out, err = capsys.readouterr()
    assert err == ""
    return out


def shown_commands(text: str) -> list[str]:
    """The commands in what it prints."""
    return [line.strip() for line in text.splitlines() if line.startswith("  python -m ")]


def spoil(campaign: Campaign) -> None:
    """A round in which one tar goes well, one is cut, one meets a bad node, and one is under way."""
    cut = campaign.tars[1]
    cut.write_bytes(cut.read_bytes()[:700])
    campaign.controller().round()
    (job,) = campaign.cluster.living()
    element = {job.plan.slots[e][0].name: e for e in range(4)}
    campaign.cluster.run(job, element["0"], "n1")
    campaign.cluster.run(job, element["1"], "n1")
    died = Try("2", "machine", problem="CUDA error: no device")
    campaign.cluster.end(job, element["2"], died, node="n2", log="loading\nERROR CUDA error: no device\nlater words")


def folder_of_tars(tmp_path: Path) -> Path:
    """Tars with and without numbers, and what else lies beside them."""
    names = ("10.tar", "9.tar", "09.tar", "train-2.tar.gz", "train-11.TAR", "x².tar", "notes.txt", "._9.tar", "a/5.tar")
    for name in names:
        path = tmp_path / "my tars" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "my tars" / "folder.tar").mkdir()
    return tmp_path / "my tars"
