"""hpc/metrics.py: text that parsers of OpenMetrics and of Prometheus's text format both read, and alike."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format
from support.broadcasts import Told
from support.fake_cluster import Campaign

from hpc.events import TrainingCounts
from hpc.metrics import FAMILIES, Measured, render
from hpc.monitor import take_snapshot
from jobs.progress import DeviceSeconds

PROMETHEUS_NAME = re.compile(r"[a-z][a-z0-9_]*")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A run that finished but for a damaged tar."""
    campaign = Campaign(tmp_path_factory.mktemp("run"), 3)
    whole = campaign.tars[2].read_bytes()
    campaign.tars[2].write_bytes(whole[: len(whole) // 2])
    Told(campaign)
    campaign.cluster.run_all()
    return Told(campaign)


def measured(told: Told, **changes: Any) -> Measured:
    seen, state, _ = told.rounds[-1]
    usual = {
        "run": state.run_id,
        "output_dir": "/data/tokens",
        "backend": "mulaw",
        "version": "0.1.0",
        "now": 1795893742.4888,
        "seconds": 0.125,
        "scan_seconds": 0.0625,
        "eta_seconds": None,
        "decision": seen.decision,
        "states": seen.states,
        "figures": take_snapshot(seen),
    }
    return Measured(**{**usual, **changes})


def samples(families: list[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def of(text: str, name: str, **labels: str) -> float:
    """The one sample of that name with these labels."""
    found = [
        value
        for (one, words), value in samples(list(open_metrics(text))).items()
        if one == name and labels.items() <= dict(words).items()
    ]
    assert len(found) == 1, f"{name} {labels}: {found}"
    return found[0]


def test_figures_of_a_run(told: Told) -> None:
    """The metrics say what the round saw."""
    text = render(measured(told))
    assert of(text, "tar2tokens_tars", state="committed") == 2
    assert of(text, "tar2tokens_tars", state="quarantined") == 1
    assert of(text, "tar2tokens_tars", state="partial") == 0
    assert of(text, "tar2tokens_clips") >= 6
    assert of(text, "tar2tokens_run_outcome", outcome="quarantined") == 1
    assert of(text, "tar2tokens_run_outcome", outcome="running") == 0
    assert of(text, "tar2tokens_round_seconds") == 0.125
    assert of(text, "tar2tokens_last_round_timestamp_seconds") == 1795893742.4888
    assert "tar2tokens_eta_seconds" not in text
    assert of(render(measured(told, eta_seconds=90.0)), "tar2tokens_eta_seconds") == 90


def full(told: Told, **changes: Any) -> str:
    """With a sample in every metric of tars."""
    figures = msgspec.structs.replace(
        take_snapshot(told.rounds[-1][0]),
        running={"n1": 2, 'n"2\\': 1},
        device_seconds=DeviceSeconds(1.0, 2.5, 0.25),
    )
    decision = msgspec.structs.replace(told.rounds[-1][0].decision, exclude={"n3": "why"})
    states = [
        replace(tar, manifest=msgspec.structs.replace(tar.manifest, errors={"decode": 2})) if tar.manifest else tar
        for tar in told.rounds[-1][0].states
    ]
    return render(measured(told, figures=figures, decision=decision, states=states, eta_seconds=1.5, **changes))


def test_two_parsers_read_the_same(told: Told) -> None:
    """The strict parser of OpenMetrics, and that of the text format, which node_exporter has, find the same samples, types,
    helps.
    """
    text = full(told)
    strict, plain = list(open_metrics(text)), list(text_format(text))
    assert samples(strict) == samples(plain)
    assert [(family.name, family.type, family.documentation) for family in strict] == [
        (family.name, family.type, family.documentation) for family in plain
    ]
    assert of(text, "tar2tokens_node_tasks", node='n"2\\') == 1


def test_what_node_exporter_refuses(told: Told) -> None:
    """No types but those of the text format, no timestamps, an end of line after the last word, a help for each metric."""
    text = full(told)
    assert text.endswith("\n# EOF\n")
    assert {family.type for family in open_metrics(text)} == {"gauge"}
    assert all(sample.timestamp is None for family in open_metrics(text) for sample in family.samples)
    assert all(family.documentation for family in text_format(text))


def test_every_sample_names_its_run_and_the_labels_that_are_declared(told: Told) -> None:
    """Series of several runs never mix, and labels are those that the page documents."""
    known = {family.name: {"run", *family.labels} for family in FAMILIES}
    for family in open_metrics(full(told)):
        assert all(set(sample.labels) == known[family.name] for sample in family.samples), family.name
        assert {sample.labels["run"] for sample in family.samples} == {"abc"}


def test_names() -> None:
    """Names as Prometheus advises: base units at the end, no _total on gauges, each once."""
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert PROMETHEUS_NAME.fullmatch(family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert family.unit == "" or family.name.endswith(f"_{family.unit}")
        assert family.unit or not family.name.endswith(("_seconds", "_bytes"))
        assert "\n" not in family.help
        assert "\\" not in family.help


def test_training(told: Told) -> None:
    """A training has its own figures and none of tars; a loss that is not known is left out."""
    text = render(measured(told, training=TrainingCounts(epochs=10, epoch=3, step=120, loss=5.312125)))
    assert of(text, "tar2tokens_training_step") == 120
    assert of(text, "tar2tokens_training_loss") == 5.312125
    names = {family.name for family in open_metrics(text)}
    assert not names & {"tar2tokens_tars", "tar2tokens_clips", "tar2tokens_done_bytes", "tar2tokens_audio_seconds"}
    assert "training_loss" not in render(measured(told, training=TrainingCounts(epochs=10, epoch=0, step=0)))


@given(st.text(st.characters(codec=None)))
def test_any_folder_name(told: Told, name: str) -> None:
    """Paths of users, with quotes, line ends, or bytes that are no UTF-8, break no line."""
    text = render(measured(told, output_dir=name))
    shown = name.encode("utf-8", "backslashreplace").decode()
    text.encode()
    for parse in (open_metrics, text_format):
        info = next(family for family in parse(text) if family.name == "tar2tokens_run_info")
        assert info.samples[0].labels["output_dir"] == shown


def test_foreign_names_are_no_labels(tmp_path: Path) -> None:
    """However many tars there are and whatever they are called, they make no series."""
    campaign = Campaign(tmp_path, 2)
    text = render(measured(Told(campaign)))
    assert text.count("\ntar2tokens_tars{") == 5
    assert str(campaign.tars[0]) not in text
