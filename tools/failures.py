"""python -m tools.failures: what failed, why, where, and the commands that run just that again."""

from __future__ import annotations

import functools
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from audio_tokenizers.errors import UsageError
from hpc.failure_groups import Failure, find_damaged, find_damaged_clips, find_error_clips, find_failures, log_tail
from hpc.launch import Launch
from hpc.policy import Decision
from hpc.progress import TarState, scan
from hpc.resubmit_command import resubmit_command
from hpc.run import Run, RunState
from hpc.site_file import site_defaults
from hpc.standing import Standing
from jobs.commands import Verbose, run_command, setup_logging
from jobs.plain_text import plain, plain_lines
from jobs.records import ErrorRecord, TokenRecord
from jobs.spec import TokenizeSpec, read_spec
from jobs.tar_format import ACCEPTABLE, looks_joined
from tools.tar_lists import Listing, Written, beside, check_targets, refuse_kept, write_lists

__all__ = ["Found", "failures", "find", "render", "render_damaged"]

EXAMPLES = 2
NAMES_SHOWN = 5
FAILED_LIST = "failed_tars.txt"
OPTION = "--failed-output"
ERRORS_LIST = "tars_with_errors.txt"


@dataclass(frozen=True)
class Found:
    """What there is to say."""

    states: list[TarState]
    groups: list[Failure]
    decision: Decision
    examples: dict[str, list[ErrorRecord]]
    damaged: list[TokenRecord]
    """Some of the clips that were kept though something of them is missing."""

    @functools.cached_property
    def done(self) -> set[str]:
        """Names of the tars that are committed."""
        return {state.name for state in self.states if state.state == "committed"}

    def failed(self) -> list[TarState]:
        """Tars that have failed and are not done, in the list's order."""
        names = {name for group in self.groups for name in group.tars} | self.decision.quarantine.keys()
        return [state for state in self.states if state.name in names - self.done]

    def with_errors(self) -> list[TarState]:
        """Committed tars that have clips with errors."""
        return [state for state in self.states if state.name in self.done and state.manifest and state.manifest.errors]

    def stuck(self) -> bool:
        """Whether no round will submit what is left, and says why."""
        return self.decision.outcome == "stuck" and bool(self.decision.diagnosis)

    def idle(self) -> bool:
        """Whether nothing comes of the tars that are left, and of no tar alone: no task came to one, or the run is stuck."""
        vain = self.stuck() or any(not group.tars for group in self.groups)
        return vain and len(self.done) < len(self.states)


def find(run: Run) -> Found:
    """Look at a run's files. What came before the latest --retry-quarantined or hpc.submit counts no more."""
    listed = run.listed()
    if not listed:
        raise UsageError(f"{run.output_dir}: no run here yet: give another --output-dir")
    states = list(scan(run, listed))
    amnesty = run.read_state().amnesty
    groups = find_failures([submission for submission in run.submissions() if submission.number > amnesty])
    if not run.submissions():  # and so no task that would have told
        groups = find_damaged(states)
    examples = find_error_clips(run, states, EXAMPLES)
    return Found(states, groups, Standing(run).judge(states), examples, find_damaged_clips(run, states, EXAMPLES))


def render(found: Found) -> list[str]:
    """What failed, in words: all but the commands."""
    lines: list[str] = []
    if found.stuck():
        lines += [f"Stuck, nothing more is submitted: {plain_lines(found.decision.diagnosis)}", ""]
    for group in found.groups:
        lines += [*_describe_group(group, found.done), ""]
    quarantine = found.decision.quarantine
    if quarantine:
        lines.append(f"In quarantine, not tried again by themselves: {_tars(len(quarantine))}")
        lines += [f"  {plain(name)}: {plain(reason)}" for name, reason in quarantine.items()]
        lines.append("")
    if found.decision.exclude:
        lines.append("Nodes that are avoided:")
        lines += [f"  {plain(node)}: {plain(reason)}" for node, reason in found.decision.exclude.items()]
        lines.append("")
    errors: Counter[str] = Counter()
    for state in found.with_errors():
        errors.update(state.manifest.errors if state.manifest else {})
    if errors:
        lines.append(f"Clips with errors: {errors.total():,} in {_tars(len(found.with_errors()))}")
        for kind, number in errors.most_common():
            lines.append(f"  {kind} {number:,}")
            clips = found.examples.get(kind, [])
            lines += [f"    {plain(clip.tar_file)}: {plain(clip.audio_file)}: {plain(clip.error)}" for clip in clips]
        lines.append("")
    return lines


def render_damaged(found: Found) -> list[str]:
    """Clips that have tokens, but not of all their audio, in words: nothing failed."""
    tars = [state for state in found.states if state.name in found.done and state.damaged_clips]
    if not tars:
        return []
    clips, lost = sum(state.damaged_clips for state in tars), sum(state.damaged_seconds for state in tars)
    lines = ["", f"Clips kept though damaged: {clips:,} in {_tars(len(tars))}, {lost:,.3f} s of them missing"]
    for clip in found.damaged:
        if clip.damage is not None:
            name = f"{plain(clip.tar_file)}: {plain(clip.audio_file)}"
            lines.append(f"  {name}: {clip.damage.seconds:,.3f} s: {plain(clip.damage.what)}")
    return lines


def _describe_group(group: Failure, done: set[str]) -> list[str]:
    since = sum(name in done for name in group.tars)
    names = ", ".join(map(plain, group.tars[:NAMES_SHOWN]))
    more = f" and {len(group.tars) - NAMES_SHOWN} more" if len(group.tars) > NAMES_SHOWN else ""
    nodes = f" on {', '.join(map(plain, sorted(group.nodes)[:NAMES_SHOWN]))}" if group.nodes else ""
    reason = plain_lines(group.reason)
    lines = [f"{_tars(len(group.tars))}{nodes}: {reason}" if group.tars else reason]
    if group.tars:
        lines.append(f"  {names}{more}" + (f" ({since} of them done since)" if since else ""))
    tail = log_tail(group.log_file, about=group.problem)
    if tail:
        lines += [f"  the end of {group.log_file}:", *(f"    {plain(line)}" for line in tail)]
    return lines


def _tars(number: int) -> str:
    return f"{number:,} tar" + "s" * (number != 1)


def commands(
    found: Found, run: Run, state: RunState, spec: TokenizeSpec | None, failed_list: Path | None, errors_list: Path | None
) -> list[str]:
    """What to run, each with a line that says what for. A list that is None could not be written."""
    lines: list[str] = []
    if spec is None:
        return [f"{run.spec_file} is not there: restore it, or nothing can be run again"]
    output = shlex.quote(str(run.output_dir))
    site = site_defaults()

    def submit(tar_list: Path | None, *flags: str) -> str:
        if tar_list is None:
            return f"  (give {OPTION} the name of a new file: the command needs the list)"
        try:
            return f"  {resubmit_command(spec, state.launch, site, tar_list, run.output_dir, flags)}"
        except UsageError as error:  # such as a backend of a package that is not here
            return f"  ({plain_lines(str(error))})"

    if found.failed() or found.idle():
        if state.launch is not None and not state.cancelled:
            shared = f" --group {shlex.quote(state.launch.group)}" if state.launch.group else ""
            given_up = " --retry-quarantined" if found.decision.quarantine or found.idle() else ""
            lines += [
                "the tars that failed, once the cause is mended (tars that are cut: copied again):"
                if given_up
                else "the tars that failed are tried again by the next round, if no controller is at it already:",
                f"  python -m hpc.resume --output-dir {output}{shared}{given_up}",
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
    """(which tars, with which flag to submit them that the run does not have anyway) for what somebody may accept."""
    if any(reason.partition(":")[0] in ACCEPTABLE for reason in reasons):
        given = launch is not None and launch.allow_missing_end
        yield "only lack their end marker, if they are known to be whole", [] if given else ["--allow-missing-end"]
    if any(looks_joined(*reason.partition(": ")[::2]) for reason in reasons):
        given = launch is not None and launch.allow_joined
        yield "are several tars put end to end", [] if given else ["--allow-joined"]


def failures(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    failed_output: Annotated[
        Path | None, typer.Option(help=f"where to list the tars that failed and are not done; default {FAILED_LIST}")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="let the lists replace files that this run did not write")] = False,
    verbose: Verbose = False,
) -> int:
    """Say what failed. Exits 0 if nothing did that is not done since, 1 if something did, 2 if there is no run."""
    setup_logging(verbose=verbose)
    run = Run(output_dir.absolute())
    path = failed_output or Path(FAILED_LIST)
    errors_path = beside(path, ERRORS_LIST)
    check_targets(run, [run.list_file], [(OPTION, each) for each in (path, errors_path) if each is not None])
    found = find(run)
    state, spec = run.read_state(), read_spec(run.output_dir)
    failed, errors = found.failed(), found.with_errors()
    listings = [Listing("failed", path, [tar.tar for tar in failed], OPTION, asked=failed_output is not None)]
    if errors_path is not None:
        listings.append(Listing("errors", errors_path, [tar.tar for tar in errors], OPTION, asked=False))
    written = write_lists(run, listings, force=force)  # before the words, which may go into something that stops reading
    for note in (each.note for each in written if each.note and not (each.kept and each.listing.asked)):
        print(f"note: {note}", file=sys.stderr)
    failed_list, errors_list = _usable(written, "failed"), _usable(written, "errors")
    wrong = bool(failed or errors or found.idle())
    lines = render(found)
    if wrong:
        lines += ["To run again", *commands(found, run, state, spec, failed_list, errors_list), ""]
    if failed_list is not None:
        lines.append(f"Failed tar files: {len(failed)} in {failed_list}")
    if errors_list is not None:
        lines.append(f"Tar files that have clips with errors: {len(errors)} in {errors_list}")
    print("\n".join([*(lines or [f"{run.output_dir}: nothing failed"]), *render_damaged(found)]))
    refuse_kept(written)
    return 1 if wrong else 0


def _usable(written: Sequence[Written], what: str) -> Path | None:
    """Where a list is that the next command can take."""
    return next((each.listing.path for each in written if each.listing.what == what and each.useful), None)


if __name__ == "__main__":
    run_command(failures)
