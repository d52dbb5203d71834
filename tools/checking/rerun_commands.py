"""Commands that run the failed work again."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from hpc.launch import Launch
from hpc.resubmit_command import resubmit_command
from hpc.run import Run, RunState
from hpc.site_file import site_defaults
from jobs.plain_text import plain_lines
from jobs.spec import TokenizeSpec
from jobs.tar_format import ACCEPTABLE, looks_joined
from tools.checking.failed import Found

__all__ = ["LIST_OPTION", "commands"]

LIST_OPTION = "--failed-output"
"""The option of tools.failures that names the list for these commands."""


def commands(
    found: Found, run: Run, state: RunState, spec: TokenizeSpec | None, failed_list: Path | None, errors_list: Path | None
) -> list[str]:
    """Each command, after a line that says what it is for. A list is None if it could not be written."""
    lines: list[str] = []
    if spec is None:
        return [f"{run.spec_file} is not there: restore it, or nothing can be run again"]
    output = shlex.quote(str(run.output_dir))
    site = site_defaults()

    def submit(tar_list: Path | None, *flags: str) -> str:
        if tar_list is None:
            return f"  (give {LIST_OPTION} the name of a new file: the command needs the list)"
        try:
            return f"  {resubmit_command(spec, state.launch, site, tar_list, run.output_dir, flags)}"
        except UsageError as error:  # for example, the backend's package is missing
            return f"  ({plain_lines(str(error))})"

    if found.failed() or found.idle():
        if state.launch is not None and not state.cancelled:
            shared = f" --group {shlex.quote(state.launch.group)}" if state.launch.group else ""
            given_up = " --retry-quarantined" if found.decision.quarantine or found.idle() else ""
            lines += [
                "the tars that failed, once the cause is fixed (tars that are cut: copied again):"
                if given_up
                else "the tars that failed are tried again by the next round, if no controller is at it already:",
                f"  {called('hpc.resume')} --output-dir {output}{shared}{given_up}",
            ]
        elif found.failed():
            lines += ["the tars that failed:", submit(failed_list)]
        else:
            lines += ["all tars that are left:", submit(run.list_file)]
        for words, flag in _accepting(found.decision.quarantine.values(), state.launch):
            lines += [f"those that {words}:", submit(failed_list, *flag)]
    if found.with_errors():
        lines += [
            "the clips with errors, if they may work now (good lines are kept):",
            submit(errors_list, "--retry-errors"),
        ]
    return lines


def _accepting(reasons: Collection[str], launch: Launch | None) -> Iterator[tuple[str, list[str]]]:
    """(which tars, the flag that accepts them unless the run has it) for damage that the user may accept."""
    if any(reason.partition(":")[0] in ACCEPTABLE for reason in reasons):
        given = launch is not None and launch.allow_missing_end
        yield "only lack their end marker, if they are known to be whole", [] if given else ["--allow-missing-end"]
    if any(looks_joined(*reason.partition(": ")[::2]) for reason in reasons):
        given = launch is not None and launch.allow_joined
        yield "are several tars put end to end", [] if given else ["--allow-joined"]
