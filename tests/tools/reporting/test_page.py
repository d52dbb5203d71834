"""tools/reporting/page.py: the page's text. tests/tools/reporting/test_in_browser.py looks at it in a browser."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from support.committed_runs import error
from support.made_facts import facts, task

from tools.reporting.clips import HeardClip
from tools.reporting.facts import FailureGroup, Totals
from tools.reporting.page import render

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_it_loads_nothing_and_runs_one_script() -> None:
    """The content policy allows that script alone, by its hash, and no address of any host."""
    page, _ = render(facts("committed"))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'")
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)


@pytest.mark.slow
def test_foreign_text_is_escaped() -> None:
    """Nodes, reasons, logs, names and transcripts cannot end the element that they are in."""
    group = FailureGroup(EVIL, 1, (EVIL,), (EVIL,), EVIL, (EVIL, "\x1b[31m"))
    clip = HeardClip(EVIL, EVIL, 1.0, EVIL, EVIL, ((EVIL, EVIL),), fault=EVIL)
    run = facts(
        "committed",
        "quarantined",
        output_dir=f"/r/{EVIL}",
        tasks=[task(-9, 0, 5.0, node=EVIL)],
        quarantine={EVIL: EVIL},
        exclude={EVIL: EVIL},
        failures=[group],
        commands=[f"{EVIL}:", f"  echo {EVIL}"],
        problems=[EVIL],
    )
    page, _ = render(run, [clip], EVIL)
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert "\x1b" not in page


def test_names_of_a_megabyte() -> None:
    """A member's name has no limit; the page has."""
    said = {"tar_file": "/a.tar", "audio_file": "n" * 1_000_000, "error": "e" * 1_000_000}
    run = facts("committed", totals=Totals(errors={"decode": 1}), error_examples={"decode": [error("decode", **said)] * 3})
    page, _ = render(run)
    assert "nnn…: eee" in page
    assert len(page) < 100_000


def test_it_says_what_is_missing() -> None:
    """A run without tasks, tokens and clips has the reason in the place of each plot."""
    page, plots = render(facts("not_started"))
    missing = {plot.name: plot.missing for plot in plots if plot.figure is None}
    assert set(missing) == {"progress", "rate", "nodes", "device", "attempts", "durations"}
    for words in missing.values():
        assert words in page
    assert "python -m tools.report --audio 12 --output-dir /r/tokens" in page
