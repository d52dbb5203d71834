"""On a real Slurm: nodes, daemons, commands, controllers and clips fail, and the files are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from support.real_cluster import RealCluster
from support.runs import group_members, wait_for
from support.slurm_runs import SlurmRun, Watch, job_of, plan_of, slurm_run
from support.small_run import small_tar

from hpc.patience import GRACE_SECONDS
from hpc.rounds import cluster_of, launch_of, make_controller
from hpc.run import Run
from jobs.claims import read_claim
from jobs.records import ErrorRecord, decode_record

UNDER_WAY = 75


def put_in_front(run: SlurmRun, program: str, script: str) -> Path:
    """Have the run find `script` under the name of one of Slurm's programs, which it knows as "$REAL".

    Returns a folder for what the script wants to read and write, its $NOTES. The run's PATH then has what is beside Slurm's
    programs, but for sacct, and nothing else.
    """
    commands, notes = run.folder / "bin", run.folder / "notes"
    commands.mkdir()
    notes.mkdir()
    found = shutil.which(program)
    assert found is not None
    real = Path(found)
    for other in real.parent.iterdir():
        if other.name not in {program, "sacct"}:
            (commands / other.name).symlink_to(other)
    (commands / program).write_text(f"#!/bin/sh\nREAL={real}\nNOTES={notes}\n{script}")
    (commands / program).chmod(0o755)
    run.env["PATH"] = str(commands)
    return notes


def yield_at_work(slurm: RealCluster, run: SlurmRun) -> int:
    """Ask the workers that hold a claim to stop, as Slurm does before a time limit; returns how many."""
    rows = {(row.name, row.id.partition("_")[2]): row.id for row in slurm.squeue() if row.state == "RUNNING"}
    names = {submission.number: job.name for submission in run.submissions() if (job := submission.read_job())}
    asked = 0
    for claim in run.claims().values():
        number, _, element = claim.task.partition("/")
        if row := rows.get((names[int(number)], element)):
            slurm.run("scancel", "--signal=USR2", row)
            asked += 1
    return asked


def assert_nobody_blamed(run: SlurmRun) -> None:
    """No tar was quarantined, no node avoided, no clip given up, and the controller never gave up."""
    for entry in run.history():
        found = {key: entry[key] for key in ("quarantine", "exclude", "crash_clips", "diagnosis")}
        assert not any(found.values()), found


def lose_a_node(slurm: RealCluster, run: SlurmRun, shape: list[object]) -> None:
    """Run until node n1 loses power with four tars in hand; it comes back, and is the only one that may finish them."""
    run.submit(*shape, pause=60)
    [job] = run.job_ids()

    def at_work() -> bool:
        claims = run.claims()
        return len(claims) == 8 and all(run.lines_of(name) >= 2 for name in claims)

    slurm.wait(at_work, "two lines of each tar")
    lost = {name for name, claim in run.claims().items() if claim.host == "n1"}
    assert len(lost) == 4
    for node in ("n2", "n3", "n4"):
        slurm.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    slurm.kill_node("n1")
    lines = {name: run.lines_of(name) for name in lost}
    slurm.wait(lambda: {row.node for row in slurm.squeue(job)} == {"n2"}, "Slurm to miss the node's tasks")
    run.once(check=UNDER_WAY)
    assert [row.state for row in slurm.squeue(run.job_ids()[1])] == ["PENDING"] * (1 if shape else 4)
    slurm.boot_node("n1")

    def taken_over() -> set[str]:
        return {name for name, claim in run.claims().items() if claim.task.startswith("0002/")}

    slurm.wait(lambda: taken_over() == lost, "who takes them over")
    run.release()
    run.finish()

    gained = {(number, node, attempt.name): attempt.gained for number, node, attempt in run.tries() if number > 1}
    assert gained == {(2, "n1", name): 12 - lines[name] for name in lost}, "their lines were kept, and the rest made once"
    others = [attempt for number, node, attempt in run.tries() if number == 1 and node == "n2"]
    assert [(attempt.gained, attempt.outcome) for attempt in others] == [(12, "committed")] * 4
    assert_nobody_blamed(run)
    run.assert_complete()


@pytest.mark.parametrize("shape", [[], ["--gpus-per-node", 4]], ids=["shared nodes", "whole nodes"])
def test_a_node_loses_power_and_comes_back(slurm: RealCluster, tmp_path: Path, shape: list[object]) -> None:
    """Other tasks go on where its tasks were: no line is made twice, and the loss counts against nobody."""
    run = slurm_run(tmp_path, tars=8, clips=12)
    lose_a_node(slurm, run, shape)
    slurm.wait(lambda: "NODE_FAIL" in slurm.states(run.job_ids()[0]), "NODE_FAIL")


def test_a_node_is_lost_where_there_is_no_accounting(slurm_without_accounting: RealCluster, tmp_path: Path) -> None:
    """The command sacct refuses to answer: squeue and the files are enough."""
    lose_a_node(slurm_without_accounting, slurm_run(tmp_path, tars=8, clips=12), ["--gpus-per-node", 4])


def let_jobs_age(run: SlurmRun, *states: str) -> None:
    """As if all, or those of these states, had been submitted longer ago than a job may take to turn up."""
    for submission in run.submissions():
        job = submission.read_job()
        if job is not None and (job.state in states or not states):
            times = {name: getattr(job, name) - GRACE_SECONDS - 1 for name in ("intended_at", "answered_at")}
            submission.write_job(msgspec.structs.replace(job, **times))


def test_an_orphan_and_its_successor_write_the_same_tar(slurm: RealCluster, tmp_path: Path) -> None:
    """A task whose slurmstepd died works on unseen; another takes its tar over; it ends without harm, and says why."""
    run = slurm_run(tmp_path, tars=1, clips=20)
    run.submit(pause=60)
    slurm.wait(lambda: run.lines() >= 3, "three lines")
    [row] = slurm.squeue(run.job_ids()[0])
    [(name, claim)] = run.claims().items()
    slurm.kill_stepd(row.id)
    os.kill(claim.pid, signal.SIGSTOP)  # only until its successor has begun: or else it might be done before
    before = run.lines()
    slurm.run("scontrol", "update", f"nodename={row.node}", "state=drain", "reason=test")
    slurm.run("scancel", row.id)
    slurm.wait(lambda: not slurm.squeue(), "Slurm to forget the job")
    assert slurm.job_processes(row.raw_id)

    let_jobs_age(run)  # squeue, which does not show the young job, might be late
    run.once(check=UNDER_WAY)
    slurm.wait(lambda: run.claims()[name].host != row.node and run.lines() > before, "its successor")
    os.kill(claim.pid, signal.SIGCONT)
    run.release()
    run.finish()
    slurm.wait(lambda: not slurm.job_processes(row.raw_id), "the orphan's end")

    [orphan, *rest] = run.tries()
    assert (orphan[1], orphan[2].gained) == (row.node, 20), "it made every line, in its own file"
    assert [(number, node != row.node, each.gained) for number, node, each in rest] == [(2, True, 20 - before)]
    assert [("another worker has" in text, number) for number, text in run.logs()] == [(True, 1), (False, 2)]
    assert_nobody_blamed(run)
    run.assert_complete()


def arrays(slurm: RealCluster, run: SlurmRun) -> list[str]:
    """Names of the arrays that Slurm has ever had of this run."""
    words = ["-n", "-P", "-X", "-D", "-S", "now-1hours", "-o", "JobID,JobName"]
    rows = [line.split("|") for line in slurm.run("sacct", *words).splitlines()]
    run_id = Run(run.output).read_state().run_id
    return sorted(name for _, name in {(job.partition("_")[0], name) for job, name in rows if run_id in name})


def test_an_sbatch_that_submits_and_then_fails(slurm: RealCluster, tmp_path: Path) -> None:
    """Its job is found by its name: nothing is submitted twice, though each sbatch says that it failed."""
    run = slurm_run(tmp_path, tars=2, clips=100)
    notes = put_in_front(run, "sbatch", 'echo call >> $NOTES/calls; $REAL "$@" > /dev/null; exit 1\n')
    run.submit(pause=1)
    [submission] = run.submissions()
    assert job_of(submission).state == "intended"
    slurm.wait(lambda: len(run.claims()) == 2 and run.lines() >= 2, "both workers")
    run.once(check=UNDER_WAY)
    assert job_of(submission).job_id == slurm.squeue()[0].id.partition("_")[0]
    assert yield_at_work(slurm, run) == 2
    slurm.wait(lambda: not run.claims(), "both to yield")
    run.release()
    run.finish()
    assert len((notes / "calls").read_text().split()) == len(run.submissions())
    plans = [plan_of(submission) for submission in run.submissions()[1:]]  # one, or two if one task ended before the other
    assert sorted(task.name for plan in plans for slot in plan.slots for task in slot) == ["000", "001"]
    names = [job_of(each).name for each in run.submissions()]
    slurm.wait(lambda: arrays(slurm, run) == names, "one array of each submission in the records")
    assert_nobody_blamed(run)
    run.assert_complete()


def test_an_sbatch_that_submits_and_never_ends(slurm: RealCluster, tmp_path: Path) -> None:
    """After the time-out its job is found by its name, and runs once."""
    run = slurm_run(tmp_path, tars=2, clips=12)
    notes = put_in_front(
        run,
        "sbatch",
        """read mode < $NOTES/mode
        case $mode in
        refuses) echo "sbatch: error: Invalid partition name specified" >&2; exit 1;;
        hangs) $REAL "$@"; exec /bin/sleep 600;;
        *) exec $REAL "$@";;
        esac
        """,
    )
    (notes / "mode").write_text("refuses\n")  # so that there is a run, and nothing submitted
    run.submit(pause=0.3, check=2)
    assert (run.job_ids(), slurm.squeue()) == ([], [])
    (notes / "mode").write_text("hangs\n")
    launch = launch_of(Run(run.output))
    controller = make_controller(Run(run.output), cluster_of(launch, patience_s=10), launch)
    controller.round()
    submission = run.submissions()[-1]
    assert "no answer in 10 s" in job_of(submission).words
    assert run.job_ids() == []
    (notes / "mode").write_text("works\n")
    run.finish()
    assert run.submissions()[-1] == submission
    slurm.wait(lambda: arrays(slurm, run) == [job_of(submission).name], "one array in the records")
    assert {attempt.outcome for _, _, attempt in run.tries()} == {"committed"}
    run.assert_complete()


def test_a_squeue_that_fails_for_a_while_where_there_is_no_sacct(slurm: RealCluster, tmp_path: Path) -> None:
    """What is not known is not gone: nothing is submitted until squeue answers, though the tasks have long ended."""
    run = slurm_run(tmp_path, tars=3, clips=100)
    script = """if test -e $NOTES/fails; then
        echo call >> $NOTES/calls
        echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
        exit 1
    fi
    exec $REAL "$@"
    """
    notes = put_in_front(run, "squeue", script)
    run.submit(pause=1)
    slurm.wait(lambda: len(run.claims()) == 3 and run.lines() >= 3, "three workers")
    with run.watching() as watch:
        (notes / "fails").touch()
        slurm.wait((notes / "calls").exists, "a failure")
        assert yield_at_work(slurm, run) == 3
        slurm.wait(lambda: not slurm.squeue(), "an empty queue")
        before = (notes / "calls").read_text().count("call")
        slurm.wait(lambda: (notes / "calls").read_text().count("call") >= before + 8, "eight more rounds")
        assert len(run.submissions()) == 1
        assert "which tasks run is not known for now" in watch.said()
        run.release()
        (notes / "fails").unlink()
        assert watch.ends() == 0
    assert len(run.submissions()) == 2
    assert_nobody_blamed(run)
    run.assert_complete()


def unknown(watch: Watch) -> int:
    """In how many rounds a watch had no answer from Slurm."""
    return watch.said().count("which tasks run is not known for now")


def test_slurmctld_is_away_for_a_while(slurm: RealCluster, tmp_path: Path) -> None:
    """Tasks run on and commit, those that end are not submitted again while nobody can tell, and the watch outlives it."""
    run = slurm_run(tmp_path, tars=4, clips=150)
    for tar in run.tars[:2]:
        small_tar(tar, clips=8)
    # Commands give up sooner than a slurmstepd, which comes again only after a minute when it could not tell of its end.
    impatient = tmp_path / "slurm.conf"
    impatient.write_text(slurm.conf.read_text().replace("MessageTimeout=10", "MessageTimeout=3"))
    run.env["SLURM_CONF"] = str(impatient)
    run.submit("--tars-per-gpu", 2, pause=1)  # a short one and a long one each
    with run.watching() as watch:
        slurm.wait(lambda: len(run.claims()) == 2, "two workers")
        slurm.stop_controller()
        slurm.wait(lambda: (run.output / "000.jsonl").exists() and (run.output / "001.jsonl").exists(), "two commits")
        slurm.wait(lambda: unknown(watch), "the watch to see it")
        slurm.wait(lambda: sorted(run.claims()) == ["002", "003"], "the long ones")
        for claim in run.claims().values():
            os.kill(claim.pid, signal.SIGUSR2)
        slurm.wait(lambda: not run.claims(), "the workers to yield")
        before = unknown(watch)
        slurm.wait(lambda: unknown(watch) > before, "the watch to see it again")
        assert len(run.submissions()) == 1
        run.release()
        slurm.start_controller()
        assert watch.ends() == 0
    planned = [task.name for submission in run.submissions()[1:] for slot in plan_of(submission).slots for task in slot]
    assert sorted(planned) == ["002", "003"]
    assert_nobody_blamed(run)
    run.assert_complete()


def test_a_clip_that_kills_its_worker(slurm: RealCluster, tmp_path: Path) -> None:
    """After two deaths it is a record of kind `crash`; its tars' other clips and the other tars are tokenized."""
    run = slurm_run(tmp_path, tars=8)
    run.settings = ["killer=105"]
    for tar in run.tars[2], run.tars[6]:
        small_tar(tar, clips=10, samples=100)
    run.submit(pause=0.05)
    run.finish()
    deaths = [attempt for _, _, attempt in run.tries() if attempt.outcome == "died"]
    assert all("SIGSEGV" in each.problem for each in deaths)
    assert [each.clip for each in deaths if not each.several] == [5] * 4
    found = {
        (path.stem, number)
        for path in run.output.glob("*.jsonl")
        for number, line in enumerate(path.read_bytes().splitlines())
        if isinstance(record := decode_record(line), ErrorRecord) and record.error_kind == "crash"
    }
    assert found == {("002", 5), ("006", 5)}
    assert not any(entry["quarantine"] or entry["exclude"] for entry in run.history())
    run.assert_complete()


def test_a_node_whose_gpu_is_broken(slurm: RealCluster, tmp_path: Path) -> None:
    """Every tar fails there at once: once others have shown that they work, it is avoided, and no tar suffers for it."""
    run = slurm_run(tmp_path, tars=8, clips=100)
    run.settings = ["broken_node=n2"]
    run.submit("--gpus-per-node", 4, pause=1)
    [job] = run.job_ids()
    with run.watching() as watch:
        slurm.wait(lambda: "n2" in {node for _, node, each in run.tries() if each.outcome == "machine"}, "a failure")
        slurm.wait(lambda: [each.host for each in run.claims().values()].count("n1") == 4 and run.lines() >= 4, "others")
        slurm.run("scancel", "--signal=USR2", f"{job}_0")  # or else its workers would do all, each tar that nobody is at
        slurm.wait(lambda: not any(each.task.startswith("0001/") for each in run.claims().values()), "them to yield")
        run.release()
        assert watch.ends() == 0
    assert "avoided: node n2" in watch.said()
    assert run.history()[-1]["exclude"].keys() == {"n2"}
    scripts = [submission.script_file.read_text() for submission in run.submissions()]
    assert "--exclude=n2\n" not in scripts[0]
    assert "--exclude=n2\n" in scripts[-1]
    assert not any(entry["quarantine"] or entry["diagnosis"] for entry in run.history())
    run.assert_complete()


def test_a_recipe_that_fails_everywhere(slurm: RealCluster, tmp_path: Path) -> None:
    """The loop stops and shows what a task said last; when that is fixed, hpc.submit goes on to the end."""
    run = slurm_run(tmp_path, tars=3)
    run.settings = ["fault=load"]
    run.submit()
    ended = run.finish(check=4)
    assert "stuck" in ended.stderr
    assert "ValueError: a bug in the backend" in ended.stderr
    assert run.tries()
    run.settings = []
    run.submit("--set", "fault=none")
    run.finish()
    run.assert_complete()


def at_rest_or_at_work(slurm: RealCluster, run: SlurmRun) -> bool:
    """Nothing is queued, or somebody works."""
    return not slurm.squeue() or any(claim.task for claim in run.claims().values())


def at_it(run: SlurmRun, pid: int) -> bool:
    """A process does a round now."""
    claim = read_claim(run.output / ".run" / "round.lock")
    return claim is not None and claim.pid == pid


def assert_planned_once_at_a_time(slurm: RealCluster, run: SlurmRun) -> None:
    """By Slurm's own records: whenever a tar was submitted again, the task that had it before had ended."""
    words = ["-n", "-P", "-X", "-D", "-S", "now-1hours", "-o", "JobID,JobName,Submit,End"]

    def records() -> dict[tuple[str, int], tuple[str, str]]:
        rows = [line.split("|") for line in slurm.run("sacct", *words).splitlines()]
        elements = [(job.partition("_")[2], name, submit, end) for job, name, submit, end in rows]
        return {(name, int(element)): (submit, end) for element, name, submit, end in elements if element.isdigit()}

    jobs = [(submission, job_of(submission).name) for submission in run.submissions() if submission.read_job()]
    slurm.wait(lambda: all(end != "Unknown" for _, end in records().values()), "the records to be complete")
    known = records()
    ended: dict[str, str] = {}
    for submission, name in jobs:
        for element, slot in enumerate(plan_of(submission).slots):
            for task in slot:
                if (name, element) in known:
                    submitted, end = known[name, element]
                    assert ended.get(task.name, "") <= submitted, f"{task.name} was submitted twice, the latter in {name}"
                    ended[task.name] = end
    assert set(ended) == {tar.stem for tar in run.tars}


def test_controllers_that_are_killed(slurm: RealCluster, tmp_path: Path) -> None:
    """At any moment of a round, while tasks yield: the next ones find their way, and no tar is submitted twice at a time."""
    run = slurm_run(tmp_path, tars=3, clips=150)
    run.submit(pause=1)
    moments = random.Random(7)
    killed = 0
    for _ in range(10):
        slurm.wait(lambda: at_rest_or_at_work(slurm, run), "workers")
        yield_at_work(slurm, run)
        words = [sys.executable, "-m", "hpc.resume", "--once", "--output-dir", str(run.output)]
        with subprocess.Popen(words, env=run.env, stdout=subprocess.DEVNULL, start_new_session=True) as controller:
            wait_for(lambda: controller.poll() is not None or at_it(run, controller.pid))
            with suppress(subprocess.TimeoutExpired):
                controller.wait(moments.uniform(0, 0.5))
            controller.kill()
        killed += controller.returncode == -signal.SIGKILL
        slurm.wait(lambda: not group_members(controller.pid), "the sbatch that it may have left")
        let_jobs_age(run, "intended")
    assert killed >= 3
    run.release()
    run.finish()
    assert_planned_once_at_a_time(slurm, run)
    assert_nobody_blamed(run)
    run.assert_complete()


def attempts(run: SlurmRun) -> set[str]:
    """What is at work now."""
    return {claim.attempt for claim in run.claims().values()}


def test_two_controllers_at_once(slurm: RealCluster, tmp_path: Path) -> None:
    """While tasks yield again and again, no tar is submitted twice at a time, and both see the end."""
    run = slurm_run(tmp_path, tars=4, clips=100)
    run.submit(pause=1)
    with run.watching() as one, run.watching() as other:
        asked: set[str] = set()
        for _ in range(3):
            slurm.wait(lambda: len(attempts(run) - asked) == 4, "four workers")  # noqa: B023 (it is used up at once)
            asked |= attempts(run)
            assert yield_at_work(slurm, run) == 4
        run.release()
        assert (one.ends(), other.ends()) == (0, 0)
    assert len(run.submissions()) >= 3
    assert_planned_once_at_a_time(slurm, run)
    assert_nobody_blamed(run)
    run.assert_complete()
