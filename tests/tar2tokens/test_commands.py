"""tar2tokens/commands.py: one program for all commands, which imports what a command needs when that is called."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.our_modules import is_command, modules
from support.runs import ROOT, call

from audio_tokenizers.errors import UsageError
from hpc.tar_list import read_tar_list
from tar2tokens.commands import COMMANDS, run

NAMES = {name: command for commands in COMMANDS.values() for name, command in commands.items()}

Answer = tuple[object, str, str]
Ask = Callable[..., Answer]


@pytest.fixture
def ask(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Call the program in an empty folder: exit code, stdout and stderr."""
    del here
    monkeypatch.setenv("COLUMNS", "80")

    def call_it(*words: str, name: str = "tar2tokens", **environment: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["/bin/tar2tokens", *words])
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        with pytest.raises(SystemExit) as end:
            run(name)
        return (end.value.code or 0, *capsys.readouterr())

    return call_it


def test_help(ask: Ask) -> None:
    """Every command has its line, in a group, and there is an example; no words at all get the same answer."""
    answers = {ask(*words)[1:] for words in (["-h"], ["--help"])}
    ((words, _),) = answers
    for title, commands in COMMANDS.items():
        listed = words[words.index(f"\n{title}:\n") :].partition("\n\n")[0]
        assert set(commands) <= set(re.findall(r"^  (\S+)  ", listed, re.MULTILINE))
    assert "\n  tar2tokens submit --list tars.txt " in words
    assert words in "".join(map(str, ask()))


def test_help_is_quick(here: Path) -> None:
    """It imports nothing heavy: the time that it takes is Python's and typer's."""
    code = "import sys, tar2tokens.console as c, atexit; atexit.register(lambda: print(sorted(sys.modules))); c.main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tokenizers")])}
    words = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, check=True)
    modules = set(ast.literal_eval(done.stdout.decode().splitlines()[-1]))
    assert "tar2tokens.commands" in modules
    assert not {"numpy", "torch", "av", "rich", "submitit", "yaml", "tools", "hpc"} & modules


def test_version(ask: Ask) -> None:
    """The program's, and each command's, is the same."""
    code, words, _ = ask("--version")
    assert code == 0
    assert re.fullmatch(r"tar2tokens \d+\.\d+\S*\n", words)
    assert ask("show", "--version") == (0, words, "")


@pytest.mark.parametrize("name", NAMES)
def test_each_command(ask: Ask, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """It is the function of its module, with the same options, called by the name that the person used."""
    module = NAMES[name].module
    code, words, _ = ask(name, "-h")
    assert code == 0
    assert words.startswith(f"Usage: tar2tokens {name} [OPTIONS]")
    assert call(getattr(importlib.import_module(module), module.rpartition(".")[2]), "-h") == 0
    options = [set(re.findall(r"^  .*?(--[a-z-]+)", help_, re.MULTILINE)) for help_ in (words, capsys.readouterr().out)]
    assert len(options[0]) > 3
    assert options[0] == options[1]


def test_wrong_usage(ask: Ask) -> None:
    """Unknown commands and options exit 2; the nearest is named, and the command as it was called."""
    code, _, words = ask("sumbit")
    assert (code, "Did you mean 'submit'?" in words) == (2, True)
    for name in ("tar2tokens", "python -m tar2tokens"):
        code, _, words = ask("show", "--no-such-option", name=name)
        assert code == 2
        assert f"Usage: {name} show [OPTIONS]" in words
        assert f"Try '{name} show -h' for help." in words


def test_exit_codes_and_messages(ask: Ask) -> None:
    """They are those of `python -m`."""
    code, out, err = ask("status", "--output-dir", "none")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: .*\n", err)


def test_advice_names_the_program(ask: Ask, here: Path) -> None:
    """A message that advises a command calls it as the user of the program does; outside of the program by its module."""
    for name in ("tar2tokens", "python -m tar2tokens"):
        words = ask("submit", "--list", "none.txt", "--backend", "mulaw", name=name)[2]
        assert f"there is no such file; {name} list makes one" in words
    assert list(here.glob("*.txt")) == []
    with pytest.raises(UsageError, match=r"no such file; python -m tools\.generate_tar_list makes one"):
        read_tar_list(here / "none.txt")


@pytest.mark.slow
def test_no_advice_is_written_out() -> None:
    """Messages ask `called` for a command's name: none has `python -m MODULE` in it."""
    for name, code in modules().items():
        said = {node.value for node in ast.walk(code) if isinstance(node, ast.Expr)}
        for node in ast.walk(code):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in said:
                assert not re.search(r"python -m (tools|hpc|jobs)\.", node.value), f"{name}, line {node.lineno}"


@pytest.mark.slow
def test_it_has_all_commands() -> None:
    """What the user can run as `python -m`, `tar2tokens` can, and the other way round."""
    assert {command.module for command in NAMES.values()} == {name for name in modules() if is_command(name)}


def test_a_command_sees_its_own_words(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """What repeats a command line, as `doctor` does, finds in sys.argv what it would find as a program of its own."""
    monkeypatch.setattr("tools.doctor.examine", lambda asked: pytest.fail(" ".join(asked.again)))
    with pytest.raises(pytest.fail.Exception, match=r"^python -m tools\.doctor --json --cluster local --wait 600$"):
        ask("doctor", "--json", "--cluster", "local")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tar2tokens dec", {"decode-check"}),
        ("tar2tokens s", {"submit", "status", "show"}),
        ("tar2tokens --ver", {"--version"}),
        ("tar2tokens submit --max-dam", {"--max-damage"}),
        ("tar2tokens merge --output-d", {"--output-dir"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(ask: Ask, shell: str, words: str, expected: set[str]) -> None:
    """Names of commands and of their options are completed, by what each shell sets; no line of help is taken for one."""
    asked = {
        "bash": {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": words},
        "fish": {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    code, out, err = ask(_TAR2TOKENS_COMPLETE=f"complete_{shell}", **asked[shell])
    assert (code, err) == (0, "")
    if shell == "zsh":  # the whole is one expression for it, with candidates and their help in quotes
        found = re.findall(r'^(?:_arguments .*\(\()?"([\w-]+)"', out, re.MULTILINE)
    else:
        found = [line.partition("\t")[0] for line in out.splitlines()]
    assert set(found) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(ask: Ask, here: Path, shell: str) -> None:
    """Each shell gets one that asks `tar2tokens`, which --install-completion puts into the home of whoever asks."""
    code, out, _ = ask("--install-completion", shell, HOME=str(here), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert (code, f"{shell} completion installed" in out) == (0, True)
    written = [path.read_text() for path in here.rglob("*") if path.is_file()]
    assert any(f"_TAR2TOKENS_COMPLETE=complete_{shell}" in text for text in written)


def test_no_completion_of_python_m(ask: Ask) -> None:
    """Shells complete programs: a script for `python -m tar2tokens` would be one for python."""
    assert "--install-completion" not in ask("-h", name="python -m tar2tokens")[1]
