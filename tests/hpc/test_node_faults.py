"""hpc/node_faults.py: a node where tries only fail is avoided where others work, and what failed there is nobody's fault."""

from __future__ import annotations

from support.tries import at, good, history, killed, tars

from hpc.policy import CLIP_DEATHS, TAR_TRIES, decide


class TestNodes:
    def test_different_tars_fail_on_it(self) -> None:
        """One failure proves nothing; two, and none that goes well, and the node is avoided, with the reason."""
        fine = good("x", "n2")
        assert decide(tars("ab"), history([fine, at("a", "machine")])).exclude == {}
        decision = decide(tars("ab"), history([fine, at("a", "machine"), at("b", "machine")]))
        assert set(decision.exclude) == {"n1"}
        assert "(a, b)" in decision.exclude["n1"]
        assert decision.submit == ("a", "b")

    def test_only_if_others_work(self) -> None:
        """Where no node does better there is nothing to gain by avoiding it."""
        assert decide(tars("ab"), history([at("a", "machine"), at("b", "machine")])).exclude == {}

    def test_as_many_go_well(self) -> None:
        """A node where as many tries go well is not avoided; one where a bad GPU fails fast, beside good ones, is."""
        failed = [at(name, "machine") for name in "abc"]
        fine = [good(name) for name in "xyz"]
        assert decide(tars("abc"), history([*failed, *fine, good("w", "n2")])).exclude == {}
        assert set(decide(tars("abc"), history([*failed, *fine[1:], good("w", "n2")])).exclude) == {"n1"}

    def test_since_it_last_went_well(self) -> None:
        """What failed before the node did well again is forgotten, and what went well before it failed does not save it."""
        failed = [at("a", "machine"), at("b", "machine"), good("x", "n2")]
        assert decide(tars("ab"), history(failed, [good("c")])).exclude == {}
        assert set(decide(tars("ab"), history([good("c")], failed)).exclude) == {"n1"}

    def test_tar_that_fails_everywhere(self) -> None:
        """A tar whose second node works otherwise is itself the trouble: neither node is avoided for it."""
        failed = [[at("a", "machine", "n1")] * 2, [at("a", "machine", "n2")]]
        fine = [good("x", "n1"), good("y", "n2")]
        assert set(decide(tars("a"), history(fine, *failed[:1])).exclude) == {"n1"}
        decision = decide(tars("a"), history(fine, *failed))
        assert (decision.exclude, set(decision.quarantine)) == ({}, {"a"})

    def test_failures_there_count_against_no_tar(self) -> None:
        """However often a bad node takes a tar, the tar stays in."""
        bad = [at(name, "machine", "bad") for name in "ab"]
        decision = decide(tars("ab"), history(*[[*bad, good("x", "n2")]] * (TAR_TRIES + 1)))
        assert (decision.submit, decision.quarantine) == (("a", "b"), {})

    def test_deaths_there_count_against_no_clip(self) -> None:
        """A node that kills every worker makes no records, however often the same clips die there."""
        bad = [killed(name, 0, "bad") for name in "ab"]
        decision = decide(tars("ab"), history(*[[*bad, good("x", "n2")]] * (CLIP_DEATHS + 1)))
        assert (decision.crash_clips, set(decision.exclude)) == ({}, {"bad"})

    def test_lines_that_need_no_model_prove_nothing(self) -> None:
        """A node that only wrote down clips that nobody is to touch has not shown that it works."""
        wrote = [at(name, "machine", "bad", gained=1, crash_clips=(7,)) for name in "ab"]
        assert set(decide(tars("ab"), history([*wrote, good("x", "n2")])).exclude) == {"bad"}
        assert (
            decide(tars("ab"), history([killed("a", 8, "bad", gained=2, told=(7,)), wrote[1], good("x", "n2")])).exclude
            == {}
        )
