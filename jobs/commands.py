"""What every command shares: one message for an error, a traceback only with --verbose, and where log lines go."""

from __future__ import annotations

import argparse
import functools
import inspect
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from audio_tokenizers.errors import Tar2TokensError, UsageError
from jobs.fileops import describe_error, end_last_line, output_error
from jobs.old_options import answer_old_option
from jobs.plain_text import PlainFormatter, plain_stream, warn, warn_of_bug
from jobs.version import version

__all__ = [
    "AUDIO",
    "SLURM",
    "WHAT",
    "WHERE",
    "WORKER",
    "Device",
    "OutputDir",
    "Verbose",
    "Version",
    "command_app",
    "command_parser",
    "number_parser",
    "parse_buffer_memory",
    "parse_size",
    "repeat_flags",
    "run_app",
    "run_command",
    "setup_logging",
    "version_words",
    "writing_to",
]

WHAT, AUDIO, WHERE, WORKER, SLURM = "What", "Audio and texts", "Where", "Each worker", "Slurm"
"""Headings of --help; HEADINGS has their order."""
HEADINGS = ("Arguments", WHAT, WHERE, SLURM, WORKER, AUDIO, "Options")
OutputDir = Annotated[Path, typer.Option(help="the run directory", rich_help_panel=WHERE)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, or mps: a Mac's GPU", rich_help_panel=WHERE)]
Verbose = Annotated[bool, typer.Option("--verbose", help="say more, and show tracebacks")]


def version_words() -> str:
    """`tar2tokens 0.1.0`."""
    return f"tar2tokens {version()}"


def _say_version(wanted: bool) -> None:
    if wanted:
        print(version_words())
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", is_eager=True, callback=_say_version, help="print the version and exit")]


def command_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser for modules that are not user commands, with -h and --version like the commands."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    parser = argparse.ArgumentParser(
        prog=f"python -m {spec.name}" if spec is not None else None,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version_words(), help="print the version and exit")
    return parser


UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
SMALLEST_BUFFER = 10**6
"""A smaller value is a forgotten unit, as in `--buffer-memory 8`."""
SEVERAL_WORDS = ("--extensions",)
"""Options that take all words up to the next option, as in `--extensions .mp3 .wav`."""
FEW_OPTIONS = 11
"""Up to so many options, with --verbose, --version and --help, are one list in --help."""
BROKEN_PIPE_EXIT = 141  # what a shell reports of a command that SIGPIPE ended

log = logging.getLogger("tar2tokens")


def parse_size(option: str, text: str, *, smallest: int) -> int:
    """`1G` or `1GB` -> 1_000_000_000, `1GiB` -> 2**30, `500` -> 500; bytes. Raises UsageError that names the option."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if match is None or match[2] not in UNITS:
        raise UsageError(f"{option} {text!r}: expected a size such as 1GB or 512MiB")
    size = int(float(match[1]) * UNITS[match[2]])
    if size < smallest:
        raise UsageError(f"{option} {text!r}: expected at least {smallest:,} bytes")
    return size


def parse_buffer_memory(text: str | int) -> int:
    """The value of --buffer-memory in bytes. Raises UsageError."""
    return parse_size("--buffer-memory", str(text), smallest=SMALLEST_BUFFER)


def number_parser(expected: str, lowest: float | None = None) -> Callable[[str], float]:
    """A typer parser of an option's number, whose one message says what is expected, for example if a unit is given."""

    def parse(text: str) -> float:
        with suppress(ValueError):
            value = float(text)
            if lowest is None or value >= lowest:  # nan is not
                return value
        raise typer.BadParameter(f"{text!r}: expected {expected}")

    return parse


def repeat_flags(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """`--extensions .mp3 .wav` -> `--extensions .mp3 --extensions .wav`, for options in `flags`."""
    found: list[str] = []
    flag = ""
    for number, word in enumerate(words):
        if word == "--":
            return [*found, *words[number:]]
        if word.startswith("-"):
            name, equals, _ = word.partition("=")
            flag = name if name in flags else ""
            if equals or not flag:
                found.append(word)
            elif words[number + 1 : number + 2] == [] or words[number + 1].startswith("-"):
                found.append(word)  # the parser says that its value is missing
        else:
            found += [flag, word] if flag else [word]
    return found


class HelpInGroups(TyperCommand):
    """--help with options under their headings, if there are many, and an example at the end.

    The example is the paragraph of the docstring that begins with `Example:`; the command's name is put before it.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 (they differ between releases of typer)
        words: str = settings.get("help") or ""
        about, _, self.example = words.partition("\n\nExample: ")
        super().__init__(**{**settings, "help": about})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (click's, or those of typer's own click)
        """Answer options of earlier tools in one line, and let some options take several words."""
        own = {flag for parameter in self.params for flag in parameter.opts}
        answer = answer_old_option(getattr(self.callback, "__name__", ""), args, own)
        if answer is not None:
            warn(f"error: {answer}")
            raise typer.Exit(UsageError.exit_code)
        return super().parse_args(ctx, repeat_flags(args, own.intersection(SEVERAL_WORDS)))

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 (click's, or those of typer's own click)
        rows: dict[str, list[tuple[str, str]]] = {}
        parameters = self.get_params(ctx)
        for parameter in parameters:
            heading = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if len(parameters) > FEW_OPTIONS:
                heading = getattr(parameter, "rich_help_panel", None) or heading
            if row := parameter.get_help_record(ctx):
                rows.setdefault(heading, []).append(row)
        for heading in sorted(rows, key=HEADINGS.index):
            with formatter.section(heading):
                formatter.write_dl(rows[heading])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        if self.example:
            with formatter.section("Example"):
                words = " ".join([ctx.command_path, *self.example.split()])
                formatter.write(f"{' ' * formatter.current_indent}{words}\n")


def setup_logging(*, verbose: bool, log_file: Path | None = None, quiet: bool = False) -> None:
    """Log plain lines to stderr, and to `log_file` if given; `quiet` keeps all but warnings off the screen."""
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.WARNING if quiet and not verbose else logging.DEBUG)
    handlers: list[logging.Handler] = [screen]
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            end_last_line(log_file)
            handlers.append(logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise UsageError(f"--log-file {log_file}: cannot be written: {error.strerror}") from None
    for handler in log.handlers:
        handler.close()
    log.handlers[:] = handlers
    for handler in handlers:
        handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False


@contextmanager
def writing_to(output_dir: Path) -> Iterator[None]:
    """Turn an OSError in this block into the message that the run directory cannot be written, and what to do."""
    try:
        yield
    except (NotADirectoryError, FileExistsError):
        raise UsageError(f"--output-dir {output_dir}: expected a folder, found a file on the way to it") from None
    except OSError as error:
        raise output_error(
            f"--output-dir {output_dir}: cannot be written: {describe_error(error)}; make room or get write access and run "
            "the same command again, or choose another folder: what is there stays good",
            error,
        ) from error


def run_command(function: Callable[..., int]) -> NoReturn:
    """Run `function`, which returns its exit code, as a command line. Errors exit with one message on stderr."""
    run_app(lambda parsing: command_app(function, parsing))


def run_app(make: Callable[[ExitStack], typer.Typer], name: str | None = None) -> NoReturn:
    """Run a program, called `name` or as Python was called. `make` gets what the command closes when it begins."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale must not turn a mark or a name into a crash
    logging.raiseExceptions = False  # a log file on a full disk loses lines; it must not add a traceback to each
    with plain_stream("stdout"), ExitStack() as parsing:
        parsing.enter_context(plain_stream("stderr"))
        make(parsing)(prog_name=name)
    raise AssertionError("a command ends in sys.exit")


def _replace_closed_streams() -> None:
    """Give /dev/null to a stream that was closed when the program began (`>&-`).

    Otherwise a file of the run would get its descriptor, and child processes would write their output into that file.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor: that of the stream
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, "r" if name == "stdin" else "w", encoding="utf-8"))


def command_app(function: Callable[..., int], parsing: ExitStack) -> typer.Typer:
    """`function` as a command of a program. It closes `parsing` when it begins."""

    @functools.wraps(function)
    def command(*args: object, version: bool = False, **kwargs: object) -> NoReturn:  # noqa: ARG001 (acts as it is parsed)
        # Here and not around app(): which exception classes stand for bad usage differs between releases of typer.
        parsing.close()  # bars and tables want the terminal itself
        sys.excepthook = warn_of_bug  # typer has set its own
        try:
            code = function(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:  # such as `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = BROKEN_PIPE_EXIT
        except KeyboardInterrupt:
            code = 130
        except (Tar2TokensError, OSError, MemoryError) as error:
            code = _report(error, verbose=bool(kwargs.get("verbose")))  # also before the command has set up its log
        sys.exit(code)

    flag = inspect.Parameter("version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Version)
    own = inspect.signature(function, eval_str=True)
    command.__signature__ = own.replace(parameters=[*own.parameters.values(), flag])  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in own.parameters.items()}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(cls=HelpInGroups, context_settings={"help_option_names": ["-h", "--help"]})(command)
    return app


def _report(error: Tar2TokensError | OSError | MemoryError, *, verbose: bool) -> int:
    if verbose or log.isEnabledFor(logging.DEBUG):
        warn(traceback.format_exc().rstrip())
    warn(f"error: {describe_error(error)}")
    return error.exit_code if isinstance(error, Tar2TokensError) else 1
