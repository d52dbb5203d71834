"""Pure: a run on a terminal of any size, line by line: the run's bar and figures, then as many workers as fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.monitor import Snapshot, describe_running, share_done
from hpc.stalls import describe_stalls
from hpc.task_rows import TaskRow, sum_rows, urgent_first
from jobs.plain_text import plain, plain_lines
from jobs.progress import MUCH_WAITING, describe_device

if TYPE_CHECKING:  # rich is slow to import, and a command without a terminal does not need it
    from rich.text import Text

__all__ = ["Board", "draw"]

INDENT, NARROW = 12, 60
"""Cells for the names of the figures; on a terminal narrower than this they stand before their words."""
LONGEST_BAR, SHORTEST_BAR = 50, 6
LEAST_ROWS = 5
"""Lines for workers, names of columns included, that notes and messages leave free."""
GAP, NEXT_LINE = 2, "  "
CELLS_PER_NODE = 25
"""For each node that is named."""
BAR, REST, HALF = "━", "─", "╸"
UNJOINED = {0x200C: None, 0x200D: None}
"""Terminals disagree on the width of what joiners join, and rich fails at some of them."""
MOST_SIGNS = 4
"""Of a cell: a letter and its accents."""
URGENT = "bold red"
BUSY = "-"
MINUTE, HOUR = 60, 3600


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """All that is shown."""

    now: Snapshot
    speed: str
    tasks: Sequence[TaskRow] = ()
    notes: Sequence[str] = ()
    """Why nothing more is submitted."""
    messages: Sequence[str] = ()
    """The latest lines of the log."""


def draw(board: Board, width: int, height: int, now: float, *, ascii_only: bool = False) -> list[Text]:
    """At most `height` lines of at most `width` cells. `now`: seconds since the epoch, for the times since progress."""
    pen = _Pen(width, ascii_only)
    bars, figures = _bars(board.now, pen), _figures(board, pen, now)
    wanted = len(board.tasks) + 2 if board.tasks else 0
    if sum(map(len, [*bars, *figures])) + min(LEAST_ROWS, wanted) > height:
        figures = [[pen.shorten(row)] for row in figures]
    head = [text for row in (*bars, *figures) for text in row][:height]
    notes = [*(("note", note) for note in board.notes), *(("log", message) for message in board.messages)]
    room = height - len(head)
    least = min(max(LEAST_ROWS, room // 2), wanted)
    tail = pen.cut([text for name, words in notes for text in pen.row(name, words)], max(0, room - least))
    return [*head, *tail, *_task_lines(board.tasks, room - len(tail), now, pen)]


def _figures(board: Board, pen: _Pen, moment: float) -> list[list[Text]]:
    """The run's figures, each in one or more lines."""
    now = board.now
    running = ("running", describe_running(now, nodes=max(1, pen.width // CELLS_PER_NODE)))
    if now.training:
        rows = [("training", now.training), running]
    else:
        damaged = f", {now.damaged:,} kept though damaged" if now.damaged else ""
        clips = f"{now.clips:,}, {now.errors:,} of the committed ones with errors{damaged}"
        rows = [("clips", clips), running, ("speed", board.speed)]
    if stalls := describe_stalls(now.stalls, shown=1, now=moment):  # the others are among the workers
        rows.append(("no progress", "; ".join(stalls)))
    if device := describe_device(now.device_seconds, gpu=now.on_gpu):
        rows.append(("device", device))
    if now.quarantined:
        rows.append(("quarantine", f"{counted(now.quarantined, 'tar')}: {called('tools.failures')} says why"))
    if now.excluded:
        rows.append(("avoided", ", ".join(now.excluded)))
    return [pen.row(name, words) for name, words in rows]


def _bars(now: Snapshot, pen: _Pen) -> list[list[Text]]:
    """How far the run is; of a training, all epochs and the current one."""
    status = now.trained
    if not now.training:
        return [pen.bar_row("tars", f"{now.done:,} of {now.tars:,} done", share_done(now))]
    if status is None or not status.epochs:
        return []
    over = status.epoch >= status.epochs
    within = status.in_epoch / status.steps if status.steps and not over else 0.0
    epochs = f"{status.epoch} of {status.epochs} done"
    if over or not status.steps:
        return [pen.bar_row("epochs", epochs, (status.epoch + within) / status.epochs)]
    step = f"step {status.in_epoch:,} of {status.steps:,}"
    room = max(len(epochs), len(step))
    return [
        pen.bar_row("epochs", epochs, (status.epoch + within) / status.epochs, room),
        pen.bar_row(f"epoch {status.epoch + 1}", step, within, room),
    ]


def _percent(share: float | None) -> str:
    """Rounded down: nothing is at 100 % before it is done."""
    return "" if share is None else f"{int(100 * share):3} %"


class _Pen:
    """Writes lines of so many cells, in signs that the terminal has."""

    def __init__(self, width: int, ascii_only: bool) -> None:
        from rich.console import Console

        self.width = width
        self._bar, self._half, self._rest = ("#", "#", "-") if ascii_only else (BAR, HALF, REST)
        self._ellipsis = "~" if ascii_only else "…"
        self._console = Console(width=width)

    def row(self, name: str, words: str) -> list[Text]:
        """A named figure, wrapped between words under its first line."""
        from rich.text import Text

        shown = plain_lines(words).translate(UNJOINED)
        if self.width < NARROW:
            text, indent = Text.assemble((name, "bold"), "  ", shown), len(NEXT_LINE)
            wrapped = text.wrap(self._console, max(1, self.width - indent))
            lines = [Text(NEXT_LINE * (number > 0)) + part for number, part in enumerate(wrapped)]
        else:
            wrapped = Text(shown).wrap(self._console, self.width - INDENT)
            lines = [Text(" " * INDENT) + part for part in wrapped[1:]]
            lines.insert(0, Text.assemble((f"{name:<{INDENT}}", "bold"), wrapped[0]))
        for line in lines:
            line.rstrip()
        return lines

    def bar_row(self, name: str, words: str, share: float, room: int = 0) -> list[Text]:
        """A named figure with a bar behind it, or below it where that leaves no room. `room`: cells of the longest words of
        several such rows, whose bars then stand below each other.
        """
        from rich.text import Text

        (first, *more) = self.row(name, words)
        percent = f" {_percent(share)}"
        gap = GAP + max(0, room - len(words))
        cells = min(LONGEST_BAR, self.width - first.cell_len - gap - len(percent))
        if more or cells < SHORTEST_BAR:
            return [first, *more, self.bar(share, max(1, min(LONGEST_BAR, self.width - len(percent)))) + Text(percent)]
        return [first + Text(" " * gap) + self.bar(share, cells) + Text(percent)]

    def bar(self, share: float, cells: int) -> Text:
        """A bar of so many cells."""
        from rich.text import Text

        halves = int(2 * cells * min(1.0, max(0.0, share)))
        full = self._bar * (halves // 2) + self._half * (halves % 2)
        return Text.assemble((full, "cyan"), (self._rest * (cells - len(full)), "dim"))

    def fit(self, text: str, cells: int, *, end: bool = False) -> str:
        """As much of a text as fits, from its beginning or, of names whose ends differ, from its `end`."""
        from rich.cells import cell_len

        text = text.translate(UNJOINED)
        if len(text) > MOST_SIGNS * cells:  # what rich measures slowly: the part below has more signs than can fit
            text = text[-MOST_SIGNS * cells :] if end else text[: MOST_SIGNS * cells]
        elif cell_len(text) <= cells:
            return text
        while text and cell_len(text) > cells - 1:
            text = text[1:] if end else text[:-1]
        return self._ellipsis + text if end else text + self._ellipsis

    def shorten(self, row: Sequence[Text]) -> Text:
        """A figure in one line."""
        from rich.text import Text

        if len(row) == 1:
            return row[0]
        first = row[0].copy()
        first.truncate(self.width - 1)
        return first + Text(self._ellipsis)

    def cut(self, lines: Sequence[Text], room: int) -> list[Text]:
        """As many of the lines as there is room for."""
        from rich.text import Text

        if len(lines) <= room:
            return list(lines)
        return [*lines[: room - 1], Text(self._ellipsis)] if room else []


@dataclass(frozen=True)
class _Column:
    name: str
    words: Callable[[TaskRow, float], str]
    rank: int
    """The columns with the lowest ranks are shown where there is not room for all."""
    least: int = 0
    """Cells with which it is worth showing; 0 for as many as its words have."""
    right: bool = False


def _waits_for(row: TaskRow) -> str:
    """What keeps the device of a worker from working: `audio 40 %`, a step that hangs, or nothing to speak of."""
    if row.stuck or row.loading:
        return row.stuck or "loading"
    longest, name = max((row.device.audio, "audio"), (row.device.writer, "writer"))
    return f"{name} {100 * longest / row.device.total:.0f} %" if longest > MUCH_WAITING * row.device.total else BUSY


def _rate(row: TaskRow) -> str:
    if row.speed is None:
        return ""
    return f"{row.speed:,.0f}" if row.speed >= 10 else f"{row.speed:.1f}"


def _since(row: TaskRow, now: float) -> str:
    """`12 s ago`; short, because it stands in a column."""
    seconds = max(0.0, now - row.progressed)
    for unit, size in (("h", HOUR), ("min", MINUTE)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


COLUMNS = (
    _Column("task", lambda row, _: row.task, 6),
    _Column("node", lambda row, _: row.node if row.gpu is None else f"{row.node}:{row.gpu}", 4, least=8),
    _Column("tar", lambda row, _: row.tar, 0, least=8),
    _Column("", lambda _row, _: "", 7, least=SHORTEST_BAR),
    _Column("done", lambda row, _: _percent(row.share), 1, right=True),
    _Column("clips", lambda row, _: f"{row.clips:,}", 8, right=True),
    _Column("audio-h/h", lambda row, _: _rate(row), 3, right=True),
    _Column("progress", _since, 2, right=True),
    _Column("waits for", lambda row, _: _waits_for(row), 5, least=10),
)
NODE, TAR, BAR_COLUMN, PROGRESS, WAITS = 1, 2, 3, 7, 8
WIDENED = (NODE, TAR, WAITS, BAR_COLUMN)


def _task_lines(tasks: Sequence[TaskRow], room: int, now: float, pen: _Pen) -> list[Text]:
    """A blank line, the columns' names, the most urgent workers, and the others in one line."""
    from rich.text import Text

    if not tasks or room < 1:
        return []
    ranked = urgent_first(tasks)
    many = room - 2 if len(tasks) <= room - 2 else max(0, room - 3)
    shown, rest = ranked[:many], ranked[many:]
    summary = [Text(pen.fit(_sum_words(rest, now), pen.width), "dim")] if rest else []
    if not shown:
        return summary
    cells = [[plain(column.words(row, now)) for column in COLUMNS] for row in shown]
    widths = _widths(cells, pen.width)
    lines = [Text(), _line([Text(column.name, "bold") for column in COLUMNS], widths, pen)]
    lines += [_line(_texts(row, words, widths, pen), widths, pen) for row, words in zip(shown, cells, strict=True)]
    return [*lines, *summary]


def _sum_words(rest: Sequence[TaskRow], now: float) -> str:
    whole = sum_rows(rest)
    waits = _waits_for(whole)
    return (
        f"{counted(len(rest), 'more task')}: {_rate(whole)} audio-h/h, progress {_since(whole, now)} or less, "
        f"{f'waiting for {waits}, ' if waits != BUSY else ''}{counted(whole.clips, 'clip')}"
    )


def _widths(cells: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """Column -> cells, of those that fit, by rank. What is left goes to the columns that could use more."""
    from rich.cells import cell_len

    wanted = [max([cell_len(column.name), *(cell_len(row[at]) for row in cells)]) for at, column in enumerate(COLUMNS)]
    wanted[BAR_COLUMN] = LONGEST_BAR // 2
    found: dict[int, int] = {}
    left = width + GAP
    for at, column in sorted(enumerate(COLUMNS), key=lambda each: each[1].rank):
        least = min(wanted[at], column.least) if column.least else wanted[at]
        if least + GAP <= left:
            found[at] = least
            left -= least + GAP
    for at in [at for at in WIDENED if at in found]:
        more = min(left, wanted[at] - found[at])
        found[at] += more
        left -= more
    return dict(sorted(found.items()))


def _texts(row: TaskRow, words: Sequence[str], widths: Mapping[int, int], pen: _Pen) -> list[Text]:
    from rich.text import Text

    style = URGENT if row.stale else ""
    found = [Text(text, style if at in (TAR, PROGRESS) else "") for at, text in enumerate(words)]
    if row.share is not None and BAR_COLUMN in widths:
        found[BAR_COLUMN] = pen.bar(row.share, widths[BAR_COLUMN])
    return found


def _line(texts: Sequence[Text], widths: Mapping[int, int], pen: _Pen) -> Text:
    from rich.text import Text

    line = Text()
    for at, cells in widths.items():
        text = texts[at]
        if text.cell_len > cells:
            text = Text(pen.fit(text.plain, cells, end=at in (TAR, NODE)), text.style)
        space = Text(" " * (cells - text.cell_len))
        line += Text(" " * GAP * bool(line)) + (space + text if COLUMNS[at].right else text + space)
    line.rstrip()
    return line
