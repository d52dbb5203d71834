"""StepAudioTokenizer: the methods of StepFun's class (tokenizer.py of github.com/stepfun-ai/Step-Audio), over this backend.

Differences: it also runs on a CPU, 8 kHz is resampled instead of refused, channels are averaged, vq02 gets noise only with
`dither` (upstream always adds some, and its codes change from call to call), and the samples for vq02 are not rounded to 16
bits in between.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Options, Waveform
from audio_tokenizers.errors import UsageError
from audio_tokenizers.registry import complete_options
from audio_tokenizers.shared.extras import backend_packages
from audio_tokenizers.step_audio.backend import FACTORY, StepAudio, Vq, merge
from audio_tokenizers.step_audio.files import CLUSTERS, VQ06_CODES
from audio_tokenizers.step_audio.frontend import normalize_energy, trim_silence
from audio_tokenizers.step_audio.options import FIRST_ID

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["StepAudioTokenizer"]

ONE_CALL = "\0one call"
"""The session id of pieces without a session: no caller uses such an id."""


class StepAudioTokenizer:
    """Audio -> Step-Audio's two codebooks and their merged tokens. Thread-safe.

    `audio` is always a tensor or array of floats, [samples] or [channels, samples], at the given rate; `get_vq02_code` and
    `get_vq06_code` take the result of `preprocess_wav`, at 16 kHz.
    """

    def __init__(self, encoder_path: str | os.PathLike[str], *, device: str | None = None, dither: float = 0.0) -> None:
        """`encoder_path`: the directory of stepfun-ai/Step-Audio-Tokenizer, or its hub id. `device`: cpu, cuda, cuda:N or
        mps; None uses CUDA if torch sees a GPU, else the CPU. `dither`: upstream uses 1; here the noise is seeded by the
        clip's samples.

        Raises UsageError (ModelFilesError for files), and InfrastructureError if there is no such device.
        """
        with backend_packages(FACTORY.name):
            import torch

            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            # preprocess_wav does all preprocessing.
            given: Options = {"model_path": os.fspath(encoder_path), "dither": dither, "energy_norm": False, "trim": False}
            self._backend: StepAudio = FACTORY.load(complete_options(FACTORY, given), device)
        self.kms: torch.Tensor = self._backend.centres
        """float32 [1024, 512]: the centres of vq02."""
        self._lock = threading.RLock()

    @property
    def vq02_sessions(self) -> dict[str, Any]:
        """The open sessions of `get_vq02_code` by id; removing one ends it."""
        return self._backend.sessions

    def __call__(self, audio: npt.ArrayLike | Tensor, sr: int) -> str:
        """`<audio_958><audio_102><audio_3044>...`: energy-normalised and, like upstream, not trimmed."""
        _, vq02, vq06 = self.wav2token(audio, sr, enable_trim=False)
        return self.merge_vq0206_to_token_str(vq02, vq06)

    def preprocess_wav(
        self, audio: npt.ArrayLike | Tensor, sample_rate: int, enable_trim: bool = True, energy_norm: bool = True
    ) -> Tensor:
        """float32 [1, samples] at 16 kHz, by default scaled to a peak of 0.999, with silence trimmed at both ends."""
        import torch

        wave = self._backend.resample(_mono(audio), sample_rate)
        with self._lock:  # librosa imports its parts at the first call
            if energy_norm and len(wave):
                wave = normalize_energy(wave)
            if enable_trim and len(wave):
                wave = trim_silence(wave)
        return torch.from_numpy(np.ascontiguousarray(wave))[None]

    def wav2token(
        self, audio: npt.ArrayLike | Tensor, sample_rate: int, enable_trim: bool = True, energy_norm: bool = True
    ) -> tuple[list[int], list[int], list[int]]:
        """(merged, vq02, vq06): per 120 ms, two codes of vq02, offset by 65536, and three of vq06, offset by 66560; then the
        raw codes of both, including an incomplete group.
        """
        wave = _mono(self.preprocess_wav(audio, sample_rate, enable_trim, energy_norm))
        with self._lock:
            vq02, vq06 = self._backend.codes(wave)
        return (merge(vq02, vq06).astype(np.int64) + FIRST_ID).tolist(), vq02.tolist(), vq06.tolist()

    def get_vq02_code(
        self, audio: npt.ArrayLike | Tensor, session_id: str | None = None, is_final: bool = True
    ) -> list[int]:
        """Codes 0..1023 of 60 ms each.

        With a `session_id`, `audio` is the next piece of that clip: the codes of all pieces equal those of the whole clip,
        however it was cut. Codes come in fours, as soon as their 240 ms are complete; `is_final` returns the rest and closes
        the session. Without a session, a piece that is not final returns its complete codes and is forgotten.
        """
        wave = _mono(audio)
        with self._lock:
            if is_final and not (session_id and session_id in self.vq02_sessions):
                return _listed(self._backend.linguistic_codes(wave))
            try:
                return _listed(self._backend.stream(wave, session_id or ONE_CALL, is_final=is_final))
            finally:
                self.vq02_sessions.pop(ONE_CALL, None)

    def get_vq06_code(self, audio: npt.ArrayLike | Tensor) -> list[int]:
        """Codes 0..4095 of 40 ms each, from pieces of 30 s; a last piece of under 480 samples yields none."""
        wave = _mono(audio)
        with self._lock:
            return _listed(self._backend.acoustic_codes(wave))

    def merge_vq0206_to_token_str(self, vq02: Sequence[int], vq06: Sequence[int]) -> str:
        """Join alternating groups, two of vq02 and three of vq06 offset by 1024, as one text; drop an incomplete group."""
        tokens = merge(_codes(vq02, CLUSTERS), _codes(vq06, VQ06_CODES)).tolist()
        return "".join(f"<audio_{token}>" for token in tokens)

    def dump_label(self, samples: Sequence[Tensor], mean: Tensor) -> list[list[int]]:
        """The nearest of the centres `mean` [centres, width] to each frame of each of `samples` [1, frames, width]."""
        import torch

        if not samples:
            return []
        lengths = [sample.shape[1] for sample in samples]
        labels = self.kmean_cluster(torch.cat([sample[0] for sample in samples]).float().cpu(), mean)
        ends = np.cumsum(lengths).tolist()
        return [labels[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    def kmean_cluster(self, samples: Tensor, means: Tensor) -> list[int]:
        """For each row of `samples` [frames, width], the index of the nearest row of `means`, by Euclidean distance."""
        import torch

        nearest: list[int] = torch.cdist(samples, means).argmin(dim=1).tolist()
        return nearest


def _mono(audio: npt.ArrayLike | Tensor) -> Waveform:
    """[samples] or [channels, samples] -> float32 [samples]. Raises UsageError for anything else."""
    values = np.asarray(audio.detach().cpu() if hasattr(audio, "detach") else audio)
    if values.dtype.kind != "f" or values.ndim not in (1, 2) or 0 in values.shape[:-1]:
        raise UsageError(
            f"audio: expected floats [samples] or [channels, samples], found {values.dtype} {list(values.shape)}"
        )
    if values.ndim == 2:
        values = values[0] if len(values) == 1 else values.mean(axis=0)
    return np.ascontiguousarray(values, np.float32)


def _listed(codes: Vq) -> list[int]:
    listed: list[int] = codes.tolist()
    return listed


def _codes(values: Sequence[int], limit: int) -> Vq:
    codes = np.asarray(values, np.int64)
    if codes.size and not 0 <= codes.min() <= codes.max() < limit:
        raise UsageError(f"codes: expected those of a codebook, 0..{limit - 1}, found {codes.min()}..{codes.max()}")
    return codes.astype(np.int16)
