"""docs/performance.md, its plots, and the lines of the README about speed, from stored results. Nothing is measured here.

python -m benchmarks.sweep                                            # results/cpu.json
python -m benchmarks.gpu --out /tmp/gpu && cp /tmp/gpu/results.json benchmarks/results/gpu.json
python -m benchmarks.page
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_table import facts_of, share_of
from benchmarks.models import CASES
from benchmarks.page_plots import Results, draw, gpu_records
from benchmarks.sweep import FORMATS, RESULTS
from jobs.commands import command_parser

__all__ = ["BEGIN", "END", "files", "load", "with_block"]

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- python -m benchmarks.page -->\n", "<!-- end -->\n"
NOT_MEASURED = "not measured yet"
GPU_RATES = (500, 1000, 2000, 5000)
WIDTH = 125


def load(folder: Path = RESULTS) -> tuple[Results, Results | None]:
    """What benchmarks.sweep stored, and what benchmarks.gpu did, if anybody had one."""
    cpu: Results = json.loads((folder / "cpu.json").read_text())
    gpu = folder / "gpu.json"
    found: Results | None = json.loads(gpu.read_text()) if gpu.exists() else None
    if found is not None and found["rehearsal"]:
        raise SystemExit(f"{gpu}: a rehearsal with tiny models: its figures mean nothing")
    return cpu, found


def files(cpu: Results, gpu: Results | None) -> dict[str, str]:
    """Path below the repository -> text, of all but the README."""
    plots = draw(cpu, gpu)
    return {"docs/performance.md": _page(cpu, gpu), **{f"docs/performance-{name}.svg": svg for name, svg in plots.items()}}


def with_block(readme: str, cpu: Results, gpu: Results | None) -> str:
    """The README with its lines about speed. Raises ValueError if it has no place for them."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md: expected {BEGIN!r} and {END!r}")
    return head + BEGIN + "\n".join(_three_lines(cpu, gpu, more=" (docs/performance.md)")) + "\n" + END + tail


def _machine(gpu: Results) -> Mapping[str, Any]:
    return gpu_records(gpu, "machine")[0]


def _rates(cpu: Results) -> dict[str, float]:
    """Format -> seconds of audio per second of CPU."""
    return {row["format"]: float(row["per_cpu_second"]) for row in cpu["threads"] if row["threads"] == 1}


def _waste(cpu: Results, lanes: int) -> dict[str, float]:
    return {row["tars"]: row["padding"] + row["empty"] for row in cpu["lanes"] if row["lanes"] == lanes}


def _three_lines(cpu: Results, gpu: Results | None, *, more: str = "") -> list[str]:
    """`more`: where there is more about it, for who reads them elsewhere."""
    rates = _rates(cpu)
    decoded = ", ".join(f"{_round(rate)} of {name}" for name, rate in rates.items())
    cores = ", ".join(f"{1000 / rate:.1f}" for rate in rates.values())
    large, small, _ = _waste(cpu, 16).values()
    speeds = facts_of(gpu_records(gpu)).get("higgs", {}).get("fp32", {})
    on_gpu = f"On a GPU: {NOT_MEASURED}. `python -m benchmarks.gpu --out /tmp/gpu` does it, in under nine minutes."
    if gpu is not None and "pipeline" in speeds:
        rate = speeds["pipeline"]["rate"]
        usual = f", {rate / speeds['usual']['rate']:.0f} times the speed of one clip at a time" if "usual" in speeds else ""
        on_gpu = (
            f"`higgs` on one {_machine(gpu)['device']}: {rate:,.0f} seconds of audio per second, {1000 / rate:.2f} GPU "
            f"hours for 1,000 hours{usual}."
        )
    return [
        *_item(
            f"A core reads, decodes, resamples and writes, in seconds of audio per second, {decoded}; so a GPU that "
            f"encodes 1,000 wants {cores} cores."
        ),
        *_item(
            f"With 16 lanes {large:.0%} of the GPU's work is padding or empty lanes in tars of 10,000 clips around 6 s, "
            f"{small:.0%} in tars of 300{more}."
        ),
        *_item(on_gpu),
    ]


def _prose(words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, break_long_words=False, break_on_hyphens=False)


def _item(words: str) -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _round(rate: float) -> str:
    return f"{float(f'{rate:.2g}'):,.0f}"


def _table(header: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |".replace("  ", " ") for row in (header, ["---"] * len(header), *rows)]


def _page(cpu: Results, gpu: Results | None) -> str:
    machine = cpu["machine"]
    parts = [
        "# Performance",
        "",
        "Made by `python -m benchmarks.page` from `benchmarks/results`; do not edit.",
        "",
        *_three_lines(cpu, gpu),
        "",
        *_prose(
            f"The CPU figures are those of `python -m benchmarks.sweep` on {machine['cores']} shared cores of a virtual "
            f"{machine['machine']} machine with other work on it, Python {machine['python']}, libsndfile "
            f"{machine['libsndfile']}. Where it says seconds of CPU, others disturb little; figures by the clock are the "
            "best of eight, and may be too low. The model is one that costs nothing and has the rates, fragments and "
            "lines of `higgs`, so that what is left is all that a worker does beside one."
        ),
        *_section("On a GPU", _gpu(gpu)),
        *_section("How many cores a GPU wants", _cores(cpu, gpu)),
        *_section("What 1,000 hours of audio cost", _cost(cpu, gpu)),
        *_section("Decode threads and workers", _threads(cpu, gpu)),
        *_section("Lanes", _lanes(gpu)),
        *_section("Length of clips", _lengths()),
        *_section("Number of clips", _counts()),
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, body: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *body]


def _lengths() -> list[str]:
    return [
        *_prose(
            "Seconds of audio per second of CPU, FLAC, one decode thread. Short clips cost their header, their tar member "
            "and their line. Long ones are cut into fragments as they are decoded, and memory does not grow with them "
            "(benchmarks/README.md, `long_audio`)."
        ),
        "",
        "![Speed by length of clips](performance-lengths.svg)",
    ]


def _counts() -> list[str]:
    return [
        *_prose(
            "The same of one tar with clips of 1 s. What begins and ends a tar is spread over its clips; nothing grows with "
            "their number."
        ),
        "",
        "![Speed by number of clips](performance-counts.svg)",
    ]


def _gpu(gpu: Results | None) -> list[str]:
    facts = facts_of(gpu_records(gpu))
    kinds = list(
        dict.fromkeys([kind for found in facts.values() for kind in found if "pipeline" in found[kind]] or ["fp32"])
    )
    header = ["backend", *kinds, "of bare loop", "device busy", "lanes full", "x usual way", "tokens equal"]
    rows = [_gpu_row(name, facts.get(name, {}), kinds) for name in CASES]
    where = ""
    if gpu is not None:
        machine = _machine(gpu)
        where = f"{machine['device']}, {machine['cores']} cores, torch {machine['torch']}. "
    note = _prose(
        f"{where}Seconds of audio per second through the whole pipeline, clips of 1 to 15 s as FLAC. Of bare loop: against "
        "the device over decoded clips and nothing else. Usual way: tarfile, soundfile, upstream's own call and JSON, one "
        "clip at a time, with the same weights. Tokens equal: to upstream's, in the codebook where the fewest are; weights "
        "are random, `fp32`."
    )
    picture = ["", "![Speed on a GPU](performance-gpu.svg)"] if "pipeline" in {r["kind"] for r in gpu_records(gpu)} else []
    return [*_table(header, rows), "", *note, *picture]


def _gpu_row(name: str, facts: Mapping[str, Mapping[str, Any]], kinds: Sequence[str]) -> list[str]:
    plain = facts.get("fp32", {})
    if not any("pipeline" in facts.get(kind, {}) for kind in kinds):
        return [f"`{name}`", NOT_MEASURED, *[""] * (len(kinds) + 4)]
    words = [f"{facts[kind]['pipeline']['rate']:,.0f}" if "pipeline" in facts.get(kind, {}) else "" for kind in kinds]
    pipeline, bare, usual = plain.get("pipeline"), plain.get("bare"), plain.get("usual")
    words.append(f"{pipeline['rate'] / bare['rate']:.2f}" if pipeline and bare else "")
    words.append(f"{pipeline['busy']:.0%}" if pipeline else "")
    words.append(f"{pipeline['fill']:.0%}" if pipeline and pipeline["fill"] is not None else "")
    words.append(f"{pipeline['rate'] / usual['rate']:.1f}" if pipeline and usual else "")
    words.append(f"{share_of(plain['agreement']):.3%}" if "agreement" in plain else "")
    return [f"`{name}`", *words]


def _cores(cpu: Results, gpu: Results | None) -> list[str]:
    higgs = facts_of(gpu_records(gpu)).get("higgs", {}).get("fp32", {}).get("pipeline")
    rates = {f"{rate:,} s/s": float(rate) for rate in GPU_RATES}
    if gpu is not None and higgs is not None:
        rates[f"`higgs` on {_machine(gpu)['device']}, {higgs['rate']:,.0f} s/s"] = higgs["rate"]
    header = ["clips of 8 s", "audio s per CPU s", *[f"a GPU of {name}" for name in rates]]
    rows = [
        [FORMATS[name], f"{speed:,.0f}", *[f"{rate / speed:.1f}" for rate in rates.values()]]
        for name, speed in _rates(cpu).items()
    ]
    return [
        *_table(header, rows),
        "",
        *_prose(
            "Reading, decoding, resampling to 24 kHz, lines and all threads between them, in proportion. A GPU with fewer "
            "cores waits for audio."
        ),
    ]


def _cost(cpu: Results, gpu: Results | None) -> list[str]:
    rows = [[f"cores, {FORMATS[name]}", f"{1000 / rate:.2f} core hours"] for name, rate in _rates(cpu).items()]
    facts = facts_of(gpu_records(gpu))
    for name in CASES:
        found = {kind: kinds["pipeline"]["rate"] for kind, kinds in facts.get(name, {}).items() if "pipeline" in kinds}
        words = ", ".join(f"{1000 / rate:.2f} GPU hours in {kind}" for kind, rate in found.items())
        rows.append([f"GPU, `{name}`", words or NOT_MEASURED])
    return [*_table(["what", "per 1,000 hours of audio"], rows), "", "Times what an hour costs where you are."]


def _threads(cpu: Results, gpu: Results | None) -> list[str]:
    shared = f"{cpu['machine']['cores']} shared cores"
    beside = gpu is not None and gpu_records(gpu, "threads")
    where = f"the {_machine(gpu)['cores']} cores beside the GPU" if gpu is not None and beside else shared
    workers = [[str(row["workers"]), f"{row['rate']:,.0f}"] for row in cpu["workers"]]
    return [
        f"Seconds of audio per second by the clock, one worker, clips of 8 s, on {where}:",
        "",
        "![Speed by decode threads](performance-threads.svg)",
        "",
        f"Workers side by side, FLAC, one decode thread each, on {shared}:",
        "",
        *_table(["workers", "audio s per s"], workers),
    ]


def _lanes(gpu: Results | None) -> list[str]:
    speeds = ", ".join(f"{row['lanes']} lanes {row['rate']:,.0f}" for row in gpu_records(gpu, "lanes"))
    return [
        *_prose(
            "More lanes keep a device busier, and more of them stay empty. Padding and empty lanes together, in virtual "
            "time (`python -m benchmarks.fill`):"
        ),
        "",
        "![Waste by lanes](performance-lanes.svg)",
        "",
        f"`higgs`, seconds of audio per second, with nothing but the device at work: {speeds or NOT_MEASURED}.",
    ]


def main() -> int:
    cpu, gpu = load()
    for name, text in files(cpu, gpu).items():
        (ROOT / name).write_text(text)
    readme = ROOT / "README.md"
    readme.write_text(with_block(readme.read_text(), cpu, gpu))
    return 0


if __name__ == "__main__":
    command_parser(__doc__).parse_args()  # a word that it does not know begins nothing
    sys.exit(main())
