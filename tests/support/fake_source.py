"""A data set that exists nowhere, for what comes after the sources of tools.pack."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from support.small_run import wav
from tools.packing.pairs import Item, LeftOut, Pair

AUDIO = wav(400)


@dataclass
class FakeSource:
    """`clips` clips of 0.05 s; those whose number is in `without_text` are left out when they are read."""

    clips: int = 10
    without_text: tuple[int, ...] = ()
    faulty: tuple[int, ...] = ()
    """Clips of whose texts something could not be kept."""
    as_files: bool = False
    name: str = "fake"
    fingerprint: str = "f"
    left_out: list[LeftOut] = field(default_factory=list)
    found: Counter[str] = field(default_factory=lambda: Counter({".wav": 10}))
    asked: list[int] = field(default_factory=list)
    """The item at which each reading began."""

    @property
    def items_total(self) -> int:
        return self.clips

    @property
    def bytes_total(self) -> int:
        return self.clips * len(AUDIO)

    def items(self, start: int) -> Iterator[Item]:
        self.asked.append(start)
        return (partial(self.read, number) for number in range(start, self.clips))

    def read(self, number: int) -> Pair | LeftOut:
        if number in self.without_text:
            return LeftOut("empty_text", f"{number:03}.lab")
        return Pair(
            id=f"spk/{number:03}",
            audio_name=f"spk/{number:03}.WAV",
            audio=io.BytesIO(AUDIO) if self.as_files else AUDIO,
            size=len(AUDIO),
            text=f"clip {number}, é 語",
            text_name=f"spk/{number:03}.lab",
            metadata={"sidecar_errors": ["snr: NaN is no value of JSON: null"]} if number in self.faulty else None,
        )
