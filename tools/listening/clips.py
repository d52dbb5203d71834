"""Random clips of a run, and their audio as the backend received it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.shared.command_names import called
from hpc.progress import TarState
from hpc.run import Run
from jobs.clip_group import Clip
from jobs.records import ErrorRecord, TokenRecord, decode_record
from jobs.spec import TokenizeSpec
from jobs.tar_format import TarDamage
from jobs.tar_source import tar_source

if TYPE_CHECKING:
    from audio_tokenizers.base import Waveform


__all__ = ["Pick", "choose_clips", "originals"]


@dataclass(frozen=True, slots=True)
class Pick:
    """A committed clip that became tokens."""

    state: TarState
    index: int
    """Among the clips of its tar, from 0."""
    record: TokenRecord


def choose_clips(states: Sequence[TarState], run: Run, clips: int, seed: int) -> list[Pick]:
    """Up to `clips` random clips with tokens, in list order: each tar is read once."""
    from tools.listening.decoded_audio import pick_clips

    picks: list[tuple[int, Pick]] = []
    for file, index in pick_clips([state.clips for state in states], seed):
        path = run.paths(states[file].name).committed
        try:
            with path.open("rb") as lines:
                record = decode_record(next(islice(lines, index, None), b"").rstrip(b"\n"))
        except msgspec.DecodeError as error:
            raise UsageError(
                f"{path}: line {index + 1} is no record ({error}): see {called('tools.check_progress')} --check-validity"
            ) from None
        if not isinstance(record, ErrorRecord):
            picks.append((file, Pick(states[file], index, record)))
        if len(picks) == clips:
            break
    return [pick for _, pick in sorted(picks, key=lambda item: (item[0], item[1].index))]


def originals(picks: Sequence[Pick], spec: TokenizeSpec) -> Iterator[tuple[Pick, Waveform | str]]:
    """Each clip's audio as the backend received it, or why it cannot be read. One pass over each tar."""
    import numpy as np

    from jobs.audio import resample
    from tools.common.rereading import Rereading

    for tar in dict.fromkeys(pick.state.tar for pick in picks):
        wanted = {pick.index: pick for pick in picks if pick.state.tar == tar}
        manifest = next(pick.state.manifest for pick in wanted.values())
        try:
            with Rereading.of(spec, manifest).open(tar_source(tar), skip_clips=min(wanted)) as reader:
                for clip in reader:
                    pick = wanted.get(clip.index)
                    is_there = clip.part is not None or clip.audio is not None
                    if pick is not None and is_there and clip.name == pick.record.audio_file:
                        del wanted[clip.index]
                        try:
                            blocks = resample(_heard(clip, spec), spec.sample_rate)
                            yield pick, np.concatenate(list(blocks))
                        except ClipError as error:
                            yield pick, f"its audio cannot be read now: {error}"
                    clip.close()
                    if not wanted:
                        break
        except (TarDamage, OSError, UsageError) as error:
            yield from ((pick, f"its tar cannot be read now: {error}") for pick in wanted.values())
        else:
            yield from ((pick, "its tar has another clip there now") for pick in wanted.values())


def _heard(clip: Clip, spec: TokenizeSpec) -> Iterator[tuple[Waveform, int]]:
    from jobs.audio import decode
    from jobs.channels import mixed
    from jobs.losses import Losses
    from jobs.parts import mixer_for

    if clip.part is not None:
        return mixed(clip.part.blocks(), mixer_for(clip, spec))
    assert clip.audio is not None
    return decode(clip.audio, mono=mixer_for(clip, spec), losses=Losses())
