"""jobs/commands.py: how a command ends, whatever happens in it."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import pytest
import typer
from support.hostile_names import faults
from support.runs import ROOT, call

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.resume import resume
from hpc.submit import submit
from jobs.commands import (
    WHAT,
    Device,
    OutputDir,
    Verbose,
    parse_buffer_memory,
    parse_size,
    repeat_flags,
    setup_logging,
    writing_to,
)
from jobs.fileops import StorageError
from jobs.tokenize_tar import tokenize_tar
from tools.doctor import doctor

log = logging.getLogger("tar2tokens")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Leave the log as it was found."""
    level = log.level
    setup_logging(verbose=False)
    yield
    setup_logging(verbose=False)
    log.setLevel(level)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("1GB", 10**9), ("1G", 10**9), ("1.5 gib", 3 << 29), ("512MiB", 512 << 20), ("500M", 500_000_000)),
        *(("20000", 20000), ("20kb", 20000), ("2T", 2 * 10**12)),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Sizes are written as people write them."""
    assert parse_size("--size", text, smallest=10) == size


@pytest.mark.parametrize("text", ["", "1XB", "GB", "-1GB", "1e9", "1GB2", "1²G", "100"])
def test_sizes_that_are_none(text: str) -> None:
    """A size that is none, or too small to be meant, is refused in the name of its option."""
    with pytest.raises(UsageError, match=r"^--size .*: expected (a size such as 1GB|at least 1,000 bytes)"):
        parse_size("--size", text, smallest=1000)


@pytest.mark.parametrize(
    ("function", "option", "wrong", "words"),
    [
        (submit, "--max-damage", "2%", "'2%': expected a share such as 0.02, not 2%"),
        (tokenize_tar, "--max-damage", "0,02", "'0,02': expected a share such as 0.02, not 2%"),
        (submit, "--max-duration", "24h", "'24h': expected seconds, such as 3600 for an hour, without a unit"),
        (tokenize_tar, "--clip-timeout", "10m", "'10m': expected seconds, such as 600 for ten minutes, without a unit"),
        (submit, "--clip-timeout", "-1", "'-1': expected seconds, such as 600 for ten minutes, without a unit; 0: never"),
        (resume, "--interval", "30s", "'30s': expected seconds from 0.1 on, without a unit"),
        (resume, "--interval", "nan", "'nan': expected seconds from 0.1 on"),
        (doctor, "--wait", "1min", "'1min': expected seconds from 1 on, without a unit"),
    ],
)
def test_numbers_with_units(
    function: Callable[..., int], option: str, wrong: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes a unit, or a decimal comma, is told what the option takes, in the words of no library."""
    needed = {submit: ["--backend", "mulaw"], tokenize_tar: ["--backend", "mulaw", "--input-tar", "a.tar"]}
    assert call(function, *needed.get(function, []), option, wrong) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert f"Invalid value for '{option}': {words}" in err
    assert "unable to parse" not in err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--extensions .mp3 .wav --force", "--extensions .mp3 --extensions .wav --force"),
        ("--extensions=.mp3 .wav", "--extensions=.mp3 --extensions .wav"),
        ("--extensions mp3,wav x", "--extensions mp3,wav --extensions x"),
        ("--input-tar a b --extensions x", "--input-tar a b --extensions x"),
        ("--extensions", "--extensions"),
        ("--extensions --force", "--extensions --force"),
        ("--extensions x -- y", "--extensions x -- y"),
        ("", ""),
    ],
)
def test_options_that_take_several_words(words: str, found: str) -> None:
    """`--extensions .mp3 .wav`, as argparse takes it; other options and arguments are left alone."""
    assert repeat_flags(words.split(), {"--extensions"}) == found.split()


def test_buffer_memory() -> None:
    """A size or a number of bytes; a number that lacks its unit is told from one that does not."""
    assert [parse_buffer_memory(given) for given in ("1G", "2000000", 3_000_000)] == [10**9, 2_000_000, 3_000_000]
    for wrong in ("8", 8, "much", -1):
        with pytest.raises(UsageError, match=r"^--buffer-memory"):
            parse_buffer_memory(wrong)


def test_streams_that_are_closed() -> None:
    """`>&- 2>&-`: the command does its work in silence, and no file of a run gets the descriptor that children write to."""
    code = (
        "import os\nfrom jobs.commands import run_command\n"
        "def command() -> int:\n"
        "    print('x' * 100000)\n"
        "    return 42 if all(os.path.samestat(os.fstat(k), os.stat('/dev/null')) for k in range(3)) else 1\n"
        "run_command(command)"
    )
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], cwd=ROOT, check=False)
    assert done.returncode == 42


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        """A command that fails."""
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("no such list"), 2, "error: no such list"),
        (InfrastructureError("disk gone"), 1, "error: disk gone"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/x"), 1, "error: /runs/x: No space left on device"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "error: No space left on device"),
        (OSError("odd"), 1, "error: odd"),
        (MemoryError(), 1, "error: out of memory"),
    ],
)
def test_errors_are_one_message(capsys: pytest.CaptureFixture[str], error: Exception, code: int, words: str) -> None:
    """Each expected kind of error is one line on stderr and its exit code, and nothing on stdout."""
    assert call(raising(error)) == code
    assert capsys.readouterr() == ("", words + "\n")


def test_verbose_adds_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """With --verbose the traceback comes before the message, and the exit code stays."""
    setup_logging(verbose=True)
    assert call(raising(UsageError("no such list"))) == 2
    message = capsys.readouterr().err
    assert message.startswith("Traceback")
    assert message.endswith("error: no such list\n")


def test_verbose_counts_before_the_log_is_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that comes before the command's first step has its traceback too."""

    def command(verbose: Verbose = False) -> int:
        raise UsageError("no such list")

    assert call(command, "--verbose") == 2
    assert capsys.readouterr().err.startswith("Traceback")


def test_bugs_are_not_hidden() -> None:
    """What nobody expected is no tidy message: it must be seen."""
    with pytest.raises(ZeroDivisionError):
        call(raising(ZeroDivisionError()))


def test_bugs_speak_of_names_too() -> None:
    """The traceback of a bug shows what a terminal would obey."""
    done = python(
        "from jobs.commands import run_command\n"
        "def command() -> int:\n    raise KeyError('a') from ValueError('x\\x1b[2J\\nerror: forged\\u202e')\n"
        "run_command(command)"
    )
    _, err = done.communicate()
    assert done.returncode == 1
    assert faults(err) == []
    assert "ValueError: x\\x1b[2J\n  error: forged\\u202e" in err
    assert err.endswith("KeyError: 'a'\n")


def test_interrupts_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is 130 without words; what a command returns is its exit code."""
    assert call(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")

    def three() -> int:
        return 3

    assert call(three) == 3


def test_bad_usage_is_told_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown, missing and impossible options exit 2 with words, whichever release of typer reads them."""

    def command(number: Annotated[int, typer.Option(min=1)]) -> int:
        return number

    for arguments in ([], ["--number", "x"], ["--number", "0"], ["--nope"], ["--number", "1", "more"]):
        assert call(command, *arguments) == 2
        message = capsys.readouterr().err
        assert "Error" in message
        assert "Traceback" not in message
    assert call(command, "--number", 5) == 5
    assert call(command, "--help") == 0


def test_help_and_version_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """-h is --help, and keeps the words of each option; --version needs none of what the command needs."""

    def command(number: Annotated[int, typer.Option("-n", "--number", help="how many there are")]) -> int:
        raise AssertionError(number)

    for flag in ("-h", "--help"):
        assert call(command, flag) == 0
        words = capsys.readouterr().out
        assert "how many there are" in words
        assert "--version" in words
        assert "-h, --help" in words
    assert call(command, "--version") == 0
    assert re.fullmatch(r"tar2tokens \d+\.\d+\S*\n", capsys.readouterr().out)


def many_options(
    name: Annotated[str, typer.Argument(help="what")],
    output_dir: OutputDir = Path("tokens"),
    device: Device = "auto",
    a: Annotated[int, typer.Option("--a", rich_help_panel=WHAT)] = 0,
    b: int = 0,
    c: int = 0,
    d: int = 0,
    e: int = 0,
    f: int = 0,
    g: int = 0,
    verbose: Verbose = False,
) -> int:
    """Do it.

    Example: one.tar --device cpu
    """
    del name, output_dir, device, a, b, c, d, e, f, g, verbose
    return 0


def test_many_options_are_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """--help has arguments first, then each group once and what belongs to none, and a command that can be pasted."""
    assert call(many_options, "--help") == 0
    words = capsys.readouterr().out
    headings = [line for line in words.splitlines() if line and not line.startswith((" ", "Usage"))]
    assert headings == ["Arguments:", "What:", "Where:", "Options:", "Example:"]
    where = words.partition("Where:")[2].partition("Options:")[0]
    assert ("--output-dir" in where, "--device" in where, "--a" in where, "--b" in where) == (True, True, False, False)
    assert re.search(r"Example:\n  .*command one\.tar --device cpu\n$", words)
    assert "Example" not in words.partition("Arguments:")[0]


def test_few_options_are_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Headings would say less than the options."""

    def command(output_dir: OutputDir = Path("tokens"), device: Device = "auto") -> int:
        raise AssertionError(output_dir, device)

    assert call(command, "--help") == 0
    headings = [line for line in capsys.readouterr().out.splitlines() if line and not line.startswith((" ", "Usage"))]
    assert headings == ["Options:"]


def test_an_error_names_no_private_file(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be written is told by the name that it would have had."""
    assert call(raising(OSError(28, "No space left on device", "/d/.l.txt.0123456789ab"))) == 1
    assert capsys.readouterr().err == "error: /d/l.txt: No space left on device\n"


def python(code: str) -> subprocess.Popen[str]:
    """Run code in a process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_reader_that_stops_reading() -> None:
    """`| head` ends a command as SIGPIPE would, without a word on stderr."""
    code = (
        "from jobs.commands import run_command\n"
        "def command() -> int:\n    print('x' * 1000000)\n    return 0\n"
        "run_command(command)"
    )
    process = python(code)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


class TestLogging:
    def test_log_file_gets_all_and_the_screen_what_it_wants(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A quiet screen shows warnings; the file has all lines, in a folder that is made for it."""
        setup_logging(verbose=False, quiet=True, log_file=tmp_path / "logs" / "x.log")
        log.info("told")
        log.debug("not told")
        log.warning("told twice")
        assert capsys.readouterr().err.count("\n") == 1
        log.warning("odd \udce9 name")
        lines = (tmp_path / "logs" / "x.log").read_text().splitlines()
        assert [line.partition(" ")[2] for line in lines] == ["INFO told", "WARNING told twice", "WARNING odd \\udce9 name"]

    def test_log_file_that_a_full_disk_has_cut(self, tmp_path: Path) -> None:
        """What is added begins on a line of its own."""
        (tmp_path / "x.log").write_bytes(b"10:00:00 INFO half a l")
        setup_logging(verbose=False, quiet=True, log_file=tmp_path / "x.log")
        logging.getLogger("tar2tokens").info("whole")
        assert [line[9:] for line in (tmp_path / "x.log").read_text().splitlines()] == ["INFO half a l", "INFO whole"]

    def test_log_file_that_cannot_be_opened(self, tmp_path: Path) -> None:
        """A --log-file that is a folder is bad usage, with the reason."""
        with pytest.raises(UsageError, match=r"--log-file .*: cannot be written: Is a directory"):
            setup_logging(verbose=False, log_file=tmp_path)

    def test_log_file_on_a_full_disk_stops_nothing(self) -> None:
        """Lines that the disk does not take are lost, and are no tracebacks on the screen."""
        done = python(
            "import logging\nfrom pathlib import Path\nfrom jobs.commands import run_command, setup_logging\n"
            "def command() -> int:\n"
            "    setup_logging(verbose=False, log_file=Path('/dev/full'))\n"
            "    logging.getLogger('tar2tokens').info('on we go')\n"
            "    return 0\n"
            "run_command(command)"
        )
        _, err = done.communicate()
        assert done.returncode == 0
        assert "on we go" in err
        assert "Traceback" not in err


class TestWritingTo:
    def test_reasons(self) -> None:
        """What keeps a run directory from being written is told with its name and what to do."""

        def fail(error: OSError) -> NoReturn:
            with writing_to(Path("tokens")):
                raise error

        with pytest.raises(StorageError, match=r"tokens: cannot be written: /x: Read-only file system; make room"):
            fail(OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"))
        for error in (NotADirectoryError(), FileExistsError()):
            with pytest.raises(UsageError, match="expected a folder, found a file"):
                fail(error)

    def test_other_errors_pass(self) -> None:
        """An error that has words already keeps them."""
        with pytest.raises(UsageError, match="mine"), writing_to(Path("tokens")):
            raise UsageError("mine")
