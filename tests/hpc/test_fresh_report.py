"""hpc/fresh_report.py: a report beside the rounds, at most once a minute, never two at once."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.small_run import small_tar, tokenize

from hpc import fresh_report
from hpc.fresh_report import FreshReport, is_due
from hpc.run import Run, RunState
from jobs.taste.training import Training


@dataclass
class Children:
    """The children that would be started: each works until `release`."""

    fifo: Path
    arguments: list[tuple[str, ...]] = field(default_factory=list)

    def command(self, module: str, *arguments: object) -> list[str]:
        assert module == "tools.reporting.refresh"
        self.arguments.append(tuple(map(str, arguments)))
        return ["cat", str(self.fifo)]

    def release(self, report: FreshReport) -> None:
        with self.fifo.open("w"):
            pass
        report.wait(60)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "tokens")
    run.folder.mkdir(parents=True)
    return run


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Children:
    found = Children(tmp_path / "fifo")
    os.mkfifo(found.fifo)
    monkeypatch.setenv("TAR2TOKENS_REPORT", "on")
    monkeypatch.setattr(fresh_report, "module_command", found.command)
    return found


def test_is_due() -> None:
    """At most once a minute; for 100,000 tars, whose report takes 14 s of CPU, every 200 s."""
    assert is_due(10, 60.0, -math.inf)
    assert not is_due(10, 59.9, 0.0)
    assert is_due(10, 60.0, 0.0)
    assert not is_due(100_000, 199.0, 0.0)
    assert is_due(100_000, 200.0, 0.0)


def test_once_a_minute_and_never_two(run: Run, children: Children) -> None:
    """The first is due a minute after the watch began; while one is at work, no other begins, however late it is."""
    clock = Clock()
    report = FreshReport(run, begun=clock.now, clock=clock)
    report.refresh(5)
    assert children.arguments == []
    clock.now += 60
    report.refresh(5)
    clock.now += 500
    report.refresh(5)
    assert children.arguments == [(str(run.output_dir),)]
    children.release(report)
    report.refresh(5)
    report.refresh(5)
    assert len(children.arguments) == 2
    children.release(report)


def test_the_last_one(run: Run, children: Children) -> None:
    """When the run ends its report is made whatever was before, after one that is at work."""
    clock = Clock()
    report = FreshReport(run, begun=clock.now, clock=clock)
    report.refresh(5, ended=True)
    assert children.arguments == [(str(run.output_dir), "--wait")]
    children.release(report)


def test_rounds_of_cron(run: Run, children: Children) -> None:
    """A command that does one round has no memory: the page's time says when the latest was made."""
    clock = Clock()
    run.report_file.write_text("page")
    os.utime(run.report_file, (clock.now - 59, clock.now - 59))
    report = FreshReport(run, clock=clock)
    report.refresh(5)
    assert children.arguments == []
    clock.now += 1
    report.refresh(5)
    assert len(children.arguments) == 1
    children.release(report)


def test_switched_off(run: Run, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """TAR2TOKENS_REPORT=off, or a package that is missing: nothing is started, nothing is written."""
    monkeypatch.setenv("TAR2TOKENS_REPORT", "off")
    FreshReport(run).refresh(5, ended=True)
    monkeypatch.delenv("TAR2TOKENS_REPORT")
    monkeypatch.setattr(fresh_report, "PACKAGES", ("no-such-package",))
    FreshReport(run).refresh(5, ended=True)
    assert children.arguments == []
    assert list(run.folder.iterdir()) == []


def test_a_training_has_none(run: Run, children: Children) -> None:
    """A report is of tokens."""
    run.write_state(RunState(training=Training(settings={}, data=("a",))))
    FreshReport(run).refresh(1, ended=True)
    assert children.arguments == []
    assert not (run.folder / "report.log").exists()


def test_trouble_is_not_a_rounds(run: Run, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round goes on where the report cannot be started, and the next try is not sooner than after another."""
    monkeypatch.setattr(fresh_report, "module_command", lambda *_: ["/no/such/program"])
    clock = Clock()
    report = FreshReport(run, clock=clock)
    report.refresh(5)
    monkeypatch.setattr(fresh_report, "module_command", children.command)
    report.refresh(5)
    assert children.arguments == []
    run.folder.rename(run.folder.with_name("elsewhere"))
    report.refresh(5, ended=True)


@pytest.mark.slow
def test_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real child leaves the page and an empty log, and no lock."""
    monkeypatch.setenv("TAR2TOKENS_REPORT", "on")
    tokenize(small_tar(tmp_path / "a.tar"), tmp_path / "tokens")
    run = Run(tmp_path / "tokens")
    report = FreshReport(run)
    report.refresh(1)
    report.wait(600)
    assert run.report_file.read_text().startswith("<!DOCTYPE html>")
    assert (run.folder / "report.log").read_text() == ""
    assert not (run.folder / "report.lock").exists()
