"""What failed, as text. Pure, except that it reads the ends of logs."""

from __future__ import annotations

from collections import Counter

from hpc.failure_groups import Failure, log_tail
from jobs.plain_text import plain, plain_lines
from tools.checking.failed import Found

__all__ = ["render", "render_damaged"]

NAMES_SHOWN = 5


def render(found: Found) -> list[str]:
    """Everything but the commands."""
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
    """Clips whose tokens lack part of their audio. They do not count as failures."""
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
