"""What benchmarks.gpu has found, as one table and one plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.plots import bars

__all__ = ["Record", "facts_of", "plot", "share_of", "table"]

Record = Mapping[str, Any]
HEADER = (
    "backend",
    "",
    "x real time",
    "of bare loop",
    "busy",
    "fill",
    "speedup",
    "tokens equal",
    "bits kept",
    "GB GPU",
    "GB host",
)
NOTHING = "-"


def facts_of(records: Iterable[Record]) -> dict[str, dict[str, dict[str, Record]]]:
    """Backend -> precision -> kind -> record; of agreement the codebook where the fewest tokens are equal."""
    found: dict[str, dict[str, dict[str, Record]]] = {}
    for record in records:
        if "backend" not in record or "precision" not in record:
            continue
        kinds = found.setdefault(record["backend"], {}).setdefault(record["precision"], {})
        before = kinds.get(record["kind"])
        if record["kind"] != "agreement" or before is None or share_of(record) < share_of(before):
            kinds[record["kind"]] = record
    return found


def share_of(record: Record) -> float:
    """Of tokens that are equal."""
    return float(record["equal"]) / max(1, int(record["tokens"]))


def table(results: Mapping[str, Any]) -> str:
    """Text with one aligned table: a row per backend and precision, then what else there is, part by part."""
    records = [record for part in results["parts"] for record in part["records"]]
    rows: list[Sequence[str]] = [HEADER]
    for backend, precisions in facts_of(records).items():
        usual = precisions.get("fp32", {}).get("usual")
        for precision, kinds in precisions.items():
            rows.append(_row(backend, precision, kinds, usual))
            for kind, word in (("fragments", "30 s fragments, bare"), ("usual", "usual way"), ("other", "")):
                if kind in kinds:
                    found = kinds[kind]
                    rows.append(_only_rate(backend, word or str(found["what"]), found, usual))
    for record in records:
        if record["kind"] == "lanes":
            rows.append(_only_rate(record["backend"], f"{record['lanes']} lanes, bare", record, None))
        elif record["kind"] == "threads":
            rows.append(_only_rate("decoding", f"{record['format']}, {record['threads']} threads", record, None))
    rows += [("tests", "", *_words_of_tests(record)) for record in records if record["kind"] == "tests"]
    lines = [*_head(results), "", *_aligned(rows)]
    for part in results["parts"]:
        lines += [f"{part['part']}: {word}" for word in _troubles(part)]
    return "\n".join(lines) + "\n"


def _head(results: Mapping[str, Any]) -> list[str]:
    machine = next((r for part in results["parts"] for r in part["records"] if r["kind"] == "machine"), None)
    if machine is None:
        return ["machine unknown"]
    words = f"{machine['device']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}"
    return [
        f"{words}, transformers {machine['transformers']}{'; REHEARSAL with tiny models' if results['rehearsal'] else ''}"
    ]


def _row(backend: str, precision: str, kinds: Mapping[str, Record], usual: Record | None) -> list[str]:
    pipeline, bare = kinds.get("pipeline"), kinds.get("bare")
    company, worst = kinds.get("company"), kinds.get("agreement")
    words = [backend, precision]
    words.append(f"{pipeline['rate']:,.1f}" if pipeline else NOTHING)
    words.append(f"{pipeline['rate'] / bare['rate']:.2f}" if pipeline and bare else NOTHING)
    words.append(f"{pipeline['busy']:.2f}" if pipeline else NOTHING)
    words.append(f"{pipeline['fill']:.2f}" if pipeline and pipeline["fill"] is not None else NOTHING)
    words.append(f"{pipeline['rate'] / usual['rate']:.1f}" if pipeline and usual else NOTHING)
    words.append(f"{share_of(worst):.3%}" if worst else NOTHING)
    words.append(f"{company['same']}/{company['clips']}" if company and company["clips"] else NOTHING)
    words.append(f"{pipeline['gpu_bytes'] / 1e9:.1f}" if pipeline and "gpu_bytes" in pipeline else NOTHING)
    words.append(f"{pipeline['host_bytes'] / 1e9:.1f}" if pipeline else NOTHING)
    return words


def _only_rate(backend: str, word: str, found: Record, usual: Record | None) -> list[str]:
    against = f"{found['rate'] / usual['rate']:.1f}" if usual else NOTHING
    return [backend, word, f"{found['rate']:,.1f}", *[NOTHING] * 3, against, *[NOTHING] * 4]


def _words_of_tests(record: Record) -> list[str]:
    return [str(record["summary"])]


def _troubles(part: Record) -> list[str]:
    found = [f"left out {record['what']}: {record['why']}" for record in part["records"] if record["kind"] == "skipped"]
    found += [f"FAILED {record['what']}" for record in part["records"] if record["kind"] in ("error", "failed_test")]
    return found if part["status"] == "done" else [*found, str(part["status"]).upper()]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns; a row that is shorter than the others ends in text of any length."""
    whole = [row for row in rows if len(row) == len(HEADER)]
    widths = [max(len(row[column]) for row in whole) for column in range(len(HEADER))]
    lines = []
    for row in rows:
        left = [word.ljust(width) for word, width in zip(row[:2], widths, strict=False)]
        right = [word.rjust(width) for word, width in zip(row[2:], widths[2:], strict=False)] if row in whole else row[2:]
        lines.append("  ".join([*left, *right]).rstrip())
    return lines


def plot(results: Mapping[str, Any]) -> str | None:
    """Bars by backend: each precision through the pipeline, the bare loop, the usual way. None if nothing was measured."""
    groups: dict[str, dict[str, float]] = {}
    for backend, precisions in facts_of(record for part in results["parts"] for record in part["records"]).items():
        found: dict[str, float] = {}
        for precision, kinds in precisions.items():
            for kind, word in (("pipeline", precision), ("usual", "usual way"), ("other", "others")):
                if kind in kinds and kinds[kind]["rate"] > 0:
                    found[word] = kinds[kind]["rate"]
        if found:
            groups[backend] = found
    return bars("Seconds of audio per second", "log scale", groups) if groups else None
