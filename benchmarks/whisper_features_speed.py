"""`whisper_features` at full size on the CPU, against how the TASTE seed extracts the same: the whole large-v3 in memory,
all 33 hidden states kept, two of them stored as float32 with all 1500 rows. Both get clips decoded at 16 kHz.

python -m benchmarks.whisper_features_speed [--layers N]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from audio_tokenizers.base import Utterance
from audio_tokenizers.whisper_features.backend import FACTORY
from benchmarks.common import alternate, report
from jobs.commands import command_parser

GOAL = 1.0
CLIP_SECONDS = (3.0, 11.0)
ROUNDS = 3


def build_random_model(directory: Path, layers: int) -> None:
    """large-v3's encoder in float16, as published, of random weights; its decoder has one layer of 32."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        d_model=1280,
        encoder_layers=layers,
        encoder_attention_heads=20,
        encoder_ffn_dim=5120,
        num_mel_bins=128,
        decoder_layers=1,
        decoder_attention_heads=20,
        decoder_ffn_dim=5120,
        vocab_size=51866,
    )
    torch.manual_seed(0)
    model: Any = WhisperForConditionalGeneration(config)
    model.half().save_pretrained(directory)


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--layers", type=int, default=32, help="2 or more; fewer than 32 for a smaller try")
    layers = parser.parse_args().layers
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    make_extractor: Any = WhisperFeatureExtractor
    extractor = make_extractor(feature_size=128)
    rng = np.random.default_rng(0)
    waves = [(0.1 * rng.standard_normal(int(seconds * 16000))).astype(np.float32) for seconds in CLIP_SECONDS]
    stored: dict[str, list[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        build_random_model(Path(folder), layers)
        options = {"model_path": folder, "layer": (layers + 1) // 2, "dtype": "float16", "tf32": False}
        backend = FACTORY.load(options, "cpu")
        whole: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        whole.eval()

        def seed() -> None:
            stored["seed"] = []
            for wave in waves:
                mel = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
                with torch.no_grad():
                    states = whole.model.encoder(mel, output_hidden_states=True).hidden_states
                stored["seed"] += [states[len(states) // 2][0].numpy(), states[-1][0].numpy()]

        def ours() -> None:
            stored["ours"] = [array for wave in waves for array in backend.encode_clips([Utterance(wave)])[0].values()]

        times = alternate({"seed": seed, "ours": ours}, ROUNDS)
    for theirs, mine in zip(stored["seed"], stored["ours"], strict=True):
        assert np.array_equal(theirs[: len(mine)].astype(np.float16), mine), "not the same states"
    for name, seconds in times.items():
        rate = sum(CLIP_SECONDS) / min(seconds)
        megabytes = sum(array.nbytes for array in stored[name]) / len(waves) / 1e6
        print(f"{name}: {rate:.2f} s of audio per s, {megabytes:.2f} MB per clip of {np.mean(CLIP_SECONDS):.0f} s")
    ratios = [theirs / mine for theirs, mine in zip(times["seed"], times["ours"], strict=True)]
    return 0 if report(f"whisper_features, {layers} layers on the CPU, ours / the seed's way", ratios, GOAL) else 1


if __name__ == "__main__":
    sys.exit(main())
