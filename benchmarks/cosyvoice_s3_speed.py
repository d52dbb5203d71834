"""Audio per second of `cosyvoice_s3` at full size on one core, against CosyVoice's own way; and what batches gain.

Ours is the engine that a CPU gets, onnxruntime. Batches are those of the other, torch, which is meant for GPUs.
Upstream's way is tools/extract_speech_token.py: one clip at a time, torchaudio's Resample made anew for each, the mel of
openai-whisper, onnxruntime with one thread. Weights are random; the time does not depend on them.
python -m benchmarks.cosyvoice_s3_speed [--layers N]
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import soundfile
import torch
import torchaudio
import whisper

from audio_tokenizers.base import Utterance
from audio_tokenizers.cosyvoice_s3.backend import FACTORY, CosyVoiceS3
from benchmarks.common import alternate, encoded, report, speech
from jobs.commands import command_parser

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.tiny_s3 import build_s3_onnx

GOAL = 1.0
RATE, CLIPS, ROUNDS = 44100, 12, 3
WIDTH, LAYERS = 1280, 6
VARIANTS: tuple[tuple[Literal["v1", "v2"], Literal[25, 50]], ...] = (("v2", 25), ("v1", 50))


def clip_lengths() -> list[float]:
    """Seconds: as in a corpus of utterances, 1 to 12."""
    return [float(seconds) for seconds in np.linspace(1, 12, CLIPS)[np.random.default_rng(0).permutation(CLIPS)]]


def upstream(files: list[bytes], session: onnxruntime.InferenceSession) -> list[list[int]]:
    """What single_job of the tool does, file by file."""
    tokens = []
    names = [value.name for value in session.get_inputs()]
    for file in files:
        samples, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
        audio = torchaudio.transforms.Resample(rate, 16000)(torch.from_numpy(samples.T.copy()))
        mel = whisper.log_mel_spectrogram(audio, n_mels=128)
        feeds = {names[0]: mel.numpy(), names[1]: np.array([mel.shape[2]], np.int32)}
        tokens.append(session.run(None, feeds)[0].flatten().tolist())
    return tokens


def ours(files: list[bytes], backend: CosyVoiceS3, batch: int) -> list[list[int]]:
    """Through the backend, `batch` clips at a time."""
    clips = []
    for file in files:
        samples, rate = soundfile.read(io.BytesIO(file), dtype="float32")
        clips.append(Utterance(backend.resample(samples, rate)))
    values = [value for start in range(0, CLIPS, batch) for value in backend.encode_clips(clips[start : start + batch])]
    return [value["tokens"][0].tolist() for value in values]


def compare(version: Literal["v1", "v2"], rate: Literal[25, 50], layers: int) -> bool:
    """Print the figures of one variant; whether it met its goal."""
    seconds = clip_lengths()
    wave = speech(RATE, 60)
    files = [encoded(wave[1000 * i :][: int(length * RATE)], RATE, "wav") for i, length in enumerate(seconds)]
    with tempfile.TemporaryDirectory() as folder:
        path = build_s3_onnx(Path(folder) / "speech_tokenizer.onnx", version, rate, width=WIDTH, layers=layers)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
        onnx, batched = (
            FACTORY.load({"model_path": str(path), "engine": e, "tf32": False}, "cpu") for e in ("auto", "torch")
        )
    expected = upstream(files, session)
    assert expected == ours(files, onnx, 1)
    assert ours(files, batched, CLIPS) == ours(files, batched, 1)
    equal = np.mean(np.concatenate(expected) == np.concatenate(ours(files, batched, CLIPS)))
    times = alternate(
        {
            "upstream": lambda: upstream(files, session),
            "ours": lambda: ours(files, onnx, 1),
            "torch, single clips": lambda: ours(files, batched, 1),
            f"torch, a batch of {CLIPS}": lambda: ours(files, batched, CLIPS),
        },
        ROUNDS,
    )
    what = f"cosyvoice_s3 {version} {rate} Hz, {layers} layers"
    for name, values in times.items():
        print(f"{what}, {name}: {sum(seconds) / min(values):.1f} s of audio per second")
    print(f"{what}, torch: {equal:.6f} of tokens equal upstream's")
    theirs, mine, single, batch = times.values()
    gains = [one / many for one, many in zip(single, batch, strict=True)]
    print(f"{what}, torch: a batch is {np.median(gains):.2f} times as fast as single clips")
    return report(f"{what}, ours / upstream", [them / us for them, us in zip(theirs, mine, strict=True)], GOAL)


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer, to try it out")
    layers = parser.parse_args().layers
    torch.set_num_threads(1)
    met = [compare(version, rate, layers) for version, rate in VARIANTS]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
