"""python -m tools.decode_check: tokens of some clips back to audio, beside the originals, to be heard and measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
import typer

from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.registry import backend_names, get_factory
from audio_tokenizers.shared.extras import backend_packages
from audio_tokenizers.shared.wording import counted
from hpc.progress import TarState, scan
from hpc.run import Run
from jobs.clip_group import Clip
from jobs.commands import Verbose, run_command, setup_logging
from jobs.devices import choose_device
from jobs.plain_text import plain
from jobs.records import ErrorRecord, TokenRecord, decode_record
from jobs.spec import TokenizeSpec, read_spec
from jobs.tar_format import TarDamage
from jobs.tar_source import tar_source

if TYPE_CHECKING:
    from audio_tokenizers.base import Codes, Decoder, DecodingFactory, Waveform

__all__ = ["decode_check"]

MOST_FRAMES_OFF = 2
HEARD_SECONDS = 60
"""Of a longer clip only the beginning is decoded."""
SAME_FILES = ("weights_sha256", "config_sha256")
"""Parts of a recipe that say which model gave the tokens."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A committed clip that became tokens."""

    state: TarState
    index: int
    """Among the clips of its tar, from 0."""
    record: TokenRecord


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one clip."""

    pick: Pick
    original_seconds: float | None = None
    decoded_seconds: float | None = None
    si_sdr: float | None = None
    """dB; None where the original is silent."""
    fault: str | None = None


def _decoding_factory(spec: TokenizeSpec) -> DecodingFactory:
    factory = get_factory(spec.backend)
    if not hasattr(factory, "load_decoder"):
        able = ", ".join(name for name in backend_names() if _can_decode(name))
        raise UsageError(f"{spec.backend} has no way back from tokens to audio; these backends have one: {able}")
    return cast("DecodingFactory", factory)


def _can_decode(name: str) -> bool:
    try:
        return hasattr(get_factory(name), "load_decoder")
    except UsageError:  # a backend of another package that is broken is no news here
        return False


def _load_decoder(spec: TokenizeSpec, model_path: str | None, device: str) -> Decoder:
    """The decoder of the run's model; another model's would turn good tokens into noise."""
    factory = _decoding_factory(spec)
    options = {**spec.options, **({"model_path": model_path} if model_path is not None else {})}
    with backend_packages(factory.name):
        recipe = factory.describe(options, device).recipe
    for key in SAME_FILES:
        if recipe.get(key) != spec.recipe.get(key):
            raise UsageError(
                f"{options.get('model_path')}: expected the model that gave these tokens "
                f"({key} {spec.recipe.get(key) or 'unknown'}), found another "
                f"({recipe.get(key) or 'unknown'}): give the right one with --model-path"
            )
    with backend_packages(factory.name):
        return factory.load_decoder(options, device)


def _pick(states: Sequence[TarState], run: Run, clips: int, seed: int) -> list[Pick]:
    """Up to `clips` random clips with tokens, in the order of the list, so that each tar is read once."""
    from tools.decoded_audio import pick_clips

    picks: list[tuple[int, Pick]] = []
    for file, index in pick_clips([state.clips for state in states], seed):
        path = run.paths(states[file].name).committed
        try:
            with path.open("rb") as lines:
                record = decode_record(next(islice(lines, index, None), b"").rstrip(b"\n"))
        except msgspec.DecodeError as error:
            raise UsageError(
                f"{path}: line {index + 1} is no record ({error}): see python -m tools.check_progress --check-validity"
            ) from None
        if not isinstance(record, ErrorRecord):
            picks.append((file, Pick(states[file], index, record)))
        if len(picks) == clips:
            break
    return [pick for _, pick in sorted(picks, key=lambda item: (item[0], item[1].index))]


def _codes(record: TokenRecord, spec: TokenizeSpec) -> Codes:
    """Integers [codebooks, frames]. Raises ClipError where the record's are no tokens of this run."""
    import numpy as np

    from jobs.record_fields import values_fault

    if fault := values_fault(spec.fields, record.values):
        raise ClipError("decode", fault)
    return np.array(msgspec.json.decode(record.values[spec.fields[0].name]), np.int64)


def _originals(picks: Sequence[Pick], spec: TokenizeSpec) -> Iterator[tuple[Pick, Waveform | str]]:
    """Each clip's audio as the backend heard it, or why it cannot be had; one pass over each tar."""
    import numpy as np

    from jobs.audio import resample
    from tools.rereading import Rereading

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


def _compare(pick: Pick, original: Waveform, decoder: Decoder, spec: TokenizeSpec, stem: Path) -> Verdict:
    """Decode one clip, write both, and measure."""
    import numpy as np
    import soundfile

    from tools.decoded_audio import si_sdr

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
    soundfile.write(f"{stem}.original.wav", part, spec.sample_rate, subtype="PCM_16")
    soundfile.write(f"{stem}.decoded.wav", decoded, spec.sample_rate, subtype="PCM_16")
    samples = len(decoded) + (codes.shape[1] - heard.shape[1]) * spec.hop_length
    off = abs(samples - len(original))
    fault = None
    if not np.isfinite(decoded).all():
        fault = "decoded to values that are NaN or infinite"
    elif off > MOST_FRAMES_OFF * spec.hop_length:
        fault = f"decoded to {counted(off, 'sample')} more or less than there were, {off / spec.hop_length:.1f} frames"
    similarity = si_sdr(part, decoded, max_lag=spec.hop_length) if fault is None else None
    return Verdict(pick, len(original) / spec.sample_rate, samples / spec.sample_rate, similarity, fault)


def render(verdicts: Sequence[Verdict], spec: TokenizeSpec, wav_dir: Path) -> str:
    """A table of them, and where to listen."""
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


def decode_check(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    clips: Annotated[int, typer.Option(min=1, help="how many clips, at random")] = 8,
    seed: Annotated[int, typer.Option(help="which ones: the same seed picks the same clips of the same run")] = 0,
    wav_dir: Annotated[Path, typer.Option(help="where to write NNN.original.wav and NNN.decoded.wav")] = Path(
        "decode_check"
    ),
    model_path: Annotated[str | None, typer.Option(help="where the model is now; default: where it was for the run")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    verbose: Verbose = False,
) -> int:
    """Decode random committed clips of a run, beside their originals. Exits 1 if a clip decodes to another length or not."""
    setup_logging(verbose=verbose)
    run = Run(output_dir.absolute())
    spec = read_spec(run.output_dir)
    if spec is None:
        raise UsageError(f"{run.output_dir}: no run here yet: give another --output-dir")
    _decoding_factory(spec)
    states = [state for state in scan(run, run.listed()) if state.state == "committed"]
    picks = _pick(states, run, clips, seed)
    if not picks:
        raise UsageError(f"{run.output_dir}: no committed clip with tokens yet: see python -m tools.check_progress")
    decoder = _load_decoder(spec, model_path, choose_device(device))
    wav_dir.mkdir(parents=True, exist_ok=True)
    verdicts = []
    for number, (pick, original) in enumerate(_originals(picks, spec), 1):
        if isinstance(original, str):
            verdicts.append(Verdict(pick, fault=original))
        else:
            verdicts.append(_compare(pick, original, decoder, spec, wav_dir / f"{number:03}"))
    print(render(verdicts, spec, wav_dir))
    return 1 if any(verdict.fault is not None for verdict in verdicts) else 0


if __name__ == "__main__":
    run_command(decode_check)
