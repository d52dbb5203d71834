"""hpc/slurm.py: what is made of what Slurm's commands say; here they are small scripts."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.slurm_commands import SlurmCommands

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.batch_script import batch_text
from hpc.cluster import JobNumber, JobSeen, SubmitLimitError, SubmitRefusedError, SubmitUncertainError, TaskSeen
from hpc.launch import Launch
from hpc.slurm import SlurmCluster
from hpc.submissions import Job, Submission


@pytest.fixture
def slurm(tmp_path: Path) -> SlurmCommands:
    return SlurmCommands(tmp_path / "bin")


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    folder = tmp_path / "tokens" / ".run" / "submissions" / "0001"
    folder.mkdir(parents=True)
    return Submission(folder)


SHARED = Launch(cluster="slurm", device="cuda", gpus_per_node=1)


def job_of(number: int, *, job_id: str = "", elements: int = 4, cluster: str | None = "") -> Job:
    at = 1_700_000_000.0 + number
    return Job(
        name=f"t-{number:04}", elements=elements, parallel=elements, host="h", intended_at=at, job_id=job_id, cluster=cluster
    )


def jobs_of(submission: Submission, *jobs: Job) -> dict[int, tuple[Submission, Job]]:
    return {number: (submission, job) for number, job in enumerate(jobs, 1)}


FAILED = "sbatch: error: Batch job submission failed: "
POLICY = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n"


class TestSubmit:
    def submit(self, slurm: SlurmCommands, submission: Submission) -> JobNumber:
        return SlurmCluster(slurm.environment).submit(submission, SHARED, job_of(1), ("n3",))

    def test_sbatch_gets_the_text_that_is_kept(self, slurm: SlurmCommands, submission: Submission) -> None:
        """What was submitted can be read afterwards, the folder of the logs is there, and the job's id comes back."""
        slurm.answer("sbatch", out="4711\n")
        assert self.submit(slurm, submission) == JobNumber("4711")
        text = (slurm.folder / "script").read_text()
        assert text == submission.script_file.read_text() == batch_text(submission, SHARED, job_of(1), ("n3",))
        assert submission.logs.is_dir()

    def test_the_cluster_that_took_it(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Where a site has several, sbatch says which; where it says none, it is the one that was asked."""
        launch = msgspec.structs.replace(SHARED, slurm={"clusters": "one,other"})
        slurm.answer("sbatch", out="4711;other\n")
        cluster = SlurmCluster(slurm.environment)
        assert cluster.submit(submission, launch, job_of(1), ()) == JobNumber("4711", "other")
        assert "\n#SBATCH --clusters=one,other\n" in (slurm.folder / "script").read_text()
        slurm.answer("sbatch", out="4711\n")
        assert cluster.submit(submission, launch, job_of(1), ()) == JobNumber("4711", "one,other")

    @pytest.mark.parametrize(
        "first",
        [
            "sbatch: error: AssocMaxSubmitJobLimit",
            "sbatch: error: QOSMaxSubmitJobPerUserLimit",
            "sbatch: error: QOSGrpSubmitJobsLimit",
            "sbatch: error: AssocGrpSubmitJobsLimit",
        ],
    )
    def test_a_limit_is_no_error(self, first: str, slurm: SlurmCommands, submission: Submission) -> None:
        """Slurm's words for too many jobs mean: later."""
        slurm.answer("sbatch", err=f"{first}\n{POLICY}", code=1)
        with pytest.raises(SubmitLimitError):
            self.submit(slurm, submission)

    def test_a_full_controller_is_no_error(self, slurm: SlurmCommands, submission: Submission) -> None:
        """A site whose whole queue is full takes more later."""
        slurm.answer("sbatch", err=f"{FAILED}Resource temporarily unavailable\n", code=1)
        with pytest.raises(SubmitLimitError):
            self.submit(slurm, submission)

    @pytest.mark.parametrize(
        "words",
        [
            f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified",
            f"{FAILED}Invalid account or account/partition combination specified",
            f"{FAILED}Invalid qos specification",
            f"{FAILED}Requested node configuration is not available",
            "sbatch: error: Invalid generic resource (gres) specification",
            "sbatch: error: CPU count per node can not be satisfied",
            "sbatch: error: Memory specification can not be satisfied",
            f"{FAILED}Invalid job array specification",
            "sbatch: unrecognized option '--no-such'",
            f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}",
            f"sbatch: error: Please say which project pays: add -A PROJECT\n{FAILED}Unspecified error",
        ],
    )
    def test_a_refusal_is_told_in_slurms_words(self, words: str, slurm: SlurmCommands, submission: Submission) -> None:
        """What is not known to pass is the user's to mend, and is told with all that Slurm has said of it."""
        slurm.answer("sbatch", err=f"{words}\n", code=1)
        with pytest.raises(SubmitRefusedError, match=re.escape(words.strip())):
            self.submit(slurm, submission)

    def test_refusal_of_how_gpus_are_asked_for(self, slurm: SlurmCommands, submission: Submission) -> None:
        """There are other ways to ask, and the message names the option."""
        slurm.answer("sbatch", err=f"{FAILED}Requested GRES option unsupported by configured SelectType plugin\n", code=1)
        with pytest.raises(SubmitRefusedError, match=r"SelectType plugin\n--gpu-request chooses"):
            self.submit(slurm, submission)

    @pytest.mark.parametrize(
        ("out", "err", "code"),
        [
            ("4711\n", "sbatch: error: something broke\n", 1),
            ("4711\n", "sbatch: error: Invalid partition name specified\n", 1),
            ("", f"{FAILED}Socket timed out on send/recv operation\n", 1),
            ("", f"{FAILED}Unable to contact slurm controller (connect failure)\n", 1),
            (
                "",
                f"sbatch: error: Slurm temporarily unable to accept job, sleeping\n{FAILED}Socket timed out\n",
                1,
            ),
            ("", "Segmentation fault\n", 139),
            ("", "", 0),
            ("no number\n", "", 0),
        ],
    )
    def test_what_may_have_been_submitted(
        self, out: str, err: str, code: int, slurm: SlurmCommands, submission: Submission
    ) -> None:
        """An id and then a failure, no answer of the controller, or no id at all: the job may be there, so look it up."""
        slurm.answer("sbatch", out, err, code)
        with pytest.raises(SubmitUncertainError):
            self.submit(slurm, submission)

    @pytest.mark.slow
    def test_no_answer_in_time(self, slurm: SlurmCommands, submission: Submission) -> None:
        """An sbatch that hangs is not waited for; whether it submitted is not known."""
        slurm.answer("sbatch", out="4711\n", hangs=True)
        with pytest.raises(SubmitUncertainError, match="no answer in"):
            SlurmCluster(slurm.environment, patience_s=0.5).submit(submission, SHARED, job_of(1), ())

    def test_no_sbatch_at_all(self, submission: Submission, tmp_path: Path) -> None:
        """Without Slurm's commands the message says what is missing."""
        with pytest.raises(UsageError, match=r"sbatch: No such file.*PATH"):
            SlurmCluster({"PATH": str(tmp_path)}).submit(submission, SHARED, job_of(1), ())

    def test_a_single_job(self, slurm: SlurmCommands) -> None:
        """A script of one's own goes in under its name with its options."""
        slurm.answer("sbatch", out="9\n")
        job = SlurmCluster(slurm.environment).submit_script("chain", "#!/bin/sh\n", "--begin=now+10minutes")
        assert job == JobNumber("9")
        assert slurm.calls() == ["sbatch --parsable --job-name=chain --begin=now+10minutes"]
        assert (slurm.folder / "script").read_text() == "#!/bin/sh\n"


class TestLook:
    def test_by_id_and_then_by_name(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Jobs whose ids are known are asked for at once by id, whatever they are called now; those that are not shown, and
        those whose sbatch never told the id, by name.
        """
        slurm.answer(
            "squeue",
            out="renamed|by|a plugin|50|0|RUNNING|n1|None\nt-0001|50|3|PENDING||Resources\nt-0003|52|12|COMPLETING|n4|None\n"
            "t-9999|53|0|RUNNING|n1|None\nt-0002|54|N/A|RUNNING|n1|None\nslurm_load_jobs: hm\nt-0001|50|2|CANCELLED||None\n",
        )
        seen = SlurmCluster(slurm.environment).look(
            jobs_of(submission, job_of(1, job_id="50"), job_of(2, job_id="51"), job_of(3))
        )
        assert seen == {
            1: JobSeen("50", {0: TaskSeen("RUNNING", "n1"), 3: TaskSeen("PENDING", "", "Resources")}),
            2: None,
            3: JobSeen("52", {12: TaskSeen("COMPLETING", "n4")}),
        }
        by_id, by_name = slurm.calls()
        assert " --jobs=50,51 " in by_id
        assert " --name=t-0002,t-0003 " in by_name

    def test_one_squeue_where_all_are_shown(self, slurm: SlurmCommands, submission: Submission) -> None:
        """However many jobs there are, a round costs one call while all are in the queue."""
        slurm.answer("squeue", out="t-0001|50|0|RUNNING|n1|None\nt-0002|51|0|RUNNING|n1|None\n")
        SlurmCluster(slurm.environment).look(jobs_of(submission, job_of(1, job_id="50"), job_of(2, job_id="51")))
        assert len(slurm.calls()) == 1

    def test_each_cluster_is_asked_for_its_own(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Two clusters may have a job of the same number; one that did not answer says nothing of its jobs."""
        jobs = jobs_of(
            submission, job_of(1, job_id="50", cluster="a"), job_of(2, job_id="50", cluster="b"), job_of(3, cluster="a,b")
        )
        slurm.answer("squeue", out="t-0001|50|0|RUNNING|n1|None\n", only_with="--clusters=a")
        seen = SlurmCluster(slurm.environment).look(jobs)
        assert seen == {1: JobSeen("50", {0: TaskSeen("RUNNING", "n1")}, "a"), 2: None, 3: None}
        slurm.answer("squeue", out="t-0003|7|0|PENDING||Priority\n", only_with="--clusters=b")
        seen = SlurmCluster(slurm.environment).look(jobs)
        assert seen[3] == JobSeen("7", {0: TaskSeen("PENDING", "", "Priority")}, "b")

    def test_cluster_that_nobody_wrote_down(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Of a job of an older version the settings of the run say where it is; one without a cluster has none."""
        old, new = job_of(1, job_id="50", cluster=None), job_of(2, job_id="51")
        SlurmCluster(slurm.environment, clusters="other").look(jobs_of(submission, old, new))
        assert [("--clusters=other" in call, "=50" in call) for call in slurm.calls() if "--jobs" in call] == [
            (True, True),
            (False, False),
        ]

    def test_job_that_slurm_knows_no_more(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Asked for a single job that has ended squeue fails, and says why: that is an answer."""
        slurm.answer("squeue", err="slurm_load_jobs error: Invalid job id specified\n", code=1)
        assert SlurmCluster(slurm.environment).look(jobs_of(submission, job_of(1, job_id="50"))) == {1: None}

    @pytest.mark.parametrize("hangs", [False, True])
    @pytest.mark.slow
    def test_no_answer_is_not_an_empty_queue(self, hangs: bool, slurm: SlurmCommands, submission: Submission) -> None:
        """When squeue fails nothing is known of any job, whatever it printed before that."""
        slurm.answer("squeue", out="t-0001|50|0|RUNNING|n1|None\n", err="slurm_load_jobs error\n", code=1, hangs=hangs)
        cluster = SlurmCluster(slurm.environment, patience_s=0.5 if hangs else 60.0)
        assert cluster.look(jobs_of(submission, job_of(1), job_of(2))) == {}

    @pytest.mark.slow
    def test_squeue_that_fails_now_and_then(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Where every second call fails there are still answers: a question is put once more. One that hung is not."""
        slurm.answer("squeue", out="t-0002|51|0|RUNNING|n1|None\n", err="slurm_load_jobs error\n")
        script = slurm.folder / "squeue"
        flip = 'echo >> "$here/n"; [ $(($(wc -l < "$here/n") % 2)) = 0 ] || exit 1\n'
        script.write_text(script.read_text().replace("printf", f"{flip}printf", 1))
        jobs = jobs_of(submission, job_of(1, job_id="50"), job_of(2, job_id="51"))
        assert SlurmCluster(slurm.environment).look(jobs) == {1: None, 2: JobSeen("51", {0: TaskSeen("RUNNING", "n1")})}
        (slurm.folder / "calls").unlink()
        script.write_text(script.read_text().replace(flip, ""))
        slurm.answer("squeue", hangs=True)
        assert SlurmCluster(slurm.environment, patience_s=0.5).look(jobs) == {}
        assert len(slurm.calls()) == 1

    def test_squeue_that_fails_and_does_not_say_so(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Exit code 0 and nothing but words about a controller that is away: that is no answer."""
        slurm.answer("squeue", err="squeue: error: slurm_load_jobs error: Unable to contact slurm controller\n")
        assert SlurmCluster(slurm.environment).look(jobs_of(submission, job_of(1, job_id="50"))) == {}

    def test_nothing_to_ask(self, slurm: SlurmCommands) -> None:
        """Without jobs Slurm is left alone: a list of no names would ask for everybody's."""
        assert SlurmCluster(slurm.environment).look({}) == {}
        assert slurm.calls() == []

    def test_jobs_of_a_name(self, slurm: SlurmCommands) -> None:
        """Those that have not ended; no answer is an error, not an empty list."""
        slurm.answer(
            "squeue", out="chain|7|N/A|RUNNING|n1|None\nchain|9|N/A|PENDING||Dependency\nother|8|N/A|PENDING||None\n"
        )
        assert SlurmCluster(slurm.environment).find_jobs("chain") == [JobNumber("7"), JobNumber("9")]
        assert SlurmCluster(slurm.environment).find_jobs("chain", pending=True) == [JobNumber("9")]
        slurm.answer("squeue", err="slurm_load_jobs error: Unable to contact slurm controller\n", code=1)
        with pytest.raises(InfrastructureError, match="squeue does not answer"):
            SlurmCluster(slurm.environment).find_jobs("chain")


class TestExplain:
    def test_states_by_element(self, slurm: SlurmCommands) -> None:
        """One sacct for all; pending ranges and the user behind CANCELLED are understood, other jobs are not ours."""
        slurm.answer(
            "sacct",
            out="50_0|COMPLETED\n50_1|CANCELLED by 0\n50_[2,4-6%1]|CANCELLED by 1000\n51_3|TIMEOUT\n51_4|OUT_OF_MEMORY\n"
            "52_0|COMPLETED\n50|COMPLETED\n50_0.batch|FAILED\n\nnoise\n",
        )
        found = SlurmCluster(slurm.environment).explain({1: job_of(1, job_id="50"), 2: job_of(2, job_id="51"), 3: job_of(3)})
        assert found == {
            1: {0: "COMPLETED", 1: "CANCELLED", 2: "CANCELLED", 4: "CANCELLED", 5: "CANCELLED", 6: "CANCELLED"},
            2: {3: "TIMEOUT", 4: "OUT_OF_MEMORY"},
        }
        assert len(slurm.calls()) == 1
        assert "--jobs=50,51 " in slurm.calls()[0]

    def test_each_cluster_has_accounts_of_its_own(self, slurm: SlurmCommands) -> None:
        """The same number on two clusters is two jobs."""
        slurm.answer("sacct", out="50_0|COMPLETED\n", only_with="--clusters=a")
        cluster = SlurmCluster(slurm.environment)
        jobs = {1: job_of(1, job_id="50", cluster="a"), 2: job_of(2, job_id="50", cluster="b")}
        assert cluster.explain(jobs) == {1: {0: "COMPLETED"}, 2: {}}
        assert len(slurm.calls()) == 2

    def test_asks_back_to_before_the_oldest_job(self, slurm: SlurmCommands) -> None:
        """Without a start sacct knows of today only; clocks of hosts may differ, so it begins an hour early."""
        SlurmCluster(slurm.environment).explain({1: job_of(1, job_id="50"), 2: job_of(2, job_id="51")})
        start = re.search(r"--starttime=(\S+)", slurm.calls()[0])
        assert start is not None
        assert time.mktime(datetime.fromisoformat(start[1]).timetuple()) == job_of(1).intended_at - 3600

    def test_no_accounting(self, slurm: SlurmCommands, tmp_path: Path) -> None:
        """Where there is no accounting, or no sacct, nobody knows; and what nobody knows is no error."""
        slurm.answer("sacct", err="Slurm accounting storage is disabled\n", code=1)
        assert SlurmCluster(slurm.environment).explain({1: job_of(1, job_id="50")}) == {}
        assert SlurmCluster({"PATH": str(tmp_path / "none")}).explain({1: job_of(1, job_id="50")}) == {}
        assert SlurmCluster(slurm.environment).explain({1: job_of(1)}) == {}


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        ({"out": "KillWait     = 30 sec\nMaxArraySize            = 5\nMaxJobCount = 10000\n"}, 5),
        ({"out": "MaxArraySize=0\n"}, 1),
    ],
)
def test_size_of_arrays(answer: dict[str, Any], size: int, slurm: SlurmCommands) -> None:
    """As the site says."""
    slurm.answer("scontrol", **answer)
    assert SlurmCluster(slurm.environment).max_array(SHARED) == size
    assert slurm.calls() == ["scontrol show config"]


def test_size_of_arrays_that_nobody_tells(slurm: SlurmCommands) -> None:
    """Where nobody answers there is no guess: a wrong one would be refused for good."""
    slurm.answer("scontrol", err="Unable to contact slurm controller\n", code=1)
    with pytest.raises(SubmitUncertainError, match="Unable to contact"):
        SlurmCluster(slurm.environment).max_array(SHARED)


def test_size_of_arrays_that_scontrol_may_not_tell(slurm: SlurmCommands) -> None:
    """Any other trouble of scontrol's is no reason to wait for ever: Slurm's default it is, and sbatch has the last word."""
    slurm.answer("scontrol", err="scontrol: error: no cluster 'other' known by database\n", code=1)
    launch = msgspec.structs.replace(SHARED, slurm={"clusters": "other"})
    assert SlurmCluster(slurm.environment).max_array(launch) == 1001
    assert slurm.calls() == ["scontrol --clusters=other show config", "scontrol show config"]


def test_gpus_that_slurm_knows_of(slurm: SlurmCommands) -> None:
    """By sinfo, of the partition that is asked for; where that fails nobody knows that there are none."""
    cluster = SlurmCluster(slurm.environment)
    launch = msgspec.structs.replace(SHARED, partition="long", slurm={"clusters": "other"})
    for answer, found in (("gpu:a100:4\n(null)\n", True), ("(null)\n", False), ("", True)):
        slurm.answer("sinfo", out=answer)
        assert cluster.has_gpus(launch) is found
    assert slurm.calls()[-1] == "sinfo --clusters=other --all --noheader --partition=long --format=%G"
    slurm.answer("sinfo", out="(null)\n", code=1)
    assert cluster.has_gpus(launch)


def test_nodes(slurm: SlurmCommands) -> None:
    """Sinfo is asked for each node of each partition; without an answer nothing is known."""
    cluster = SlurmCluster(slurm.environment)
    slurm.answer("sinfo", out="long|n1|idle\nshort*|n2|idle\n")
    assert cluster.nodes(msgspec.structs.replace(SHARED, partition="long", slurm={"clusters": "other"})) == {"n1": ""}
    assert slurm.calls()[-1] == "sinfo --clusters=other --all --noheader --Node --format=%P|%N|%T"
    restricted = msgspec.structs.replace(SHARED, partition="long", slurm={"nodelist": "n[1-4]", "exclude": "n[1-2]"})
    slurm.answer("sinfo", out="long|n1|idle\n")
    assert cluster.nodes(restricted) == {}
    assert [call.split()[4] for call in slurm.calls()[-2:]] == ["--nodes=n[1-4]", "--nodes=n[1-2]"]
    slurm.answer("sinfo", err="sinfo: error: away\n", code=1)
    with pytest.raises(InfrastructureError, match="sinfo: error: away"):
        cluster.nodes(SHARED)


class TestAnswers:
    def test_no_slurm_here(self, slurm: SlurmCommands) -> None:
        """An sbatch without a Slurm: all of its words, since the last line alone says little."""
        words = "scontrol: error: fetch_config: DNS SRV lookup failed\nscontrol: fatal: Could not establish a configuration"
        slurm.answer("scontrol", err=f"{words}\n", code=1)
        with pytest.raises(InfrastructureError) as error:
            SlurmCluster(slurm.environment).check_answers(SHARED)
        assert str(error.value) == words

    def test_slurm_that_does_not_know_the_cluster(self, slurm: SlurmCommands) -> None:
        """There is a Slurm; what is wrong with the name is for sbatch to say."""
        slurm.answer("scontrol", err="no cluster 'other' known by database\n", code=1, only_with="--clusters")
        launch = msgspec.structs.replace(SHARED, slurm={"clusters": "other"})
        SlurmCluster(slurm.environment).check_answers(launch)


class TestOrders:
    def test_cancel_by_id_and_by_name(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Jobs end by their ids; one whose id nobody has learned ends by its name."""
        SlurmCluster(slurm.environment).cancel(
            jobs_of(submission, job_of(1, job_id="50"), job_of(2), job_of(3, job_id="52"))
        )
        assert slurm.calls() == ["scancel --quiet 50 52", "scancel --quiet --name=t-0002"]

    def test_cancel_on_other_clusters(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Each job ends where it is; where a number may mean two jobs, its name says which."""
        jobs = job_of(1, job_id="50", cluster="a"), job_of(2, cluster="a,b"), job_of(3, job_id="51", cluster="a,b")
        SlurmCluster(slurm.environment).cancel(jobs_of(submission, *jobs))
        assert slurm.calls() == [
            "scancel --clusters=a --quiet 50",
            "scancel --clusters=a,b --quiet --name=t-0002",
            "scancel --clusters=a,b --quiet --name=t-0003",
        ]

    def test_cancel_somewhere(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Of `--clusters=all` too an id may mean a job on each of them, one of which is another run's."""
        SlurmCluster(slurm.environment).cancel(jobs_of(submission, job_of(1, job_id="50", cluster="all")))
        assert slurm.calls() == ["scancel --clusters=all --quiet --name=t-0001"]

    def test_single_jobs(self, slurm: SlurmCommands) -> None:
        """By number where that is, by name wherever the run's jobs may be."""
        cluster = SlurmCluster(slurm.environment, clusters="a,b")
        cluster.cancel_job(JobNumber("9", "b"))
        cluster.cancel_name("chain")
        assert slurm.calls() == ["scancel --clusters=b --quiet 9", "scancel --clusters=a,b --quiet --name=chain"]

    def test_cancel_of_nothing(self, slurm: SlurmCommands) -> None:
        """Nothing is asked of scancel without saying what it is to end."""
        SlurmCluster(slurm.environment).cancel({})
        assert slurm.calls() == []

    def test_cancel_that_is_not_taken(self, slurm: SlurmCommands, submission: Submission) -> None:
        """Tasks that may still run are not said to be told."""
        slurm.answer("scancel", err="scancel: error: Unable to contact slurm controller\n", code=1)
        with pytest.raises(InfrastructureError, match="try again"):
            SlurmCluster(slurm.environment).cancel(jobs_of(submission, job_of(1, job_id="50")))

    def test_cancel_that_one_cluster_does_not_take(self, slurm: SlurmCommands, submission: Submission) -> None:
        """The jobs of the others end all the same."""
        slurm.answer("scancel", err="scancel: error: Unable to contact slurm controller\n", code=1, only_with="--clusters=a")
        jobs = job_of(1, job_id="50", cluster="a"), job_of(2, job_id="51", cluster="b"), job_of(3)
        with pytest.raises(InfrastructureError, match="try again"):
            SlurmCluster(slurm.environment).cancel(jobs_of(submission, *jobs))
        assert [call.split()[-1] for call in slurm.calls()] == ["50", "51", "--name=t-0003"]

    def test_nodes_are_avoided_by_those_that_wait(self, slurm: SlurmCommands) -> None:
        """Waiting tasks of known jobs are kept away; that Slurm does not take it is no error."""
        slurm.answer("scontrol", err="error\n", code=1)
        jobs = [job_of(1, job_id="50"), job_of(2), job_of(3, job_id="52", cluster="other")]
        SlurmCluster(slurm.environment).avoid(jobs, ["n2", "n1"])
        assert slurm.calls() == [
            "scontrol update JobId=50 ExcNodeList=n1,n2",
            "scontrol --clusters=other update JobId=52 ExcNodeList=n1,n2",
        ]

    def test_wait_for_others(self, slurm: SlurmCommands) -> None:
        """A job starts when others have ended, however they end; that Slurm does not take it is no error."""
        slurm.answer("scontrol", err="error\n", code=1)
        SlurmCluster(slurm.environment).wait_for_jobs(JobNumber("9"), ["50", "52"])
        SlurmCluster(slurm.environment).wait_for_jobs(JobNumber("9", "other"), ["50"])
        assert slurm.calls() == [
            "scontrol update JobId=9 Dependency=afterany:50:52 StartTime=now",
            "scontrol --clusters=other update JobId=9 Dependency=afterany:50 StartTime=now",
        ]
