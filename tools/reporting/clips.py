"""Random clips to hear: the original, and its tokens decoded where the codec has a decoder, as small MP3 files."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from audio_tokenizers.errors import Tar2TokensError
from hpc.progress import TarState, state_of
from hpc.run import Run
from jobs.plain_text import plain
from jobs.spec import TokenizeSpec
from tools.reporting.units import shortened

if TYPE_CHECKING:
    from audio_tokenizers.base import Decoder, Waveform
    from tools.listening.clips import Pick

__all__ = ["HEARD_SECONDS", "HeardClip", "hear_clips"]

HEARD_SECONDS = 15.0
"""Of a longer clip, the beginning."""
TOKENS_SHOWN = 12
NAME_CHARACTERS, TEXT_CHARACTERS = 300, 3000
"""Of what a tar says: it may be megabytes."""
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Those that MP3 has, in Hz."""


@dataclass(frozen=True, slots=True)
class HeardClip:
    """One clip of the page."""

    tar: str
    name: str
    seconds: float
    text: str
    language: str
    tokens: tuple[tuple[str, str], ...]
    """(key, the first of its tokens)."""
    original: str = ""
    """A data URI; empty where there is none."""
    decoded: str = ""
    similarity: float | None = None
    """SI-SDR of the decoded clip, in dB."""
    fault: str = ""
    """Why something is missing."""


def hear_clips(
    run: Run, spec: TokenizeSpec | None, states: Sequence[TarState], number: int, seed: int = 0
) -> tuple[list[HeardClip], str]:
    """Up to `number` random clips, and why there are none, or why they are not decoded."""
    if not number:
        return [], ""
    if spec is None:
        return [], "There are none: the run's spec cannot be read."
    decoder, fault = _decoder(spec)
    try:
        found = _hear_some(run, spec, states, number, seed, decoder)
    except (Tar2TokensError, OSError) as error:
        return [], plain(error)
    return found, f"Not decoded: {fault}" if found and fault else "" if found else "No clip is committed yet."


def _hear_some(
    run: Run, spec: TokenizeSpec, states: Sequence[TarState], number: int, seed: int, decoder: Decoder | None
) -> list[HeardClip]:
    from tools.listening.clips import choose_clips, originals

    committed = [state for state in states if state.state == "committed"]
    picks = choose_clips(committed, run, number, seed)
    manifests = {pick.state.name: state_of(pick.state.tar, run.paths(pick.state.name)) for pick in picks}
    picks = [dataclasses.replace(pick, state=manifests[pick.state.name]) for pick in picks]
    return [_hear(pick, original, decoder, spec) for pick, original in originals(picks, spec)]


def _decoder(spec: TokenizeSpec) -> tuple[Decoder | None, str]:
    """The codec's decoder on the CPU, or why there is none."""
    from tools.listening.decoders import load_decoder

    try:
        return load_decoder(spec, None, "cpu"), ""
    except (Tar2TokensError, OSError, ImportError) as error:
        return None, plain(error)


def _hear(pick: Pick, original: Waveform | str, decoder: Decoder | None, spec: TokenizeSpec) -> HeardClip:
    record = pick.record
    clip = HeardClip(
        tar=plain(Path(pick.state.tar).name),
        name=shortened(plain(record.audio_file), NAME_CHARACTERS),
        seconds=record.num_samples / record.sample_rate,
        text=shortened(plain(record.text or ""), TEXT_CHARACTERS),
        language=plain(record.language or ""),
        tokens=tuple(_first_tokens(pick, spec)),
    )
    if isinstance(original, str):
        return dataclasses.replace(clip, fault=plain(original))
    heard = original[: round(HEARD_SECONDS * spec.sample_rate)]
    clip = dataclasses.replace(clip, original=mp3_uri(heard, spec.sample_rate))
    return clip if decoder is None else _with_decoded(clip, pick, original, decoder, spec)


def _with_decoded(clip: HeardClip, pick: Pick, original: Waveform, decoder: Decoder, spec: TokenizeSpec) -> HeardClip:
    import soundfile

    from tools.listening.comparison import compare

    with TemporaryDirectory() as folder:
        verdict = compare(pick, original, decoder, spec, Path(folder) / "clip")
        path = Path(folder) / "clip.decoded.wav"
        if not path.exists():
            return dataclasses.replace(clip, fault=plain(verdict.fault or "its tokens were not decoded"))
        wave, rate = soundfile.read(path, frames=round(HEARD_SECONDS * spec.sample_rate), dtype="float32")
    return dataclasses.replace(
        clip, decoded=mp3_uri(wave, rate), similarity=verdict.si_sdr, fault=plain(verdict.fault or "")
    )


def mp3_uri(wave: Waveform, rate: int) -> str:
    """The samples, float32 mono at `rate` Hz, as a data URI."""
    import numpy as np
    import soundfile

    from jobs.audio import resample

    near = min(RATES, key=lambda known: (known < rate, abs(known - rate)))
    if near != rate:
        wave = np.concatenate(list(resample(iter([(wave, rate)]), near)))
    target = io.BytesIO()
    soundfile.write(target, wave.clip(-1.0, 1.0), near, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.6)
    return f"data:audio/mpeg;base64,{base64.b64encode(target.getvalue()).decode()}"


def _first_tokens(pick: Pick, spec: TokenizeSpec) -> Iterator[tuple[str, str]]:
    for field in spec.fields:
        raw = bytes(pick.record.values.get(field.name, b""))
        if not raw or field.form == "features":  # a record has no more of these than where they are
            continue
        text = raw.decode(errors="replace")
        if text.startswith('"'):
            yield plain(field.name), plain(_shorten_string(text.strip('"')))
            continue
        rows = text.strip("[]").split("],[")
        yield plain(field.name), "\n".join(plain(_shorten(row)) for row in rows[:16])


def _shorten(row: str) -> str:
    parts = row.split(",")
    return ", ".join(parts[:TOKENS_SHOWN]) + (", ..." if len(parts) > TOKENS_SHOWN else "")


def _shorten_string(text: str) -> str:
    found = list(islice(re.finditer(r"<[^>]*>", text), TOKENS_SHOWN))
    end = found[-1].end() if found else 0
    return shortened(text[:end], NAME_CHARACTERS) + ("..." if end < len(text) else "")
