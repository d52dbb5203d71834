"""The plots of docs/performance.md, from stored results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.gpu_table import facts_of
from benchmarks.plots import bars, lines
from benchmarks.sweep import FORMATS

__all__ = ["draw", "gpu_records"]

LENGTHS = {0.5: "0.5 s", 2: "2 s", 8: "8 s", 30: "30 s", 120: "2 min", 600: "10 min", 3600: "1 h", 10800: "3 h"}
Results = Mapping[str, Any]


def gpu_records(gpu: Results | None, kind: str | None = None) -> list[Mapping[str, Any]]:
    """All that benchmarks.gpu found, or what it found of one kind."""
    records = [record for part in gpu["parts"] for record in part["records"]] if gpu else []
    return [record for record in records if kind is None or record["kind"] == kind]


def draw(cpu: Results, gpu: Results | None) -> dict[str, str]:
    """Name -> SVG; that of GPUs only where one was measured, and decode threads on the cores beside it then."""
    threads = gpu_records(gpu, "threads") or cpu["threads"]
    found = {
        "threads": lines(
            "Decode threads",
            "threads",
            "audio s per s",
            {name: [(row["threads"], row["rate"]) for row in threads if row["format"] == name] for name in FORMATS},
            ticks={row["threads"]: str(row["threads"]) for row in threads},
        ),
        "lanes": lines(
            "Padding and empty lanes",
            "lanes",
            "% of the device's work",
            {
                name: [(r["lanes"], 100 * (r["padding"] + r["empty"])) for r in cpu["lanes"] if r["tars"] == name]
                for name in dict.fromkeys(row["tars"] for row in cpu["lanes"])
            },
            log_x=True,
            ticks={row["lanes"]: str(row["lanes"]) for row in cpu["lanes"]},
        ),
        "lengths": lines(
            "Length of clips",
            "length",
            "audio s per CPU s",
            {"FLAC": [(row["seconds"], row["per_cpu_second"]) for row in cpu["lengths"]]},
            log_x=True,
            ticks={row["seconds"]: LENGTHS.get(row["seconds"], f"{row['seconds']:g} s") for row in cpu["lengths"]},
        ),
        "counts": lines(
            "Number of clips in a tar",
            "clips of 1 s",
            "audio s per CPU s",
            {"FLAC": [(row["clips"], row["per_cpu_second"]) for row in cpu["counts"]]},
            log_x=True,
        ),
    }
    groups: dict[str, dict[str, float]] = {}
    for name, facts in facts_of(gpu_records(gpu)).items():
        speeds = {kind: kinds["pipeline"]["rate"] for kind, kinds in facts.items() if "pipeline" in kinds}
        usual = facts.get("fp32", {}).get("usual")
        if speeds:
            groups[name] = speeds | ({"usual way": usual["rate"]} if usual else {})
    if groups:
        found["gpu"] = bars("Seconds of audio per second", "log scale", groups)
    return found
