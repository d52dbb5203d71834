"""A real Slurm for the tests in this folder: one cluster per pytest worker, at rest before and after every test."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.real_cluster import PACKAGES, RealCluster, free_ports, missing_prerequisites

REQUIRE = "SYSTEM_TESTS"  # "require": what is missing is a failure. A skip must not pass for a success in CI.
FIRST_PORT = 18100
CLUSTER = pytest.StashKey[RealCluster]()
TIME_LIMIT = pytest.mark.timeout(1800)
"""Twice that of other tests: Slurm's own times, such as the minute that is its least limit, are long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder may take longer."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(TIME_LIMIT)


def _new_cluster(offset: int, *, accounting: bool = True) -> RealCluster:
    """A cluster beside those of other workers, which start at the same moment: hence ports by the worker's number."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    folder = Path(f"/tmp/slurm-{os.getpid()}-{offset}")  # pytest's own folders have names too long for unix sockets
    return RealCluster(folder, free_ports(FIRST_PORT + 100 * int(worker) + offset), accounting=accounting)


@contextmanager
def _running(offset: int, *, accounting: bool = True) -> Iterator[RealCluster]:
    if missing := missing_prerequisites():
        text = f"a real Slurm needs {', '.join(missing)}; as root: apt-get install --no-install-recommends {PACKAGES}"
        (pytest.fail if os.environ.get(REQUIRE) == "require" else pytest.skip)(text)
    with _new_cluster(offset, accounting=accounting) as cluster:
        yield cluster


@contextmanager
def _given(cluster: RealCluster, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealCluster]:
    """The cluster for one test: clean, and what Slurm's commands see, from this process and from those it starts."""
    cluster.reset()
    request.node.stash[CLUSTER] = cluster
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SLURMD_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    monkeypatch.setenv("PATH", cluster.env["PATH"])
    yield cluster
    cluster.reset()


@pytest.fixture(scope="session")
def _cluster() -> Iterator[RealCluster]:
    with _running(0) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def _cluster_without_accounting() -> Iterator[RealCluster]:
    with _running(50, accounting=False) as cluster:
        yield cluster


@pytest.fixture
def slurm(_cluster: RealCluster, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealCluster]:
    """A real Slurm at rest; SLURM_CONF points at it. Job numbers go on from test to test."""
    with _given(_cluster, request, monkeypatch) as cluster:
        yield cluster


@pytest.fixture
def slurm_without_accounting(
    _cluster_without_accounting: RealCluster, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RealCluster]:
    """A real Slurm that keeps no records: sacct refuses, and limits do not exist."""
    with _given(_cluster_without_accounting, request, monkeypatch) as cluster:
        yield cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test's report says what its cluster had to say, while it still can."""
    report = yield
    if report.failed and (cluster := item.stash.get(CLUSTER, None)):
        report.sections += [(f"slurm: {title}", text) for title, text in cluster.report().items() if text]
    return report
