"""Clips -> portions in the feed: decodes, resamples and cuts in the calling thread."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile

import numpy as np

from audio_tokenizers.base import BackendInfo, Waveform
from audio_tokenizers.errors import ClipError
from jobs.activities import Activities, Step
from jobs.audio import Fragment, FragmentCutter, decode, resample
from jobs.channels import Mixer, mixed
from jobs.clip_group import Clip
from jobs.clip_journal import LONG_CLIP_SECONDS, JournalMismatchError, MemberSum, member_sum
from jobs.damage import Damage, judge
from jobs.encoder import Encoder
from jobs.feed import Feed
from jobs.losses import Losses
from jobs.parts import mixer_for
from jobs.pending import Pending, Portion
from jobs.spec import TokenizeSpec

__all__ = ["ClipDecoder"]

UNCOUNTED_BYTES = 256 << 20
"""70 minutes at 16 kHz."""


@dataclass(slots=True)
class _Decoded:
    """The results of decoding a clip, complete once its blocks have ended."""

    mixer: Mixer
    samples: int = 0
    """At the file's rate."""
    sample_rate: int = 1
    """The file's, in Hz."""
    losses: Losses = field(default_factory=Losses)

    @property
    def seconds(self) -> float:
        """Of audio."""
        return self.samples / self.sample_rate


class ClipDecoder:
    """Decodes one clip per call; several threads may share it."""

    def __init__(
        self, spec: TokenizeSpec, info: BackendInfo, encoder: Encoder, feed: Feed[Portion], activities: Activities
    ) -> None:
        self._spec = spec
        self._info = info
        self._encoder = encoder
        self._feed = feed
        self._activities = activities
        self._cutter: FragmentCutter | None = None
        if spec.max_tokens_per_fragment is not None:
            self._cutter = FragmentCutter(
                spec.max_tokens_per_fragment, spec.num_tokens_overlap, spec.hop_length, spec.min_samples
            )

    def hand_over(self, pending: Pending) -> None:
        """Put the clip's portions into the feed as there is room, until the clip is dropped. Raises ClipError."""
        with self._activities.doing("decode", tar=pending.tar, clip=pending.clip.index) as step:
            self._hand_over(pending, step)

    def _hand_over(self, pending: Pending, step: Step) -> None:
        if pending.clip.fault is not None:
            raise pending.clip.fault
        if self._cutter is None:
            self._hand_over_whole(pending, step)
            return
        samples, member = 0, pending.member
        decoded = _Decoded(mixer_for(pending.clip, self._spec))

        def counted(waves: Iterator[Waveform]) -> Iterator[Waveform]:
            nonlocal samples
            for wave in waves:
                samples += len(wave)
                yield wave

        fragments = self._cutter.cut(counted(resample(self._decode(pending, step, decoded), self._spec.sample_rate)))
        for number, fragment in self._to_encode(pending, fragments):
            wave = fragment.wave
            damage = self._judge(decoded) if fragment.last else None
            member = member or self._member(pending, samples, step)
            self._check_length(len(wave))
            with step.waiting():
                admitted = self._feed.reserve(pending.share, wave.nbytes)
            if not admitted:
                return
            drops = fragment.drop_head, fragment.drop_tail
            clip_samples = samples if fragment.last else None
            notes = decoded.mixer.notes if fragment.last else ()
            told = _read_share(pending.clip) if member is not None or pending.clip.part is not None else 0.0
            self._feed.put(
                Portion(pending, wave, wave.nbytes, len(wave), number, *drops, clip_samples, damage, notes, member, told)
            )

    def _member(self, pending: Pending, samples: int, step: Step) -> MemberSum | None:
        """Identifies the bytes of a clip that turned out to be long."""
        audio = pending.clip.member_audio
        return member_sum(audio, step.sign) if audio and samples > LONG_CLIP_SECONDS * self._spec.sample_rate else None

    def _to_encode(self, pending: Pending, fragments: Iterator[Fragment]) -> Iterator[tuple[int, Fragment]]:
        """Numbered fragments whose codes no earlier attempt left. After a refused one only the last one follows: there will
        be no tokens, so encoding the rest would be in vain, but damage at the clip's end takes precedence as its error.
        """
        following = pending.resumed_at
        for number, fragment in enumerate(fragments):
            if number < pending.resumed_at and fragment.last:
                raise JournalMismatchError(f"{pending.clip.name}: shorter than an earlier attempt found it")
            if number >= pending.resumed_at and (fragment.last or not pending.refused):
                yield following, fragment
                following += 1
            elif not self._feed.wants(pending.share):
                return

    def _decode(self, pending: Pending, step: Step, decoded: _Decoded) -> Iterator[tuple[Waveform, int]]:
        clip, longest = pending.clip, self._spec.longest_seconds
        if clip.part is not None:
            blocks = mixed(
                clip.part.blocks(step, longest, lambda: self._feed.wants(pending.share), decoded.losses), decoded.mixer
            )
        else:
            assert clip.audio is not None, "a clip that is to be decoded has audio, a part or a fault"
            blocks = step.each(decode(clip.audio, mono=decoded.mixer, max_seconds=longest, losses=decoded.losses))
        for wave, rate in blocks:
            decoded.samples, decoded.sample_rate = decoded.samples + len(wave), rate
            yield wave, rate

    def _judge(self, decoded: _Decoded) -> Damage | None:
        """What is missing of a completely decoded clip. Raises ClipError if it is too much."""
        found = judge(decoded.losses, decoded.seconds, self._spec.max_damage)
        if isinstance(found, ClipError):
            raise found
        return found

    def _blocks_to_keep(self, pending: Pending, step: Step, decoded: _Decoded) -> Iterator[tuple[Waveform, int]]:
        """All blocks of a clip that is kept whole. Before more than UNCOUNTED_BYTES of it are in memory, it is decoded once
        to its end without being kept, which shows whether it is too long or lacks too much.
        """
        size = 0
        blocks = self._decode(pending, step, decoded)
        for number, block in enumerate(blocks):
            size += block[0].nbytes
            if size > UNCOUNTED_BYTES and pending.clip.part is None:  # a part is decoded once
                deque(takewhile(lambda _: self._feed.wants(pending.share), blocks), maxlen=0)
                if self._feed.wants(pending.share):
                    self._judge(decoded)
                again = _Decoded(mixer_for(pending.clip, self._spec))
                yield from islice(self._decode(pending, step, again), number, None)
                return
            yield block

    def _hand_over_whole(self, pending: Pending, step: Step) -> None:
        share, held = pending.share, 0
        waves: list[Waveform] = []
        decoded = _Decoded(mixer_for(pending.clip, self._spec))
        for wave, _ in self._blocks_to_keep(pending, step, decoded):
            with step.waiting():
                admitted = self._feed.reserve(share, wave.nbytes)
            if not admitted:
                return
            held += wave.nbytes
            waves.append(wave)
        damage = self._judge(decoded)
        step.sign(decoded.seconds)
        text = pending.clip.annotations.text
        utterance = self._encoder.hear(waves[0] if len(waves) == 1 else np.concatenate(waves), decoded.sample_rate, text)
        waves.clear()
        size, samples = utterance.nbytes, len(utterance.wave)
        self._feed.hold(share, size - held)
        self._check_length(samples)
        if self._info.needs_text and not (text and text.strip()):
            raise ClipError("no_text", "no transcript: expected a .json with `text`, a .txt or a .lab of the same name")
        notes = decoded.mixer.notes
        self._feed.put(Portion(pending, utterance, size, samples, clip_samples=samples, damage=damage, notes=notes))

    def _check_length(self, samples: int) -> None:
        if samples < self._spec.min_samples:
            message = f"{samples} samples at {self._spec.sample_rate} Hz, expected at least {self._spec.min_samples}"
            raise ClipError("too_short", message)


def _read_share(clip: Clip) -> float:
    """Share of its member's bytes before the position of its decoder."""
    audio = clip.member_audio
    if audio is None or audio.closed:
        return 1.0
    size = len(audio.getbuffer()) if isinstance(audio, io.BytesIO) else os.fstat(audio.fileno()).st_size
    return min(1.0, audio.tell() / size) if size else 1.0
