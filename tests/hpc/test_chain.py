"""hpc/chain.py: a link leaves a successor before it does anything else, and the last one leaves none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.runs import ROOT
from support.slurm_commands import SlurmCommands

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc import chain as module
from hpc.chain import cancel_chain, chain_name, chain_text, run_link, start_chain
from hpc.launch import Launch
from hpc.policy import Decision
from hpc.run import Run, RunState
from hpc.slurm import SlurmCluster
from hpc.submissions import Job
from jobs.fileops import StorageError

GOLDEN = Path(__file__).parent / "golden"
NAME = "tar2tokens-abcd-chain"


def shown(job: int, state: str) -> str:
    """A link as squeue shows it."""
    return f"{NAME}|{job}|N/A|{state}||None\n"


@pytest.fixture
def slurm(tmp_path: Path) -> SlurmCommands:
    return SlurmCommands(tmp_path / "bin")


@pytest.fixture
def launch(slurm: SlurmCommands) -> Launch:
    return Launch(cluster="slurm", device="cuda", gpus_per_node=1, environment=slurm.environment)


@pytest.fixture
def run(tmp_path: Path, launch: Launch) -> Run:
    run = Run(tmp_path / "tokens")
    run.folder.mkdir(parents=True)
    run.write_state(RunState(run_id="abcd", launch=launch))
    return run


def test_batch_text(tmp_path: Path) -> None:
    """A small job that appends to the run's own log, with the site's setup; odd characters in the path stay."""
    launch = Launch(
        cluster="slurm",
        device="cuda",
        gpus_per_node=4,
        partition="big",
        account="speech",
        qos="high",
        setup=("module load python",),
    )
    text = chain_text(Run(Path('/runs/it\'s a "run" & more/$HOME/tokens')), launch)
    assert text.replace(sys.executable, "/PYTHON").replace(str(ROOT), "/CODE") == (GOLDEN / "chain.sh").read_text()


class TestStart:
    def test_first_link(self, run: Run, launch: Launch, slurm: SlurmCommands) -> None:
        """It is submitted under the run's own name, which says whose chain it is."""
        slurm.answer("sbatch", out="70\n")
        assert start_chain(run, launch) == 0
        assert slurm.calls()[-1] == f"sbatch --parsable --job-name={NAME}"
        assert (slurm.folder / "script").read_text() == chain_text(run, launch)
        assert chain_name(run) == NAME

    def test_one_chain_is_enough(
        self, run: Run, launch: Launch, slurm: SlurmCommands, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Where there is a chain nothing is submitted."""
        slurm.answer("squeue", out=shown(71, "PENDING"))
        assert start_chain(run, launch) == 0
        assert [call.split()[0] for call in slurm.calls()] == ["squeue"]
        assert "71" in capsys.readouterr().out

    def test_not_knowing_is_no_reason_for_a_second_chain(self, run: Run, launch: Launch, slurm: SlurmCommands) -> None:
        """When squeue, asked twice, does not answer nothing is submitted."""
        slurm.answer("squeue", err="slurm_load_jobs error\n", code=1)
        with pytest.raises(InfrastructureError):
            start_chain(run, launch)
        assert [call.split()[0] for call in slurm.calls()] == ["squeue", "squeue"]

    def test_one_machine_has_no_chain(self, run: Run) -> None:
        """Without Slurm there is nobody to start the next link."""
        with pytest.raises(UsageError, match="--chain"):
            start_chain(run, Launch(cluster="local", device="cpu", gpus_per_node=0))


class Links:
    """Runs a link around a round that a test decides."""

    def __init__(self, run: Run, slurm: SlurmCommands, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.slurm, self.monkeypatch = run, slurm, monkeypatch
        self.before_round: list[str] = []
        self.open_jobs: list[Job] = []
        self.decision = Decision(outcome="stuck")
        self.trouble: Exception | None = None

    def link(self, code: int) -> int:
        def one_round(_run: Run, *, note: Callable[[Any], None]) -> int:
            self.before_round = self.slurm.calls()
            if self.trouble is not None:
                raise self.trouble
            note(SimpleNamespace(decision=self.decision, states=[]))
            return code

        class Controller:
            @staticmethod
            def open_jobs() -> dict[int, tuple[object, Job]]:
                return {number: (None, job) for number, job in enumerate(self.open_jobs, 1)}

        self.monkeypatch.setattr("hpc.chain.one_round", one_round)
        self.monkeypatch.setattr("hpc.chain.make_controller", lambda *_: Controller)
        return run_link(self.run)


@pytest.fixture
def links(run: Run, slurm: SlurmCommands, monkeypatch: pytest.MonkeyPatch) -> Links:
    monkeypatch.setenv("SLURM_JOB_ID", "70")
    slurm.answer("squeue", out=shown(70, "RUNNING"))
    slurm.answer("sbatch", out="71\n")
    return Links(run, slurm, monkeypatch)


def job_of(job_id: str, cluster: str | None = None) -> Job:
    return Job(name="j", elements=1, parallel=1, host="h", intended_at=0.0, job_id=job_id, cluster=cluster)


class TestLink:
    def test_the_successor_is_there_before_the_round(self, links: Links) -> None:
        """A link that dies in its round has left one that starts without any further word; then it waits for the tasks."""
        links.open_jobs = [job_of("80"), job_of(""), job_of("82")]
        assert links.link(75) == 0
        assert (
            links.before_round[-1]
            == f"sbatch --parsable --job-name={NAME} --begin={module.RESERVE_DELAY} --dependency=afterany:70"
        )
        assert links.slurm.calls()[len(links.before_round) :] == [
            "scontrol update JobId=71 Dependency=afterany:80:82 StartTime=now"
        ]

    def test_nothing_to_wait_for(self, links: Links) -> None:
        """When the site takes no job for now the successor comes when it was to come anyway."""
        assert links.link(75) == 0
        assert links.slurm.calls() == links.before_round

    def test_a_successor_that_is_there_already(self, links: Links) -> None:
        """A link that was started again leaves no second successor."""
        links.slurm.answer("squeue", out=shown(70, "RUNNING") + shown(69, "PENDING"))
        links.open_jobs = [job_of("80")]
        assert links.link(75) == 0
        assert [call.split()[0] for call in links.slurm.calls()] == ["squeue", "scontrol"]
        assert "JobId=69" in links.slurm.calls()[-1]

    @pytest.mark.parametrize("code", [0, 3, 4])
    def test_the_last_link(self, code: int, links: Links) -> None:
        """Once the list is finished, or nothing more can be done, the chain ends, with the code that says how."""
        assert links.link(code) == code
        assert links.slurm.calls()[len(links.before_round) :] == ["scancel --quiet 71"]

    def test_a_full_disk_does_not_end_the_chain(self, links: Links) -> None:
        """What may pass by itself is tried again by the successor, whether a round saw it or could not even begin."""
        links.decision = Decision(outcome="stuck", diagnosis="no room", passes=True)
        assert links.link(4) == 4
        assert links.slurm.calls() == links.before_round
        links.trouble = StorageError("no room", "full")
        with pytest.raises(StorageError):
            links.link(4)
        assert links.slurm.calls()[-1].split()[0] != "scancel"


class TestSeveralClusters:
    @pytest.fixture
    def launch(self, slurm: SlurmCommands) -> Launch:
        return Launch(
            cluster="slurm", device="cuda", gpus_per_node=1, slurm={"clusters": "a,b"}, environment=slurm.environment
        )

    def test_the_chain_is_where_the_runs_jobs_are(self, links: Links) -> None:
        """The successor goes to the run's clusters; it waits for jobs of the one that took it, since it sees no others."""
        links.slurm.answer("sbatch", out="71;b\n")
        links.open_jobs = [job_of("80", "a"), job_of("82", "b")]
        assert links.link(75) == 0
        assert "\n#SBATCH --clusters=a,b\n" in (links.slurm.folder / "script").read_text()
        assert [call.split()[:2] for call in links.slurm.calls()][:2] == [
            ["squeue", "--clusters=a"],
            ["squeue", "--clusters=b"],
        ]
        assert links.slurm.calls()[-1] == "scontrol --clusters=b update JobId=71 Dependency=afterany:82 StartTime=now"

    def test_the_last_link(self, links: Links) -> None:
        """The successor is ended where it is."""
        links.slurm.answer("sbatch", out="71;b\n")
        assert links.link(0) == 0
        assert links.slurm.calls()[-1] == "scancel --clusters=b --quiet 71"


def test_cancel(run: Run, slurm: SlurmCommands) -> None:
    """The chain ends by its name, whatever its links' ids are."""
    cancel_chain(run, SlurmCluster(slurm.environment))
    assert slurm.calls() == [f"scancel --quiet --name={NAME}"]
