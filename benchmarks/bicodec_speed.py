"""`bicodec` at full size on the CPU against upstream's way: the same clips, from WAV bytes to tokens.

Upstream's way is that of BiCodecTokenizer.tokenize: one clip at a time, transformers' feature extractor, all layers of
wav2vec2 with gradients and all hidden states. Random weights of the published size, unless there are real ones.

    python -m benchmarks.bicodec_speed [MODEL_PATH] [--layers 24]
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import yaml

from audio_tokenizers.base import Audio, Utterance
from audio_tokenizers.bicodec.audio import normalize_volume, standardize
from audio_tokenizers.bicodec.backend import FACTORY
from audio_tokenizers.bicodec.files import MIXED_LAYERS, MelShape, SpeakerShape, VocosShape, open_bicodec
from benchmarks.common import alternate, encoded, report, speech
from benchmarks.models import backwards
from benchmarks.random_weights import enliven
from jobs.commands import command_parser

GOAL = 1.0
RATE = 24000
SECONDS = (3.0, 6.0, 10.0, 15.0)
ROUNDS = 3
REFERENCE_SAMPLES = 96000


def build_random_model(directory: Path, layers: int, device: str = "cpu") -> None:
    """Random weights of the published size, for encoding only: 1.4 GB."""
    import torch
    from safetensors.torch import save_file
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    from audio_tokenizers.bicodec.model import BiCodecEncoder, mel_transform, mixed_features

    torch.manual_seed(0)
    encoder = BiCodecEncoder(VocosShape(1024, 384, 2048, 12, 2, 1024), 8192, 8, SpeakerShape(128, 128, 32, (4,) * 6))
    for path in ("BiCodec", "wav2vec2-large-xlsr-53"):
        (directory / path).mkdir(parents=True)
    root = {"sample_rate": 16000, "latent_hop_length": 320, "ref_segment_duration": 6, "volume_normalize": True}
    mel = {"sample_rate": 16000, "n_fft": 1024, "win_length": 640, "hop_length": 320, "mel_fmin": 10, "num_mels": 128}
    vocos = {"input_channels": 1024, "vocos_dim": 384, "vocos_intermediate_dim": 2048, "vocos_num_layers": 12}
    speaker = {"input_dim": 128, "latent_dim": 128, "token_num": 32, "fsq_levels": [4] * 6, "fsq_num_quantizers": 1}
    tokenizer = {
        "mel_params": mel,
        "encoder": {**vocos, "out_channels": 1024, "sample_ratios": [1, 1]},
        "quantizer": {"input_dim": 1024, "codebook_size": 8192, "codebook_dim": 8},
        "speaker_encoder": speaker,
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(root))
    (directory / "BiCodec" / "config.yaml").write_text(yaml.safe_dump({"audio_tokenizer": tokenizer}))
    config = Wav2Vec2Config(
        hidden_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    wav2vec2: Any = Wav2Vec2Model(config)
    wav2vec2.eval().to(device)
    heard = torch.from_numpy(standardize(backwards(16000))).to(device)[None]
    enliven(wav2vec2, lambda: wav2vec2(heard))
    torch.nn.init.normal_(encoder.speaker_encoder.perceiver_sampler.latents)  # else all global tokens would be one
    encoder.eval().to(device)
    with torch.inference_mode():
        features = mixed_features(wav2vec2, heard)
        spectrum = mel_transform(MelShape(16000, 1024, 640, 320, 10, None, 128)).to(device)(heard[:, :REFERENCE_SAMPLES])
    enliven(encoder, lambda: (encoder.semantic_tokens(features.clone()), encoder.global_tokens(spectrum.clone())))
    wav2vec2.to("cpu").save_pretrained(directory / "wav2vec2-large-xlsr-53")
    save_file(encoder.to("cpu").state_dict(), directory / "BiCodec" / "model.safetensors")
    preprocessor = {
        "do_normalize": True,
        "feature_size": 1,
        "padding_value": 0,
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }
    (directory / "wav2vec2-large-xlsr-53" / "preprocessor_config.json").write_text(json.dumps(preprocessor))


@dataclass(frozen=True)
class Upstream:
    """What BiCodecTokenizer of Spark-TTS computes, and how."""

    extractor: Any
    wav2vec2: Any
    encoder: Any
    mel: Any
    device: str

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Upstream:
        """From the same files as the backend."""
        from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

        from audio_tokenizers.bicodec.weights import load_bicodec

        folder = directory / "wav2vec2-large-xlsr-53"
        wav2vec2: Any = Wav2Vec2Model.from_pretrained(folder)
        wav2vec2.config.output_hidden_states = True
        encoder, mel = load_bicodec(open_bicodec(str(directory)), device)
        return cls(Wav2Vec2FeatureExtractor.from_pretrained(folder), wav2vec2.to(device), encoder, mel, device)

    def tokenize(self, data: bytes) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(global tokens, semantic tokens) of an audio file."""
        wave, rate = soundfile.read(io.BytesIO(data))
        return self.tokens(normalize_volume(soxr.resample(wave, rate, 16000, "VHQ")))

    def tokens(self, wave: Audio) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(global tokens, semantic tokens) of a clip [samples] at 16 kHz, its volume as it is."""
        import torch

        reference = np.tile(wave, REFERENCE_SAMPLES // len(wave) + 1)[:REFERENCE_SAMPLES]
        values = self.extractor(wave, sampling_rate=16000, return_tensors="pt", padding=True).input_values
        states = self.wav2vec2(values.to(self.device)).hidden_states
        first, second, third = (states[layer] for layer in MIXED_LAYERS)
        features = (first + second + third) / 3
        with torch.no_grad():
            global_tokens = self.encoder.global_tokens(self.mel(torch.from_numpy(reference)[None].float().to(self.device)))
            semantic_tokens = self.encoder.semantic_tokens(features)
        return global_tokens[0].cpu().numpy(), semantic_tokens[0].cpu().numpy()


def compare(directory: Path) -> bool:
    """Print the ratio, and say whether it meets the goal."""
    backend = FACTORY.load({"model_path": str(directory), "volume_normalize": True, "tf32": False}, "cpu")
    upstream = Upstream.load(directory)
    wave = speech(RATE, sum(SECONDS))
    ends = np.cumsum([int(seconds * RATE) for seconds in SECONDS])
    clips = [encoded(clip, RATE, "wav") for clip in np.split(wave, ends[:-1])]
    tokens: dict[str, list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]] = {}

    def ours() -> None:
        tokens["ours"] = []
        for data in clips:
            heard = backend.resample(*soundfile.read(io.BytesIO(data), dtype="float32"))
            values = backend.encode_clips([Utterance(heard)])[0]
            tokens["ours"].append((values["global_tokens"], values["semantic_tokens"]))

    def theirs() -> None:
        tokens["theirs"] = [upstream.tokenize(data) for data in clips]

    candidates: dict[str, Callable[[], object]] = {"ours": ours, "theirs": theirs}
    times = alternate(candidates, ROUNDS)
    pairs = zip(tokens["ours"], tokens["theirs"], strict=True)
    equal = all(np.array_equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))
    rate = sum(SECONDS) * len(times["ours"]) / sum(times["ours"])
    print(f"bicodec: {rate:.2f} s of audio per second, {'the same' if equal else 'OTHER'} tokens as upstream's way")
    ratios = [upstream / own for own, upstream in zip(times["ours"], times["theirs"], strict=True)]
    return report("bicodec at full size on the CPU, upstream's way / ours, in time", ratios, GOAL) and equal


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("model_path", nargs="?", type=Path, help="a directory of Spark-TTS-0.5B")
    parser.add_argument("--layers", type=int, default=24, help="of the random wav2vec2, 17 or more")
    arguments = parser.parse_args()
    if arguments.model_path:
        return 0 if compare(arguments.model_path) else 1
    with tempfile.TemporaryDirectory() as folder:
        build_random_model(Path(folder) / "model", arguments.layers)
        return 0 if compare(Path(folder) / "model") else 1


if __name__ == "__main__":
    sys.exit(main())
