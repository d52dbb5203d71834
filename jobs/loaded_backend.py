"""A backend from Python: one clip at a time, an array or a file, with the tokens that a run gives it.

A clip goes through the same threads and the same code as in a run (jobs/conveyor.py): decoding, mixing, resampling,
fragments, and the shapes of calls.
"""

from __future__ import annotations

import io
import logging
import os
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Backend, BackendInfo, Options, Scalar
from audio_tokenizers.errors import UsageError
from jobs.activities import Activities
from jobs.channels import SPLIT
from jobs.clip_group import Clip
from jobs.clip_journal import code_type
from jobs.conveyor import Conveyor
from jobs.devices import choose_device
from jobs.pending import Pending
from jobs.recipe_options import RecipeOptions
from jobs.sidecars import Annotations
from jobs.spec import TokenizeSpec, make_spec
from jobs.token_sink import TokenSink
from jobs.worker import load_backend as load_backend_of

__all__ = ["Array", "EncodedClip", "LoadedBackend", "load_backend", "open_backend"]

MOST_WAV_BYTES = 0xFFFFFFFF - 4096
"""A WAV file states its size in 32 bits."""
STEP_SECONDS = 60.0
"""How long one look for an outcome lasts; nothing happens between two."""

Array = npt.NDArray[Any]
log = logging.getLogger("tar2tokens")


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """What a clip became."""

    arrays: dict[str, Array]
    """The keys of its record."""
    samples: int
    """At the backend's sample rate."""


class LoadedBackend:
    """A loaded backend. Threads may share it: calls take turns."""

    def __init__(self, spec: TokenizeSpec, backend: Backend, device: str) -> None:
        self.spec = spec
        """All that decides tokens: `spec.recipe`, `spec.options`, the fragments."""
        self.device = device
        self._backend = backend
        self._lock = threading.Lock()
        self._activities = Activities()

    @property
    def info(self) -> BackendInfo:
        """What the backend declares: sample rate, keys, codebooks."""
        return self._backend.info

    def encode(self, audio: npt.ArrayLike, sample_rate: int, *, text: str | None = None) -> dict[str, Array]:
        """The keys of the record that a run writes for this clip, as arrays.

        `audio`: [samples] or [channels, samples], as torchaudio and librosa give it, at `sample_rate` Hz; floats, or int16
        or int32 at full scale. A tensor of torch on the CPU is taken too. `text`: the transcript, for a backend that needs
        one. Codes are int64 [codebooks, frames], lists and audio strings int64 [items], features float [rows, width].

        Raises UsageError on another array, ClipError where a run would write an error record (`kind` says which), and
        InfrastructureError where the machine is at fault.
        """
        return self.encode_member("array", io.BytesIO(_wav(np.asarray(audio), sample_rate)), text).arrays

    def encode_file(self, path: str | os.PathLike[str], *, text: str | None = None) -> dict[str, Array]:
        """As `encode`, of an audio file in any format that a run takes. Raises OSError where it cannot be read."""
        with Path(path).open("rb") as file:
            return self.encode_member(os.fsdecode(path), file, text).arrays

    def encode_member(self, name: str, audio: IO[bytes], text: str | None = None) -> EncodedClip:
        """As `encode`, of a file's bytes, which are closed. `name` is for the log."""
        field = self.spec.fields[0]
        clip = Clip(0, name, audio, annotations=Annotations(text=text))
        with self._lock, TokenSink(field.width, kept_as=code_type(field)) as sink:
            pending = Pending(clip, sink)
            with closing(Conveyor(self.spec, self._backend, activities=self._activities)) as conveyor:
                conveyor.expect(more=False)
                conveyor.offer(pending)
                while not pending.finished:
                    conveyor.step(STEP_SECONDS)
            for trouble in (pending.trouble, pending.error):
                if trouble is not None:
                    raise trouble
            if pending.damage is not None:
                log.warning("%s: %.3f s could not be decoded: %s", name, pending.damage.seconds, pending.damage.what)
            if pending.values is None:
                codes = np.frombuffer(sink.take_unkept(), code_type(field)).reshape(-1, field.width)
                return EncodedClip({field.name: codes.T.astype(np.int64)}, pending.samples)
        forms = {one.name: one.form for one in self.spec.fields}
        arrays = {key: one if forms[key] == "features" else one.astype(np.int64) for key, one in pending.values.items()}
        return EncodedClip(arrays, pending.samples)


def load_backend(
    name: str,
    model_path: str | os.PathLike[str] | None = None,
    device: str = "auto",
    *,
    max_tokens_per_fragment: int | None = None,
    num_tokens_overlap: int | None = None,
    max_duration: float | None = None,
    max_damage: float | None = None,
    channel: str | None = None,
    **options: Scalar,
) -> LoadedBackend:
    """Open a preset or backend. What is not given has the value that it has in `hpc.submit --backend NAME`.

    `device`: auto, cpu, cuda, cuda:N or mps. `options` are those of `--set`. On a CPU torch computes with one thread in this
    process from now on, as in a run: with more, some tokens are others.

    Raises UsageError (ModelFilesError for files) where something does not exist or fit, and InfrastructureError where the
    device cannot be used.
    """
    if model_path is not None:
        options["model_path"] = os.fspath(model_path)
    asked = RecipeOptions(
        max_tokens_per_fragment=max_tokens_per_fragment,
        num_tokens_overlap=num_tokens_overlap,
        max_duration=max_duration,
        max_damage=max_damage,
        channel=channel,
    )
    return open_backend(name, device, options, asked)


def open_backend(name: str, device: str, options: Options, asked: RecipeOptions) -> LoadedBackend:
    """As `load_backend`, with the options of a command."""
    kind, colon, number = device.partition(":")
    if colon and not (kind == "cuda" and number.isascii() and number.isdecimal()):
        raise UsageError(f"device {device!r}: expected auto, cpu, cuda, cuda:N or mps")
    if asked.channel == SPLIT:
        raise UsageError("channel 'split' makes several clips of one: expected mean, first, left, right or a number")
    chosen = choose_device(kind, int(number) if colon else 0)
    spec = make_spec(name, device=chosen, options=options, asked=asked)
    return LoadedBackend(spec, load_backend_of(spec, chosen), chosen)


def _wav(audio: Array, sample_rate: int) -> bytes:
    """A WAV file of 32-bit floats, which decodes to the very samples. Raises UsageError on what is no audio."""
    import soundfile

    if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, np.integer)) or sample_rate <= 0:
        raise UsageError(f"sample_rate: expected a whole number of Hz, found {sample_rate!r}")
    if audio.ndim not in (1, 2) or 0 in audio.shape[:-1]:
        raise UsageError(f"audio: expected [samples] or [channels, samples], found the shape {list(audio.shape)}")
    if audio.ndim == 2 and audio.shape[0] > audio.shape[1] > 0:
        raise UsageError(
            f"audio: expected [channels, samples], found the shape {list(audio.shape)}: transpose it, if it is [samples, "
            "channels] as soundfile gives it"
        )
    if audio.dtype in (np.int16, np.int32):
        audio = audio / -float(np.iinfo(audio.dtype).min)
    elif audio.dtype.kind != "f":
        raise UsageError(f"audio: expected floats, int16 or int32, found {audio.dtype}")
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused as such
        samples = np.ascontiguousarray(np.atleast_2d(audio).T, np.float32)
    if samples.nbytes > MOST_WAV_BYTES:
        raise UsageError(f"audio: {samples.nbytes:,} bytes of samples are too many for an array: use encode_file")
    file = io.BytesIO()
    soundfile.write(file, samples, int(sample_rate), subtype="FLOAT", format="WAV")
    return file.getvalue()
