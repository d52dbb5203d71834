"""Step-Audio-Tokenizer: vq02 (16.67 Hz, 1024 codes) and vq06 (25 Hz, 4096 codes) from 16 kHz, merged two to three.

The reference is StepAudioTokenizer of github.com/stepfun-ai/Step-Audio-EditX (tokenizer.py; Step-Audio's computes the same).
vq02 is the nearest of 1024 centres to the output of a streaming Paraformer's encoder; vq06 is a 25 Hz S3 tokenizer on pieces
of 30 s. Here the device computes vq02 of a batch of clips while vq06 of the same clips is computed by onnxruntime on the CPU
or by torch on the GPU (on a Mac always by onnxruntime).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import BackendInfo, Batching, Options, Scalar, Utterance, Values, Waveform
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.shared.early_imports import import_early
from audio_tokenizers.shared.factory import ModelFactory
from audio_tokenizers.shared.file_hashes import files_sha256
from audio_tokenizers.shared.options import TF32_OPTION, OptionTable, check_device_name, refuse_mps
from audio_tokenizers.shared.recipe import config_sha256, recipe_tail
from audio_tokenizers.shared.resampling import torchaudio_resample
from audio_tokenizers.shared.s3_onnx import MELS, OnnxEncoder, is_known_to_torch, read_variant
from audio_tokenizers.shared.s3_torch import TorchEncoder, rows_per_product
from audio_tokenizers.shared.torch_device import fix_arithmetic, loaded, on_device
from audio_tokenizers.shared.weights import Naming, Weights
from audio_tokenizers.step_audio.files import CLUSTERS, Checkpoint, open_checkpoint, read_centres, read_cmvn
from audio_tokenizers.step_audio.frontend import (
    CHUNK_SAMPLES,
    CONTEXT_SAMPLES,
    PIECE_SAMPLES,
    SAMPLE_RATE,
    SHORTEST_PIECE,
    Frontend,
    normalize_energy,
    pieces_of,
    trim_silence,
)
from audio_tokenizers.step_audio.options import FIRST_ID, GROUP_SAMPLES, WINDOWS, Choices, check_options, fields_of, versions
from audio_tokenizers.step_audio.upstream import FunAsr, require_funasr

if TYPE_CHECKING:
    from torch import Tensor

    from audio_tokenizers.step_audio.encoder import Network, State
    from audio_tokenizers.step_audio.halves import Halves

__all__ = ["FACTORY", "StepAudio", "StepAudioFactory", "merge"]

LANES = 32
"""Clips in one step of vq02. On a GPU every step has this many, so they are part of the recipe there."""
SHORTEST_CLIP = 1440
"""Least samples that yield one group: 2 codes of vq02 (1360) and 3 of vq06 (1440)."""
ENCODER = Naming(parts=("encoder",), unneeded=r"(decoder|predictor)\.")
"""The speech recogniser's encoder. Like FunASR's own loader, `Weights` unwraps its trainer's checkpoints."""
CENTRES_BLOCK = 64

Vq = npt.NDArray[np.int16]
"""int16 [codes]."""


def merge(vq02: Vq, vq06: Vq) -> Vq:
    """Groups of two codes of vq02 and three of vq06, the latter offset by 1024; an incomplete last group is dropped."""
    groups = min(len(vq02) // 2, len(vq06) // 3)
    pairs, triples = vq02[: 2 * groups].reshape(groups, 2), vq06[: 3 * groups].reshape(groups, 3)
    merged: Vq = np.concatenate((pairs, triples + np.int16(CLUSTERS)), axis=1).reshape(-1)
    return merged


class _Session:
    """One clip that arrives in pieces."""

    __slots__ = ("pending", "started", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.pending: Waveform = np.zeros(0, np.float32)
        """Samples not encoded yet, preceded by CONTEXT_SAMPLES that are."""
        self.started = False


class StepAudio:
    """The loaded tokenizer: vq02 on one device, vq06 on the same device or on the CPU, according to the recipe."""

    def __init__(self, info: BackendInfo, checkpoint: Checkpoint, choices: Choices, device: str) -> None:
        self.info = info
        self._choices = choices
        self._device = device
        self._sessions: dict[str, _Session] = {}
        loaded(device, lambda: self._load(checkpoint))

    def _load(self, checkpoint: Checkpoint) -> None:
        import torch

        from audio_tokenizers.step_audio.encoder import ChunkEncoder, Network

        import_early("torchaudio.compliance.kaldi", "whisper")
        if self._choices.trim:
            trim_silence(np.ones(SAMPLE_RATE, np.float32))  # librosa imports its parts at the first call
        self._centres = torch.from_numpy(read_centres(checkpoint))
        weights = Weights([checkpoint.weights], ENCODER, str(checkpoint.config_path)).read(self._device)
        if self._choices.upstream:
            self._funasr = FunAsr(checkpoint, self._device, self._choices.dither, weights.fill)
        else:
            with torch.device("meta"):
                network = Network(checkpoint)
            weights.fill(network)
            self._encoder = ChunkEncoder(network, self._device, LANES)
            self._frontend = Frontend(*read_cmvn(checkpoint.cmvn), self._choices.dither)
        # Each call uses one thread. With a GPU the cores are otherwise idle; on the CPU torch uses them.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = 1 if self._device == "cpu" else cores
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="vq06")
        if self._choices.upstream or self.info.recipe["vq06_device"] == "cpu":
            device = self._device if self._choices.upstream else "cpu"
            self._onnx = OnnxEncoder(checkpoint.onnx, device, tf32=self._choices.tf32)
        self._halves = self._load_halves(checkpoint, network) if "windows_per_product" in self.info.recipe else None

    def _load_halves(self, checkpoint: Checkpoint, network: Network) -> Halves:
        """The encoders of whole clips on a GPU."""
        from audio_tokenizers.step_audio.halves import Halves
        from audio_tokenizers.step_audio.windows import WindowEncoder

        vq06: TorchEncoder | Callable[[Waveform], Vq] = self._vq06
        if self.info.recipe["vq06_device"] != "cpu":
            variant, precision = read_variant(checkpoint.onnx), self._choices.precision
            vq06 = TorchEncoder(checkpoint.onnx, variant, self._device, precision, batch_axis=False)
        windows = WindowEncoder(network, self._centres, self._device)
        # Dither takes its noise from a random generator that all threads share.
        in_turn = bool(self._choices.dither)
        return Halves(windows, self._embedded, vq06, self._pool, in_turn=in_turn, tf32=self._choices.tf32)

    def _embedded(self, wave: Waveform) -> Tensor:
        import torch

        with torch.inference_mode():
            return self._encoder.embed(self._frontend.features(wave))

    def resample(self, wave: Waveform, sample_rate: int) -> Waveform:
        """float32 [samples] at `sample_rate` -> float32 [samples] at 16 kHz, by torchaudio's default filter."""
        return torchaudio_resample(wave, sample_rate, SAMPLE_RATE)

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        """Per clip, `tokens` and the values that options add. ClipError of kind `too_short` if there would be no token."""
        waves = [np.asarray(clip.wave, np.float32) for clip in clips]
        for wave in waves:
            if len(wave) < self.info.min_samples:
                raise ClipError("too_short", f"{len(wave)} samples, Step-Audio's tokenizer needs {self.info.min_samples}")
        return [self._values(vq02, vq06) for vq02, vq06 in self._codes(waves)]

    def codes(self, wave: Waveform) -> tuple[Vq, Vq]:
        """(vq02, vq06) of a whole clip, float32 [samples] at 16 kHz, including an incomplete group; each may be empty."""
        if not len(wave):
            raise ClipError("too_short", "a clip without samples")
        return self._codes([wave])[0]

    @property
    def centres(self) -> Tensor:
        """float32 [1024, width]: the cluster centres of vq02."""
        return self._centres

    @property
    def sessions(self) -> dict[str, Any]:
        """The unfinished clips of `stream` by id; removing one ends its session."""
        return self._sessions

    def linguistic_codes(self, wave: Waveform) -> Vq:
        """vq02 alone of a whole clip, float32 [samples] at 16 kHz, without preprocessing; may be empty."""
        if (halves := self._halves) is not None:
            return on_device(self._device, lambda: halves.codes([wave]))[0][0]
        return on_device(self._device, lambda: self._vq02([wave]))[0]

    def acoustic_codes(self, wave: Waveform) -> Vq:
        """vq06 alone of a whole clip, float32 [samples] at 16 kHz, without preprocessing; may be empty."""
        if (halves := self._halves) is not None:
            return on_device(self._device, lambda: halves.codes([wave]))[0][1]
        return on_device("cpu", lambda: self._vq06(wave))

    def stream(self, piece: Waveform, session_id: str, *, is_final: bool) -> Vq:
        """The codes of vq02 completed by `piece`, the next samples of the clip `session_id`: 4 per 240 ms.

        The codes of all pieces equal those of the whole clip, however it was cut, except for rounding on a GPU, where whole
        clips are computed differently. float32 [samples] at 16 kHz, without energy normalisation and trimming, which would
        need the whole clip. `is_final` ends the session.
        """
        if self._choices.upstream:
            raise UsageError("engine=upstream encodes whole clips: a stream needs engine=own")
        if self._choices.dither:
            raise UsageError("dither: its noise is seeded by the whole clip, which a stream has not seen: expected 0")
        return on_device(self._device, lambda: self._stream(piece, session_id, is_final=is_final))

    def _stream(self, piece: Waveform, session_id: str, *, is_final: bool) -> Vq:
        import torch

        fix_arithmetic(tf32=self._choices.tf32)
        session = self._sessions.get(session_id) or _Session(self._encoder.start())
        samples = np.concatenate((session.pending, np.asarray(piece, np.float32)))
        context = CONTEXT_SAMPLES if session.started else 0
        end = len(samples) if is_final else len(samples) - (len(samples) - context) % CHUNK_SAMPLES
        with torch.inference_mode():
            features = self._frontend.features_of_piece(samples[:end], first=not session.started)
            codes = self._cluster(self._encoder.advance(session.state, features))
        if is_final:
            self._sessions.pop(session_id, None)
        else:
            session.started = session.started or end > 0
            session.pending = samples[max(0, end - CONTEXT_SAMPLES) :]
            self._sessions[session_id] = session
        return codes

    def _codes(self, waves: Sequence[Waveform]) -> list[tuple[Vq, Vq]]:
        waves = on_device("cpu", lambda: [self._prepare(wave) for wave in waves])
        if (halves := self._halves) is not None:
            return on_device(self._device, lambda: halves.codes(waves))
        futures = [self._pool.submit(on_device, "cpu", functools.partial(self._vq06, wave)) for wave in waves]
        try:
            vq02 = on_device(self._device, lambda: self._vq02(waves))
            return [(codes, future.result()) for codes, future in zip(vq02, futures, strict=True)]
        finally:
            for future in futures:
                future.cancel()

    def _prepare(self, wave: Waveform) -> Waveform:
        if self._choices.energy_norm:
            wave = normalize_energy(wave)
        return trim_silence(wave) if self._choices.trim else wave

    def _vq02(self, waves: Sequence[Waveform]) -> list[Vq]:
        import torch

        fix_arithmetic(tf32=self._choices.tf32)
        with torch.inference_mode():
            if self._choices.upstream:  # upstream finds the centres of all frames in one call
                found = (torch.cdist(self._funasr.encode(wave), self._centres).argmin(dim=1) for wave in waves)
                return [numbers.numpy().astype(np.int16) for numbers in found]
            encoded = self._encoder.encode([self._frontend.features(wave) for wave in waves])
            return [self._cluster(frames) for frames in encoded]

    def _cluster(self, frames: Tensor) -> Vq:
        """float32 [frames, width] on the CPU -> the nearest centre of each. Fixed batch size, for identical rounding."""
        import torch

        codes = []
        for block in torch.split(frames, CENTRES_BLOCK):
            filled = torch.nn.functional.pad(block, (0, 0, 0, CENTRES_BLOCK - len(block)))
            codes.append(torch.cdist(filled, self._centres).argmin(dim=1)[: len(block)].numpy().astype(np.int16))
        return np.concatenate(codes) if codes else np.zeros(0, np.int16)

    def _vq06(self, wave: Waveform) -> Vq:
        codes = [self._onnx.encode(_log_mel(piece)).astype(np.int16) for piece in pieces_of(wave)]
        return np.concatenate([np.zeros(0, np.int16), *codes])

    def _values(self, vq02: Vq, vq06: Vq) -> Values:
        tokens = merge(vq02, vq06)
        values: dict[str, npt.NDArray[np.integer[Any]]] = {"tokens": tokens}
        if self._choices.shifted_ids:
            values["token_ids"] = tokens.astype(np.int32) + FIRST_ID
        if self._choices.raw_codes:
            values |= {"vq02": vq02, "vq06": vq06}
        return values


def _log_mel(piece: Waveform) -> npt.NDArray[np.float32]:
    """float32 [samples] -> float32 [128, samples // 160]. Like upstream without a batch axis, which changes rounding."""
    import torch
    import whisper

    with torch.inference_mode():
        mel: npt.NDArray[np.float32] = whisper.log_mel_spectrogram(torch.from_numpy(piece), n_mels=MELS).numpy()
    return mel


class StepAudioFactory(ModelFactory[tuple[Checkpoint, Choices], StepAudio]):
    """Describes and loads StepAudio."""

    name = "step_audio"
    options: ClassVar[OptionTable] = {
        "model_path": ("stepfun-ai/Step-Audio-Tokenizer", "directory of the tokenizer's files, or hub id"),
        "trim": (False, "cut silence off both ends, as upstream's wav2token does by default"),
        "energy_norm": (True, "scale each clip to a peak of 0.999"),
        "raw_codes": (False, "add the lists vq02 and vq06, untrimmed"),
        "shifted_ids": (False, "add the list token_ids: ids from 65536 on, as in StepFun's language models"),
        "dither": (0.0, "noise on what vq02 hears; upstream's 1 draws it anew each time, here each clip has its own seed"),
        "engine": ("own", "own, or upstream: FunASR's own code for vq02, one clip at a time"),
        "precision": ("fp32", "fp32, or tf32: faster on an Ampere or newer GPU, with other tokens"),
        "tf32": TF32_OPTION,
    }

    def _load(self, info: BackendInfo, checkpoint: tuple[Checkpoint, Choices], device: str) -> StepAudio:
        return StepAudio(info, *checkpoint, device)

    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, tuple[Checkpoint, Choices]]:
        choices = check_options(options)
        check_device_name(device, choices.precision)
        checkpoint = open_checkpoint(choices.model_path)
        if choices.upstream:
            refuse_mps(device, "engine=upstream runs on cpu and cuda: take engine=own")
            require_funasr()
        in_torch = not choices.upstream and _in_torch(checkpoint, device)
        info = BackendInfo(
            name=self.name,
            sample_rate=SAMPLE_RATE,
            hop_length=GROUP_SAMPLES // 5,
            fields=fields_of(choices),
            mono="mean",
            # A trimmed clip has at least 4560 samples, zero-padded if necessary.
            min_samples=1 if choices.trim else SHORTEST_CLIP,
            kind="clips",
            max_tokens_per_fragment=None,
            batching=Batching.SINGLE if choices.upstream else Batching.ANY,
            max_batch=1 if choices.upstream else LANES,
            recipe={
                "weights_sha256": files_sha256(checkpoint.tensors),
                "config_sha256": config_sha256(checkpoint.config),
                "dtype": "float32",
                **({"engine": "upstream"} if choices.upstream else {"attention": "written out"}),
                "resampler": "torchaudio sinc_interp_hann",
                "energy_norm": choices.energy_norm,
                "trim": choices.trim,
                "dither": choices.dither,
                "vq06_pieces": f"{PIECE_SAMPLES} samples, none under {SHORTEST_PIECE}",
                **({"vq06_device": device.partition(":")[0]} if choices.upstream else _shapes(checkpoint, device)),
                **recipe_tail(device, choices.precision, versions(choices, onnx=not in_torch)),
            },
        )
        return info, (checkpoint, choices)


def _in_torch(checkpoint: Checkpoint, device: str) -> bool:
    """Whether vq06 runs beside vq02 on a GPU; a file that torch cannot read stays in onnxruntime. On a Mac it always does:
    the CPU keeps up with vq06 while the GPU computes vq02, which takes most of the time.
    """
    return device.startswith("cuda") and is_known_to_torch(checkpoint.onnx)


def _shapes(checkpoint: Checkpoint, device: str) -> dict[str, Scalar]:
    """The recipe's shapes that determine rounding in both halves."""
    if device == "cpu":
        return {"vq06_device": "cpu", "lanes": LANES}
    windows = {"windows_per_product": WINDOWS}
    if not _in_torch(checkpoint, device):
        return {"vq06_device": "cpu", **windows}
    return {"vq06_device": "cuda", "vq06_rows_per_product": rows_per_product(device), **windows}


FACTORY = StepAudioFactory()
