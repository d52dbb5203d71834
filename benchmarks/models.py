"""The backends as benchmarks run them: random weights, full-size or tiny, in the real layouts, and upstream's own call.

What matters most stands first.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Audio, BackendFactory, Options, Scalar
from benchmarks.common import speech
from benchmarks.random_weights import enliven

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for `support`, which makes the tiny ones

__all__ = ["CASES", "Case", "Upstream", "build_hf", "build_higgs", "precisions", "quiet"]

Array = npt.NDArray[Any]
Upstream = Callable[[Audio], Mapping[str, Array]]
"""A clip [samples], mono, at the backend's rate -> what upstream's code makes of it, by the backend's names."""
HEARD_SECONDS, HEARD_BY_TINY = 20.0, 4.0
"""Of speech that random weights are adapted to; backwards, so that no clip of a benchmark is among it."""
TF32, BF16 = "tf32", "bf16"


@dataclass(frozen=True)
class Case:
    """One backend."""

    name: str
    """Of its preset."""
    build: Callable[[Path, str, bool], dict[str, Scalar]]
    """(empty directory, device for the work, tiny) -> what `make_spec` needs as options."""
    upstream: Callable[[Options, str], Upstream]
    """(all options, device). Raises ImportError where upstream's code is not installed."""


def precisions(factory: BackendFactory, device: str) -> dict[str, dict[str, Scalar]]:
    """Name -> options, of all that the backend's options offer on `device`, full float32 first. A CPU has no TF32.

    A backend may still refuse one of them, with a UsageError.
    """
    offered = {name: text for name, (_, text) in factory.options.items()}
    found: dict[str, dict[str, Scalar]] = {"fp32": {}}
    for precision in (TF32, BF16):
        if precision == TF32 and not device.startswith("cuda"):
            continue
        if precision in re.findall(r"\w+", offered.get("precision", "")):
            found[precision] = {"precision": precision}
        elif precision in offered:
            found[precision] = {precision: True}
    return found


def quiet() -> None:
    """No progress bars and no tables of tensors between the figures."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def backwards(sample_rate: int, seconds: float = HEARD_SECONDS) -> npt.NDArray[np.float32]:
    """float32 [samples]: speech that is not that of the benchmarks."""
    return np.ascontiguousarray(speech(sample_rate, seconds)[::-1])


def _hear(sample_rate: int, hop_length: int, device: str, *, tiny: bool) -> Any:  # noqa: ANN401 - a tensor
    """float32 [1, 1, samples] on the device, whole hops."""
    import torch

    wave = backwards(sample_rate, HEARD_BY_TINY if tiny else HEARD_SECONDS)
    return torch.from_numpy(wave[: len(wave) // hop_length * hop_length]).to(device)[None, None]


def _evaluate(path: Scalar, device: str) -> Any:  # noqa: ANN401 - its modules have no types
    from transformers import AutoModel

    return AutoModel.from_pretrained(str(path)).eval().to(device)


def build_higgs(directory: Path, device: str = "cpu", tiny: bool = False) -> dict[str, Scalar]:
    """Checkpoint in transformers' layout; 0.8 GB at the published size."""
    import torch
    from transformers import DacConfig, HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel, HubertConfig

    model: Any
    if tiny:
        from support.tiny_higgs import build_transformers_layout

        model = _evaluate(str(build_transformers_layout(directory)), device)
    else:
        strides = [8, 5, 4, 2, 3]
        acoustic: dict[str, Any] = {
            "encoder_hidden_size": 64,
            "decoder_hidden_size": 1024,
            "downsampling_ratios": strides,
            "upsampling_ratios": strides,
            "hidden_size": 256,
        }
        config = HiggsAudioV2TokenizerConfig(
            target_bandwidths=[0.5, 1, 1.5, 2],
            acoustic_model_config=DacConfig(**acoustic).to_dict(),
            semantic_model_config=HubertConfig().to_dict(),
        )
        torch.manual_seed(0)
        model = HiggsAudioV2TokenizerModel(config)
        model.eval().to(device)
    heard = _hear(model.config.sample_rate, model.config.hop_length, device, tiny=tiny)
    enliven(model, lambda: model.encode(heard))
    model.to("cpu").save_pretrained(directory)
    return {"model_path": str(directory)}


def upstream_higgs(options: Options, device: str) -> Upstream:
    """The port in transformers, with the padding that Boson's own code has."""
    import torch

    model = _evaluate(options["model_path"], device)
    model.pad = 320

    def call(wave: Audio) -> Mapping[str, Array]:
        with torch.inference_mode():
            codes = model.encode(torch.from_numpy(wave).to(device)[None, None]).audio_codes
        return {"tokens": codes[0].cpu().numpy()}

    return call


def build_hf(codec: str, directory: Path, device: str = "cpu", tiny: bool = False) -> dict[str, Scalar]:
    """Checkpoint in transformers' layout and its feature extractor; the published size is what its config defaults to."""
    import torch
    import transformers as hf
    from support.tiny_hf import random_model, write_extractor

    from audio_tokenizers.hf.files import open_checkpoint

    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "mimi": (hf.MimiModel, hf.MimiConfig, {}),
        "dac": (hf.DacModel, hf.DacConfig, {"sampling_rate": 44100}),
        "encodec": (hf.EncodecModel, hf.EncodecConfig, {}),
        "xcodec": (hf.XcodecModel, hf.XcodecConfig, {}),
    }
    model_class, config_class, settings = kinds[codec]
    torch.manual_seed(0)
    model = random_model(codec) if tiny else model_class(config_class(**settings))
    model.eval().to(device).save_pretrained(directory)
    checkpoint = open_checkpoint(str(directory))
    heard = _hear(checkpoint.sample_rate, checkpoint.hop_length, device, tiny=tiny)
    most: dict[str, Any] = {"bandwidth": max(model.config.target_bandwidths)} if codec in ("encodec", "xcodec") else {}
    enliven(model, lambda: model.encode(heard, **most))
    model.to("cpu").save_pretrained(directory)
    write_extractor(directory, codec, checkpoint.sample_rate, checkpoint.hop_length)
    return {"model_path": str(directory)}


def upstream_hf(options: Options, device: str) -> Upstream:
    """The way that transformers documents: the feature extractor, and `model.encode` on what that gives."""
    import torch
    from transformers import AutoFeatureExtractor

    model = _evaluate(options["model_path"], device)
    extractor: Any = AutoFeatureExtractor.from_pretrained(str(options["model_path"]))
    codec = model.config.model_type
    arguments: dict[str, Any] = {"bandwidth": options["bandwidth"]} if codec in ("encodec", "xcodec") else {}

    def call(wave: Audio) -> Mapping[str, Array]:
        inputs = extractor(raw_audio=wave, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(device)
        mask = {"padding_mask": inputs["padding_mask"]} if codec in ("mimi", "encodec") else {}
        with torch.inference_mode():
            codes = model.encode(inputs["input_values"], **mask, **arguments).audio_codes
        return {"tokens": codes.reshape(codes.shape[-2:]).cpu().numpy()}

    return call


def build_cosyvoice_s3(directory: Path, _device: str, tiny: bool) -> dict[str, Scalar]:
    """The v2 tokenizer of CosyVoice 2 as an ONNX file: 0.4 GB at the published size."""
    from support.tiny_s3 import build_s3_onnx

    sizes = {"width": 128, "layers": 2} if tiny else {"width": 1280, "layers": 6}
    path = build_s3_onnx(directory / "speech_tokenizer_v2.onnx", "v2", 25, **sizes)
    return {"model_path": str(path), "engine": "torch"}


def load_s3tokenizer(path: str, device: str) -> Any:  # noqa: ANN401 - its modules have no types
    """PyPI's s3tokenizer with the weights of an ONNX file of v2, of any width. Raises ImportError without it."""
    from s3tokenizer.model_v2 import ModelConfig, S3TokenizerV2
    from s3tokenizer.utils import onnx2torch

    state: dict[str, Any] = onnx2torch(path)
    width = state["encoder.conv1.weight"].shape[0]
    layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.blocks."))
    config = ModelConfig(n_audio_state=width, n_audio_head=width // 64, n_audio_layer=layers)
    model: Any = S3TokenizerV2("speech_tokenizer_v2_25hz", config)
    model.load_state_dict(state, strict=True)
    return model.eval().to(device)


def upstream_s3(options: Options, device: str) -> Upstream:
    """s3tokenizer, one clip at a time."""
    import torch
    from s3tokenizer.utils import log_mel_spectrogram

    model = load_s3tokenizer(str(options["model_path"]), device)

    def call(wave: Audio) -> Mapping[str, Array]:
        mel = log_mel_spectrogram(torch.from_numpy(np.asarray(wave, np.float32)))
        lengths = torch.tensor([mel.shape[1]], device=device)
        codes, found = model.quantize(mel[None].to(device), lengths)
        return {"tokens": codes[:, : int(found[0])].cpu().numpy()}

    return call


def build_bicodec(directory: Path, device: str, tiny: bool) -> dict[str, Scalar]:
    """Spark-TTS's BiCodec and wav2vec2: 1.4 GB at the published size. Clips keep their volume."""
    if tiny:
        from support.tiny_bicodec import build_spark_tts

        build_spark_tts(directory)
    else:
        from benchmarks.bicodec_speed import build_random_model

        build_random_model(directory, layers=24, device=device)
    return {"model_path": str(directory), "volume_normalize": False}


def upstream_bicodec(options: Options, device: str) -> Upstream:
    """What BiCodecTokenizer of Spark-TTS computes."""
    from benchmarks.bicodec_speed import Upstream as SparkTts

    upstream = SparkTts.load(Path(str(options["model_path"])), device)

    def call(wave: Audio) -> Mapping[str, Array]:
        global_tokens, semantic_tokens = upstream.tokens(wave)
        return {"global_tokens": global_tokens, "semantic_tokens": semantic_tokens}

    return call


def build_whisper_features(directory: Path, _device: str, tiny: bool) -> dict[str, Scalar]:
    """large-v3 with one layer of its decoder: 1.4 GB at the published size."""
    if tiny:
        from support.tiny_whisper import LAYERS, build_whisper

        return {"model_path": str(build_whisper(directory)), "layer": LAYERS // 2}
    from benchmarks.whisper_features_speed import build_random_model

    build_random_model(directory, 32)
    return {"model_path": str(directory)}


def upstream_whisper(options: Options, device: str) -> Upstream:
    """Feature extractor and encoder of transformers, with all hidden states; the rows that the clip covers."""
    import torch
    from transformers import WhisperFeatureExtractor

    from audio_tokenizers.whisper_features.files import open_checkpoint

    checkpoint = open_checkpoint(str(options["model_path"]))
    make_extractor: Any = WhisperFeatureExtractor
    extractor = make_extractor(feature_size=checkpoint.mel_bins)
    encoder = _evaluate(options["model_path"], device).float().get_encoder()

    def call(wave: Audio) -> Mapping[str, Array]:
        mel = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features.to(device)
        with torch.inference_mode():
            states = encoder(mel, output_hidden_states=True).hidden_states
        rows = -(-len(wave) // 320)
        chosen = {"mid": states[int(str(options["layer"]))], "final": states[-1]}
        return {name: state[0, :rows].cpu().numpy().astype(str(options["dtype"])) for name, state in chosen.items()}

    return call


def build_step_audio(directory: Path, _device: str, tiny: bool) -> dict[str, Scalar]:
    """Step-Audio-Tokenizer: 1 GB at the published size."""
    from support import tiny_s3, tiny_step_audio

    if tiny:
        tiny_step_audio.build_step_audio(directory)
    else:
        tiny_step_audio.build_step_audio(directory, layers=50, feed_forward=2048)
        tiny_s3.build_s3_onnx(directory / "speech_tokenizer_v1.onnx", "v1", 25, width=1280, layers=6)
    return {"model_path": str(directory), "raw_codes": True}


def upstream_step_audio(options: Options, device: str) -> Upstream:
    """FunASR's own classes for vq02, on the device; onnxruntime on the CPU for vq06."""
    from benchmarks.step_audio_speed import Upstream as StepFun

    upstream = StepFun(Path(str(options["model_path"])), device)

    def call(wave: Audio) -> Mapping[str, Array]:
        codes = upstream.codes(np.asarray(wave, np.float32))
        return {name: np.array(found, np.int64) for name, found in codes.items()}

    return call


def _of_hf(codec: str) -> Case:
    return Case(codec, functools.partial(build_hf, codec), upstream_hf)


CASES: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case("higgs", build_higgs, upstream_higgs),
        _of_hf("mimi"),
        Case("cosyvoice_s3", build_cosyvoice_s3, upstream_s3),
        Case("bicodec", build_bicodec, upstream_bicodec),
        _of_hf("xcodec"),
        _of_hf("encodec"),
        _of_hf("dac"),
        Case("whisper_features", build_whisper_features, upstream_whisper),
        Case("step_audio", build_step_audio, upstream_step_audio),
    )
}
