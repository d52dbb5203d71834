"""Pure: a run's facts as the sections of the page."""

from __future__ import annotations

from collections.abc import Sequence

from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from jobs.plain_text import plain
from tools.checking.token_report import SequenceReport
from tools.reporting.error_section import error_section
from tools.reporting.facts import RunFacts, Task
from tools.reporting.model import Section, Table, Tile, text_cell, value_cell
from tools.reporting.plots_progress import durations_plot, progress_plot, rate_plot, states_plot
from tools.reporting.plots_tasks import attempts_plot, device_plot, nodes_plot
from tools.reporting.plots_tokens import codebooks_table, codes_plot, entropy_plot
from tools.reporting.summary import Cost, Forecast, Speed, gpu_hours, speeds
from tools.reporting.units import big, clock, duration, hours, number, percent, size

__all__ = ["make_sections", "make_tiles"]

ROWS = 100
"""Of a table that has one per node, GPU or submission."""
NOT_COUNTED = (
    "Not counted: these manifests are from a version that did not count tokens. Tars that this version tokenizes have "
    "histograms; committed ones keep their manifests."
)


def make_tiles(facts: RunFacts, ahead: Forecast, cost: Cost) -> list[Tile]:
    """The key figures at the top."""
    tars, totals = facts.tars, facts.totals
    done = tars.count("committed")
    share = done / len(tars) if len(tars) else 0.0
    eta = "-"
    if len(tars) and ahead.hours_left == 0:
        eta = "done"
    elif ahead.hours_left is not None:
        eta = duration(3600 * ahead.hours_left)
    errors = sum(totals.errors.values())
    price = cost.per_thousand
    waits = facts.device_seconds
    return [
        Tile("tars committed", percent(share), f"{done:,} of {len(tars):,}"),
        Tile("audio", hours(totals.audio_seconds / 3600), counted(totals.clips, "clip")),
        Tile(
            "rate now",
            f"{big(ahead.rate)}" if ahead.rate else "-",
            "audio-hours per hour" if ahead.rate else "nothing is at work",
        ),
        Tile("time left", eta, clock(facts.made_at + 3600 * ahead.hours_left) if ahead.hours_left else ""),
        Tile(cost.what, hours(cost.hours), f"{number(price)} h per 1,000 audio-hours" if price is not None else ""),
        Tile("errors", percent(errors / totals.clips) if totals.clips else "-", counted(errors, "error record")),
        Tile(
            "device busy",
            percent(waits.busy / waits.total) if waits.total else "-",
            f"{percent(waits.audio / waits.total)} waiting for audio" if waits.total else "",
        ),
    ]


def make_sections(facts: RunFacts, ahead: Forecast, cost: Cost) -> list[Section]:
    """All sections with plots and tables, in their order."""
    nodes = speeds(facts.tasks, lambda task: task.node)
    return [
        Section("progress", "Progress", plots=[progress_plot(facts, ahead), states_plot(facts)]),
        Section(
            "speed",
            "Speed",
            plots=[rate_plot(facts), nodes_plot(nodes), device_plot(facts, nodes)],
            tables=_speed_tables(facts, nodes),
        ),
        Section("attempts", "Attempts", plots=[attempts_plot(facts)], tables=_submission_tables(facts)),
        error_section(facts),
        Section("durations", "Durations", plots=[durations_plot(facts)], tables=_slowest(facts)),
        _cost(facts, cost),
        _tokens(facts),
    ]


def _speed_tables(facts: RunFacts, nodes: Sequence[Speed]) -> list[Table]:
    if not facts.tasks:
        return []
    tables = [_speed_table("Speed by node", "node", nodes)]
    if any(task.gpu for task in facts.tasks):
        tables.append(_speed_table("Speed by GPU", "GPU", speeds(facts.tasks, _gpu)))
    tables.append(
        _speed_table("Speed by submission", "submission", speeds(facts.tasks, lambda task: f"{task.submission:04}"))
    )
    return tables


def _gpu(task: Task) -> str:
    return f"{task.node} {task.gpu}" if task.gpu else task.node


def _speed_table(caption: str, what: str, found: Sequence[Speed]) -> Table:
    """The slowest first."""
    ranked = sorted(found, key=lambda speed: speed.per_worker_hour)
    columns = (
        what,
        "tasks",
        "worker-hours",
        "audio-hours",
        "audio-h per h",
        "audio-h per worker-h",
        "waiting for audio",
        "deaths",
    )
    rows = [
        (
            text_cell(each.name),
            value_cell(each.tasks, f"{each.tasks:,}"),
            value_cell(each.worker_hours),
            value_cell(each.audio_hours),
            value_cell(each.per_hour),
            value_cell(each.per_worker_hour),
            value_cell(each.audio_wait, percent(each.audio_wait) if each.audio_wait is not None else None),
            value_cell(each.deaths, f"{each.deaths:,}"),
        )
        for each in ranked[:ROWS]
    ]
    more = f"The {ROWS} slowest of {len(ranked):,}." if len(ranked) > ROWS else ""
    return Table(caption, columns, rows, frozenset(range(1, 8)), more)


def _submission_tables(facts: RunFacts) -> list[Table]:
    tables = []
    if facts.submissions:
        shown = facts.submissions[-ROWS:]
        rows = [
            (
                value_cell(each.number, f"{each.number:04}"),
                value_cell(each.intended_at, clock(each.intended_at) if each.intended_at else None),
                text_cell(each.job_id or "-"),
                text_cell(f"{each.state}: {each.words}" if each.words else each.state),
                value_cell(each.elements, f"{each.elements:,}"),
                value_cell(each.tars, f"{each.tars:,}"),
                text_cell(", ".join(f"{plain(state)} {count:,}" for state, count in sorted(each.states.items())) or "-"),
                value_cell(each.silent, f"{each.silent:,}"),
            )
            for each in shown
        ]
        columns = ("submission", "at", "job", "state", "array tasks", "tars", "ended as (Slurm)", "without a report")
        more = f"The latest {ROWS} of {len(facts.submissions):,}." if len(facts.submissions) > ROWS else ""
        tables.append(Table("Submissions", columns, rows, frozenset({0, 1, 4, 5, 7}), more))
    if facts.exclude:
        first = {node: at for at, node in reversed(facts.exclusions)}
        rows_out = [
            (
                text_cell(plain(node)),
                value_cell(first.get(node), clock(first[node]) if node in first else None),
                text_cell(plain(reason)),
            )
            for node, reason in facts.exclude.items()
        ]
        tables.append(Table("Excluded nodes", ("node", "since", "why"), rows_out, frozenset({1})))
    return tables


def _slowest(facts: RunFacts) -> list[Table]:
    if not facts.slowest:
        return []
    rows = [
        (
            text_cell(plain(each.name)),
            value_cell(each.wall_seconds, duration(each.wall_seconds)),
            value_cell(each.audio_seconds, duration(each.audio_seconds)),
            value_cell(each.audio_seconds / each.wall_seconds if each.wall_seconds > 0 else None),
            value_cell(each.clips, f"{each.clips:,}"),
        )
        for each in facts.slowest
    ]
    return [
        Table("Tars that took longest", ("tar", "time", "audio", "times real time", "clips"), rows, frozenset({1, 2, 3, 4}))
    ]


def _cost(facts: RunFacts, cost: Cost) -> Section:
    if not cost.hours:
        return Section("cost", "Cost", empty="No task has reported any work yet.")
    price = f"{number(cost.per_thousand)}" if cost.per_thousand is not None else "-"
    stored = facts.totals.output_bytes
    tiles = [
        Tile(f"{cost.what} so far", hours(cost.hours)),
        Tile(f"{cost.unit} per 1,000 audio-hours", price),
        Tile(f"{cost.what} still to come", hours(cost.hours_left) if cost.hours_left is not None else "-", "at this price"),
        Tile(
            "audio encoded again",
            hours(cost.repeated_hours),
            percent(cost.repeated_hours / cost.audio_hours) if cost.audio_hours else "",
        ),
        Tile(
            "tokens on disk",
            size(stored),
            f"{size(3600 * stored / facts.totals.audio_seconds)} per hour of audio" if facts.totals.audio_seconds else "",
        ),
    ]
    rows = []
    by_number: dict[int, list[Task]] = {}
    for task in facts.tasks:
        by_number.setdefault(task.submission, []).append(task)
    for each in facts.submissions[-ROWS:]:
        tasks = by_number.get(each.number, [])
        spent, audio = gpu_hours(tasks, facts.submissions, facts.launch), sum(task.audio_seconds for task in tasks) / 3600
        rows.append(
            (
                value_cell(each.number, f"{each.number:04}"),
                value_cell(spent),
                value_cell(audio),
                value_cell(1000 * spent / audio if audio else None),
            )
        )
    columns = ("submission", cost.unit, "audio-hours encoded", "per 1,000 audio-hours")
    tables = [Table("Cost by submission", columns, rows, frozenset(range(4)))] if rows else []
    lead = (
        "From a task's start to its last report; an array task holds its GPUs until its last worker ends."
        if facts.tasks
        else "From the manifests: the time that workers spent on committed tars."
    )
    return Section("cost", "Cost", lead, tables=tables, tiles=tiles)


def _tokens(facts: RunFacts) -> Section:
    report, committed = facts.token_report, facts.tars.count("committed")
    if not report.tars:
        return Section("tokens", "Tokens", empty=NOT_COUNTED if committed else "No tar is committed yet.")
    plots, tables, tiles = [], [], []
    for found in report.sequences:
        if not found.items:
            continue
        plots += [entropy_plot(found), codes_plot(found.key, facts.tokens.sequences[found.key].counts)]
        tables.append(codebooks_table(found))
        tiles += _token_tiles(found)
    if not plots:
        return Section("tokens", "Tokens", empty="These records have no tokens, only floats.")
    looked_at = report.tars + report.not_counted + len(report.damaged)
    lead = f"From the histograms in the manifests of {counted(report.tars, 'tar')}"
    if looked_at < committed:
        lead += (
            f", taken evenly from the {committed:,} committed ones: {called('tools.check_progress')} --tokens looks at all"
        )
    if report.not_counted:
        lead += f"; in those of {report.not_counted:,} others tokens are not counted"
    if any(found.left_out for found in report.sequences):
        lead += "; rare codes are missing there, so more codes occur than these show"
    return Section("tokens", "Tokens", f"{lead}.", plots=plots, tables=tables, tiles=tiles)


def _token_tiles(found: SequenceReport) -> list[Tile]:
    key, books = plain(found.key), len(found.codebooks)
    rate, per_character = found.items_per_second, found.items_per_character
    return [
        Tile(
            f"{key}: tokens per second of audio",
            number(rate * books) if rate is not None else "-",
            f"{counted(books, 'codebook')} of {found.size:,} codes",
        ),
        Tile(
            f"{key}: tokens per character of text",
            number(per_character * books) if per_character is not None else "-",
            "" if per_character is not None else "no transcripts",
        ),
        Tile(f"{key}: silence and other still frames", percent(found.still_share), "half a second or more without a change"),
    ]
