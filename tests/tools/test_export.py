"""tools/export.py: one command that can be killed at any moment, and does the rest when it is given again."""

from __future__ import annotations

import os
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.committed_runs import damaged_records, make_run, record
from support.crashing import CrashingOps, SimulatedCrash
from support.exported import code_records, tokenized_run
from support.runs import call, group_members, start, tree, wait_for
from support.small_run import mulaw_spec, small_tar, tokenize

from audio_tokenizers.base import Field
from audio_tokenizers.errors import InfrastructureError
from hpc.run import Run
from jobs.damage import Damage
from jobs.spec import freeze_spec
from jobs.tar_paths import TarPaths, read_manifest
from tools.export import export
from tools.exporting import batches
from tools.exporting.plan import ExportFormat
from tools.exporting.run_export import export_run

CODES = (Field(name="tokens", form="codes", width=2, codebook_size=1024),)
FORMATS = ["parquet", "webdataset", "hf", "npz"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three tars, each with an error."""
    return tokenized_run(tmp_path_factory.mktemp("run"), several_keys=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits until everything else on this machine is on its disk."""
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.mark.parametrize("to", FORMATS)
def test_summary_and_second_time(to: ExportFormat, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what is in the folder, and what is not; given again it changes nothing and says so."""
    args = ("--to", to, "--output", tmp_path / "out", "--output-dir", run, "--workers", 1)
    assert call(export, *args) == 0
    said = capsys.readouterr().out
    assert "12 clips of 3 tars in " in said
    assert "3 clips with errors left out (decode 3)" in said
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert call(export, *args) == 0
    assert capsys.readouterr().out.startswith("nothing to do: ")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_misuse_is_one_message(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such format, no run, no audio to be had, a folder that is taken: what is wrong, and what to do."""
    out = tmp_path / "out"
    assert call(export, "--to", "csv", "--output", out, "--output-dir", run) == 2
    assert "--to csv: expected one of parquet, webdataset, hf, npz" in capsys.readouterr().err
    assert call(export, "--to", "npz", "--output", out, "--output-dir", tmp_path / "none") == 2
    assert "no run here" in capsys.readouterr().err
    assert call(export, "--to", "parquet", "--output", out, "--output-dir", run, "--with-audio") == 2
    assert "--to parquet holds no audio" in capsys.readouterr().err
    assert call(export, "--to", "parquet", "--output", out, "--output-dir", run, "--workers", 1) == 0
    assert call(export, "--to", "hf", "--output", out, "--output-dir", run) == 2
    assert "it holds --to parquet, this command says --to hf" in capsys.readouterr().err
    assert call(export, "--to", "parquet", "--output", run, "--output-dir", run) == 2
    assert "expected an empty folder" in capsys.readouterr().err


def test_without_pyarrow(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Formats that need it say what to install, and begin nothing; the others do without."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    args = ("--output", tmp_path / "out", "--output-dir", run, "--workers", 1)
    for to in ("parquet", "hf"):
        assert call(export, "--to", to, *args) == 2
        assert f"--to {to} needs pyarrow: pip install -e '.[export]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert call(export, "--to", "webdataset", *args) == 0


def test_unfinished_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is not finished is exported when --partial-ok says so; when it has grown, that is another export."""
    run, out = tmp_path / "run", tmp_path / "out"
    make_run(run, {"a": code_records(["x.wav"]), "b": None}, CODES)
    args = ("--to", "webdataset", "--output", out, "--output-dir", run, "--workers", 1)
    assert call(export, *args) == 2
    assert "1 of 2 tars not committed" in capsys.readouterr().err
    assert call(export, *args, "--partial-ok") == 0
    assert [path.name for path in out.glob("*.tar")] == ["a.tar"]
    make_run(run, {"a": code_records(["x.wav"]), "b": code_records(["y.wav"])}, CODES)
    assert call(export, *args) == 2
    assert "not in it: 1 tar that the run has, the first b" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("to", ["hf", "npz"])
def test_a_crash_at_every_step(to: ExportFormat, run: Path, tmp_path: Path) -> None:
    """Before and after each durable operation: what stands there is whole, and the rest comes with the same command."""
    counting = CrashingOps()
    export_run(run, tmp_path / "whole", to, part_bytes=1, ops=counting)
    whole = tree(tmp_path / "whole")
    for after in (False, True):
        for crash_at in range(counting.count):
            out = tmp_path / f"{after}-{crash_at}"
            with pytest.raises(SimulatedCrash):
                export_run(run, out, to, part_bytes=1, ops=CrashingOps(crash_at, after=after))
            assert tree(out).items() <= whole.items()
            export_run(run, out, to, part_bytes=1)
            assert tree(out) == whole


@pytest.mark.parametrize("to", ["parquet", "webdataset"])
def test_a_crash_at_every_batch(to: ExportFormat, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a part is written nothing of it is to be seen."""
    monkeypatch.setattr(batches, "BATCH_BYTES", 1)
    real = batches.read_batches
    export_run(run, tmp_path / "whole", to, part_bytes=1)
    whole = tree(tmp_path / "whole")
    for crash_at in range(0, 12, 3):
        left = iter(range(crash_at, -1, -1))

        def dying(*args: Any, left: Iterator[int] = left) -> Iterator[Any]:
            for batch in real(*args):
                if not next(left):
                    raise SimulatedCrash
                yield batch

        monkeypatch.setattr(f"tools.exporting.{to}.read_batches", dying)
        with pytest.raises(SimulatedCrash):
            export_run(run, tmp_path / str(crash_at), to, part_bytes=1)
        assert tree(tmp_path / str(crash_at)).items() <= whole.items()
        monkeypatch.setattr(f"tools.exporting.{to}.read_batches", real)
        export_run(run, tmp_path / str(crash_at), to, part_bytes=1)
        assert tree(tmp_path / str(crash_at)) == whole


def test_damaged_file_leaves_nothing_wrong(tmp_path: Path) -> None:
    """A committed file with other bytes stops the export; the parts before it stay, its own does not come to be."""
    run = tmp_path / "run"
    make_run(run, {name: code_records([f"{name}.wav"]) for name in "abc"}, CODES)
    data = (run / "b.jsonl").read_bytes()
    (run / "b.jsonl").write_bytes(data.replace(b"b.wav", b"x.wav"))
    with pytest.raises(InfrastructureError, match=r"b\.jsonl: its bytes are not those that were committed"):
        export_run(run, tmp_path / "out", "webdataset")
    assert sorted(tree(tmp_path / "out")) == [".export.json", "a.tar"]
    (run / "b.jsonl").write_bytes(data)
    assert "(1 part of 3 from before)" in export_run(run, tmp_path / "out", "webdataset")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle(how: signal.Signals, tmp_path: Path) -> None:
    """Killed, or told to stop by Ctrl-C, with two processes at work: no process stays, no word but one message at most, and
    the same command ends with the bytes of an undisturbed one.
    """
    run, out = tmp_path / "tokens", tmp_path / "out"
    records = code_records([f"{clip:04}.wav" for clip in range(30)])
    make_run(run, {str(tar): records for tar in range(8)}, CODES)
    last, manifest = run / "7.jsonl", TarPaths(run, "7").manifest
    before = {path: path.read_bytes() for path in (last, manifest)}
    promised = read_manifest(manifest)
    assert promised is not None
    manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(promised, output_bytes=0)))
    last.unlink()
    os.mkfifo(last)  # as large as its manifest says, and whoever reads it waits
    process = start("tools.export", "--to", "webdataset", "--output", out, "--workers", 2, cwd=tmp_path)
    with process:
        try:
            with last.open("wb"):  # waits too: until somebody reads it
                if how == signal.SIGINT:
                    os.killpg(process.pid, how)
                else:
                    process.send_signal(how)
            said = process.communicate()[1]
        finally:
            process.kill()
    wait_for(lambda: not group_members(process.pid))
    assert process.returncode in (-how, 130)
    assert "Traceback" not in said
    assert not (out / "7.tar").exists()
    assert how == signal.SIGKILL or not [path for path in out.iterdir() if path.name.endswith(".new")]
    last.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    export_run(run, out, "webdataset")
    export_run(run, tmp_path / "whole", "webdataset")
    found = {path: data for path, data in tree(out).items() if not path.endswith(".new")}  # of the dead that nobody buried
    assert found == tree(tmp_path / "whole")


@pytest.mark.parametrize("to", FORMATS)
def test_damaged_clips(to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are exported with what they lack, and counted."""
    make_run(tmp_path / "run", {"a": damaged_records(1)}, (Field(name="tokens", form="codes", width=2, codebook_size=1024),))
    args = ("--to", to, "--output", tmp_path / "out", "--output-dir", tmp_path / "run", "--workers", 1)
    assert call(export, *args) == 0
    said = capsys.readouterr().out
    assert "5 clips of 1 tar in " in said
    assert ", 2 damaged clips among them, 1 clip with errors left out" in said


def test_a_run_that_keeps_no_damaged_clip_is_exported_as_ever(tmp_path: Path) -> None:
    """No column of damage or notes, so that an export from before there were any goes on with parts of the same form."""
    import pyarrow.parquet as pq

    for share, columns in ((0.0, set()), (0.02, {"damage_seconds", "damage", "notes"})):
        output = tmp_path / str(share)
        freeze_spec(output / "run", mulaw_spec(max_damage=share))
        tar = small_tar(output / "a.tar")
        Run(output / "run").add_to_list([str(tar)], keep_dirs=False)
        tokenize(tar, output / "run", spec=mulaw_spec(max_damage=share))
        export_run(output / "run", output / "out", "parquet")
        (part,) = (output / "out").glob("*.parquet")
        assert {name for name in pq.read_schema(part).names if "damage" in name or name == "notes"} == columns


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_that_a_record_says_is_lost(to: ExportFormat, tmp_path: Path) -> None:
    """Each key of a record is in every format: what is missing, notes, texts, and the times of a segment in its metadata."""
    said = record(
        audio_file="talk.mp3#7",
        damage=Damage(0.25, "its end"),
        notes=("opposite_phase",),
        text="é",
        language="fr",
        metadata={"start": 1.5, "end": None},
    )
    run = tmp_path / "run"
    make_run(run, {"a": [said, record()]}, CODES)
    export_run(run, tmp_path / "out", to)
    if to in ("parquet", "hf"):
        import pyarrow.parquet as pq

        (part,) = (tmp_path / "out").rglob("*.parquet")
        found = pq.read_table(part).to_pylist()[0]
    elif to == "webdataset":
        with tarfile.open(tmp_path / "out" / "a.tar") as tar:
            member = tar.extractfile("talk#7.json")
            assert member is not None
            found = msgspec.json.decode(member.read())
        found |= {"damage_seconds": found["damage"]["seconds"], "damage": found["damage"]["what"]}
        found["metadata"] = msgspec.json.encode(found["metadata"]).decode()
    else:
        with np.load(tmp_path / "out" / "a" / "talk#7.npz") as file:
            found = {key: file[key].tolist() for key in file.files}
    expected = {
        key: getattr(said, key) for key in ("tar_file", "audio_file", "num_samples", "sample_rate", "text", "language")
    }
    expected |= {"damage_seconds": 0.25, "damage": "its end", "notes": ["opposite_phase"]}
    expected["metadata"] = '{"start":1.5,"end":null}'
    assert {key: found[key] for key in expected} == expected
