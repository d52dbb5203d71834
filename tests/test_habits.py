"""What is checked at every commit and on every Python: one set of tools, one list of versions."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.runs import ROOT

SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def read(path: str | Path) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_every_python_that_we_promise_is_tried() -> None:
    """CI runs .ci/run on each Python of the classifiers, the first of which is the oldest that pip accepts."""
    promised = re.findall(r":: Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)
    assert SETUP["options"]["python_requires"] == f">={promised[0]}"
    job = read(".github/workflows/ci.yml")["jobs"]["everything"]
    assert job["strategy"]["matrix"]["python"] == promised
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_a_commit_is_asked_what_ci_asks() -> None:
    """The hooks of pre-commit are the commands of `make lint`, with the same tools."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile[makefile.index("\nlint:") :].split("\n\n")[0]
    asked = re.findall(r"^\t\$\(BIN\)/(.*?)(?: \.)?$", recipe, re.MULTILINE)
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks} == set(asked)


def test_one_version() -> None:
    """Who cites the project names the version that setup.cfg names, and the changelog has a section for it."""
    version = SETUP["metadata"]["version"]
    cited = read("CITATION.cff")
    assert cited["version"] == version
    assert f"\n## [{version}] - {cited['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms(path: Path) -> None:
    """A form for issues that lacks a key is not shown to anybody, and nobody is told."""
    form = read(path)
    assert form["name"]
    assert form["description"]
    assert all(part["type"] in ("textarea", "input", "dropdown", "markdown") for part in form["body"])
    assert all(part["attributes"]["label"] for part in form["body"] if part["type"] != "markdown")
    names = [part["id"] for part in form["body"]]
    assert len(set(names)) == len(names)
