"""A clip's tokens decoded, measured against its original, and the results as a table."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from audio_tokenizers.errors import ClipError
from audio_tokenizers.shared.wording import counted
from jobs.plain_text import plain
from jobs.records import TokenRecord
from jobs.spec import TokenizeSpec

if TYPE_CHECKING:
    from audio_tokenizers.base import Codes, Decoder, Waveform
from tools.listening.clips import Pick, originals

__all__ = ["Verdict", "compare", "compare_all", "render"]

MOST_FRAMES_OFF = 2
HEARD_SECONDS = 60
"""Only this much of a longer clip is decoded."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one clip."""

    pick: Pick
    original_seconds: float | None = None
    decoded_seconds: float | None = None
    si_sdr: float | None = None
    """dB; None where the original is silent."""
    fault: str | None = None


def compare_all(picks: Sequence[Pick], decoder: Decoder, spec: TokenizeSpec, wav_dir: Path) -> list[Verdict]:
    """Compare each clip with its original, and write both to `wav_dir` as NNN.original.wav and NNN.decoded.wav."""
    wav_dir.mkdir(parents=True, exist_ok=True)
    return [
        Verdict(pick, fault=original)
        if isinstance(original, str)
        else compare(pick, original, decoder, spec, wav_dir / f"{number:03}")
        for number, (pick, original) in enumerate(originals(picks, spec), 1)
    ]


def compare(pick: Pick, original: Waveform, decoder: Decoder, spec: TokenizeSpec, stem: Path) -> Verdict:
    """Decode one clip, write original and decoded audio, and measure."""
    import numpy as np

    from tools.listening.decoded_audio import si_sdr

    if len(original) != pick.record.num_samples:
        return Verdict(
            pick, fault=f"its audio has {counted(len(original), 'sample')} now, its record says {pick.record.num_samples:,}"
        )
    try:
        codes = _codes(pick.record, spec)
        heard = codes[:, : math.ceil(HEARD_SECONDS * spec.sample_rate / spec.hop_length)]
        decoded = decoder.decode(heard)
    except (ClipError, ValueError, IndexError, RuntimeError) as error:
        return Verdict(pick, len(original) / spec.sample_rate, fault=f"its tokens cannot be decoded: {error}")
    part = original if heard.shape == codes.shape else original[: heard.shape[1] * spec.hop_length]
    for name, wave in (("original", part), ("decoded", decoded)):
        _write_wav(Path(f"{stem}.{name}.wav"), wave, spec.sample_rate)
    samples = len(decoded) + (codes.shape[1] - heard.shape[1]) * spec.hop_length
    off = abs(samples - len(original))
    fault = None
    if not np.isfinite(decoded).all():
        fault = "decoded to values that are NaN or infinite"
    elif off > MOST_FRAMES_OFF * spec.hop_length:
        fault = f"decoded to {counted(off, 'sample')} more or less than there were, {off / spec.hop_length:.1f} frames"
    similarity = si_sdr(part, decoded, max_lag=spec.hop_length) if fault is None else None
    return Verdict(pick, len(original) / spec.sample_rate, samples / spec.sample_rate, similarity, fault)


def _write_wav(path: Path, wave: Waveform, sample_rate: int) -> None:
    """Raises OSError, which libsndfile would hide."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, wave, sample_rate, subtype="PCM_16", format="WAV")
    path.write_bytes(file.getvalue())


def _codes(record: TokenRecord, spec: TokenizeSpec) -> Codes:
    """Integers [codebooks, frames]. Raises ClipError if the record's values are not tokens of this run."""
    import numpy as np

    from jobs.record_fields import values_fault

    if fault := values_fault(spec.fields, record.values):
        raise ClipError("decode", fault)
    return np.array(msgspec.json.decode(record.values[spec.fields[0].name]), np.int64)


def render(verdicts: Sequence[Verdict], spec: TokenizeSpec, wav_dir: Path) -> str:
    """A table of the results, and where the audio is."""
    rows = [("", "original s", "decoded s", "difference s", "SI-SDR dB", "clip")]
    for number, verdict in enumerate(verdicts, 1):
        one, two = verdict.original_seconds, verdict.decoded_seconds
        rows.append(
            (
                f"{number:03}",
                "-" if one is None else f"{one:.3f}",
                "-" if two is None else f"{two:.3f}",
                "-" if one is None or two is None else f"{two - one:+.3f}",
                "-" if verdict.si_sdr is None else f"{verdict.si_sdr:.1f}",
                plain(f"{Path(verdict.pick.state.tar).name}: {verdict.pick.record.audio_file}"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([*map(str.rjust, row[:-1], widths), row[-1]]) for row in rows]
    lines += [f"{n:03}: {plain(verdict.fault)}" for n, verdict in enumerate(verdicts, 1) if verdict.fault is not None]
    off = sum(verdict.fault is not None for verdict in verdicts)
    frame = spec.hop_length / spec.sample_rate
    lines.append(
        f"{len(verdicts) - off} of {counted(len(verdicts), 'clip')} decoded to the right length, within "
        f"{counted(MOST_FRAMES_OFF, 'frame')} of {frame:.4g} s"
    )
    lines.append(f"Listen: {wav_dir}/001.original.wav and {wav_dir}/001.decoded.wav, and so on")
    return "\n".join(lines)
