"""hpc/list_patterns.py: braces as bash has them, globs that lose nothing, and bounds before memory is used."""

from __future__ import annotations

import logging
import os
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from audio_tokenizers.errors import UsageError
from hpc.list_patterns import LARGEST_EXPANSION, expand_braces, find_files, has_glob, is_pattern, matches


class TestBraces:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("/d/t-{000..002}.tar", ["/d/t-000.tar", "/d/t-001.tar", "/d/t-002.tar"]),
            ("{8..10}", ["8", "9", "10"]),
            ("{08..10}", ["08", "09", "10"]),
            ("{3..1}", ["3", "2", "1"]),
            ("{0..10..5}", ["0", "5", "10"]),
            ("{10..0..-5}", ["10", "5", "0"]),
            ("{1..3..0}", ["1", "2", "3"]),
            ("{-1..1}", ["-1", "0", "1"]),
            ("{-01..1}", ["-01", "000", "001"]),
            ("{a..e..2}", ["a", "c", "e"]),
            ("{a,b}/{1..2}", ["a/1", "a/2", "b/1", "b/2"]),
            ("x{a,b{1,2},}", ["xa", "xb1", "xb2", "x"]),
            ("{{a,b},{c,d}}", ["a", "b", "c", "d"]),
            (
                "s3://b/{train,dev}-{0..1}.tar",
                ["s3://b/train-0.tar", "s3://b/train-1.tar", "s3://b/dev-0.tar", "s3://b/dev-1.tar"],
            ),
            ("{a,b", ["{a,b"]),
            ("a,b}", ["a,b}"]),
            ("{a{b,c}", ["{ab", "{ac"]),
            ("{a}", ["{a}"]),
            ("{{a,b}}", ["{a}", "{b}"]),
            ("{}", ["{}"]),
            ("{1..b}", ["{1..b}"]),
            ("{1..2..3..4}", ["{1..2..3..4}"]),
            (r"\{a,b\}{1,2}", ["{a,b}1", "{a,b}2"]),
            (r"{a\,b,c}", ["a,b", "c"]),
            (r"a\b\\", r"a\b\\"),
            ("{0..9999999999999999999}", ["{0..9999999999999999999}"]),
        ],
    )
    def test_as_bash(self, text: str, names: list[str] | str) -> None:
        """Sequences, steps, zeros, letters, nesting and order are those of bash; what is no brace stays as it is."""
        assert expand_braces(text) == ([names] if isinstance(names, str) else names)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "text",
        [
            "{0..2000000}",
            "{1..3000}{1..3000}",
            "{1..999999999}" * 40_000,
            "{{1..99999999},{1..99999999}}",
            "x" * 500 + "{1..1000000}",
        ],
    )
    def test_too_many_names(self, text: str) -> None:
        """What would fill the memory is refused by a count, at once, and with where the bound is."""
        started = time.process_time()
        with pytest.raises(UsageError, match=r"stands for more than [0-9,]+ names"):
            expand_braces(text)
        assert time.process_time() - started < 2

    def test_as_many_as_may_be(self) -> None:
        """Names up to the bound are given."""
        assert len(expand_braces(f"{{1..{LARGEST_EXPANSION}}}")) == LARGEST_EXPANSION

    def test_nesting_without_end(self) -> None:
        """A line of opening braces is refused, and not a stack that overflows."""
        with pytest.raises(UsageError, match="nested more than 50 deep"):
            expand_braces("{" * 100_000)

    def test_any_text(self) -> None:
        """Whatever stands in a list is expanded or refused, and nothing else; text without braces is itself."""
        seeded = random.Random(13)
        for _ in range(3000):
            text = "".join(seeded.choice(["{", "}", ",", "..", "1", "09", "-", "a", "\\", "é", "[", "*"]) for _ in range(24))
            with suppress(UsageError):  # more names than may be
                names = expand_braces(text)
                assert names
                assert "{" in text or "\\" in text or names == [text]


class TestGlobs:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        for name in (
            "1.tar",
            "10.tar",
            "a/2.tar",
            "a/b/c/3.tar",
            ".hidden/4.tar",
            ".5.tar",
            "a/x.txt",
            "[1].tar",
            "folder.tar/6.tar",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "a/loop").symlink_to(tmp_path)
        (tmp_path / "gone.tar").symlink_to("nowhere")
        return tmp_path

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("*.tar", {"1.tar", "10.tar", "[1].tar", "gone.tar"}),
            ("?.tar", {"1.tar"}),
            ("[0-9]*.tar", {"1.tar", "10.tar"}),
            ("[!0-9]*.tar", {"[1].tar", "gone.tar"}),
            ("[[]1].tar", {"[1].tar"}),
            (".*.tar", {".5.tar"}),
            (".h*/*.tar", {".hidden/4.tar"}),
            ("*/*.tar", {"a/2.tar", "folder.tar/6.tar"}),
            ("**/*.tar", {"1.tar", "10.tar", "[1].tar", "gone.tar", "a/2.tar", "a/b/c/3.tar", "folder.tar/6.tar"}),
            ("a/**", {"a/2.tar", "a/b/c/3.tar", "a/x.txt"}),
            ("**/c/*", {"a/b/c/3.tar"}),
            ("**/**/3.tar", {"a/b/c/3.tar"}),
            ("*/2.tar", {"a/2.tar"}),
            ("1.tar/*", set()),
            ("none*", set()),
            ("none/*.tar", set()),
        ],
    )
    def test_matches(self, tree: Path, pattern: str, names: set[str]) -> None:
        """Globs match as in a shell with globstar: files only, hidden ones if asked for, each once, and no loop of links."""
        found = find_files(f"{tree}/{pattern}")
        assert len(found) == len(set(found))
        assert {str(Path(path).relative_to(tree)) for path in found} == names
        assert all(matches(f"{tree}/{pattern}", path) for path in found)
        every = [str(path) for path in tree.rglob("*") if not path.is_dir()]
        assert {path for path in every if matches(f"{tree}/{pattern}", path)} == set(found)

    def test_links_to_folders(self, tree: Path) -> None:
        """A folder that is only linked is entered by name or `*`, which end, and never by `**`."""
        assert f"{tree}/a/loop/1.tar" in find_files(f"{tree}/a/*/*.tar")

    def test_folder_that_may_not_be_read(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A folder without permission, as `lost+found` is, is left out, and a line says so."""
        monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
        scandir = os.scandir

        def refuse(path: str) -> object:
            if path.endswith("/a"):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr("hpc.list_patterns.os.scandir", refuse)
        assert find_files(f"{tree}/*/*.tar") == [f"{tree}/folder.tar/6.tar"]
        assert f"{tree}/a: left out" in caplog.text


def test_what_is_a_pattern() -> None:
    """Only what may stand for another name is one."""
    assert [name for name in ("a{b", "a*", "a?", "a[b]", "a[b", "a]b", "a b") if is_pattern(name)] == [
        "a{b",
        "a*",
        "a?",
        "a[b]",
    ]
    assert not has_glob("{a,b}.tar")
