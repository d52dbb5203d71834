"""tools/common/run_files.py: tools that read a run's tokens get all of them, as they were committed, or a clear no."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.small_run import mulaw_spec, small_tar, tokenize
from support.training_campaign import tell_status

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.run import Run
from jobs.spec import freeze_spec
from tools.common.run_files import committed_files, read_lines, spec_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three tars, listed in another order than that of their names, the last of which is not tokenized."""
    output = tmp_path / "tokens"
    tars = [small_tar(tmp_path / f"{name}.tar") for name in ("b", "a", "c")]
    freeze_spec(output, mulaw_spec())
    Run(output).add_to_list([str(tar) for tar in tars], keep_dirs=False)
    for tar in tars[:2]:
        tokenize(tar, output)
    return output


def test_an_unfinished_run_is_refused(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is missing is said, and nothing is given, unless somebody says that a part is enough."""
    with pytest.raises(UsageError, match=r"1 of 3 tars not committed \(1 not started\), the first of them c: finish"):
        committed_files(run)
    logging.getLogger("tar2tokens").propagate = True
    assert [file.name for file in committed_files(run, partial_ok=True)] == ["b", "a"]
    assert "only the others are taken" in caplog.text


def test_a_training_has_no_tokens(tmp_path: Path) -> None:
    """A user who gives the folder of a training is not sent to look for a missing file."""
    tell_status(tmp_path, epoch=1)
    for read in (spec_of, committed_files):
        with pytest.raises(UsageError, match=r"expected a run of tokens, found a training: .*check_progress shows"):
            read(tmp_path)


def test_files_come_in_list_order(run: Path) -> None:
    """The order of a run is that of its list."""
    tokenize(run.parent / "c.tar", run)
    files = committed_files(run)
    assert [(file.name, file.tar, file.bytes) for file in files] == [
        (name, str(run.parent / f"{name}.tar"), (run / f"{name}.jsonl").stat().st_size) for name in ("b", "a", "c")
    ]
    assert b"".join(read_lines(files[0])) == (run / "b.jsonl").read_bytes()


def test_bytes_that_are_not_those_committed(run: Path) -> None:
    """A flipped bit of a committed file ends the command, at the latest at the file's end."""
    (file, _) = committed_files(run, partial_ok=True)
    data = bytearray(file.path.read_bytes())
    data[100] ^= 1
    file.path.write_bytes(data)
    with pytest.raises(InfrastructureError, match="not those that were committed"):
        list(read_lines(file))


def test_where_there_is_no_run(tmp_path: Path, run: Path) -> None:
    """A folder without a run, and a run without anything, are told apart from a run that is done."""
    with pytest.raises(UsageError, match="no run here"):
        committed_files(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no run here"):
        spec_of(tmp_path / "nowhere")
    assert spec_of(run).backend == "mulaw"
    for name in ("a", "b"):
        (run / f"{name}.jsonl").unlink()
    with pytest.raises(UsageError, match="none of its 3 tars is committed yet"):
        committed_files(run, partial_ok=True)
