"""Pure: what of a run needs attention, the worst first, each with the command that helps."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from jobs.plain_text import plain, plain_lines
from tools.reporting.facts import RunFacts
from tools.reporting.model import Notice
from tools.reporting.summary import Forecast
from tools.reporting.units import clock, duration, percent

__all__ = ["headline", "notices"]

MUCH_WAITING = 0.05
"""Share of GPU time spent waiting for audio from which more cores help, as in jobs/progress.py."""
MANY_ERRORS = 0.01
WARNINGS = 10
"""Of tokens, shown at most."""
ORDER = {"bad": 0, "warn": 1, "info": 2, "good": 3}


def headline(facts: RunFacts, ahead: Forecast) -> tuple[str, str]:
    """(state, sentence) of the run: the state is one of finished, quarantined, running, stuck, waiting, idle and empty."""
    tars = facts.tars
    done, total = tars.count("committed"), len(tars)
    if not total:
        none = "This run has no tars yet."
        return "empty", none if not facts.problems else "No tar of this run is known: a file cannot be read."
    words = f"{done:,} of {counted(total, 'tar')} committed"
    if done == total:
        return "finished", f"Finished: all of {counted(total, 'tar')} committed."
    if facts.outcome == "quarantined":
        return "quarantined", f"Finished but for {counted(tars.count('quarantined'), 'tar')} in quarantine: {words}."
    running = sum(task.end == "running" for task in facts.tasks)
    waits = counted(facts.not_begun, "array task")
    if running:
        end = f"; at the present rate done at {clock(facts.made_at + 3600 * ahead.hours_left)}" if ahead.hours_left else ""
        more = f", {waits} not begun" if facts.not_begun else ""
        state, sentence = "running", f"Running: {words}, {counted(running, 'worker')} at work{more}{end}."
    elif facts.stopped:
        state, sentence = "stuck", f"Stopped: {words}. {plain_lines(facts.stopped)}"
    elif facts.not_begun:
        state, sentence = "waiting", f"Waiting: {words}, {waits} submitted and not begun."
    else:
        state, sentence = "idle", f"Nothing is at work, as far as files tell: {words}."
    return state, sentence


def notices(facts: RunFacts, state: str) -> list[Notice]:
    """Everything that needs attention, the worst first."""
    output = shlex.quote(facts.output_dir)
    failures, resume = (f"{called(module)} --output-dir {output}" for module in ("tools.failures", "hpc.resume"))
    found = [Notice("bad", f"A file of the run cannot be read: {problem}") for problem in facts.problems[:10]]
    if state == "stuck":
        found.append(Notice("bad", f"Nothing more is submitted: {plain_lines(facts.stopped)}", failures))
    if state == "idle" and facts.launch is None:
        found.append(Notice("info", "No controller works on this run: it has not been launched."))
    elif state == "idle":
        found.append(
            Notice(
                "warn",
                "No task has reported anything for minutes. The queue was not asked; this does, and submits what is left:",
                resume,
            )
        )
    if facts.quarantine:
        tars = counted(len(facts.quarantine), "tar")
        found.append(
            Notice(
                "bad",
                f"{tars} in quarantine. Once the cause is mended, this tries again:",
                f"{resume} --retry-quarantined",
            )
        )
    if invalid := facts.tars.count("invalid"):
        found.append(
            Notice(
                "bad",
                f"{counted(invalid, 'committed file')} not as the run left them: move them away to have them made again.",
                f"{called('tools.check_progress')} --output-dir {output}",
            )
        )
    if facts.exclude:
        found.append(
            Notice(
                "warn",
                f"{counted(len(facts.exclude), 'node')} avoided: {', '.join(map(plain, sorted(facts.exclude)))}.",
                failures,
            )
        )
    found += _about_speed(facts)
    found += _about_data(facts, output, failures)
    found += _about_tokens(facts)
    if len(facts.totals.versions) > 1:
        found.append(
            Notice(
                "warn",
                f"Tars were committed with {len(facts.totals.versions)} different sets of package versions: see Recipe.",
            )
        )
    if not found and len(facts.tars):
        found.append(Notice("good", "Nothing needs attention."))
    return _each_command_once(sorted(found, key=lambda notice: ORDER[notice.severity]))


def _each_command_once(found: Sequence[Notice]) -> list[Notice]:
    seen = {""}
    result = []
    for notice in found:
        result.append(notice if notice.command not in seen else replace(notice, command=""))
        seen.add(notice.command)
    return result


def _about_speed(facts: RunFacts) -> list[Notice]:
    spent = facts.device_seconds
    if not (facts.on_gpu and spent.total > 0 and spent.audio / spent.total >= MUCH_WAITING):
        return []
    share = percent(spent.audio / spent.total)
    words = f"GPUs waited for audio in {share} of their time: more cores help (--cpus-per-gpu)."
    return [Notice("warn", words)]


def _about_data(facts: RunFacts, output: str, failures: str) -> list[Notice]:
    totals, found = facts.totals, []
    errors = sum(totals.errors.values())
    if errors:
        share = errors / max(totals.clips, 1)
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in list(totals.errors.items())[:4])
        found.append(
            Notice(
                "warn" if share >= MANY_ERRORS else "info",
                f"{counted(errors, 'error record')}, {percent(share)} of the clips: {kinds}.",
                failures,
            )
        )
    if totals.damaged_clips:
        found.append(
            Notice(
                "info",
                f"{counted(totals.damaged_clips, 'clip')} kept though damaged: {duration(totals.damaged_seconds)} lost.",
                failures,
            )
        )
    if totals.orphan_sidecars:
        found.append(
            Notice("warn", f"{counted(totals.orphan_sidecars, 'sidecar')} without audio of its name, in no record.")
        )
    if totals.sidecar_faults:
        sidecars = counted(totals.sidecar_faults, "sidecar")
        found.append(Notice("warn", f"{sidecars} could not be read, or not all of it: metadata.sidecar_errors says why."))
    if totals.tars_without_clips:
        found.append(Notice("warn", f"{counted(totals.tars_without_clips, 'committed tar')} without any clip."))
    if totals.outside_subset:
        clips = counted(totals.outside_subset, "clip")
        found.append(Notice("info", f"{clips} outside of --subset-ratio, which have no lines."))
    if totals.left_out:
        members = sum(totals.left_out.values())
        suffixes = ", ".join(map(plain, list(totals.left_out)[:5]))
        found.append(
            Notice(
                "info",
                f"{counted(members, 'member')} that may be data became no clips: {suffixes}.",
                f"{called('tools.check_progress')} --output-dir {output}",
            )
        )
    return found


def _about_tokens(facts: RunFacts) -> list[Notice]:
    report, output = facts.token_report, shlex.quote(facts.output_dir)
    command = f"{called('tools.check_progress')} --tokens --output-dir {output}"
    found = [
        Notice("warn", f"{plain(each.sequence)}: {plain(each.words)}. {plain(each.advice)}.", command)
        for each in report.warnings[:WARNINGS]
    ]
    if report.damaged:
        name, why = next(iter(report.damaged.items()))
        found.append(Notice("warn", f"Statistics of tokens cannot be read, as of {plain(name)}: {plain(why)}", command))
    return found
