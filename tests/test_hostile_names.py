"""Names and errors of others through every command: no terminal and no log gets a control, a direction or a forged line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hostile_names import NAMES, faults
from support.runs import call, write_list
from support.small_run import wav, write_tar

from hpc.cancel import cancel
from hpc.cluster import JobSeen, TaskSeen
from hpc.controller import Round
from hpc.dispatch import Submitted
from hpc.failure_groups import Failure
from hpc.live_table import Board, draw
from hpc.monitor import Speed, describe_failures, describe_log, line, take_snapshot
from hpc.policy import Decision
from hpc.resume import resume
from hpc.submit import submit
from hpc.task_rows import TaskRow
from jobs.tokenize_tar import tokenize_tar
from tools.check_progress import check_progress
from tools.decode_check import decode_check
from tools.export import export
from tools.failures import failures
from tools.generate_tar_list import generate_tar_list
from tools.merge import merge
from tools.pack import pack
from tools.report import report as report_page
from tools.show import show

LISTED = tuple(name for name in NAMES if "\n" not in name and "\t" not in name and "\r" not in name)
"""Those that a list of tars takes."""
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Say:
    """Run a command here; gives its exit code and all that it said, after a look at that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(command: Callable[..., int], *arguments: object) -> tuple[int, str]:
        code = call(command, *arguments)
        said = "".join(capsys.readouterr())
        assert faults(said) == [], said
        return code, said

    return run


def members() -> dict[str, bytes]:
    """A good and a bad clip of every name."""
    found: dict[str, bytes] = {}
    for number, name in enumerate(NAMES):
        found[f"{name}.wav"] = wav(40 + number, seed=number)
        found[f"{name}.txt"] = name.encode()
        found[f"{name}/bad.wav"] = name.encode()
    return found


def shows(said: str) -> bool:
    """Whether what was said speaks of such a name at all."""
    return "\\x1b" in said or "\\u202e" in said or "\\u2028" in said or "\\x9b" in said or "\\x08" in said


@pytest.mark.slow
def test_a_run_from_its_list_to_its_export(say: Say, tmp_path: Path) -> None:
    """Tars with such names, of clips with such names, one of them damaged: every command says them in signs that show."""
    tars = [write_tar(tmp_path / "tars" / f"{name}.tar", members()) for name in LISTED]
    tars[-1].write_bytes(tars[-1].read_bytes()[:2000])
    write_list(tmp_path / "list", tars)
    code, said = say(generate_tar_list, "--input-dir", tmp_path / "tars", "--output-file", tmp_path / "made")
    assert code == 0
    run = ("--list", tmp_path / "list", "--backend", "mulaw", "--cluster", "local")
    assert say(submit, *run, "--dry-run", "--verbose")[0] == 0
    code, said = say(submit, *run, "--workers", 2)
    assert code == 3
    assert shows(said)
    logs = [path.read_text(errors="backslashreplace") for path in tmp_path.glob("tokens/.run/submissions/*/logs/*")]
    assert [faults(log) for log in logs] == [[]] * len(logs)
    assert all(shows(log) for log in logs)
    assert faults((tmp_path / "tokens" / ".run" / "history.jsonl").read_text()) == []
    code, said = say(check_progress, "--verbose", "--check-validity")
    assert shows(said)
    report = json.loads(say(check_progress, "--json")[1])
    assert set(report["problems"]) == {LISTED[-1]}
    commands: tuple[Callable[..., int], ...] = (failures, resume, merge, export, cancel)
    words = {merge: ("--output", "all.jsonl"), export: ("--to", "npz", "--output", "out")}
    for command in commands:
        more: tuple[str, ...] = words.get(command, ())
        code, said = say(command, *more)
        assert code == 0 if command is cancel else code in (1, 2, 3), said
        assert command is cancel or shows(said), command
    assert say(merge, "--partial-ok", "--output", "all.jsonl")[0] == 0
    for to in ("parquet", "webdataset", "hf", "npz"):
        assert say(export, "--partial-ok", "--to", to, "--output", to)[0] == 0
    for name in LISTED:
        assert shows(say(show, name)[1])
    assert shows(say(show, LISTED[0], *(word for number in range(6) for word in ("--clip", number)))[1])
    assert say(show, "nothing\x1b[2J\u202e")[0] == 2
    assert say(show, LISTED[0], "--clip", "nothing\x1b[2J\u202e")[0] == 2
    assert say(show, LISTED[0], "more\x1b[2J\u202e\x9b")[0] == 2  # these words are the parser's
    assert say(decode_check)[0] == 0
    assert say(report_page, "--audio", 2)[0] == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert faults(page) == []
    assert shows(page)


def test_one_tar(say: Say, tmp_path: Path) -> None:
    """jobs.tokenize_tar takes any name, and its log file is read by people too."""
    for name in NAMES:
        tar = write_tar(tmp_path / f"{name}.tar", members())
        code, said = say(tokenize_tar, "--input-tar", tar, "--backend", "mulaw", "--log-file", "log", "--verbose")
        assert (code, shows(said)) == (0, True)
    assert faults((tmp_path / "log").read_text()) == []
    assert say(tokenize_tar, "--input-tar", "none\x1b[2J\n\u202e", "--backend", "mulaw", "--verbose")[0] == 2


def test_packing(say: Say, tmp_path: Path) -> None:
    """What a data set calls its files, and what of it is left out, in a folder and in a manifest."""
    lines = []
    for name in NAMES:
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        (folder / "a.wav").write_bytes(wav(40))
        (folder / f"{name}.wav").write_bytes(wav(40))
        (folder / f"{name}.txt").write_bytes(name.encode())
        lines += [{"audio_path": f"set/{name}/a.wav", "text": name}, {"audio_path": f"set/{name}/none.wav", "text": name}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for source, what in (("set", "audio without text"), ("m.jsonl", "unreadable audio")):
        code, said = say(pack, source, "--output-dir", f"{source}-tars", "--verbose")
        assert (code, what in said, shows(said)) == (0, True, True), said
    bad = tmp_path / NAMES[0]
    bad.mkdir()
    (bad / f"x.{NAMES[1]}").write_bytes(b"")
    for missing in (bad, f"none{NAMES[2]}"):
        assert say(pack, missing, "--output-dir", "other")[0] == 2
    (tmp_path / "bad.jsonl").write_text(json.dumps({NAMES[0]: NAMES[2], "audio_path": 3}, ensure_ascii=False) + "\n")
    assert say(pack, "bad.jsonl", "--output-dir", "bad-tars")[0] == 2


def test_live_table_and_its_line() -> None:
    """Nodes, reasons, diagnoses, failures and ends of logs, as a watch shows them."""
    for name in NAMES:
        seen = Round(
            decision=Decision(outcome="running", submit=(), quarantine={name: name}, exclude={name: name}, diagnosis=name),
            states=[],
            running={1: JobSeen("1", {0: TaskSeen("RUNNING", name), 1: TaskSeen("PENDING", "", name)})},
            unknown=(),
            reports={},
            submitted=Submitted(),
            audio_seconds=0.0,
            bytes_left=0,
        )
        now = take_snapshot(seen)
        rows = [TaskRow(task="0001/0", node=name, gpu=name, tar=name, stuck=name)]
        board = Board(now=now, speed=Speed(now, 0.0).words(now, 1.0), tasks=rows, notes=[name], messages=[name])
        assert faults("\n".join(text.plain for text in draw(board, 400, 40, 0.0))) == []
        assert faults(line(now, "")) == []
        assert [faults(words) for words in describe_failures([Failure(name, [name], problem=name)])] == [[]]


def test_ends_of_logs(tmp_path: Path) -> None:
    """What a worker, or a library in it, has written into its log is shown without its colours and orders."""
    log = tmp_path / "log"
    log.write_text("\n".join([*NAMES, "\x1b[31mred\x1b[0m"]))
    said = describe_log(Failure("x", log_file=log))
    assert faults(said) == []
    assert said.endswith("\n  red")
