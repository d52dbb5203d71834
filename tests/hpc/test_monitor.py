"""hpc/monitor.py: a run in figures and in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.boards import snapshot
from support.fake_cluster import Campaign, FakeCluster
from support.small_run import stopping_after, tokenize

from hpc.cluster import TaskSeen
from hpc.failure_groups import Failure
from hpc.monitor import (
    Speed,
    describe_failures,
    describe_log,
    describe_running,
    line,
    share_done,
    take_snapshot,
)
from hpc.patience import GRACE_SECONDS
from hpc.stalls import stall_file, write_stall
from jobs.activities import Activity
from jobs.progress import DeviceSeconds, Progress, Try, write_progress
from jobs.watchdog import Stall


class TestSnapshot:
    def test_what_runs_and_what_waits(self, tmp_path: Path) -> None:
        """Running tasks by node, pending ones with Slurm's reasons, tars for which there is no job yet."""
        campaign = Campaign(tmp_path, 6, FakeCluster(queue_limit=4))
        campaign.controller().round()
        first, *_ = campaign.cluster.living()
        for element, node in enumerate(("n2", "n1", "n2")[: len(first.alive)]):
            campaign.cluster.begin(first, element, node)
        now = take_snapshot(campaign.controller().round())
        assert now.running == {"n1": 1, "n2": 2}
        assert (now.pending, now.reasons, now.waiting) == (1, {"Priority": 1}, 2)
        assert (now.tars, now.done, now.unknown) == (6, 0, 0)

    def test_live_counts_of_running_tasks(self, tmp_path: Path) -> None:
        """Bytes of tars that are under way are those that their workers report; audio is what has its line in a file."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        (job,) = campaign.cluster.living()
        size = campaign.tars[0].stat().st_size
        report = Progress(clips=2, audio_seconds=7.0, tar_bytes=600, tries=[Try("0", "working", gained=2)], node="n1")
        campaign.cluster.begin(job, 0)
        write_progress(job.submission.report_file(0), report)
        now = take_snapshot(controller.round())
        assert (now.bytes_done, now.bytes_total) == (600, 2 * size)
        assert (now.encoded_seconds, now.audio_seconds, now.counted_seconds) == (7.0, 0.0, 0.0)
        tokenize(campaign.tars[0], campaign.run.output_dir, **stopping_after(2))
        tokenize(campaign.tars[1], campaign.run.output_dir, **stopping_after(2))
        now = take_snapshot(controller.round())
        assert 0 < now.counted_seconds < now.audio_seconds  # of the second tar nobody knows how many bytes are used

    @pytest.mark.parametrize("gpu", [None, "0"])
    def test_what_devices_wait_for(self, gpu: str | None, tmp_path: Path) -> None:
        """The seconds of the workers that are at it; one that has come to its end waits for nothing."""
        campaign = Campaign(tmp_path, 3)
        controller = campaign.controller()
        controller.round()
        (job,) = campaign.cluster.living()
        for element in range(3):
            campaign.cluster.begin(job, element)
            report = Progress(device_seconds=DeviceSeconds(8.0, 1.0, 1.0), finished=element == 2, gpu=gpu)
            write_progress(job.submission.report_file(element), report)
        now = take_snapshot(controller.round())
        assert (now.device_seconds, now.on_gpu) == (DeviceSeconds(16.0, 2.0, 2.0), gpu is not None)

    def test_end(self, tmp_path: Path) -> None:
        """When all is committed, clips, errors and bytes are those of the files."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        campaign.cluster.run_all()
        now = take_snapshot(controller.round())
        size = sum(tar.stat().st_size for tar in campaign.tars)
        assert (now.done, now.clips, now.errors, now.bytes_done, now.bytes_total) == (2, 6, 2, size, size)
        assert (now.running, now.pending) == ({}, 0)

    def test_tars_in_quarantine_are_no_work_left(self, tmp_path: Path) -> None:
        """What has been given up delays no ETA: its bytes are not among those to do."""
        campaign = Campaign(tmp_path, 2)
        campaign.tars[1].write_bytes(campaign.tars[1].read_bytes()[:4000])
        controller = campaign.controller()
        controller.round()
        campaign.cluster.run_all()
        now = take_snapshot(controller.round())
        assert (now.done, now.quarantined) == (1, 1)
        assert (now.audio_seconds, now.counted_seconds, now.quarantined_seconds) == (0.015, 0.01, 0.005)
        assert now.bytes_done == now.bytes_total == campaign.tars[0].stat().st_size

    def test_no_progress(self, tmp_path: Path) -> None:
        """A living task that is stuck is told with the time since when; one that has ended is not."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        (job,) = campaign.cluster.living()
        for element in range(2):
            campaign.cluster.begin(job, element)
            stall = Stall(Activity(0, 1, 600.0, "decode", str(element), 7), 300.0)
            write_stall(stall_file(job.submission, element), f"0001/{element}", "n1", stall, 1000.0 + element)
        campaign.cluster.lose(job, 1)
        now = take_snapshot(controller.round())
        assert [(still.task, still.since) for still in now.stalls] == [("0001/0", 700.0)]
        assert "task 0001/0 on n1 has made no progress since" in line(now, "")
        assert "decoding clip 7 of 0" in line(now, "")

    def test_not_known(self, tmp_path: Path) -> None:
        """Where squeue fails, a submission counts as unknown, and not as ended."""
        campaign = Campaign(tmp_path, 2)
        campaign.controller().round()
        campaign.cluster.blind = True
        campaign.clock.now += GRACE_SECONDS
        now = take_snapshot(campaign.controller().round())
        assert now.unknown == 1
        assert "1 submission whose state is unknown now" in describe_running(now)


class TestWords:
    def test_speed_is_that_of_this_watch(self) -> None:
        """The rate and the ETA count from the first look on; hours are those of the whole run."""
        first = snapshot(audio_seconds=3600.0, encoded_seconds=7200.0, bytes_done=1_000_000)
        speed = Speed(first, 100.0)
        assert speed.words(first, 100.0) == "1.00 audio-h at 0 audio-h/h, ETA ?"
        later = snapshot(audio_seconds=7200.0, encoded_seconds=10800.0, bytes_done=2_000_000)
        assert speed.words(later, 136.0) == "2.00 audio-h at 100 audio-h/h, ETA 0:01:12"

    def test_what_is_left_is_judged_by_audio(self) -> None:
        """What a job goes on with is no work of this watch, however many bytes it passes over; a clip of 100 hours of which
        60 are there takes what 40 take.
        """
        hour = 3600.0
        speed = Speed(snapshot(audio_seconds=60 * hour, encoded_seconds=500 * hour), 0.0)
        later = {"audio_seconds": 62 * hour, "encoded_seconds": 502 * hour, "counted_seconds": 62 * hour}
        words = speed.words(snapshot(**later, bytes_done=620, bytes_total=1000), hour)
        assert words == "62.00 audio-h at 2 audio-h/h, ETA 19:00:00"

    def test_what_is_given_up_is_no_work_done(self) -> None:
        """The audio of tars in quarantine brings the end no nearer: their bytes are not among those to do."""
        speed = Speed(snapshot(), 0.0)
        later = {"audio_seconds": 90.0, "encoded_seconds": 90.0, "counted_seconds": 30.0, "quarantined_seconds": 60.0}
        assert speed.words(snapshot(**later, bytes_done=300, bytes_total=1000), 9.0).endswith("ETA 0:00:07")

    def test_share_of_the_run(self) -> None:
        """Of the audio that the ETA counts on; without any, of the bytes; without sizes, of the tars."""
        assert share_done(snapshot(audio_seconds=62.0, counted_seconds=62.0, bytes_done=620, bytes_total=1000)) == 0.62
        assert share_done(snapshot(audio_seconds=30.0, counted_seconds=10.0, bytes_done=100, bytes_total=1000)) == 0.3
        given_up = snapshot(
            audio_seconds=90.0, quarantined_seconds=60.0, counted_seconds=30.0, bytes_done=300, bytes_total=1000
        )
        assert share_done(given_up) == 0.3
        assert share_done(snapshot(bytes_done=1_000_000)) == 0.25
        assert share_done(snapshot(bytes_total=0, done=1)) == 0.25
        assert share_done(snapshot(bytes_total=0, tars=0)) == 0.0

    def test_running(self) -> None:
        """Tasks by node, no more nodes than a line holds, and what waits for what."""
        assert describe_running(snapshot()) == "no task runs"
        busy = snapshot(running={"n1": 4, "n2": 8}, pending=3, reasons={"Resources": 2, "Priority": 1}, waiting=5)
        words = describe_running(busy).split("; ")
        assert words[:2] == ["12 tasks run on n1 (4), n2 (8)", "3 pending (Resources, Priority)"]
        assert words[2].startswith("5 tars wait")
        many = snapshot(running={f"n{number:02}": 1 for number in range(11)})
        assert describe_running(many).startswith("11 tasks run on n00 (1), ")
        assert describe_running(many).endswith(" and 3 more nodes")

    def test_arrays_of_this_very_round(self, tmp_path: Path) -> None:
        """What a round has submitted cannot have been seen yet: it is told, or it would look as if nothing went on."""
        campaign = Campaign(tmp_path, 2)
        assert "1 array submitted just now" in describe_running(take_snapshot(campaign.controller().round()))
        assert "submitted" not in describe_running(take_snapshot(campaign.controller().round()))

    def test_line(self) -> None:
        """A round in one line, with the quarantine if there is one."""
        assert line(snapshot(done=1, clips=9, errors=2), "SPEED") == "1/4 tars, 9 clips, 2 errors, SPEED; no task runs"
        assert "2 errors, 1 in quarantine, SPEED" in line(snapshot(done=1, errors=2, quarantined=1), "SPEED")

    def test_one_problem_of_many_tars_is_one_message(self) -> None:
        """What is wrong with every tar is told once, with a few of their names; what has no tar has no name."""
        failures = [Failure("no weights", [str(number) for number in range(9)]), Failure("cut", ["x"]), Failure("silent")]
        assert describe_failures(failures) == ["0, 1, 2, 3, 4 and 4 more: no weights", "x: cut", "silent"]
        assert describe_failures([]) == []

    def test_end_of_a_log(self, tmp_path: Path) -> None:
        """The log's path and its last lines, indented; of one that is not there nothing is said."""
        log = tmp_path / "log.out"
        log.write_text("".join(f"line {number}\n" for number in range(40)))
        words = describe_log(Failure("x", log_file=log)).splitlines()
        assert words[0] == f"the end of {log}:"
        assert words[-1] == "  line 39"
        assert len(words) < 20
        assert describe_log(Failure("x", log_file=tmp_path / "none")) == ""
        assert describe_log(Failure("x")) == ""


def test_pending_reason_that_slurm_has_not_given(tmp_path: Path) -> None:
    """A task that nobody has looked at yet has no reason; that is said, and not left blank."""
    campaign = Campaign(tmp_path, 1)
    campaign.controller().round()
    campaign.cluster.living()[0].alive[0] = TaskSeen("PENDING")
    now = take_snapshot(campaign.controller().round())
    assert describe_running(now) == "no task runs; 1 pending (no reason given yet)"
