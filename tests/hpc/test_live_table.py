"""hpc/live_table.py: a run on a terminal of any size: nothing wider or higher, nothing foreign alive, what matters first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from support.boards import snapshot
from support.hostile_names import NAMES, faults

from hpc.live_table import URGENT, Board, draw
from hpc.monitor import Snapshot
from hpc.stalls import Still
from hpc.task_rows import TaskRow
from jobs.progress import DeviceSeconds
from jobs.taste.status import Status

NOW = 1e9
DOCS = Path(__file__).parents[2] / "docs" / "cluster.md"


def row(task: str = "0001/0", **values: object) -> TaskRow:
    """A worker that is well."""
    usual = {
        "node": "n1",
        "gpu": "0",
        "tar": "000001",
        "share": 0.5,
        "clips": 1200,
        "speed": 310.0,
        "progressed": NOW - 4,
        "looked": NOW,
    }
    return TaskRow(**{**usual, "task": task, "device": DeviceSeconds(98.0, 1.0, 1.0), **values})  # type: ignore[arg-type]


def shown(now: Snapshot, *notes: str, width: int = 120, height: int = 40, tasks: tuple[TaskRow, ...] = ()) -> list[str]:
    """The lines as a terminal would show them."""
    return texts(Board(now=now, speed="speed", notes=notes, tasks=tasks), width, height)


def texts(board: Board, width: int, height: int, *, ascii_only: bool = False) -> list[str]:
    return [line.plain for line in draw(board, width, height, NOW, ascii_only=ascii_only)]


WIDE = row("0012/345", node="gpu-node-017", gpu="7", tar="日本語の音声データ_000001", share=None)
STUCK = row("0001/9", tar="000012", stuck="decoding clip 7 of 000012", progressed=NOW - 760)
BUSY = snapshot(
    running={f"n{number:02}": 4 for number in range(30)},
    pending=3,
    stalls=(Still("0001/9", "n1", "decoding clip 7 of 000012", NOW - 760),),
    device_seconds=DeviceSeconds(90.0, 10.0, 0.0),
    quarantined=2,
    excluded=("n7",),
)


class TestFigures:
    def test_rows(self) -> None:
        """Those that a run has; quarantine, avoided nodes and notes only where there are some."""
        plain = "\n".join(shown(snapshot(done=1, bytes_done=1_000_000, clips=1234)))
        assert "tars        1 of 4 done  ━" in plain
        assert " 25 %" in plain
        assert "1,234" in plain
        assert not any(word in plain for word in ("quarantine", "avoided", "device", "damaged", "note"))
        kept = "0 of the committed ones with errors, 1,234 kept though damaged"
        assert kept in "\n".join(shown(snapshot(damaged=1234)))
        busy = "\n".join(shown(snapshot(device_seconds=DeviceSeconds(90.0, 10.0, 0.0), on_gpu=True)))
        assert "busy 90 %, waiting for audio 10 %, for the writer 0 %: more CPU cores would help" in busy
        full = shown(snapshot(quarantined=2, excluded=("n7", "n9")), "3 tars met trouble\nerror: x")
        assert "quarantine  2 tars: python -m tools.failures says why" in full
        assert "avoided     n7, n9" in full
        assert full[-2:] == ["note        3 tars met trouble", "              error: x"]

    def test_the_bar_is_full_at_the_end_and_not_before(self) -> None:
        """Shares are rounded down."""
        (almost, *_), (done, *_) = (shown(snapshot(bytes_done=made, bytes_total=1000)) for made in (999, 1000))
        assert almost.endswith("╸  99 %")
        assert done.endswith("━ 100 %")

    def test_a_step_without_progress(self) -> None:
        """The longest one is told in a row of its own: the table of workers may not have room for its words."""
        found = [line for line in shown(BUSY, width=200) if line.startswith("no progress")]
        assert found == [line for line in found if "(0:12:40): decoding clip 7 of 000012" in line]
        assert len(found) == 1

    def test_training(self) -> None:
        """A bar of all epochs and one of the current; the figures of tars are not shown."""
        status = Status(settings={}, epochs=4, epoch=1, step=60, saved=50, in_epoch=20, steps=40, loss=5.5)
        lines = shown(snapshot(training=status.describe(), trained=status))
        assert lines[0].startswith("epochs      1 of 4 done    ━")
        assert lines[0].endswith(" 37 %")
        assert lines[1].startswith("epoch 2     step 20 of 40  ━")
        assert lines[1].endswith(" 50 %")
        assert lines[2] == "training    epoch 2 of 4, step 20 of 40 (60 in all), loss 5.5000"
        assert not any(line.startswith(("tars", "clips", "speed")) for line in lines)

    def test_training_at_its_ends(self) -> None:
        """Before the first step there is no bar; afterwards one is full."""
        before = shown(snapshot(training="no step of 4 epochs yet"))
        assert before[0] == "training    no step of 4 epochs yet"
        over = Status(settings={}, epochs=4, epoch=4, step=160, saved=160, in_epoch=0, steps=40)
        lines = shown(snapshot(training=over.describe(), trained=over))
        assert lines[0].endswith("━ 100 %")
        assert lines[1].startswith("training")


class TestWorkers:
    def test_columns(self) -> None:
        """All of them, where there is room; a wide sign counts for two cells."""
        lines = shown(snapshot(), width=140, tasks=(row(), WIDE, row("0001/1", loading=True, share=0.0)))
        assert lines[-4].split() == ["task", "node", "tar", "done", "clips", "audio-h/h", "progress", "waits", "for"]
        assert lines[-3].split()[:3] == ["0001/0", "n1:0", "000001"]
        assert lines[-3].split()[4:] == ["50", "%", "1,200", "310", "4", "s", "ago", "-"]
        assert "日本語の音声データ_000001" in lines[-2]
        assert lines[-1].endswith("loading")
        ends = [cell_len(line[: line.index("1,200") + 5]) for line in lines[-3:]]
        assert len(set(ends)) == 1

    def test_what_the_device_waits_for(self) -> None:
        """The longest wait, if it is not next to nothing."""
        spent = [DeviceSeconds(60.0, 30.0, 10.0), DeviceSeconds(60.0, 10.0, 30.0), DeviceSeconds(96.0, 4.0), DeviceSeconds()]
        lines = shown(snapshot(), tasks=tuple(row(str(number), device=one) for number, one in enumerate(spent)))
        assert [line.rpartition(" ago  ")[2] for line in lines[-4:]] == ["audio 30 %", "writer 30 %", "-", "-"]

    def test_time_since_progress(self) -> None:
        """Seconds, minutes or hours, in colour only where the user should look."""
        ages = (0, 119, 120, 3600 * 2, 3600 * 50)
        lines = draw(Board(now=snapshot(), speed="", tasks=[row(progressed=NOW - age) for age in ages]), 120, 40, NOW)
        found = {}
        for line in lines[-5:]:
            (age,) = (word for word in line.plain.split("  ") if word.endswith(" ago"))
            found[age.strip()] = any(span.style == URGENT for span in line.spans)
        assert found == {"50 h ago": True, "2 h ago": True, "2 min ago": True, "119 s ago": False, "0 s ago": False}

    def test_as_many_as_fit(self) -> None:
        """Those that need attention; the others are summed in one line."""
        tasks = (*(row(f"0001/{number}") for number in range(999)), STUCK)
        lines = shown(snapshot(), height=12, tasks=tasks)
        assert len(lines) == 12
        assert lines[6].startswith("0001/9 ")
        assert "decoding clip 7 of 000012" in lines[6]
        assert lines[-1] == "995 more tasks: 308,450 audio-h/h, progress 4 s ago or less, 1,194,000 clips"

    def test_all_fit(self) -> None:
        """No line for others if there are none, also where the last one takes the last line."""
        lines = shown(snapshot(), height=8, tasks=(row("a"), row("b")))
        assert [line.split()[0] for line in lines[-2:]] == ["a", "b"]

    def test_notes_leave_room(self) -> None:
        """A long diagnosis takes at most half of what is left."""
        lines = shown(snapshot(), "why " * 500, height=24, tasks=tuple(row(str(number)) for number in range(40)))
        assert len(lines) == 24
        assert lines.count("…") == 1
        assert sum("000001" in line for line in lines) > 5


HOSTILE = tuple(row(str(number), node=name, tar=name, gpu=name, stuck=name) for number, name in enumerate(NAMES))


@pytest.mark.parametrize("tasks", [(), (row(),), (row(), WIDE, STUCK), HOSTILE, (STUCK, WIDE) * 15])
@pytest.mark.parametrize("now", [snapshot(), BUSY, replace(BUSY, training="epoch 1")])
def test_nothing_leaves_the_screen(now: Snapshot, tasks: tuple[TaskRow, ...]) -> None:
    """No line is wider than the terminal and none is below it, at any size; no sign has a line end or a control."""
    board = Board(
        now=now, speed="1,000.00 audio-h at 310 audio-h/h, ETA 0:12:00", notes=[NAMES[2], "日本語" * 40], tasks=tasks
    )
    for width in (20, 37, 59, 60, 100, 300):
        for height in (1, 5, 9, 24):
            lines = texts(board, width, height)
            assert 0 < len(lines) <= height
            assert max(map(cell_len, lines)) <= width
            assert faults("\n".join(lines)) == []
            assert not any("\n" in line for line in lines)


@pytest.mark.parametrize("width", [8, 13, 60, 80])
@pytest.mark.parametrize("words", ["\u200d" + "x" * 99, "\u200d日本語の音声", "👩\u200d👩" * 20, "\u200d" * 9], ids=range(4))
def test_joiners(words: str, width: int) -> None:
    """Names may begin with joiners, which rich counts as the cells of their neighbours, or fails at."""
    board = Board(now=snapshot(excluded=(words,)), speed=words, notes=[words], tasks=[row(tar=words, stuck=words)])
    assert max(map(cell_len, texts(board, width, 24))) <= width


def test_long_names_cost_little() -> None:
    """The table is drawn each second: 4,000 signs of a tar's name, of which accents hide in others, take no second each."""
    before = time.process_time()
    board = Board(now=snapshot(), speed="", tasks=[row(str(number), tar="e\u0301a" * 1300) for number in range(20)])
    lines = texts(board, 100, 40)
    assert time.process_time() - before < 2  # 10 s where each sign is taken away by itself
    assert max(map(cell_len, lines)) <= 100


def test_a_narrow_terminal_has_the_bar_and_the_tars() -> None:
    """What matters most is there at 20 columns."""
    lines = shown(BUSY, width=20, height=16, tasks=(row(), STUCK))
    assert any(line.startswith(("━", "─")) for line in lines)
    assert ["000012" in lines[-2], "000001" in lines[-1]] == [True, True]


def test_terminal_without_unicode() -> None:
    """Bars and ellipses in ASCII."""
    lines = texts(Board(now=snapshot(bytes_done=2_000_000), speed="", tasks=[row(tar="x" * 300)]), 80, 20, ascii_only=True)
    assert all(line.isascii() for line in lines)
    assert "####" in lines[0]
    assert "~xxx" in lines[-1]


def test_names_are_no_markup() -> None:
    """A node or a reason with brackets is shown as it is."""
    assert any("n[1-2] (1)" in line for line in shown(snapshot(running={"n[1-2]": 1})))
    assert "note        [red]x[/red]" in shown(snapshot(), "[red]x[/red]")


def test_sample_of_the_documentation() -> None:
    """docs/cluster.md shows what the table looks like."""
    rows = [
        row("0001/3", tar="emilia-zh-000012", share=0.31, clips=20112, speed=3.2, progressed=NOW - 121),
        row("0001/5", gpu="1", tar="emilia-zh-000044", share=0.0, clips=0, speed=0.0, loading=True),
        row("0001/0", node="n2", tar="emilia-zh-000003", share=0.78, clips=31415, speed=214.0),
        row("0001/2", node="n2", gpu="1", tar="emilia-zh-000007", share=0.44, clips=29871, device=DeviceSeconds(8.0, 2.0)),
        *(row(f"0001/{number}", speed=330.0, clips=30000) for number in range(6, 14)),
    ]
    rows[0] = replace(rows[0], device=DeviceSeconds(2.0, 98.0))
    now = snapshot(
        tars=400, done=118, clips=3_540_127, errors=41, running={"n1": 4, "n2": 8}, pending=20, reasons={"Resources": 20},
        bytes_done=300, bytes_total=1000, device_seconds=DeviceSeconds(94.0, 5.0, 1.0), on_gpu=True,
    )  # fmt: skip
    board = Board(now=now, speed="4,918.20 audio-h at 3,410 audio-h/h, ETA 3:21:40", tasks=rows)
    sample = "\n".join(texts(board, 100, 13))
    assert f"```text\n{sample}\n```" in DOCS.read_text(encoding="utf-8"), sample
