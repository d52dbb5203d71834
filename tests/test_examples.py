"""examples/*_events.py: hooks that can be copied, installed and run as docs/monitoring.md says."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from support.broadcasts import telling
from support.fake_cluster import Campaign
from support.runs import ROOT

from hpc.event_hooks import ENTRY_POINT_GROUP, Hooks

EXAMPLES = sorted((ROOT / "examples").glob("*_events.py"))


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The events of a run of two tars, one of which is damaged."""
    campaign = Campaign(tmp_path_factory.mktemp("run"), 2)
    whole = campaign.tars[1].read_bytes()
    campaign.tars[1].write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        telling(campaign).round()
        campaign.cluster.run_all()
    return campaign.run.events_file.read_bytes().splitlines()


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_small(path: Path) -> None:
    """Each can be read in a minute."""
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.slow
def test_tensorboard(tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed as the page says, it writes curves that TensorBoard reads back, with the times of the rounds."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    (tmp_path / "tensorboard_events.py").write_bytes((ROOT / "examples" / "tensorboard_events.py").read_bytes())
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    point = re.search(
        rf'^\[project.entry-points."{re.escape(ENTRY_POINT_GROUP)}"\]\n(\w+) = "([\w:]+)"$', page, re.MULTILINE
    )
    assert point is not None
    folder = tmp_path / "hook-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: hook\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{point[1]} = {point[2]}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TAR2TOKENS_TENSORBOARD", str(tmp_path / "curves"))
    assert point[1] in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP).names
    hooks = Hooks()
    hooks.give(lines)
    hooks.wait()
    sys.modules.pop("tensorboard_events")
    found = EventAccumulator(str(tmp_path / "curves" / "abc"))
    found.Reload()
    rounds = [event for event in map(json.loads, lines) if event["event"] == "round"]
    curve = found.Tensors("run/committed")
    assert [float(tensor_util.make_ndarray(one.tensor_proto)) for one in curve] == [
        float(one["committed"]) for one in rounds
    ]
    assert curve[-1].wall_time == 1000.0


class Run:
    """Stands for wandb's run; keeps what it is told."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.logged: list[dict[str, float]] = []
        self.alerts: list[tuple[str, str]] = []
        self.config: dict[str, Any] = {}

    def log(self, figures: dict[str, float]) -> None:
        self.logged.append(figures)

    def alert(self, *, title: str, text: str) -> None:
        self.alerts.append((title, text))


class Config(dict[str, Any]):
    """Stands for wandb's config, whose update takes an option."""

    def update(self, values: dict[str, Any], *, allow_val_change: bool) -> None:  # type: ignore[override]
        assert allow_val_change
        super().update(values)


def test_wandb(lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """It continues one run of W&B, logs figures of rounds and tasks, and sends an alert for a tar that is given up."""
    wandb = types.ModuleType("wandb")
    runs: list[Run] = []

    def init(**settings: Any) -> Run:
        runs.append(Run(**settings))
        runs[-1].config = Config()
        vars(wandb)["run"] = runs[-1]
        return runs[-1]

    vars(wandb).update(init=init, run=None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    module = load("wandb_events")
    for line in lines:
        module.on_event(json.loads(line))
    [run] = runs
    assert run.settings == {"id": "tar2tokens-abc", "name": "tar2tokens abc", "resume": "allow"}
    assert run.config["tars"] == 2
    assert run.logged[-1]["round/committed"] == 1.0
    assert any("task_ended/device_seconds/busy" in figures for figures in run.logged)
    [(title, text)] = run.alerts
    assert title == "tar2tokens: tar_quarantined 1"
    assert text
