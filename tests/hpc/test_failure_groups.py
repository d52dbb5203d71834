"""hpc/failure_groups.py: what failed, grouped so that a thousand tars with one cause are one group, with its log."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_cluster import Campaign
from support.lossy import damaged_tar, use_lossy_decode
from support.small_run import CLIPS, small_tar, tokenize

from audio_tokenizers.errors import UsageError
from hpc.failure_groups import SILENT, find_damaged, find_damaged_clips, find_error_clips, find_failures, log_tail
from hpc.progress import TarState, scan
from jobs.progress import Ending, Try


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path, tars=3)


class TestGroups:
    def test_one_cause_is_one_group(self, campaign: Campaign) -> None:
        """Paths, names and numbers of each tar do not split a group; its nodes and tars are told."""
        campaign.controller().round()
        for element, node in enumerate(("n1", "n2", "n1")):
            problem = f"{campaign.tars[element]}: cut: the file ends at byte {element + 1},000. {element} clips are kept"
            campaign.cluster.end(
                campaign.cluster.living()[0], element, Try(str(element), "damaged", problem=problem), node=node
            )
        (group,) = find_failures(campaign.run.submissions())
        assert group.reason == "cut: the file ends at byte *. * clips are kept"
        assert (group.tars, group.nodes) == (["0", "1", "2"], ["n1", "n2"])
        assert group.problem == problem

    def test_different_causes_are_different_groups(self, campaign: Campaign) -> None:
        """What most tars have comes first; the one with its own cause keeps all of its words."""
        campaign.controller().round()
        job = campaign.cluster.living()[0]
        for element in range(2):
            campaign.cluster.end(job, element, Try(str(element), "machine", problem="CUDA error: launch failure"))
        died = "the worker was killed by SIGSEGV with clip 17 in hand, counted from 0"
        campaign.cluster.end(job, 2, Try("2", "died", clip=17, problem=died), log="some words")
        found = find_failures(campaign.run.submissions())
        assert [group.reason for group in found] == [
            "CUDA error: launch failure",
            "the worker was killed by SIGSEGV with a clip in hand",
        ]
        assert log_tail(found[1].log_file) == ["some words"]

    def test_what_is_no_failure(self, campaign: Campaign) -> None:
        """Tasks that were stopped from outside, left a tar to another or did their work are no failures."""
        campaign.controller().round()
        job = campaign.cluster.living()[0]
        outcomes: tuple[Ending, ...] = ("working", "yielded", "left_alone")
        for element, outcome in enumerate(outcomes):
            campaign.cluster.end(job, element, Try(str(element), outcome))
        assert find_failures(campaign.run.submissions()) == []

    def test_tasks_that_never_came_to_their_work(self, campaign: Campaign) -> None:
        """Where a task has a log and no report, the log is shown: the environment on the nodes is wrong."""
        campaign.controller().round()
        job = campaign.cluster.living()[0]
        campaign.cluster._log(job, 0, 0, "python: command not found")
        campaign.cluster.lose_all("FAILED")
        campaign.controller().look()
        (group,) = find_failures(campaign.run.submissions())
        assert (group.reason, group.tars) == (SILENT, [])
        assert log_tail(group.log_file) == ["python: command not found"]

    def test_refusal_counts_until_sbatch_takes_a_job(self, campaign: Campaign) -> None:
        """A job that sbatch refuses is a failure, since nothing goes on; a submit limit is none."""
        campaign.cluster.answers = ["refuse"]
        with pytest.raises(UsageError):
            campaign.controller().round()
        (group,) = find_failures(campaign.run.submissions())
        assert group.reason == "sbatch refused the job: Invalid partition name specified"
        campaign.cluster.queue_limit = 0
        campaign.controller().round()
        assert find_failures(campaign.run.submissions()) == []


class TestLogTail:
    def test_ends_at_the_problem(self, tmp_path: Path) -> None:
        """A task goes on with other tars after one has failed: what it says of them is left out."""
        log = tmp_path / "log"
        log.write_text("".join(f"line {number}\n" for number in range(9)) + "1: disk gone\nline 9\nall is well\n")
        assert log_tail(log, 3, about="disk gone\nand more") == ["line 7", "line 8", "1: disk gone"]
        assert log_tail(log, 1, about="never said") == ["all is well"]

    def test_no_log(self, tmp_path: Path) -> None:
        """A log that is not there is no trouble."""
        assert log_tail(tmp_path / "none") == log_tail(None) == []


class TestErrorClips:
    def test_examples_by_kind(self, campaign: Campaign, tmp_path: Path) -> None:
        """Some clips of each kind, with their words, found in the committed files; never more than asked for."""
        for tar in campaign.tars:
            tokenize(tar, campaign.run.output_dir)
        killer = small_tar(tmp_path / "killer.tar")
        campaign.run.add_to_list([str(killer)], keep_dirs=False)
        tokenize(killer, campaign.run.output_dir, crash_clips=(0,))
        states = list(scan(campaign.run, campaign.run.listed()))
        assert [state.clips for state in states] == [3, 3, 3, CLIPS]
        found = find_error_clips(campaign.run, states, 2)
        assert {kind: len(clips) for kind, clips in found.items()} == {"decode": 2, "crash": 1}
        assert [clip.audio_file for clip in found["crash"]] == ["000.wav"]
        assert {clip.audio_file for clip in found["decode"]} == {"002.wav"}

    def test_file_set_aside_meanwhile(self, campaign: Campaign) -> None:
        """A committed file that goes away between two looks costs an example, and nothing else."""
        tokenize(campaign.tars[0], campaign.run.output_dir)
        states = list(scan(campaign.run, campaign.run.listed()))
        campaign.run.paths("0").committed.unlink()
        assert find_error_clips(campaign.run, states, 2) == {"decode": []}


class TestDamagedClips:
    def test_examples(self, campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some clips that were kept though something of them is missing; never more than asked for."""
        use_lossy_decode(monkeypatch)
        damaged = damaged_tar(tmp_path / "damaged.tar")
        campaign.run.add_to_list([str(damaged)], keep_dirs=False)
        for tar in (*campaign.tars, damaged):
            tokenize(tar, campaign.run.output_dir)
        states = list(scan(campaign.run, campaign.run.listed()))
        assert [(state.damaged_clips, state.damaged_seconds) for state in states] == [(0, 0.0)] * 3 + [(3, 0.07)]
        for number, names in ((0, []), (2, ["0.wav", "2.wav"]), (9, ["0.wav", "2.wav", "4.wav"])):
            assert [clip.audio_file for clip in find_damaged_clips(campaign.run, states, number)] == names
        campaign.run.paths("damaged").committed.unlink()  # as --retry-errors does
        assert find_damaged_clips(campaign.run, states, 2) == []


class TestDamaged:
    def test_what_files_alone_say(self, tmp_path: Path) -> None:
        """Without a task that told of it, tars that are cut or gone are grouped by their cause, the commonest first."""
        states = [
            TarState("/d/a.tar", "a", "committed", 3, None, None),
            TarState("/d/b.tar", "b", "partial", 0, None, "cut: the file ends at byte 700"),
            TarState("/d/c.tar", "c", "not_started", 0, None, "there is no such tar"),
            TarState("/d/e.tar", "e", "partial", 0, None, "cut: the file ends at byte 9,000"),
        ]
        found = find_damaged(states)
        assert [(failure.reason, failure.tars) for failure in found] == [
            ("cut: the file ends at byte *", ["b", "e"]),
            ("there is no such tar", ["c"]),
        ]
        assert find_damaged(states[:2])[0].reason == "cut: the file ends at byte 700"
