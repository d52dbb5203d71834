"""tools/checking/validity.py: a committed file that is not what its manifest promises is found, whatever is wrong."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support import part_makers
from support.looked_at import report_of, three_tars
from support.runs import call
from support.small_run import CLIPS, tokenize

from hpc.run import Run
from jobs.tar_paths import TarPaths, read_manifest
from tools.check_progress import check_progress
from tools.checking import validity


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and checks in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validity, "available_cores", lambda: 1)
    return tmp_path


@pytest.fixture
def run(here: Path) -> Run:
    """A run of three tars: one committed, one begun, one not started."""
    return three_tars(here)


def rewrite(paths: TarPaths, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a committed file."""
    paths.committed.write_bytes(b"".join(change(paths.committed.read_bytes().splitlines(keepends=True))))


def vouch(paths: TarPaths, **values: object) -> None:
    """Have the manifest promise what the file now is, but for `values`: only reading the lines can tell."""
    data = paths.committed.read_bytes()
    promise = {"output_bytes": len(data), "output_sha256": hashlib.sha256(data).hexdigest(), **values}
    manifest = read_manifest(paths.manifest)
    assert manifest is not None
    paths.manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **promise)))


def rewrite_and_vouch(paths: TarPaths, change: Callable[[list[bytes]], list[bytes]]) -> None:
    rewrite(paths, change)
    vouch(paths)


def overwrite(paths: TarPaths, data: bytes) -> None:
    """Replace the file, and promise the result."""
    paths.committed.write_bytes(data)
    vouch(paths)


def edit(paths: TarPaths, old: bytes, new: bytes) -> None:
    """Replace the first `old` in the first line, which has it, and promise the result."""

    def change(lines: list[bytes]) -> list[bytes]:
        assert old in lines[0]
        return [lines[0].replace(old, new, 1), *lines[1:]]

    rewrite_and_vouch(paths, change)


def make_absurd(paths: TarPaths) -> None:
    edit(paths, b'"token_shape":[1,40]', b'"token_shape":[1,4000000000000]')
    edit(paths, b'"num_samples":40', b'"num_samples":4000000000000')


def first_token(paths: TarPaths) -> bytes:
    return paths.committed.read_bytes().partition(b'"tokens":[[')[2].partition(b",")[0]


def change_digit(paths: TarPaths) -> None:
    data = bytearray(paths.committed.read_bytes())
    place = data.index(b'"tokens":[[') + len(b'"tokens":[[')
    data[place] = ord("1") if data[place] != ord("1") else ord("2")
    paths.committed.write_bytes(bytes(data))


CORRUPTIONS: dict[str, tuple[Callable[[TarPaths], object], str]] = {
    "token out of range": (
        lambda p: edit(p, b"[[" + first_token(p) + b",", b"[[256,"),
        "expected 1 list of 40 integers in 0..255, found 1 list of [40] in 0..256",
    ),
    "huge token": (lambda p: edit(p, b"[[" + first_token(p) + b",", b"[[99999,"), "found 1 list of [40] in 0..99999"),
    "negative token": (lambda p: edit(p, b"[[" + first_token(p) + b",", b"[[-1,"), "found 1 list of [40] in -1..255"),
    "token lost": (lambda p: edit(p, b"[[" + first_token(p) + b",", b"[["), "found 1 list of [39]"),
    "wrong codebooks": (lambda p: edit(p, b'"token_shape":[1,', b'"token_shape":[8,'), "token_shape is [8,40]"),
    "no frames": (lambda p: edit(p, b'"token_shape":[1,40]', b'"token_shape":[1,0]'), "token_shape is [1,0]"),
    "wrong sample count": (lambda p: edit(p, b'"num_samples":40', b'"num_samples":48'), "48 samples became 40 frames"),
    "absurd shape": (
        make_absurd,
        "expected 1 list of 4,000,000,000,000 integers",
    ),
    "wrong rate": (lambda p: edit(p, b'"sample_rate":8000', b'"sample_rate":16000'), "sample_rate is 16000, expected 8000"),
    "not JSON": (lambda p: edit(p, b"{", b"<"), "line 1: not a record"),
    "endless nesting": (
        lambda p: edit(p, b"{", b'{"metadata":' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b","),
        "line 1: not a record",
    ),
    "unknown field": (lambda p: edit(p, b"{", b'{"more":1,'), "it has the keys ['more', 'tokens'"),
    "unknown error kind": (
        lambda p: rewrite_and_vouch(p, lambda lines: [line.replace(b'"decode"', b'"weird"') for line in lines]),
        "line 3: not a record",
    ),
    "missing line": (
        lambda p: rewrite_and_vouch(p, lambda lines: lines[1:]),
        f"it has {CLIPS - 1} clips",
    ),
    "missing line, size tells": (lambda p: rewrite(p, lambda lines: lines[1:]), "its manifest says"),
    "duplicate line": (
        lambda p: rewrite_and_vouch(p, lambda lines: [lines[0], *lines]),
        f"it has {CLIPS + 1} clips",
    ),
    "error line lost, another twice": (
        lambda p: rewrite_and_vouch(p, lambda lines: [*lines[:2], lines[1], *lines[3:]]),
        "with errors none, its manifest says 5 with {'decode': 1}",
    ),
    "lines in another order": (
        lambda p: rewrite(p, lambda lines: [lines[1], lines[0], *lines[2:]]),
        "its sha256 is",
    ),
    "cut tail": (
        lambda p: overwrite(p, p.committed.read_bytes()[:-9]),
        "it has no newline: the file is cut short",
    ),
    "empty": (lambda p: overwrite(p, b""), "it has 0 clips"),
    "changed digit": (change_digit, "its sha256 is"),
    "foreign recipe": (lambda p: vouch(p, fingerprint="0" * 16), "made with the recipe 0000000000000000"),
    "missing manifest": (lambda p: p.manifest.unlink(), "no manifest, so this run did not commit it"),
}


class TestValidity:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", CORRUPTIONS)
    def test_corruption_is_found(self, run: Run, here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
        """Each way in which a committed file can be wrong: ✗, the reason, exit code 1, and the tar in the lists."""
        corrupt, words = CORRUPTIONS[name]
        corrupt(run.paths("000001"))
        found, text = report_of(capsys, "--check-validity", code=1)
        assert (found["invalid"], found["completed"], found["checked"]) == (1, 0, True)
        line = next(line for line in text.splitlines() if "✗ 000001.tar" in line)
        assert words in line, line
        assert "000001.jsonl" in line
        assert "move it away to have it made again" in line
        assert found["problems"]["000001"] in line
        assert (here / "invalid_tar_files.txt").read_text() == f"{run.listed()[0].tar}\n"
        assert run.listed()[0].tar in (here / "remaining_tar_files.txt").read_text().splitlines()
        assert "Invalid tar files: invalid_tar_files.txt" in text

    def test_changed_input(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """A tar that is another one than its tokens were made from makes them invalid; a copy or none does not."""
        tar = Path(run.listed()[0].tar)
        os.utime(tar, (1, 1))
        report_of(capsys, "--check-validity")
        size = tar.stat().st_size
        tar.write_bytes(tar.read_bytes() + bytes(1024))
        _, text = report_of(capsys, code=1)
        assert f"has changed since: it had {size:,} bytes then, and has {size + 1024:,} now" in text
        tar.unlink()
        report_of(capsys, "--check-validity")

    def test_unreadable_file(self, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that the disk gives no more is invalid, and does not end the report."""

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(validity, "validate_file", fail)
        _, text = report_of(capsys, "--check-validity", code=1)
        assert "000001.jsonl: cannot be read: Input/output error" in text

    @pytest.mark.slow
    def test_good_files_in_parallel(
        self, run: Run, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Processes of their own find what one process finds."""
        monkeypatch.setattr(validity, "available_cores", lambda: 2)
        tokenize(Path(run.listed()[1].tar), run.output_dir)
        found, text = report_of(capsys, "--check-validity")
        assert found["completed"] == 2
        assert "2 files valid in every line, 0 invalid" in text
        change_digit(run.paths("000002"))
        assert call(check_progress, "--check-validity") == 1
        assert (here / "invalid_tar_files.txt").read_text() == f"{run.listed()[1].tar}\n"
        run.paths("000002").committed.unlink()
        tokenize(Path(run.listed()[1].tar), run.output_dir)
        assert call(check_progress, "--check-validity") == 0
        assert (here / "invalid_tar_files.txt").read_bytes() == b""

    def test_moving_the_file_away_mends_it(self, run: Run) -> None:
        """What the message advises works: the file is made again, and is valid."""
        change_digit(run.paths("000001"))
        assert call(check_progress, "--check-validity") == 1
        run.paths("000001").committed.rename(run.output_dir / "away")
        tokenize(Path(run.listed()[0].tar), run.output_dir)
        assert call(check_progress, "--check-validity") == 0


@pytest.mark.slow
def test_killed_check_is_one_message(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A checking process that dies, for want of memory perhaps, is told in words."""
    monkeypatch.setattr(validity, "available_cores", lambda: 2)
    tokenize(Path(run.listed()[1].tar), run.output_dir)
    monkeypatch.setattr(validity, "_fault", part_makers.die)
    assert call(check_progress, "--check-validity") == 1
    assert "one of 2 processes was killed" in capsys.readouterr().err
