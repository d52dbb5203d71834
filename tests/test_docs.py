"""The documents: links that lead somewhere, and names of files that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tar2tokens.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(ROOT.glob("docs/*.md"))
DOCUMENTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
ROOMS = "hpc|jobs|tools|tokenizers|tar2tokens|tests|docs|benchmarks|requirements"
FILE = re.compile(rf"(?<![\w/.*-])(?:{ROOMS})/[\w/.-]+\.(?:py|md|sh|txt|yaml)\b")


ELSEWHERE = {
    "tools/extract_speech_token.py",  # CosyVoice's
    "tokenizers/__init__.py",  # must not be there
}


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as MkDocs names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(document: Path) -> None:
    """A reader finds the page, the section and the file that a document sends them to."""
    text = document.read_text(encoding="utf-8")
    for target, section in LINK.findall(text):
        page = document.parent / target if target else document
        assert page.exists(), f"{document.name} links to {target}"
        assert not section or section in anchors(page), f"{document.name} links to {target}#{section}"
    names = {name for name in FILE.findall(text) if "NAME" not in name} - ELSEWHERE
    missing = sorted(name for name in names if not (ROOT / name).exists())
    assert not missing, f"{document.name} names {missing}"


def test_every_page_is_in_the_site() -> None:
    """mkdocs.yml leads to each page of docs/ once."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = re.findall(r"[\w-]+\.md", str(nav))
    assert sorted(pages) == [page.name for page in PAGES]


def test_every_command_has_its_place() -> None:
    """README's table has each command of the program, and trust.md says of each module what it reads, writes and runs."""
    known = {word: command.module for group in COMMANDS.values() for word, command in group.items()}
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("### One program")[2].partition("### Backends")[0]
    assert {word for row in readme.splitlines() if row[:1] == "|" for word in re.findall(r"`([\w-]+)`", row)} >= set(known)
    trust = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8").partition("## What each command reads")[2]
    said = {name for row in trust.splitlines() if row[:1] == "|" for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    assert said >= set(known.values())


@pytest.mark.parametrize("package", ["hpc", "jobs", "tokenizers/audio_tokenizers/shared", "tools"])
def test_the_house_has_each_file(package: str) -> None:
    """An engineer finds every module in CONTRIBUTING's list, below its package."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = re.split(r"\n(?=\w[\w/]*/ )", text[text.index(f"\n{package.removesuffix('/shared')}/ ") + 1 :])[0]
    files = {path.name for path in (ROOT / package).rglob("*.py")} - {"__init__.py"}
    assert files - set(re.findall(r"\w+\.py", part)) == set()
