"""Pure: the messages of tools.pack about its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted, size_words
from jobs.plain_text import plain

if TYPE_CHECKING:
    from tools.packing.pairs import LeftOut, Source
    from tools.packing.shards import Shard
    from tools.packing.tar_folder import TarFolder
from tools.packing.pairs import LeftOut, Source, describe_found
from tools.packing.shards import Shard
from tools.packing.tar_folder import TarFolder

__all__ = ["bad_lines", "no_pairs", "summary"]

EXAMPLES = 3
LINES_NAMED = 20


def summary(folder: TarFolder, shards: Sequence[Shard], left_out: Sequence[LeftOut]) -> str:
    """Clips, hours, tars, and what was left out."""
    tars = [shard for shard in shards if shard.tar]
    hours = sum(shard.audio_seconds for shard in shards) / 3600
    size = sum(shard.bytes for shard in shards)
    pairs = sum(shard.pairs for shard in shards)
    lines = [
        f"{counted(pairs, 'clip')}, {hours:,.2f} hours of audio, in {counted(len(tars), 'tar')}, {size_words(size)} in all"
    ]
    if segments := sum(shard.segments for shard in shards):
        segmented = sum(shard.segmented for shard in shards)
        lines.append(
            f"{counted(segmented, 'clip')} of these {'is a recording' if segmented == 1 else 'are recordings'} of "
            f"{counted(segments, 'segment')}: `{called('hpc.submit')} --segments` makes each of them a clip"
        )
    if faulty := sum(shard.faulty for shard in shards):
        lines.append(
            f"{counted(faulty, 'clip')} of these: parts of their annotations are no text or no JSON: `sidecar_errors`"
        )
    for reason, number in Counter(item.reason for item in left_out).most_common():
        names = [plain(item.name) for item in left_out if item.reason == reason][:EXAMPLES]
        lines.append(
            f"Left out, {reason.replace('_', ' ')}: {number:,} ({', '.join(names)}{', ...' if number > EXAMPLES else ''})"
        )
    if left_out:
        lines.append(f"All that was left out: {folder.left_out_file}")
    lines.append(f"The list of tars: {folder.list_file}")
    return "\n".join(lines)


def no_pairs(source: Source, given: str, left_out: Sequence[LeftOut]) -> UsageError:
    """The error of a source without any pair."""
    reasons = Counter(item.reason.replace("_", " ") for item in left_out)
    found = f"no pair among {describe_found(source.found)}" if source.found else "no file at all"
    words = f"; left out: {', '.join(f'{number:,} {reason}' for reason, number in reasons.most_common())}" if reasons else ""
    return UsageError(
        f"{given}: expected audio with its text beside it (.lab, .txt, .json, .srt or .vtt of the same name, or one of the "
        f"layouts of docs/data.md), found {found}{words}. Audio alone is taken with --without-text"
    )


def bad_lines(given: str, left_out: Sequence[LeftOut]) -> str | None:
    """A warning that lines of a manifest are missing, or None: a truncated manifest would lose clips silently."""
    bad = [item for item in left_out if item.reason == "unreadable_line"]
    if not bad:
        return None
    numbers = ", ".join(item.name.removeprefix("line ") for item in bad[:LINES_NAMED])
    more = f" and {len(bad) - LINES_NAMED:,} more" if len(bad) > LINES_NAMED else ""
    return (
        f"{given}: {counted(len(bad), 'line')} could not be read, and the clips there are missing: {numbers}{more}. The "
        f"first: {bad[0].detail}\nfix the manifest and pack it into another --output-dir; was it cut?"
    )
