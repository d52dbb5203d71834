"""Pure: an Agreement as a table."""

from __future__ import annotations

from audio_tokenizers.shared.wording import counted
from jobs.plain_text import plain
from tools.comparing.agreement import LENGTHS, Agreement

__all__ = ["render"]


def render(found: Agreement, refused: int, faults: list[str]) -> str:
    """The shares, what differs first, and in how many clips.

    `refused`: clips that both engines refuse in the same way. `faults`: clips that only one refuses.
    """
    lengths = [name for name, _ in LENGTHS if name in found.clips]
    rows = [["", *lengths, "all"]]
    rows.append(["clips", *(f"{found.clips[name]:,}" for name in lengths), f"{sum(found.clips.values()):,}"])
    columns = (*lengths, None)
    rows += [[codebook, *(_percent(found.share(codebook, one)) for one in columns)] for codebook in found.codebooks]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    clips = sum(found.clips.values())
    equal, total = sum(found.equal.values()), sum(found.total.values())
    lines.append(
        f"{equal:,} of {counted(total, 'token')} agree; {clips - found.differing:,} of {counted(clips, 'clip')} agree in all"
    )
    if refused:
        lines.append(f"{counted(refused, 'more clip')} would be error records of the same kind with either engine")
    if found.first is not None:
        lines.append(f"first difference: {plain(str(found.first))}")
    lines += [f"only one engine refuses {plain(fault)}" for fault in faults[:5]]
    if len(faults) > 5:
        lines.append(f"and {len(faults) - 5:,} more clips that only one engine refuses")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    """Never 100 % where a token differs."""
    if share is None:
        return "-"
    return f"{100 * share:.4f}%" if share in (0.0, 1.0) else f"{min(max(100 * share, 0.0001), 99.9999):.4f}%"
