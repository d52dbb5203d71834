"""hpc/tar_list.py: what people write in lists, and the names of outputs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_tokenizers.errors import UsageError
from hpc.tar_list import name_tars, read_tar_list
from jobs.remote_tar import RemoteTar


class TestReading:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_blanks_comments_line_ends_and_marks(self, tmp_path: Path) -> None:
        """CRLF, old Mac line ends, a BOM, indents, blank lines and comments are no part of a name; spaces within are."""
        data = "\ufeff# tars\r\n\r\n  /d/one two.tar \r\n\t\r\n/d/b.tar\n#/d/no.tar\n/d/#c é.tar\r/d/d.tar"
        (tmp_path / "list.txt").write_bytes(data.encode())
        assert read_tar_list(Path("list.txt")) == ["/d/one two.tar", "/d/b.tar", "/d/#c é.tar", "/d/d.tar"]

    def test_relative_paths(self, tmp_path: Path) -> None:
        """A relative path is one of the current directory, or else of the list's own folder; else it stays the former."""
        (tmp_path / "lists").mkdir()
        for place in ("here.tar", "both.tar", "lists/both.tar", "lists/beside.tar"):
            (tmp_path / place).touch()
        (tmp_path / "lists/l.txt").write_text("here.tar\nboth.tar\nbeside.tar\n./x/../nowhere.tar\n")
        expected = [tmp_path / name for name in ("here.tar", "both.tar", "lists/beside.tar", "nowhere.tar")]
        assert read_tar_list(Path("lists/l.txt")) == [str(path) for path in expected]

    def test_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`~/` is the home directory; a tilde elsewhere, as in `~x.tar`, is a part of the name."""
        monkeypatch.setenv("HOME", "/home/me")
        (tmp_path / "l.txt").write_text("~/a.tar\n~x.tar\n")
        assert read_tar_list(Path("l.txt")) == ["/home/me/a.tar", str(tmp_path / "~x.tar")]

    def test_duplicates_are_taken_once_and_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two spellings of one tar are one tar, in its first place, and a line says so."""
        monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
        (tmp_path / "l.txt").write_text("/d/b.tar\n/d/a.tar\n/d/./b.tar\n/d/b.tar\n")
        assert read_tar_list(Path("l.txt")) == ["/d/b.tar", "/d/a.tar"]
        assert "names 2 of its tars more than once" in caplog.text

    def test_own_list_of_a_run_is_a_list_too(self, tmp_path: Path) -> None:
        """tars.txt has the output's name after a tab, which is no part of the tar."""
        (tmp_path / "l.txt").write_text("/d/a.tar\ta\n/d/b c.tar\tb c\n")
        assert read_tar_list(Path("l.txt")) == ["/d/a.tar", "/d/b c.tar"]

    def test_names_that_unicode_would_cut(self, tmp_path: Path) -> None:
        """A line or paragraph separator within a name does not end the line."""
        (tmp_path / "l.txt").write_text("/d/a\u2028b.tar\n/d/c\x0bd\x85e.tar\n", encoding="utf-8")
        assert read_tar_list(Path("l.txt")) == ["/d/a\u2028b.tar", "/d/c\x0bd\x85e.tar"]

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "expected a tar per line, found none"),
            (b"# a\n\n", "expected a tar per line, found none"),
            ("/d/a.tar\n".encode("utf-16"), "found binary data"),
            (b"/d/a.tar\n/d/\xe9.tar\n", "line 2 is not UTF-8"),
        ],
    )
    def test_lists_that_are_none(self, tmp_path: Path, data: bytes, words: str) -> None:
        """Whatever is no list is refused with its name and what was found."""
        (tmp_path / "l.txt").write_bytes(data)
        with pytest.raises(UsageError, match=words) as caught:
            read_tar_list(Path("l.txt"))
        assert "l.txt" in str(caught.value)

    def test_folder_and_missing_list(self, tmp_path: Path) -> None:
        """A folder, or nothing, in place of the list is said to be so."""
        with pytest.raises(UsageError, match="expected a text file with a tar per line, found a folder"):
            read_tar_list(tmp_path)
        with pytest.raises(UsageError, match="there is no such file"):
            read_tar_list(tmp_path / "none")

    def test_list_that_is_no_regular_file(self, tmp_path: Path) -> None:
        """A FIFO, to open which would wait for a writer for ever, is refused by name, and so are devices."""
        os.mkfifo(tmp_path / "list.txt")
        for path, found in ((tmp_path / "list.txt", "a FIFO"), (Path("/dev/null"), "a device")):
            with pytest.raises(UsageError, match=rf"--list {path}: .*found {found}; put the names into a file"):
                read_tar_list(path)

    def test_line_too_long_for_a_path(self, tmp_path: Path) -> None:
        """A text that is no list, with lines longer than a name may be, raises nothing strange."""
        (tmp_path / "l.txt").write_text("x" * 5000 + "\n")
        assert len(read_tar_list(Path("l.txt"))) == 1

    @given(
        st.lists(
            st.text(st.characters(blacklist_characters="\0\t\r\n{*?[", blacklist_categories=["Cs"]), min_size=1), min_size=1
        )
    )
    def test_any_name_survives(self, tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
        """Any absolute path that a list can hold, and that is no pattern, is read as it was written."""
        tars = list(dict.fromkeys(f"/data/{part.replace('/', '_')}.tar" for part in parts))
        path = tmp_path_factory.mktemp("any") / "l.txt"
        path.write_text("# list\n" + "".join(f"{tar}\n" for tar in tars), encoding="utf-8")
        assert read_tar_list(path) == tars


class TestPatterns:
    """Braces and globs in a list."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for name in ("2.tar", "10.tar", "lists/3.tar", "x{a,b}.tar", "y[1].tar", "y1.tar"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def read(self, folder: Path, text: str, **options: Any) -> list[str]:
        (folder / "l.txt").write_text(text)
        return [tar.removeprefix(f"{folder}/") for tar in read_tar_list(folder / "l.txt", **options)]

    def test_braces_name_tars_that_need_not_be_there(self, folder: Path) -> None:
        """Braces expand where they stand in the list; what is missing is for the list's check to name."""
        assert self.read(folder, "z.tar\n{b,a}/t-{09..10}.tar\n2.tar\n") == [
            *("z.tar", "b/t-09.tar", "b/t-10.tar", "a/t-09.tar", "a/t-10.tar", "2.tar")
        ]

    def test_globs_come_in_natural_order(self, folder: Path) -> None:
        """What a glob finds comes by value of the numbers in the names, and each tar once, however often it matches."""
        assert self.read(folder, "[0-9]*.tar\n{2,10}.tar\n?.tar\n") == ["2.tar", "10.tar"]

    def test_relative_patterns(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative glob is one of the current directory, or else of the list's own folder; `~/` is the home directory."""
        (folder / "lists/l.txt").write_text("3*.tar\n1*.tar\n~/y?.tar\n")
        monkeypatch.setenv("HOME", str(folder))
        assert read_tar_list(folder / "lists/l.txt") == [f"{folder}/{tar}" for tar in ("lists/3.tar", "10.tar", "y1.tar")]

    def test_name_of_a_file_is_no_pattern(self, folder: Path) -> None:
        """A file whose very name an entry is, is taken, whatever characters it has, and one that the run knows."""
        assert self.read(folder, "x{a,b}.tar\ny[1].tar\n") == ["x{a,b}.tar", "y[1].tar"]
        assert self.read(folder, "z[1].tar\nz{a,b}.tar\n", known=[f"{folder}/z[1].tar", f"{folder}/z{{a,b}}.tar"]) == [
            *("z[1].tar", "z{a,b}.tar")
        ]

    def test_glob_that_matches_nothing(
        self, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is named with its line, all such at once; --skip-missing leaves it at a warning, if anything is left."""
        monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
        with pytest.raises(
            UsageError, match=r"(?s)l\.txt: nothing matches\n  line 2: none\*\.tar\n  line 3: \?\?\?\?\?\.tar\ncorrect"
        ):
            self.read(folder, "2.tar\nnone*.tar\n?????.tar\n")
        assert self.read(folder, "2.tar\nnone*.tar\n", skip_missing=True) == ["2.tar"]
        assert "none*.tar" in caplog.text
        with pytest.raises(UsageError, match="nothing matches"):
            self.read(folder, "none*.tar\n", skip_missing=True)

    def test_all_faults_are_named_at_once(self, folder: Path) -> None:
        """Whoever mends a list is told of every line that is wrong, and of what is wrong with the tars of the others."""
        text = "2.tar\nnone*.tar\n{1..3000000}.tar\ngs://b/a.tar\n9.tar\n"
        for skip_missing in (False, True):
            with pytest.raises(UsageError) as caught:
                self.read(folder, text, skip_missing=skip_missing, look_at_rest=lambda tars: [f"{len(tars)} are bad"])
            lines = str(caught.value).removeprefix(f"--list {folder}/l.txt: ").split("\n")
            assert [line[:7] for line in lines] == ["line 3:", "line 4:", "nothing", "  line ", "2 are b", "correct"]
            assert lines[-1] == "correct the list"  # since leaving out what is missing would not do
        with pytest.raises(UsageError, match=r"none\*\.tar\n1 is bad\ncorrect the list, or go on without: --skip-missing"):
            self.read(folder, "2.tar\nnone*.tar\n", look_at_rest=lambda _tars: ["1 is bad"])

    def test_many_faults(self, folder: Path) -> None:
        """Some are shown, and how many more there are."""
        with pytest.raises(UsageError) as caught:
            self.read(folder, "gs://b/a.tar\n" * 30 + "none*.tar\n" * 25)
        lines = str(caught.value).split("\n")
        assert (lines[20], lines[-2:]) == ("and 10 more", ["  and 5 more", "correct the list"])

    @pytest.mark.slow
    def test_brace_without_bounds(self, folder: Path) -> None:
        """What would fill the memory is refused with its line, in one entry or in all of them."""
        with pytest.raises(UsageError, match=r"l\.txt: line 2: .*stands for more than 2,000,000 names"):
            self.read(folder, "2.tar\n{1..3000000}.tar\n")
        with pytest.raises(UsageError, match=r"line 3: with .* the list stands for more than 2,000,000 tars"):
            self.read(folder, "/d/a{1..9}.tar\n2.tar\n/d/{1..1999995}\n")

    def test_name_that_no_list_can_hold(self, folder: Path) -> None:
        """A glob that finds a name with a line end or bytes that are not UTF-8 says which."""
        (folder / "q\n.tar").touch()
        with pytest.raises(UsageError, match=r"'[^']*/q\\n\.tar'.*rename it"):
            self.read(folder, "q*.tar\n")
        os.close(os.open(os.fsencode(folder) + b"/r\xff.tar", os.O_CREAT))
        with pytest.raises(UsageError, match="must be UTF-8: rename it"):
            self.read(folder, "r*.tar\n")


class TestAddresses:
    """Entries that are no paths."""

    def read(self, folder: Path, text: str, **options: Any) -> list[str]:
        (folder / "l.txt").write_text(text)
        return read_tar_list(folder / "l.txt", **options)

    def test_they_stay_as_they_are(self, tmp_path: Path) -> None:
        """Addresses are no paths of this machine; braces expand in them, question marks and stars in queries are theirs."""
        text = "s3://b/{a,b}/1.tar\nhttps://h/a.tar?x=1&y=[2]\npipe:awk '{print $1}' x | sed 's/\\{1\\}//'\n"
        assert self.read(tmp_path, text) == [
            *("s3://b/a/1.tar", "s3://b/b/1.tar", "https://h/a.tar?x=1&y=[2]"),
            "pipe:awk '{print $1}' x | sed 's/\\{1\\}//'",
        ]

    @pytest.mark.parametrize(
        ("entry", "words"),
        [
            ("gs://b/a.tar", "gs:// is not read"),
            ("https://u:hunter2@h/a.tar", "a password or a signature"),
            ("pipe:curl https://h/{a,b}?sig=hunter2", "a password or a signature"),
        ],
        ids=["scheme", "password", "command"],
    )
    def test_refused(self, tmp_path: Path, entry: str, words: str) -> None:
        """What cannot be read, or must not stand in records, is refused with its line, and without its secret."""
        with pytest.raises(UsageError, match=rf"line 2: .*{words}") as caught:
            self.read(tmp_path, f"/d/a.tar\n{entry}\n")
        assert "hunter2" not in str(caught.value)

    def test_globs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bucket is asked what matches, in natural order; what the run knows goes on to match."""
        monkeypatch.setattr(RemoteTar, "matches", lambda tar: [] if "none" in tar.url else ["s3://b/10.tar", "s3://b/9.tar"])
        monkeypatch.setattr("hpc.tar_list.missing_packages", lambda _schemes: None)
        assert self.read(tmp_path, "s3://b/*.tar\n") == ["s3://b/9.tar", "s3://b/10.tar"]
        known = ["s3://b/1.tar", "s3://c/1.tar"]
        assert self.read(tmp_path, "s3://b/*.tar\n", known=known) == ["s3://b/1.tar", "s3://b/9.tar", "s3://b/10.tar"]
        with pytest.raises(UsageError, match=r"nothing matches\n  line 1: s3://none/\*"):
            self.read(tmp_path, "s3://none/*\n")

    def test_globs_without_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What has to be asked of a server says what to install."""
        monkeypatch.setattr("jobs.remote_files.is_installed", lambda _package: False)
        with pytest.raises(UsageError, match=r"line 1: tars at s3:// need .*\[remote\]"):
            self.read(tmp_path, "s3://b/*.tar\n")


class TestNames:
    def test_addresses(self) -> None:
        """They are named as paths are: by the last part, or with folders below what all share, bucket or host first."""
        tars = ["s3://b/d/1.tar", "https://h/x/2.tar.gz?v=1", "pipe:curl -s https://h/3.tar | cat", "/d/4.tar"]
        assert list(name_tars(tars, keep_dirs=False, taken={}).values()) == ["1", "2", "3", "4"]
        assert list(name_tars(tars, keep_dirs=True, taken={}).values()) == ["b/d/1", "h/x/2", "h/3", "d/4"]
        assert list(name_tars(["s3://b/d/1.tar", "s3://b/e/1.tar"], keep_dirs=True, taken={}).values()) == ["d/1", "e/1"]
        with pytest.raises(UsageError, match=r"both become 1\.jsonl: s3://b/1\.tar and s3://c/1\.tar; use --keep-dirs"):
            name_tars(["s3://b/1.tar", "s3://c/1.tar"], keep_dirs=False, taken={})

    def test_stems(self) -> None:
        """An output is named for its tar without the suffix, double ones included."""
        names = name_tars(["/d/1.tar", "/d/2.tar.gz", "/e/3.x.tgz", "/e/4.TAR"], keep_dirs=False, taken={})
        assert list(names.values()) == ["1", "2", "3.x", "4"]

    def test_one_stem_names_both_tars(self) -> None:
        """Two tars with one stem, in one command or over two, are refused with both names and --keep-dirs."""
        with pytest.raises(UsageError, match=r"both become 1.jsonl: /a/1.tar and /b/1.tar; use --keep-dirs"):
            name_tars(["/a/1.tar", "/b/1.tar"], keep_dirs=False, taken={})
        with pytest.raises(UsageError, match=r"/a/1.tar and /b/1.tar; use --keep-dirs"):
            name_tars(["/b/1.tar"], keep_dirs=False, taken={"1": "/a/1.tar"})

    def test_keep_dirs(self) -> None:
        """Folders below the one that all tars share become folders of the run."""
        names = name_tars(["/d/a/1.tar", "/d/b/c/1.tar", "/d/2.tar"], keep_dirs=True, taken={})
        assert list(names.values()) == ["a/1", "b/c/1", "2"]

    def test_names_are_stable_when_the_list_grows(self) -> None:
        """A tar keeps the name that it has, and a new one that would take it gets more of its path, never a dead end."""
        first = name_tars(["/d/a/1.tar", "/d/a/2.tar"], keep_dirs=True, taken={})
        assert list(first.values()) == ["1", "2"]
        taken = {name: tar for tar, name in first.items()}
        second = name_tars(["/d/1.tar", "/d/b/1.tar"], keep_dirs=True, taken=taken)
        assert second == {"/d/1.tar": "d/1", "/d/b/1.tar": "b/1"}

    def test_suffix_alone_is_no_difference(self) -> None:
        """`1.tar` and `1.tar.gz` of one folder have no two names, with or without folders."""
        for keep_dirs in (False, True):
            with pytest.raises(UsageError, match="differ in nothing but the suffix: rename one"):
                name_tars(["/d/1.tar", "/d/1.tar.gz"], keep_dirs=keep_dirs, taken={})

    def test_names_that_a_list_cannot_hold(self) -> None:
        """Tabs and newlines separate a run's own list, so they are refused."""
        with pytest.raises(UsageError, match="tabs or newlines"):
            name_tars(["/d/a\tb.tar"], keep_dirs=False, taken={})

    paths = st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts) + ".tar"),
        unique=True,
    )

    @given(paths, st.integers(0, 10))
    def test_every_tar_gets_a_name_of_its_own(self, tars: list[str], cut: int) -> None:
        """With --keep-dirs no list is refused, and however a list grows, no two tars ever share a name."""
        names = name_tars(tars, keep_dirs=True, taken={})
        assert len(set(names.values())) == len(tars)
        assert all(tar.endswith(f"/{name}.tar") for tar, name in names.items())
        first = name_tars(tars[:cut], keep_dirs=True, taken={})
        try:
            second = name_tars(tars[cut:], keep_dirs=True, taken={name: tar for tar, name in first.items()})
        except UsageError:  # d/d/a.tar was first, and has taken the last name that d/a.tar could have
            return
        assert len({*first.values(), *second.values()}) == len(tars)

    def test_names_that_run_out(self) -> None:
        """Where no part of its path is left to tell a tar from one that is known, the advice is one that helps."""
        taken = {"d/a": "/d/d/a.tar", "a": "/d/b/a.tar"}
        with pytest.raises(UsageError, match="rename one, or use another --output-dir"):
            name_tars(["/d/a.tar"], keep_dirs=True, taken=taken)
