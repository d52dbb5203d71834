"""A loaded combination: each part gets whole clips from its own resampler, in batches that it declares exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from audio_tokenizers.base import (
    Audio,
    BackendInfo,
    ClipBackend,
    LaneShape,
    Utterance,
    Values,
    Waveform,
    lanes_of_clips,
)
from audio_tokenizers.combined.parts import exact_batches, leader, record_keys
from audio_tokenizers.errors import ClipError, InfrastructureError

__all__ = ["Combined"]


class Combined:
    """Several ClipBackends on one device. `encode_lanes` is for where one of them has lanes."""

    def __init__(self, info: BackendInfo, parts: Sequence[ClipBackend]) -> None:
        self.info = info
        self.parts = tuple(parts)
        infos = [part.info for part in parts]
        self._keys = record_keys(infos)
        self._leader = leader(infos)

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """The audio of the leading part. `encode_clips` needs that of every part: use audio_tokenizers.base.hear."""
        return self.parts[self._leader].resample(wave, sample_rate)

    def resample_by_part(self, wave: Waveform, sample_rate: int) -> tuple[Audio, tuple[Audio, ...]]:
        """See ManyParts. Parts whose attribute `resampler` is equal share one array."""
        heard: dict[object, Audio] = {}
        by_part = []
        for number, part in enumerate(self.parts):
            resampler = getattr(part, "resampler", number)
            if resampler not in heard:
                heard[resampler] = part.resample(wave, sample_rate)
            by_part.append(heard[resampler])
        return by_part[self._leader], tuple(by_part)

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        """For each clip the keys of all parts, in their order.

        Raises ClipError, which names the part, if one of them refuses a clip: a record has all keys or none.
        """
        return self._joined([self._encode(number, clips) for number in range(len(self.parts))])

    def encode_lanes(self, clips: Sequence[Utterance], shape: LaneShape) -> Callable[[], list[Values]]:
        """As LanesOfClips.encode_lanes. The part with lanes begins at once, the others when the values are awaited."""
        part = self.parts[self._leader]
        if not lanes_of_clips(part):
            raise InfrastructureError(f"{self.info.name} has no lanes: a bug in the caller")
        with self._named(self._leader):
            begun = part.encode_lanes(self._utterances(self._leader, clips), shape)

        def values() -> list[Values]:
            found = [[] if number == self._leader else self._encode(number, clips) for number in range(len(self.parts))]
            with self._named(self._leader):
                found[self._leader] = self._counted(self._leader, begun(), len(clips))
            return self._joined(found)

        return values

    def _encode(self, number: int, clips: Sequence[Utterance]) -> list[Values]:
        part, found = self.parts[number], dict[int, Values]()
        with self._named(number):
            utterances = self._utterances(number, clips)
            for batch in exact_batches(part.info, [len(clip.wave) for clip in utterances]):
                values = part.encode_clips([utterances[place] for place in batch])
                found.update(zip(batch, self._counted(number, values, len(batch)), strict=True))
        return [found[place] for place in range(len(clips))]

    def _utterances(self, number: int, clips: Sequence[Utterance]) -> list[Utterance]:
        """The clips with the audio of one part."""
        info = self.parts[number].info
        found = []
        for clip in clips:
            if len(clip.by_part) != len(self.parts):
                raise InfrastructureError(
                    f"{self.info.name} got a clip that was not resampled for each of its parts "
                    "(audio_tokenizers.base.hear does that): a bug in the caller"
                )
            wave = clip.by_part[number]
            if len(wave) < info.min_samples:
                raise ClipError("too_short", f"{len(wave)} samples, expected at least {info.min_samples}")
            found.append(Utterance(wave, clip.text))
        return found

    def _counted(self, number: int, values: list[Values], clips: int) -> list[Values]:
        if len(values) != clips:
            name = self.parts[number].info.name
            raise InfrastructureError(f"{name} gave {len(values)} results for {clips} clips: a bug in it")
        return values

    def _joined(self, found: Sequence[Sequence[Values]]) -> list[Values]:
        """Values by part and clip -> the values of each clip, under the record's keys."""
        joined: list[Values] = []
        for clip in zip(*found, strict=True):
            named = zip(self._keys, clip, strict=True)
            joined.append({keys.get(key, key): array for keys, values in named for key, array in values.items()})
        return joined

    @contextmanager
    def _named(self, number: int) -> Iterator[None]:
        """Put the part's name in front of a ClipError."""
        try:
            yield
        except ClipError as error:
            raise ClipError(error.kind, f"{self.parts[number].info.name}: {error}") from error
