"""tools/merge.py: the command, from a run that was tokenized to a file that others read."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.committed_runs import (
    BICODEC_FIELDS,
    READ_BACK,
    commit,
    damaged_records,
    lines_of,
    make_run,
    record,
    some_records,
)
from support.envelope import FIELDS as ENVELOPE_FIELDS
from support.runs import call, group_members, start, tree, wait_for
from support.small_run import CLIPS, mulaw_spec, small_tar, tokenize

from audio_tokenizers.base import Field
from hpc.run import Run
from jobs.spec import freeze_spec
from tools.merge import merge
from tools.merging.members import Compression


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path) -> Run:
    """A finished run of two tars, tokenized."""
    tars = [small_tar(here / "data" / f"00000{number}.tar") for number in (1, 2)]
    run = Run(here / "tokens")
    freeze_spec(run.output_dir, mulaw_spec())
    run.add_to_list([str(tar) for tar in tars], keep_dirs=False)
    for tar in tars:
        tokenize(tar, run.output_dir)
    return run


def committed(run: Run) -> bytes:
    return b"".join(run.paths(tar.name).committed.read_bytes() for tar in run.listed())


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """The message of a command that fails."""
    assert call(merge, *arguments) == code
    out, err = capsys.readouterr()
    assert (out, err.count("error: ")) == ("", 1)
    return err


@pytest.mark.parametrize(("name", "compression"), [("all.jsonl", "plain"), ("all.jsonl.gz", "gz"), ("all.jsonl.zst", "zst")])
def test_a_finished_run(
    run: Run, here: Path, name: str, compression: Compression, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every committed line, byte for byte, with errors, and a summary; the same command again does nothing and says so."""
    assert call(merge, "--output", name, "--workers", 1) == 0
    data = (here / name).read_bytes()
    assert READ_BACK[compression](data) == committed(run)
    out = capsys.readouterr().out
    assert out.startswith(
        f"{name}: {2 * CLIPS} lines of 2 files\nBytes:    {len(committed(run)):,} of lines became {len(data):,}"
    )
    assert "Left out" not in out
    before = tree(here)
    assert call(merge, "--output", name) == 0
    assert capsys.readouterr().out == f"{name}: nothing to do: it has the lines of all 2 committed files already\n"
    assert tree(here) == before


def test_a_device_or_a_pipe_is_no_place_for_a_file(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root would replace it by a file, for everybody on the machine."""
    os.mkfifo(here / "pipe.jsonl")
    (here / "null.jsonl").symlink_to("/dev/null")
    (here / "folder.jsonl").mkdir()
    before = sorted(here.iterdir())
    for name, found in (("pipe", "a pipe"), ("null", "a device"), ("folder", "a folder")):
        assert f"{name}.jsonl: expected the name of a file, found {found}" in fails(capsys, "--output", f"{name}.jsonl")
    assert sorted(here.iterdir()) == before


def test_gzip_reads_it(run: Run, here: Path) -> None:
    """The gzip of every system reads a file of several members to its end."""
    assert call(merge, "--output", "out/all.jsonl.gz", "--workers", 1) == 0
    found = subprocess.run(["gzip", "-dc", "out/all.jsonl.gz"], capture_output=True, check=True)
    assert (found.stdout, found.stderr) == (committed(run), b"")


def test_a_shape(run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of the older tool: its keys alone, without errors, which the summary counts by kind."""
    assert call(merge, "--output", "all.jsonl.gz", "--shape", "higgs", "--workers", 1) == 0
    with gzip.open(here / "all.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert [line["audio_file"] for line in lines] == [f"{number:03}.wav" for number in (0, 1, 3, 4)] * 2
    known = [json.loads(line) for line in committed(run).splitlines()]
    assert [line["tokens"] for line in lines] == [line["tokens"] for line in known if "error" not in line]
    assert {tuple(line) for line in lines} == {
        ("tar_file", "audio_file", "num_samples", "sample_rate", "tokens", "token_shape")
    }
    assert "Left out: 2 clips (decode 2)\n" in capsys.readouterr().out


def test_an_unfinished_run(run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused, unless --partial-ok; what comes later is put in its place by the next merge."""
    run.add_to_list([str(small_tar(here / "data" / "0.tar"))], keep_dirs=False)
    assert "1 of 3 tars not committed (1 not started), the first of them 0" in fails(capsys, "--output", "all.jsonl")
    assert not (here / "all.jsonl").exists()
    assert call(merge, "--output", "all.jsonl", "--partial-ok", "--workers", 1) == 0
    tokenize(here / "data" / "0.tar", run.output_dir)
    capsys.readouterr()
    assert call(merge, "--output", "all.jsonl") == 0
    assert "15 lines of 3 files, 2 of them merged before" in capsys.readouterr().out
    assert (here / "all.jsonl").read_bytes() == committed(run)


class TestRefusals:
    def test_places(self, run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Nothing is written into the run directory, over somebody's file, or under a name that says no format."""
        (here / "link").symlink_to(here / "tokens")
        before = tree(here)
        assert "expected a place outside the run directory" in fails(capsys, "--output", "tokens/all.jsonl")
        assert "expected a place outside the run directory" in fails(capsys, "--output", "link/sub/all.jsonl")
        assert "expected a name that ends in .jsonl, .gz, .zst" in fails(capsys, "--output", "all.parquet")
        assert "expected a name that ends in .jsonl, .gz, .zst" in fails(capsys, "--output", "data/000001.tar")
        assert tree(here) == before

    def test_shapes(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """A shape that nobody knows, or that this run's records cannot take, is named with those that would do."""
        assert "--shape wav: expected higgs, bicodec or text_audio_pairs" in fails(
            capsys, "--output", "a.jsonl", "--shape", "wav"
        )
        message = fails(capsys, "--output", "a.jsonl", "--shape", "bicodec")
        assert "those of this run have tokens (codes): give --shape higgs, or none" in message

    def test_no_run(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where there is no run, that is said."""
        assert "tokens: no run here" in fails(capsys, "--output", "a.jsonl")

    def test_floats(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Floats stand in files of their own, so lines alone would be worth nothing: another tool is named."""
        make_run(here / "tokens", {"1": []}, ENVELOPE_FIELDS)
        message = fails(capsys, "--output", "a.jsonl")
        assert "its floats (envelope, sum) are in NAME.safetensors" in message
        assert "tools.export" in message

    def test_damage(self, run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A committed file that has changed is the machine's trouble: exit code 1, no output."""
        path = run.paths("000002").committed
        path.write_bytes(path.read_bytes().replace(b"[[", b"[ ", 1))
        message = fails(capsys, "--output", "all.jsonl", "--workers", 1, code=1)
        assert "000002.jsonl: its bytes are not those that were committed" in message
        assert not (here / "all.jsonl").exists()


def test_texts_that_are_missing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clips without text count by the name of the error kind, beside errors."""
    values = {"global_tokens": b"[1]", "semantic_tokens": b"[2]"}
    clips = [record(values, text="a"), record(values), *some_records(1)[-1:]]
    make_run(here / "tokens", {"1": clips, "2": clips}, BICODEC_FIELDS)
    assert call(merge, "--output", "all.jsonl", "--shape", "bicodec", "--workers", 1) == 0
    assert "2 lines of 2 files" in (out := capsys.readouterr().out)
    assert "Left out: 4 clips (decode 2, no_text 2)" in out


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped(here: Path, how: signal.Signals) -> None:
    """Killed, or stopped by Ctrl-C, with processes at work: they end too, in silence, and a rerun makes the same bytes."""
    records = {str(number): some_records(number) for number in range(3)}
    make_run(here / "tokens", records)
    assert call(merge, "--output", "undisturbed.jsonl.gz", "--workers", 1) == 0
    commit(here / "tokens", "2", []).unlink()
    pipe = here / "tokens" / "2.jsonl"
    os.mkfifo(pipe)  # as large as its manifest says, and whoever reads it waits
    process = start("tools.merge", "--output", "out/all.jsonl.gz", "--workers", 2, cwd=here)
    wait_for(lambda: any((here / "out").glob(".all.jsonl.gz.part-*-000002")))
    if how == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, how)
        pipe.open("wb").close()
    _, err = process.communicate()
    assert process.returncode == (-how if how == signal.SIGKILL else 130)
    assert "Traceback" not in err
    wait_for(lambda: not group_members(process.pid))
    assert not (here / "out" / "all.jsonl.gz").exists()
    pipe.unlink()
    commit(here / "tokens", "2", records["2"])
    assert call(merge, "--output", "out/all.jsonl.gz", "--workers", 1) == 0
    assert sorted(tree(here / "out")) == ["all.jsonl.gz", "all.jsonl.gz.index"]
    assert (here / "out" / "all.jsonl.gz").read_bytes() == (here / "undisturbed.jsonl.gz").read_bytes()


def test_damaged_clips(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines carry what their clips lack; those of a shape cannot, which is said."""
    records = {"a": damaged_records(1), "b": some_records(2)}
    make_run(here / "tokens", records, (Field(name="tokens", form="codes", width=2, codebook_size=1024),))
    assert call(merge, "--output", "all.jsonl", "--workers", 1) == 0
    assert (here / "all.jsonl").read_bytes() == b"".join(lines_of(each) for each in records.values())
    assert "Damaged:  2 clips of the run (kept, 0.732 s missing)\n" in capsys.readouterr().out
    assert call(merge, "--output", "shape.jsonl", "--shape", "higgs", "--workers", 1) == 0
    assert len((here / "shape.jsonl").read_bytes().splitlines()) == 8
    said = capsys.readouterr().out
    assert "Damaged:  2 clips of the run (kept, 0.732 s missing); lines of --shape higgs do not say which\n" in said
