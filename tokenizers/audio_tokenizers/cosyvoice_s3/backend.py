"""CosyVoice's S3 speech tokenizers: one codebook of 4096 at 50 or 25 tokens per second (v1), or of 6561 at 25 (v2).

The reference is CosyVoice's tools/extract_speech_token.py (github.com/FunAudioLLM/CosyVoice), which takes clips of up to
30 s: torchaudio's resampler, the log-mel of openai-whisper, the ONNX graph. Longer clips are cut every 30 s here.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import (
    Audio,
    BackendInfo,
    Batching,
    Field,
    Options,
    Utterance,
    Values,
    Waveform,
)
from audio_tokenizers.cosyvoice_s3.files import find_onnx
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.shared.early_imports import import_early
from audio_tokenizers.shared.extras import require_packages
from audio_tokenizers.shared.file_hashes import files_sha256
from audio_tokenizers.shared.options import (
    DTYPES,
    PRECISION_OPTIONS,
    OptionTable,
    Precision,
    check_device_name,
    model_path_of,
    precision_of,
    refuse_mps,
)
from audio_tokenizers.shared.recipe import recipe_tail
from audio_tokenizers.shared.resampling import torchaudio_resample
from audio_tokenizers.shared.s3_onnx import OnnxEncoder, log_mel, read_variant
from audio_tokenizers.shared.s3_torch import TorchEncoder, rows_per_product
from audio_tokenizers.shared.torch_device import (
    fix_arithmetic,
    on_device,
    package_versions,
    require_bfloat16,
    require_device,
    use_one_thread,
)
from audio_tokenizers.shared.wording import shown

__all__ = ["FACTORY", "CosyVoiceS3", "CosyVoiceS3Factory"]

SAMPLE_RATE = 16000
PIECE_SAMPLES = 30 * SAMPLE_RATE
"""The most that the model takes: upstream refuses longer clips, and its users cut them to this by hand."""
SHORTEST_PIECE = 201
"""The least that the spectrogram's centred window of 400 needs; upstream's tool crashes on less."""
ENGINES = ("auto", "torch", "onnx", "upstream")
PACKAGES = ("torch", "torchaudio", "openai-whisper")
MAX_BATCH = 32

Tokens = npt.NDArray[np.integer[Any]]
"""integers [tokens]."""


class CosyVoiceS3:
    """The loaded tokenizer on one device."""

    def __init__(self, info: BackendInfo, onnx: str, device: str, precision: Precision) -> None:
        self.info = info
        self._device = device
        self._tf32 = bool(info.recipe["tf32"])
        path = find_onnx(onnx)
        import_early("torchaudio", "whisper")
        self._tokens: Callable[[Sequence[Waveform]], list[Tokens]]
        if info.recipe["engine"] == "torch":
            require_device(device)
            if precision == "bf16":
                require_bfloat16(device)
            variant = read_variant(path)
            self._tokens = on_device(device, lambda: TorchEncoder(path, variant, device, precision)).encode
        else:
            use_one_thread()  # for the mel
            encoder = OnnxEncoder(path, device, tf32=self._tf32)
            self._tokens = lambda waves: [encoder.encode(log_mel(wave)) for wave in waves]

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """By torchaudio's default filter, as upstream's tool."""
        return torchaudio_resample(wave, sample_rate, SAMPLE_RATE)

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        """`tokens` of each clip: int16 [1, tokens]."""
        pieces = [_pieces(clip.wave) for clip in clips]
        codes = iter(on_device(self._device, lambda: self._encode([piece for clip in pieces for piece in clip])))
        return [{"tokens": np.concatenate([next(codes) for _ in clip]).astype(np.int16)[np.newaxis]} for clip in pieces]

    def _encode(self, pieces: Sequence[Waveform]) -> list[Tokens]:
        """float32 [samples] of at most 30 s each -> the tokens of each."""
        fix_arithmetic(tf32=self._tf32)
        return self._tokens(pieces)


def _pieces(wave: Audio) -> list[Waveform]:
    """Cuts every 30 s. A remainder of up to 200 samples, which the model cannot take, gives no token."""
    if wave.shape[0] < SHORTEST_PIECE:
        raise ClipError("too_short", f"{wave.shape[0]} samples, S3 tokenizers need {SHORTEST_PIECE}")
    whole = np.ascontiguousarray(wave, np.float32)
    pieces = [whole[start : start + PIECE_SAMPLES] for start in range(0, len(whole), PIECE_SAMPLES)]
    return [piece for piece in pieces if len(piece) >= SHORTEST_PIECE]


class CosyVoiceS3Factory:
    """Describes and loads CosyVoiceS3."""

    name = "cosyvoice_s3"
    options: ClassVar[OptionTable] = {
        "model_path": (
            "FunAudioLLM/CosyVoice2-0.5B",
            "directory of a CosyVoice checkpoint, its speech_tokenizer_*.onnx, or hub id",
        ),
        "engine": (
            "auto",
            "torch: batches; onnx, upstream: onnxruntime, one by one; auto: torch on a GPU or for bf16, else onnx",
        ),
        **PRECISION_OPTIONS,
    }

    def describe(self, options: Options, device: str) -> BackendInfo:
        """Looks into the ONNX file for its variant, and hashes it; may download it if model_path is a hub id."""
        model_path, engine = model_path_of(options), options["engine"]
        if engine not in ENGINES:
            raise UsageError(f"engine: expected {', '.join(ENGINES[:-1])} or {ENGINES[-1]}, found {shown(engine, 'null')}")
        if engine == "upstream":  # CosyVoice's tool is onnxruntime, too
            engine = "onnx"
        if engine == "auto":
            # onnxruntime's products of matrices are faster on a CPU than batches are with MKL's.
            engine = "torch" if device != "cpu" or options.get("precision") == "bf16" else "onnx"
        if engine == "onnx":
            refuse_mps(device, "onnxruntime runs on cpu and cuda here: take engine=torch, or --device cpu")
        precision = precision_of(options, "the graph computes in float32, take engine=torch" if engine == "onnx" else "")
        check_device_name(device, precision)
        path = find_onnx(model_path)
        variant = read_variant(path)
        hop_length = SAMPLE_RATE // variant.rate
        batched = engine == "torch"
        return BackendInfo(
            name=self.name,
            sample_rate=SAMPLE_RATE,
            hop_length=hop_length,
            fields=(Field(name="tokens", form="codes", codebook_size=variant.codebook_size, samples_per_item=hop_length),),
            mono="mean",
            min_samples=SHORTEST_PIECE,
            kind="clips",
            max_tokens_per_fragment=None,
            # ANY by construction: shared/s3_torch.py.
            batching=Batching.ANY if batched else Batching.SINGLE,
            max_batch=MAX_BATCH if batched else 1,
            recipe={
                "weights_sha256": files_sha256([path]),
                "variant": f"{variant.version}, {variant.rate} Hz",
                "engine": engine,
                "dtype": DTYPES[precision],
                "tf32": precision == "tf32",
                **({"attention": "eager", "rows_per_product": rows_per_product(device)} if batched else {}),
                "resampler": "torchaudio.transforms.Resample",
                "mel": "openai-whisper, 128, of each piece" + (", on the GPU" if batched and device != "cpu" else ""),
                "piece_samples": PIECE_SAMPLES,
                "shortest_piece": SHORTEST_PIECE,
                **recipe_tail(device, precision, _versions(batched=batched, device=device)),
            },
        )

    def load(self, options: Options, device: str) -> CosyVoiceS3:
        """The weights on `device`. Raises ModelFilesError, or InfrastructureError if there is no such device."""
        return CosyVoiceS3(self.describe(options, device), str(options["model_path"]), device, precision_of(options))


def _versions(*, batched: bool, device: str) -> dict[str, str]:
    if batched:
        require_packages(("s3tokenizer", "onnx"), "cosyvoice_s3")  # the former imports the latter
        return package_versions((*PACKAGES, "s3tokenizer"), "cosyvoice_s3")
    # The distribution for GPUs has another name, the same module, and runs on a CPU too.
    names = ("onnxruntime-gpu",) if device.startswith("cuda") else ("onnxruntime", "onnxruntime-gpu")
    require_packages(names[:1], "cosyvoice_s3")
    installed = [name for name in names if _is_installed(name)]
    return package_versions((*PACKAGES, *(installed or names)[:1]), "cosyvoice_s3")


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


FACTORY = CosyVoiceS3Factory()
