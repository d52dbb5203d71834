"""Pure: tools.check_progress's report as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.monitor import describe_tasks
from hpc.progress import State, TarState
from hpc.stalls import describe_stalls
from hpc.standing import Running
from jobs.channels import describe_note
from jobs.console import clock_time
from jobs.left_out import describe_left_out
from jobs.plain_text import plain, plain_lines
from jobs.progress import DeviceSeconds, describe_device
from tools.checking.report import Report

__all__ = ["render"]

MARKS: dict[State, str] = {"committed": "✓", "partial": "◐", "not_started": "○", "invalid": "✗"}
RULE = "=" * 80
WORKING_SHOWN = 40


def render(report: Report, states: Sequence[TarState], *, verbose: bool) -> str:
    """The report as text."""
    lines = [
        f"Checking progress for {counted(report.total_tars, 'tar file')}...",
        f"Output directory: {report.output_dir}",
        "",
    ]
    lines += _tar_lines(report, states, verbose=verbose)
    total = report.total_tars
    remaining = total - report.completed
    lines += [
        RULE,
        "PROGRESS SUMMARY",
        RULE,
        f"Total tar files:       {total}",
        f"Completed:             {report.completed} ({_percent(report.completed, total)})",
        f"Remaining:             {remaining} ({_percent(remaining, total)})",
    ]
    if remaining:
        lines.append(f"  partial:             {report.partial}")
        lines.append(f"  not started:         {report.not_started}")
        lines.append(f"  invalid:             {report.invalid}")
    if report.quarantined:
        lines.append(f"In quarantine:         {len(report.quarantined)} ({called('tools.failures')} says why)")
    if report.running is not None:
        lines.append(f"Running:               {_describe_running(report.running)}")
        lines += [f"No progress:           {words}" for words in describe_stalls(report.running.stalls)]
    if report.stopped:
        lines.append(f"Stopped:               nothing more is submitted: {plain_lines(report.stopped)}")
    lines += _clip_lines(report, examples=any(state.state == "committed" and state.damaged_clips for state in states))
    lines += [f"Note:                  {note}" for note in _notes(report)]
    if report.checked:
        lines.append(
            f"Validity:              {counted(report.completed, 'file')} valid in every line, {report.invalid} invalid"
        )
    return "\n".join(lines)


def _clip_lines(report: Report, *, examples: bool) -> list[str]:
    """`examples`: committed files have damaged clips; `tools.failures` shows some of them."""
    lines = [f"Clips:                 {report.clips:,}", f"Audio:                 {report.audio_hours:,.2f} hours"]
    if device := _describe_device(report):
        lines.append(f"Device:                {device}")
    if report.errors:
        named = ", ".join(f"{kind} {number}" for kind, number in report.errors.items())
        lines.append(f"Clips with errors:     {sum(report.errors.values()):,} ({named})")
    if report.damaged_clips:
        where = f"{called('tools.failures')} shows some" if examples else f"{called('tools.show')} NAME marks them"
        missing = f"{report.damaged_seconds:,.3f} s missing; {where}"
        lines.append(f"Damaged clips, kept:   {report.damaged_clips:,} ({missing})")
    return lines


def _notes(report: Report) -> list[str]:
    """Data of committed tars that may be missing."""
    counts = (
        (report.tars_without_clips, "tar", "without any clip"),
        (report.outside_subset, "clip", "outside of --subset-ratio, which have no lines"),
        (
            report.orphan_sidecars,
            "sidecar",
            f"without audio of its name, in no record: if it is a text, unpack the tar and run {called('tools.pack')}",
        ),
        (report.sidecar_faults, "sidecar", "that could not be read, or not all of it: metadata.sidecar_errors says why"),
        *((number, "clip", describe_note(note)) for note, number in report.notes.items()),
        (report.not_asked, "tar", "at an address that did not answer: whether it has changed since is not known"),
    )
    notes = [f"{counted(number, noun)} {words}" for number, noun, words in counts if number]
    return [*notes, *([plain(describe_left_out(report.left_out))] if report.left_out else [])]


def _tar_lines(report: Report, states: Sequence[TarState], *, verbose: bool) -> list[str]:
    """A line for each tar that has a problem or a worker; with `verbose`, for every tar."""
    shown = report.problems.keys() | (report.working.keys() if len(report.working) <= WORKING_SHOWN else set())
    width = len(str(len(states)))
    lines = []
    for number, state in enumerate(states, 1):
        if verbose or state.name in shown:
            at = f": {report.working[state.name]}" if state.name in report.working else ""
            words = plain(f"{Path(state.tar).name}{_remark(state)}{at}")
            lines.append(f"[{number:>{width}}/{len(states)}] {MARKS[state.state]} {words}")
    return [*lines, ""] if lines else []


def _describe_running(found: Running) -> str:
    if not found.known:
        return "not known now"
    words = describe_tasks(found.running, found.pending, found.reasons)
    return "; ".join([*words, *([f"{counted(found.unknown, 'submission')} not known now"] if found.unknown else [])])


def _describe_device(report: Report) -> str:
    """Of the running tasks; if they report nothing yet, of all committed files."""
    live = report.running.device_seconds if report.running is not None else DeviceSeconds()
    return describe_device(live if live.total > 0 else report.device_seconds, gpu=report.device not in ("", "cpu"))


def _remark(state: TarState) -> str:
    problem = f": {state.problem}" if state.problem else ""
    if state.state == "partial":
        begun = f", {clock_time(state.long_clip_seconds)} of a long one" if state.long_clip_seconds else ""
        return f" (partial: {counted(state.clips, 'clip')} processed{begun}){problem}"
    if state.state == "not_started":
        return f" (not started){problem}"
    if state.state == "committed":
        return f" ({counted(state.clips, 'clip')})" if state.clips else " (no clips)"
    return problem


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "0.0%"
