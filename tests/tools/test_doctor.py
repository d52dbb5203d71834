"""tools/doctor.py: the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.runs import call

from tools.common.findings import Finding
from tools.doctor import doctor
from tools.doctoring.examination import Asked


@pytest.fixture(autouse=True)
def _no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster.yaml of whoever runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_a_good_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line per check as it is made, a sum, exit code 0, and nothing left."""
    words = "--cluster", "local", "--device", "cpu", "--backend", "mulaw"
    assert call(doctor, "--output-dir", tmp_path / "tokens", *words) == 0
    out = capsys.readouterr().out
    assert "ok       hard link" in out
    assert not (tmp_path / "tokens").exists()


@pytest.mark.slow
def test_faults_are_exit_code_1_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get the same findings."""
    (tmp_path / "file").touch()
    assert call(doctor, "--output-dir", tmp_path / "file" / "x", "--cluster", "local", "--device", "cpu", "--json") == 1
    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["folder"]["verdict"] == "fault"
    assert findings["folder"]["advice"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend", "higs"], "did you mean 'higgs'?"),
        (["--list", "nowhere.txt"], "there is no such file"),
        (["--cluster", "k8s"], "expected auto, slurm or local"),
        (["--backend", "mulaw", "--set", "x=1"], "has no option 'x'"),
    ],
)
@pytest.mark.slow
def test_wrong_usage_is_exit_code_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With one message, and nothing made."""
    assert call(doctor, *([] if "--cluster" in words else ["--cluster", "local", "--device", "cpu"]), *words) == 2
    assert said in capsys.readouterr().err
    assert not Path("tokens").exists()


def test_the_command_that_asks_again_is_the_same_but_for_its_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever way --wait was written."""
    from tools import doctor as module

    asked: list[Asked] = []

    def note(one: Asked) -> list[Finding]:
        asked.append(one)
        return []

    monkeypatch.setattr(module, "examine", note)
    words = "--cluster", "local", "--device", "cpu", "--output-dir", tmp_path
    assert call(doctor, *words, "--wait", "5") == call(doctor, "--wait=5", *words) == 0
    expected = ("python", "-m", "tools.doctor", *map(str, words), "--wait", "600")
    assert [one.again for one in asked] == [expected, expected]
    capsys.readouterr()


def test_setup_lines_that_others_may_have_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor has nodes run them, so it refuses a cluster.yaml that hpc.submit would."""
    (tmp_path / "cluster.yaml").write_text("setup: [evil]\n")
    (tmp_path / "cluster.yaml").chmod(0o646)
    assert call(doctor, "--cluster", "local", "--device", "cpu") == 2
    assert "not trusted: cluster.yaml is writable by everybody" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_that_hpc_submit_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is told before anybody submits, with the words that mend it."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    folder.chmod(0o777)
    assert call(doctor, "--output-dir", folder, "--cluster", "local", "--device", "cpu") == 1
    out = capsys.readouterr().out
    assert "fault    trust" in out
    assert f"o-w {folder}" in " ".join(out.split())
    folder.chmod(0o755)
    assert call(doctor, "--output-dir", folder, "--cluster", "local", "--device", "cpu") == 0
    assert "ok       trust" in capsys.readouterr().out
