"""tools/canary.py: the command, with workers of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.local_runs import SlowRun
from support.runs import call, write_list
from support.small_run import small_tar, wav, write_tar

from tools import canary as module
from tools.canary import canary
from tools.common.findings import fault
from tools.rehearsing.rehearsal import Asked

LOCAL = ("--cluster", "local", "--device", "cpu")


@pytest.fixture(autouse=True)
def _no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster.yaml of the user who runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """A list of two small tars."""
    return write_list(tmp_path / "tars.txt", [small_tar(tmp_path / "in" / f"{name}.tar") for name in "ab"])


def canaries(folder: Path) -> list[Path]:
    return sorted(folder.glob(".tar2tokens-canary-*"))


@pytest.mark.slow
def test_go(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two workers of this machine, killed in the middle and resumed: the same tokens, exit code 0, and nothing left.

    The backend pauses at each clip but the first two of a worker, so that there is a middle.
    """
    run = SlowRun(tmp_path, clips=4)
    run.brake.touch()
    process = run.command(
        "tools.canary",
        *("--list", run.listed, "--backend", "slow", "--set", "pause=0.1", "--set", f"brake={run.brake}"),
        *("--clips", 8, "--workers", 2, "--json", *LOCAL),
    )
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    found = {finding["check"]: finding for finding in json.loads(out)}
    assert found["interrupted"]["found"].startswith("all workers were ended in the middle of a tar")
    assert found["same tokens"]["verdict"] == found["resumed tokens"]["verdict"] == "ok"
    assert found["resumed tokens"]["found"] == "8 clips: the same, bit for bit"
    assert canaries(tmp_path) == []
    assert not run.output.exists()


def test_no(tmp_path: Path, tars: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault is exit code 1; the scratch folder is kept beside the output directory, and named."""
    asked: list[Asked] = []

    def note(one: Asked) -> list[object]:
        asked.append(one)
        return [fault("same tokens", "1 of 2 clips differ", "look")]

    monkeypatch.setattr(module, "rehearse", note)
    assert call(canary, "--list", tars, "--backend", "mulaw", "--output-dir", tmp_path / "out" / "tokens", *LOCAL) == 1
    said = capsys.readouterr()
    assert said.out.endswith("no: 1 check: 1 fault, 0 warnings\n")
    (kept,) = canaries(tmp_path)
    assert f"kept: {kept} has the runs" in said.err
    assert (asked[0].scratch, asked[0].clips) == (kept, 100)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_or_out_of_room(
    error: BaseException,
    tmp_path: Path,
    tars: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What there is stays, and is named."""

    def fail(_asked: Asked) -> list[object]:
        raise error

    monkeypatch.setattr(module, "rehearse", fail)
    code = call(canary, "--list", tars, "--backend", "mulaw", *LOCAL)
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    (kept,) = canaries(tmp_path)
    said = capsys.readouterr().err
    assert f"kept: {kept} has the runs" in said
    assert isinstance(error, KeyboardInterrupt) or f"--output-dir {kept}: cannot be written: No space left" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--list", "empty.txt", "--backend", "mulaw"], "expected a tar per line"),
        (["--list", "nowhere.txt", "--backend", "mulaw"], "there is no such file"),
        (["--list", "gone.txt", "--backend", "mulaw"], "1 of 1 cannot be tokenized"),
        (["--list", "damaged.txt", "--backend", "mulaw"], "expected a tar header"),
        (["--list", "tars.txt", "--backend", "higs"], "did you mean 'higgs'?"),
        (["--list", "tars.txt", "--backend", "mulaw", "--set", "x=1"], "has no option 'x'"),
        (["--list", "tars.txt", "--backend", "mulaw", "--clips", "1"], "--clips"),
    ],
)
@pytest.mark.usefixtures("tars")
def test_wrong_usage_is_exit_code_2(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one message, as hpc.submit has it, and nothing made."""
    (tmp_path / "empty.txt").write_text("# none\n")
    (tmp_path / "gone.txt").write_text("in/gone.tar\n")
    (tmp_path / "damaged.tar").write_bytes(b"no tar" * 200)
    (tmp_path / "damaged.txt").write_text("damaged.tar\n")
    assert call(canary, *words, *LOCAL) == 2
    assert said in capsys.readouterr().err
    assert canaries(tmp_path) == []


def test_a_tar_that_is_damaged_further_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a clip that is needed: it is named, and the answer is no, without a worker."""
    tar = write_tar(tmp_path / "a.tar", {f"{n}.wav": wav(400) for n in range(3)})
    tar.write_bytes(tar.read_bytes()[:900])
    assert call(canary, "--list", write_list(tmp_path / "l.txt", [tar]), "--backend", "mulaw", *LOCAL) == 1
    assert "the file ends at byte 900" in " ".join(capsys.readouterr().out.split())
