"""What every command shares: one message for an error, a traceback only with --verbose, and where log lines go."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import click
import typer

from audio_tokenizers.errors import Tar2TokensError, UsageError

__all__ = ["Verbose", "run_command", "setup_logging"]

Verbose = Annotated[bool, typer.Option("--verbose", help="say more, and show tracebacks")]

log = logging.getLogger("tar2tokens")


def setup_logging(*, verbose: bool, log_file: Path | None = None, quiet: bool = False) -> None:
    """Plain lines on stderr, and in `log_file` if given; `quiet` keeps all but warnings from the screen."""
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.WARNING if quiet and not verbose else logging.DEBUG)
    handlers: list[logging.Handler] = [screen]
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"--log-file {log_file}: cannot be written: {error.strerror}") from None
    log.handlers[:] = handlers
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False


def run_command(function: Callable[..., Any]) -> NoReturn:
    """Run `function` as a command line. It returns its exit code; errors exit with one message on stderr."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(function)
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (Tar2TokensError, OSError, MemoryError) as error:
        if log.isEnabledFor(logging.DEBUG):
            raise
        message = str(error) if not isinstance(error, MemoryError) else "out of memory"
        print(f"error: {message}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, Tar2TokensError) else 1)
    sys.exit(code if isinstance(code, int) else 0)
