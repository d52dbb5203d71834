"""tools/rehearsing/rehearsal.py: what is tried in turn, with tasks that run in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.rehearsed import QuickCluster, begun
from support.small_run import wav, write_tar

from audio_tokenizers.errors import UsageError
from hpc.cluster import Cluster
from hpc.launch import Launch
from tools.common.findings import Finding
from tools.rehearsing import rehearsal
from tools.rehearsing.excerpts import Excerpt
from tools.rehearsing.rehearsal import Asked, rehearse
from tools.rehearsing.results import Made, read_made
from tools.rehearsing.trial import Trial

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two tars of six clips."""
    folder = tmp_path_factory.mktemp("in")
    return [
        write_tar(folder / f"{name}.tar", {f"{n}.wav": wav(400 + 60 * n, seed=n + ord(name)) for n in range(6)})
        for name in "ab"
    ]


@pytest.fixture(autouse=True)
def _few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "FEWEST_PARTS", 4)


def look(
    folder: Path,
    tars: list[Path],
    *,
    nodes: Mapping[str, str] | None = None,
    bad: Mapping[str, str] | None = None,
    **launch: object,
) -> dict[str, Finding]:
    """Check -> finding."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)

    def open_cluster(one: Launch) -> Cluster:
        return QuickCluster(one, bad=bad)

    asked = Asked(
        begun(folder, tars, **launch),
        scratch,
        8,
        wait_s=0.2,
        open_cluster=open_cluster,
        find_nodes=lambda _launch: nodes or {},
        pause_s=0.01,
    )
    return {finding.check: finding for finding in rehearse(asked)}


def test_this_machine(tmp_path: Path, tars: list[Path]) -> None:
    """One worker, then all, the same tokens, decoded, and a plan. Nothing is written where the run is to be."""
    found = look(tmp_path, tars, cluster="local")
    assert found["clips"].found.startswith("8 clips from the beginning of ")
    assert found["one worker"].found.startswith("8 clips in ")
    assert found["same tokens"].found == "8 clips: the same, bit for bit"
    assert found["resumed tokens"].verdict == "ok"
    assert found["errors"].found == "0 of 8 clips became an error record"
    assert "6 clips decoded to the right length, SI-SDR 3" in found["decoded"].found
    assert "with 2 workers at once (this machine)" in found["plan"].found
    assert found["plan"].found.startswith("2 tars, ")
    assert "array tasks" not in found
    assert found["interval"].verdict == "warning"
    assert found["disk"].verdict == "ok"
    assert {finding.verdict for finding in found.values()} == {"ok", "warning"}
    assert not (tmp_path / "tokens").exists()


def test_tokens_that_cannot_be_decoded_here(tmp_path: Path, tars: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No decoder is no fault; one that cannot be loaded is a warning. Both say so."""

    def refuse(*_given: object) -> None:
        raise UsageError("another model")

    monkeypatch.setattr("tools.rehearsing.rehearsal.load_decoder", refuse)
    found = look(tmp_path / "a", tars, cluster="local")
    assert (found["decoded"].verdict, found["decoded"].found) == ("warning", "not checked here: another model")
    monkeypatch.setattr("tools.rehearsing.rehearsal.decoding_factory", refuse)
    found = look(tmp_path / "b", tars, cluster="local")
    assert (found["decoded"].verdict, found["decoded"].found) == ("ok", "mulaw has no decoder: not checked")


def test_a_node_with_other_tokens(tmp_path: Path, tars: list[Path]) -> None:
    """It is named, with its clips; the others are not, and a node that is down is left out."""
    nodes = {"n1": "", "n2": "", "n3": "", "n4": "drained"}
    found = look(tmp_path, tars, nodes=nodes, bad={"n2": "tokens"})
    assert found["nodes"].found == "3 nodes to try; n4 is drained"
    assert found["node n2"].verdict == "fault"
    assert found["node n2"].found.startswith("other tokens than most: 8 of 8 clips differ, the first is ")
    assert "--slurm exclude=n2" in found["node n2"].advice
    assert [found[f"node {node}"].verdict for node in ("n1", "n3")] == ["ok", "ok"]
    assert found["same tokens"].verdict == found["resumed tokens"].verdict == "ok"
    assert found["array tasks"].found.startswith("2 array tasks; the longest takes ")
    assert "3 workers at once" in found["plan"].found or "2 workers at once" in found["plan"].found


def test_nodes_that_do_not_do_it(tmp_path: Path, tars: list[Path]) -> None:
    """One that fails is a fault; one that is not free in time, or not for this job, is a warning."""
    nodes = {"n1": "", "n2": "", "n3": "", "n4": ""}
    found = look(tmp_path, tars, nodes=nodes, bad={"n2": "fails", "n3": "waits", "n4": "refused"})
    assert found["node n1"].verdict == "ok"
    assert (found["node n2"].verdict, "CUDA error" in found["node n2"].found) == ("fault", True)
    assert (found["node n3"].verdict, found["node n3"].found) == ("warning", "none of its tasks had begun after 0 s")
    assert (found["node n4"].verdict, "configuration is not available" in found["node n4"].found) == ("warning", True)
    assert "plan" in found


def test_no_node_is_free(tmp_path: Path, tars: list[Path]) -> None:
    """No trial was done: a fault."""
    found = look(tmp_path, tars, nodes={"n1": "down"}, bad={"n0": "waits"})
    assert found["nodes"].verdict == found["one worker"].verdict == found["interrupted"].verdict == "warning"
    assert found["trials"].verdict == "fault"
    assert "plan" not in found


def test_kinds_of_devices(tmp_path: Path, tars: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes whose GPUs are of another kind may give other tokens: a warning that names the kinds, and no fault."""

    def named(trial: Trial, parts: Sequence[Excerpt]) -> Made:
        return replace(read_made(trial, parts), device="B" if trial.name == "node n2" else "A")

    monkeypatch.setattr("tools.rehearsing.rehearsal.read_made", named)
    found = look(tmp_path, tars, nodes={"n1": "", "n2": ""}, bad={"n2": "tokens"})
    assert found["node n2"].verdict == "ok"
    assert found["devices"].verdict == "warning"
    assert found["devices"].found.startswith("tokens on B are not those on A: 8 of 8 clips differ")


def test_nothing_works(tmp_path: Path, tars: list[Path]) -> None:
    """The first trial's fault ends the rehearsal."""
    found = look(tmp_path, tars, cluster="local", bad={"n0": "fails"})
    assert list(found) == ["clips", "one worker"]
    assert "CUDA error" in found["one worker"].found


def test_no_audio(tmp_path: Path) -> None:
    """Tars without clips, and clips without audio, are a no."""
    empty = write_tar(tmp_path / "a.tar", {"a.txt": b"text"})
    found = look(tmp_path, [empty], cluster="local")
    assert [finding.verdict for finding in found.values()] == ["fault"]
    (tmp_path / "scratch").rename(tmp_path / "before")
    bad = write_tar(tmp_path / "b.tar", {f"{n}.wav": b"no audio" for n in range(3)})
    found = look(tmp_path, [bad], cluster="local")
    assert found["errors"].found == "none of 3 clips could be tokenized: 3 decode"
    assert found["errors"].verdict == "fault"
    assert "plan" not in found
