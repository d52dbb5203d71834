"""hpc/submissions.py: a submission's files, and what is kept of it once it has ended."""

from __future__ import annotations

import pickle
from pathlib import Path

import msgspec
import pytest
from support.small_run import mulaw_spec

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.plan import Plan, make_plan
from hpc.submissions import Job, Submission, read_submissions
from jobs.progress import Progress, Try, write_progress
from jobs.tar_task import TarTask


def plan_of(slots: int, processes: int = 1) -> Plan:
    tasks = tuple((TarTask(f"/d/{number}.tar", str(number), 1),) for number in range(slots))
    return make_plan(tasks, mulaw_spec(), submission=1, processes=processes)


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    (tmp_path / "0012").mkdir()
    return Submission(tmp_path / "0012")


def report(submission: Submission, slot: int, *tries: Try) -> None:
    write_progress(submission.report_file(slot), Progress(node="n1", tries=list(tries), audio_seconds=2.0))


def test_a_plan_is_written_once(submission: Submission) -> None:
    """No command can change what a pending task will read, not even one that took the same folder."""
    assert submission.read_plan() is None
    submission.write_plan(plan_of(2))
    with pytest.raises(InfrastructureError, match="exists already"):
        submission.write_plan(plan_of(3))
    assert submission.read_plan() == plan_of(2)
    assert submission.number == 12


def test_a_job_is_known_in_each_of_its_states(submission: Submission) -> None:
    """The intent is there before the answer; a later word replaces an earlier one."""
    assert submission.read_job() is None
    job = Job(name="n", elements=3, parallel=2, host="h", intended_at=1.5)
    submission.write_job(job)
    assert submission.read_job() == job
    done = Job(name="n", elements=3, parallel=2, host="h", intended_at=1.5, state="submitted", job_id="7")
    submission.write_job(done)
    assert submission.read_job() == done


def test_foreign_files_are_refused_by_name(submission: Submission) -> None:
    """A file that is not ours is never taken for an empty one."""
    submission.plan_file.write_text("{}")
    with pytest.raises(UsageError, match=r"plan\.json"):
        submission.read_plan()
    submission.plan_file.write_bytes(msgspec.json.encode(msgspec.structs.replace(plan_of(2), processes=0)))
    with pytest.raises(UsageError, match=r"plan\.json.*processes"):
        submission.read_plan()
    submission.job_file.write_bytes(pickle.dumps(1))
    with pytest.raises(UsageError, match=r"jobs\.json"):
        submission.read_job()


def test_jobs_of_older_versions(submission: Submission) -> None:
    """A file that knows no clusters is read; which cluster the job is on is then for the run's settings to say."""
    submission.job_file.write_text(
        '{"name": "tar2tokens-ab-0001", "elements": 4, "parallel": 4, "host": "h", "intended_at": 7.0, '
        '"state": "submitted", "job_id": "50", "words": "", "full": false, "round": 0, "in_queue": 0}'
    )
    job = submission.read_job()
    assert job == Job(
        name="tar2tokens-ab-0001", elements=4, parallel=4, host="h", intended_at=7.0, state="submitted", job_id="50"
    )
    assert job.cluster is None


def test_reports_are_read_as_far_as_there_are_any(submission: Submission) -> None:
    """A worker that has not reported yet, or whose report is torn, is left out."""
    report(submission, 0, Try("0"))
    submission.report_file(1).write_text('{"clips": 3')
    assert list(submission.reports(range(3))) == [0]
    assert submission.reports(range(3))[0].tries == [Try("0")]


class TestEnd:
    def test_digest_keeps_what_tasks_reported(self, submission: Submission) -> None:
        """Once closed, one file says all that later rounds need; it counts how tasks ended in Slurm's words."""
        report(submission, 0, Try("0", "committed", gained=5))
        report(submission, 2, Try("2", "working"))
        assert submission.read_digest() is None
        digest = submission.close(plan_of(3), {0: "COMPLETED", 1: "NODE_FAIL", 2: "NODE_FAIL"})
        assert submission.read_digest() == digest
        assert [(end.slot, end.progress.tries[0].outcome) for end in digest.ends] == [(0, "committed"), (2, "working")]
        assert digest.states == {"COMPLETED": 1, "NODE_FAIL": 2}

    def test_tasks_that_never_came_to_their_work_are_counted(self, submission: Submission) -> None:
        """A log without a report is a task that started in vain; no log is a task that never started."""
        submission.logs.mkdir()
        for name in ("5_0_0_log.out", "5_1_0_log.out", "5_1_1_log.out", "5_2_0_log.out", "notes.txt", "5_x_0_log.out"):
            (submission.logs / name).write_text("x")
        report(submission, 5, Try("5"))  # of element 2
        assert [(element, rank) for element, rank, _ in submission.log_files()] == [(0, 0), (1, 0), (1, 1), (2, 0)]
        assert submission.close(plan_of(8, processes=2), {}).silent == 2

    def test_tasks_that_had_no_room_for_a_word(self, submission: Submission) -> None:
        """An empty log, or one that speaks of a full disk, with no report: no sign of a broken environment."""
        submission.logs.mkdir()
        logs = ("", " \n", "OSError: [Errno 28] No space left on device\n", "python: command not found\n", "")
        for element, text in enumerate(logs):
            (submission.logs / f"5_{element}_0_log.out").write_text(text)
        digest = submission.close(plan_of(5), {4: "CANCELLED"})
        assert (digest.silent, digest.wordless) == (1, 3)
        assert submission.read_digest() == digest

    def test_tasks_whose_node_died(self, submission: Submission) -> None:
        """While they started: by the accounts, or by Slurm's last words. It says nothing of them; but nothing came of it."""
        submission.logs.mkdir()
        words = "slurmstepd: error: *** STEP 5.0 ON n1 CANCELLED AT 2026-11-28T08:00 DUE TO NODE FAILURE, SEE SLURMCTLD LOG"
        for element, text in enumerate(("loading modules", words, "loading modules")):
            (submission.logs / f"5_{element}_0_log.out").write_text(text)
        digest = submission.close(plan_of(3), {0: "NODE_FAIL", 2: "FAILED"})
        assert (digest.silent, digest.wordless, digest.stopped) == (1, 0, False)

    def test_whom_somebody_stopped(self, submission: Submission) -> None:
        """By Slurm's accounts, or, where they do not know yet or never will, by the log; a time limit is no such end."""
        last = "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-11-28T08:00:00"
        logs = {0: "x", 1: f"{last} ***", 2: f"{last} DUE TO PREEMPTION ***", 3: f"{last} DUE TO TIME LIMIT ***"}
        submission.logs.mkdir()
        for element, text in logs.items():
            (submission.logs / f"5_{element}_0_log.out").write_text(f"{text}\n")
        digest = submission.close(plan_of(4), {0: "CANCELLED", 1: "RUNNING"})
        assert (digest.silent, digest.stopped) == (1, False)
        assert submission.close(plan_of(4), {0: "PREEMPTED", 3: "CANCELLED"}).stopped
        assert submission.close(plan_of(4), {0: "PREEMPTED", 3: "CANCELLED", 1: "FAILED"}).silent == 1
        report(submission, 1, Try("1", "working", gained=2))
        assert not submission.close(plan_of(4), dict.fromkeys(range(4), "CANCELLED")).stopped

    def test_ends_that_are_not_told_yet(self, submission: Submission) -> None:
        """Of tasks that came to nothing; what has a log that tells, an end in the accounts, or new lines, is told."""
        submission.logs.mkdir()
        for element in range(2):
            (submission.logs / f"5_{element}_0_log.out").write_text("x")
        assert submission.lacks_states(plan_of(2), {})
        assert submission.lacks_states(plan_of(2), {0: "FAILED", 1: "RUNNING"})
        assert not submission.lacks_states(plan_of(2), {0: "FAILED", 1: "CANCELLED"})
        report(submission, 0, Try("0", "committed", gained=3))
        assert submission.lacks_states(plan_of(2), {})
        report(submission, 1, Try("1", "working"))
        assert not submission.lacks_states(plan_of(2), {})

    def test_nobody_has_stopped_what_never_began(self, submission: Submission) -> None:
        """A job of which there is no trace at all has not been cancelled for all that anyone knows."""
        assert not submission.close(plan_of(2), {}).stopped
        assert submission.close(plan_of(2), {0: "CANCELLED", 1: "CANCELLED"}).stopped

    def test_a_whole_job_that_ran_out_of_memory(self, submission: Submission) -> None:
        """Where the kernel kills the witness too, Slurm's word makes it a death; tries that had ended stay as they are."""
        report(submission, 0, Try("a", "committed"), Try("b", "working"))
        report(submission, 1, Try("c", "loading"))
        report(submission, 2, Try("d", "yielded"))
        report(submission, 4, Try("e", "working"))
        report(submission, 5)
        states = {0: "OUT_OF_MEMORY", 1: "OUT_OF_MEMORY", 2: "TIMEOUT"}
        ends = {end.slot: end.progress.tries for end in submission.close(plan_of(6, processes=2), states).ends}
        assert [(one.name, one.outcome) for one in ends[0]] == [("a", "committed"), ("b", "died")]
        assert "--mem-per-gpu" in ends[0][1].problem
        assert [ends[slot][0].outcome for slot in (1, 2, 4)] == ["died", "yielded", "working"]


def test_submissions_are_listed_oldest_first(tmp_path: Path) -> None:
    """By number, past 9999 too; other things in the folder are none, whatever digits they are called by."""
    assert read_submissions(tmp_path / "none") == []
    for name in ("0002", "10000", "0001", "9999", "x", "0003.old", "²", "٣", "1", "00001", "09999", "9" * 200):
        (tmp_path / name).mkdir()
    (tmp_path / "0004").write_text("a file of somebody's")
    assert [one.number for one in read_submissions(tmp_path)] == [1, 2, 9999, 10000]


def test_log_names_are_those_that_are_found_again(submission: Submission) -> None:
    """The file that a task's output goes to is the one that failures are explained with."""
    submission.logs.mkdir()
    path = submission.log_file("local", 3, 1)
    path.write_text("x")
    assert submission.log_files() == [(3, 1, path)]
