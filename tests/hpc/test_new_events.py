"""hpc/new_events.py: each fact of a run becomes one event, whoever dies in between and however often a round is repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.broadcasts import Told, events_of, telling
from support.fake_cluster import Campaign
from support.small_run import small_tar

from hpc.events import Said, seconds_of
from hpc.new_events import ROUND_SECONDS, new_events
from hpc.patience import GRACE_SECONDS
from jobs.progress import Progress, Try, write_progress

LATER = GRACE_SECONDS + 1


def names(campaign: Campaign) -> Counter[str]:
    return Counter(event["event"] for event in events_of(campaign))


class TestRunOfTars:
    def test_from_list_to_finished(self, tmp_path: Path) -> None:
        """Every tar, task and submission has its events, in the order of the story, with the figures of its files."""
        campaign = Campaign(tmp_path, 2)
        controller = telling(campaign)
        controller.round()
        campaign.cluster.run_all("n7")
        controller.round()
        told = [event["event"] for event in events_of(campaign)]
        assert told == [
            *("run_started", "submission_sent", "round"),
            *("task_started", "task_ended") * 2,
            *("submission_ended", "tar_committed", "tar_committed", "round", "run_finished"),
        ]
        found = {event["event"]: event for event in events_of(campaign)}
        assert found["submission_sent"]["elements"] == 2
        assert found["task_ended"]["node"] == "n7"
        assert (found["task_ended"]["outcomes"], found["task_ended"]["gained"]) == ({"committed": 1}, 3)
        assert (found["tar_committed"]["tar"], found["tar_committed"]["clips"]) == ("1", 3)
        assert (found["round"]["committed"], found["round"]["clips"], found["round"]["outcome"]) == (2, 6, "finished")
        assert found["run_finished"]["committed"] == 2
        assert {event["run"] for event in events_of(campaign)} == {"abc"}
        assert {event["version"] for event in events_of(campaign)} == {1}

    def test_ids_are_unique_and_a_new_controller_says_nothing_again(self, tmp_path: Path) -> None:
        """What was said is known from the file: a controller per round, as cron has, tells the same story once."""
        campaign = Campaign(tmp_path, 3)
        for _ in range(2):
            telling(campaign).round()
        campaign.cluster.run_all()
        for _ in range(3):
            telling(campaign).round()
        ids = [event["id"] for event in events_of(campaign)]
        assert len(set(ids)) == len(ids)
        assert names(campaign) == {
            "run_started": 1,
            "submission_sent": 1,
            "task_started": 3,
            "task_ended": 3,
            "submission_ended": 1,
            "tar_committed": 3,
            "round": 2,
            "run_finished": 1,
        }

    @pytest.mark.slow
    def test_run_that_goes_on(self, tmp_path: Path) -> None:
        """New tars after the end: the run continues, and is finished once more."""
        campaign = Campaign(tmp_path, 1)
        telling(campaign).round()
        campaign.cluster.run_all()
        telling(campaign).round()
        campaign.run.add_to_list([str(small_tar(tmp_path / "data" / "new.tar", clips=3))], keep_dirs=False)
        telling(campaign).round()
        campaign.cluster.run_all()
        telling(campaign).round()
        story = [event["event"] for event in events_of(campaign) if event["event"].startswith("run_")]
        assert story == ["run_started", "run_finished", "run_continued", "run_finished"]

    def test_damage_quarantine_and_again_after_amnesty(self, tmp_path: Path) -> None:
        """A broken tar is said to be damaged for each attempt that found it so, and given up once per amnesty."""
        campaign = Campaign(tmp_path, 2)
        whole = campaign.tars[0].read_bytes()
        campaign.tars[0].write_bytes(whole[: len(whole) // 2])
        telling(campaign).round()
        campaign.cluster.run_all()
        for _ in range(2):
            telling(campaign).round()
        [damaged] = [event for event in events_of(campaign) if event["event"] == "tar_damaged"]
        [given_up] = [event for event in events_of(campaign) if event["event"] == "tar_quarantined"]
        assert damaged["tar"] == given_up["tar"] == "0"
        assert damaged["verdict"] in given_up["reason"]
        [end] = [event for event in events_of(campaign) if event["event"] == "run_finished"]
        assert (end["committed"], end["quarantined"]) == (1, 1)
        campaign.change_state(amnesty=1)
        campaign.clock.now += LATER
        telling(campaign).round()
        campaign.cluster.run_all()
        telling(campaign).round()
        assert names(campaign)["tar_damaged"] == names(campaign)["tar_quarantined"] == names(campaign)["run_finished"] == 2

    def test_refused_job_and_stuck_run(self, tmp_path: Path) -> None:
        """A refusal is said with Slurm's words, and a run that stops with its diagnosis."""
        campaign = Campaign(tmp_path, 1)
        campaign.change_state(cancelled=True)
        telling(campaign).round()
        [stuck] = [event for event in events_of(campaign) if event["event"] == "run_stuck"]
        assert "cancelled" in stuck["diagnosis"]
        campaign.change_state(cancelled=False)
        campaign.cluster.answers = ["refuse"]
        with pytest.raises(Exception, match="refused"):
            telling(campaign).round()
        campaign.clock.now += LATER
        telling(campaign).round()
        [refused] = [event for event in events_of(campaign) if event["event"] == "submission_refused"]
        assert campaign.cluster.refusal in refused["reason"]

    def test_tasks_of_a_submission_that_is_not_over(self, tmp_path: Path) -> None:
        """A task that died is said to have ended while others of its array run."""
        campaign = Campaign(tmp_path, 2)
        controller = telling(campaign)
        controller.round()
        [job] = campaign.cluster.living()
        campaign.cluster.begin(job, 1)
        write_progress(job.submission.report_file(1), Progress(node="n1", tries=[Try("1", "working")]))
        campaign.cluster.end(job, 0, Try("0", "died", problem="SIGSEGV"), node="n2")
        controller.round()
        told = [event for event in events_of(campaign) if event["event"].startswith("task_")]
        assert [(event["event"], event["task"]) for event in told] == [
            ("task_started", "0001/0"),
            ("task_ended", "0001/0"),
            ("task_started", "0001/1"),
        ]
        assert (told[1]["problem"], told[1]["finished"], told[1]["outcomes"]) == ("SIGSEGV", False, {"died": 1})

    def test_excluded_node(self, tmp_path: Path) -> None:
        """A node that the run avoids is said once, with the reason."""
        told = Told(Campaign(tmp_path, 1))
        decision = msgspec.structs.replace(told.facts().decision, exclude={"n3": "3 tasks died"})
        said = Said()
        [event] = [event for event in new_events(told.facts(decision=decision), said) if "node_excluded" in event.id]
        assert event.id == "node_excluded/n3/0"
        said.ids.add(event.id)
        assert not any("node_excluded" in event.id for event in new_events(told.facts(decision=decision), said))


class TestRounds:
    @pytest.mark.parametrize(
        ("change", "after", "expected"),
        [
            (lambda figures: figures, 10 * ROUND_SECONDS, False),
            (lambda figures: msgspec.structs.replace(figures, encoded_seconds=1e-9), 10 * ROUND_SECONDS, False),
            (lambda figures: msgspec.structs.replace(figures, clips=7), ROUND_SECONDS + 1, True),
            (lambda figures: msgspec.structs.replace(figures, encoded_seconds=9.0), ROUND_SECONDS - 1, False),
            (lambda figures: msgspec.structs.replace(figures, encoded_seconds=9.0), ROUND_SECONDS + 1, True),
        ],
        ids=["nothing new", "nothing that shows", "lines", "too soon", "progress"],
    )
    def test_at_most_one_a_minute(self, tmp_path: Path, change: Callable[..., object], after: float, expected: bool) -> None:
        """A run of weeks, or of rounds every 0.2 s, does not fill its disk with rounds that brought nothing."""
        told = Told(Campaign(tmp_path, 1))
        said = told.said()
        facts = told.facts(figures=change(told.facts().figures), now=told.campaign.clock.now + after)
        assert [event.id for event in new_events(facts, said)] == (["round/2"] if expected else [])

    def test_time_is_utc(self, tmp_path: Path) -> None:
        """Times can be compared as text, and read back."""
        event = new_events(Told(Campaign(tmp_path, 1)).facts(now=1000.5), Said())[0]
        assert event.time == "1970-01-01T00:16:40.500+00:00"
        assert seconds_of(event) == 1000.5
