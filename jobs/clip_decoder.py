"""Clips -> portions in the feed: decoding, resampling and cutting, in whichever thread calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import IO

import numpy as np

from audio_tokenizers.base import BackendInfo, Utterance, Waveform
from audio_tokenizers.errors import ClipError
from jobs.activities import Activities, Step
from jobs.audio import Fragment, FragmentCutter, decode, resample
from jobs.clip_journal import LONG_CLIP_SECONDS, JournalMismatchError, MemberSum, member_sum
from jobs.encoder import Encoder
from jobs.feed import Feed, Share
from jobs.pending import Pending, Portion
from jobs.spec import TokenizeSpec

__all__ = ["ClipDecoder"]

UNCOUNTED_BYTES = 256 << 20
"""70 minutes at 16 kHz."""


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
        """Put the clip's portions into the feed, as there is room, unless it is dropped meanwhile. Raises ClipError."""
        with self._activities.doing("decode", tar=pending.tar, clip=pending.clip.index) as step:
            self._hand_over(pending, step)

    def _hand_over(self, pending: Pending, step: Step) -> None:
        if pending.clip.audio is None:
            raise ClipError("decode", "stored as a sparse member, which tar readers restore differently: repack it")
        audio = pending.clip.audio
        if self._cutter is None:
            self._hand_over_whole(pending, audio, step)
            return
        samples, member = 0, pending.member

        def counted(waves: Iterator[Waveform]) -> Iterator[Waveform]:
            nonlocal samples
            for wave in waves:
                samples += len(wave)
                yield wave

        fragments = self._cutter.cut(counted(resample(self._decode(audio, step), self._spec.sample_rate)))
        for number, fragment in self._to_encode(pending, fragments):
            wave = fragment.wave
            member = member or self._member(pending, samples, step)
            self._check_length(len(wave))
            with step.waiting():
                admitted = self._feed.reserve(pending.share, wave.nbytes)
            if not admitted:
                return
            drops = fragment.drop_head, fragment.drop_tail
            clip_samples = samples if fragment.last else None
            self._feed.put(Portion(pending, wave, wave.nbytes, len(wave), number, *drops, clip_samples, member=member))

    def _member(self, pending: Pending, samples: int, step: Step) -> MemberSum | None:
        """What the bytes of a clip are known by, once it turns out to be long."""
        audio = pending.clip.audio
        return member_sum(audio, step.sign) if audio and samples > LONG_CLIP_SECONDS * self._spec.sample_rate else None

    def _to_encode(self, pending: Pending, fragments: Iterator[Fragment]) -> Iterator[tuple[int, Fragment]]:
        """The fragments that an earlier attempt has not left the codes of, with their numbers. Once one was refused only the
        last one follows: there will be no tokens, and hours would be encoded in vain, but damage at its end speaks first.
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

    def _decode(self, audio: IO[bytes], step: Step) -> Iterator[tuple[Waveform, int]]:
        return step.each(decode(audio, mono=self._info.mono, max_seconds=self._spec.longest_seconds))

    def _blocks_to_keep(self, share: Share, audio: IO[bytes], step: Step) -> Iterator[tuple[Waveform, int]]:
        """All blocks of a clip that is kept whole. Before more than UNCOUNTED_BYTES of it are in memory it is decoded to its
        end once, for nothing: if it is too long, that is where it shows.
        """
        size = 0
        blocks = self._decode(audio, step)
        for number, block in enumerate(blocks):
            size += block[0].nbytes
            if size > UNCOUNTED_BYTES:
                deque(takewhile(lambda _: self._feed.wants(share), blocks), maxlen=0)
                yield from islice(self._decode(audio, step), number, None)
                return
            yield block

    def _hand_over_whole(self, pending: Pending, audio: IO[bytes], step: Step) -> None:
        share, held = pending.share, 0
        waves: list[Waveform] = []
        sample_rate = 0
        for wave, sample_rate in self._blocks_to_keep(share, audio, step):  # noqa: B007 (one rate for all of them)
            with step.waiting():
                admitted = self._feed.reserve(share, wave.nbytes)
            if not admitted:
                return
            held += wave.nbytes
            waves.append(wave)
        step.sign(sum(map(len, waves)) / sample_rate)
        heard = self._encoder.resample(waves[0] if len(waves) == 1 else np.concatenate(waves), sample_rate)
        waves.clear()
        self._feed.hold(share, heard.nbytes - held)
        self._check_length(len(heard))
        text = pending.clip.annotations.text
        if self._info.needs_text and not (text and text.strip()):
            raise ClipError("no_text", "no transcript: expected a .json with `text`, a .txt or a .lab of the same name")
        self._feed.put(Portion(pending, Utterance(heard, text), heard.nbytes, len(heard), clip_samples=len(heard)))

    def _check_length(self, samples: int) -> None:
        if samples < self._spec.min_samples:
            message = f"{samples} samples at {self._spec.sample_rate} Hz, expected at least {self._spec.min_samples}"
            raise ClipError("too_short", message)
