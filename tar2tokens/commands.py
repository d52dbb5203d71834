"""The program `tar2tokens`: its commands, in groups. A command's module is imported when that command is called."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import ExitStack
from typing import Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from audio_tokenizers.shared.command_names import program_names
from jobs.commands import Version, command_app, run_app

__all__ = ["COMMANDS", "Command", "run"]


class Command(NamedTuple):
    """What stands behind a name."""

    module: str
    """Its last part is the name of the function, too."""
    does: str
    """In a line."""


COMMANDS = {
    "Prepare": {
        "list": Command("tools.generate_tar_list", "the tars of a folder, as a list"),
        "pack": Command("tools.pack", "any data set -> tars of audio, and their list"),
        "adopt": Command("tools.adopt", "tokens that an older tool has made, into a run"),
        "fetch": Command("tools.fetch_model", "download a backend's weights, and check them"),
        "doctor": Command("tools.doctor", "check that this site does what a run relies on"),
        "canary": Command("tools.canary", "try a few clips, and plan the whole list from what they take"),
    },
    "Tokenize": {
        "submit": Command("hpc.submit", "tokenize a list of tars, on Slurm or on this machine"),
        "resume": Command("hpc.resume", "submit what is left, until the list is finished"),
        "cancel": Command("hpc.cancel", "end a run's tasks, and submit no more"),
        "tokenize": Command("jobs.tokenize_tar", "one tar, here and now"),
    },
    "Look": {
        "status": Command("tools.check_progress", "how far a run is, and whether its files are valid"),
        "report": Command("tools.report", "progress, cost, errors and tokens as one HTML page"),
        "failures": Command("tools.failures", "what failed, why, and the command that runs it again"),
        "show": Command("tools.show", "what one tar became"),
        "decode-check": Command("tools.decode_check", "some clips' tokens back to audio, beside the originals"),
        "parity": Command("tools.parity", "a backend's tokens of your clips against upstream's own code"),
    },
    "Use": {
        "merge": Command("tools.merge", "all tokens in one .jsonl, .jsonl.gz or .jsonl.zst"),
        "export": Command("tools.export", "tokens as Parquet, WebDataset, a Hugging Face data set or NumPy files"),
    },
    "Train": {
        "train-taste": Command("jobs.train_taste", "train TASTE's aggregator on the features of a run"),
        "predict-taste": Command("jobs.predict_taste", "units that a trained model speaks by itself, beside the real ones"),
    },
}
EXAMPLE = """
Example:
  tar2tokens list --input-dir /data/tars --output-file tars.txt
  tar2tokens submit --list tars.txt --backend mulaw --output-dir tokens
  tar2tokens status --output-dir tokens
  tar2tokens merge --output all.jsonl.gz --output-dir tokens
"""


def run(name: str) -> NoReturn:
    """Run the program, called `name`."""
    if "_TAR2TOKENS_COMPLETE" in os.environ:
        os.environ["COLUMNS"] = "10000"  # fish would take the second line of a long help for another candidate
    completion = " " not in name  # a shell completes the words of a program, and none of `python -m`
    names = {command.module: word for commands in COMMANDS.values() for word, command in commands.items()}
    with program_names(name, names):
        run_app(lambda parsing: _app(parsing, completion=completion), name)


def _app(parsing: ExitStack, *, completion: bool) -> typer.Typer:
    class Group(TyperGroup):
        """All commands."""

        def __init__(self, **settings: Any) -> None:  # noqa: ANN401 (they differ between releases of typer)
            super().__init__(**settings)
            for commands in COMMANDS.values():
                for name, command in commands.items():
                    self.add_command(_LaterCommand(name, command, parsing))

        def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 (click's, or typer's copies of them)
            """Write them in groups, and an example."""
            del ctx
            for title, commands in COMMANDS.items():
                with formatter.section(title):
                    formatter.write_dl([(name, command.does) for name, command in commands.items()])
            formatter.write(EXAMPLE)

    app = typer.Typer(
        cls=Group,
        help="Turn tar archives of speech into discrete codec tokens. `tar2tokens COMMAND -h` says more of each command.",
        add_completion=completion,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def program(*, version: Version = False) -> None:
        del version  # acts as it is parsed

    return app


class _LaterCommand(TyperCommand):
    """A command that is known by name only, until it is called or its options are completed."""

    def __init__(self, name: str, command: Command, parsing: ExitStack) -> None:
        super().__init__(name, help=command.does, rich_markup_mode=None)
        self._command = command
        self._parsing = parsing

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **settings: Any) -> Any:  # noqa: ANN401
        """Import the command, and go on as that."""
        module = self._command.module
        function = getattr(importlib.import_module(module), module.rpartition(".")[2])
        sys.argv = [f"{parent.command_path} {info_name}", *args]  # as a program of its own would find it
        command = typer.main.get_command(command_app(function, self._parsing))
        return command.make_context(info_name, args, parent, **settings)
