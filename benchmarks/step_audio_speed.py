"""Audio per second of `step_audio` at full size on one core, against upstream's way; and what batches gain.

Upstream's way is get_vq02_code and get_vq06_code of StepFun's tokenizer.py: one clip at a time, a WAV in memory, FunASR's
frontend and encoder chunk by chunk (here the classes of PyPI's funasr, which has no infer_encoder of its own), and then
onnxruntime with one thread. Weights are random; the time does not depend on them.
python -m benchmarks.step_audio_speed [--layers N]
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
import torch
import torchaudio
import whisper

from audio_tokenizers.base import Utterance, Waveform
from audio_tokenizers.step_audio.backend import FACTORY, StepAudio, Vq, merge
from audio_tokenizers.step_audio.files import open_checkpoint, read_centres
from audio_tokenizers.step_audio.frontend import normalize_energy
from audio_tokenizers.step_audio.upstream import funasr_classes
from benchmarks.common import alternate, encoded, report, speech
from jobs.commands import command_parser

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.tiny_s3 import build_s3_onnx
from support.tiny_step_audio import build_step_audio, config

GOAL = 1.0
RATE, CLIPS, ROUNDS = 24000, 16, 2
LAYERS, ONNX_WIDTH, ONNX_LAYERS = 50, 1280, 6
CHUNK = [0, 4, 5]
LOOK_BACK = 4


class Upstream:
    """StepAudioTokenizer from FunASR's own classes: vq02 on the device, vq06 on the CPU."""

    def __init__(self, model: Path, device: str = "cpu") -> None:
        frontend_class, encoder_class = funasr_classes()
        checkpoint = open_checkpoint(str(model))
        settings = config(checkpoint.layers, checkpoint.feed_forward)
        self.device = device
        self.frontend = frontend_class(cmvn_file=str(checkpoint.cmvn), **settings["frontend_conf"])
        self.encoder: Any = encoder_class(input_size=560, **settings["encoder_conf"]).eval()
        state = torch.load(checkpoint.weights, weights_only=True)
        encoder = {name.removeprefix("encoder."): state[name] for name in state if name.startswith("encoder.")}
        self.encoder.load_state_dict(encoder)
        self.encoder.to(device)
        self.centres = torch.from_numpy(read_centres(checkpoint)).to(device)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(checkpoint.onnx), options, providers=["CPUExecutionProvider"])
        self.names = [value.name for value in self.session.get_inputs()]

    def encode(self, file: bytes) -> list[int]:
        """What wav2token does, except for the numbering."""
        samples, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
        audio = torchaudio.transforms.Resample(rate, 16000)(torch.from_numpy(samples.T.copy()))
        tokens: list[int] = self.codes(audio[0].numpy())["tokens"].tolist()
        return tokens

    def codes(self, wave: Waveform) -> dict[str, Vq]:
        """Tokens, and the codes that they are merged of, of a clip [samples] at 16 kHz."""
        wave = normalize_energy(wave)
        vq02, vq06 = np.array(self.vq02(wave), np.int16), np.array(self.vq06(wave), np.int16)
        return {"tokens": merge(vq02, vq06), "vq02": vq02, "vq06": vq06}

    @torch.no_grad()
    def vq02(self, wave: Waveform) -> list[int]:
        """The loop of infer_encoder, and the nearest centres."""
        file = io.BytesIO()
        soundfile.write(file, wave, 16000, format="WAV", subtype="FLOAT")
        file.seek(0)
        audio = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
        frontend: dict[str, Any] = {}
        encoder: dict[str, Any] = {
            "start_idx": 0,
            "chunk_size": CHUNK,
            "encoder_chunk_look_back": LOOK_BACK,
            "opt": None,
            "feats": torch.zeros(1, 5, 560, device=self.device),
            "tail_chunk": False,
        }
        outputs = []
        for start in range(0, len(audio) - len(audio) % 3840 + 1, 3840):
            chunk = audio[start : start + 3840]
            final = start + 3840 > len(audio)
            if final and len(chunk) < 880:
                break
            features, lengths = self.frontend(chunk[None], torch.tensor([len(chunk)]), cache=frontend, is_final=final)
            output, _, _ = self.encoder.forward_chunk(features.to(self.device), lengths, cache=encoder, is_final=final)
            outputs.append(output[:, -int(lengths[0]) :])
        indices: list[int] = torch.cdist(torch.cat(outputs, 1)[0], self.centres).argmin(dim=1).tolist()
        return indices

    def vq06(self, wave: Waveform) -> list[int]:
        """Clips here are under 30 s: one piece."""
        mel = whisper.log_mel_spectrogram(torch.from_numpy(wave), n_mels=128)[None]
        feeds = {self.names[0]: mel.numpy(), self.names[1]: np.array([mel.shape[2]], np.int32)}
        indices: list[int] = self.session.run(None, feeds)[0].flatten().tolist()
        return indices


def ours(files: list[bytes], backend: StepAudio, batch: int) -> list[list[int]]:
    """Through the backend, `batch` clips at a time."""
    clips = []
    for file in files:
        samples, rate = soundfile.read(io.BytesIO(file), dtype="float32")
        clips.append(Utterance(backend.resample(samples, rate)))
    values = [value for start in range(0, CLIPS, batch) for value in backend.encode_clips(clips[start : start + batch])]
    return [value["tokens"].tolist() for value in values]


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the encoder of vq02, 50 as published")
    layers = parser.parse_args().layers
    # Else vq06, which runs beside vq02, would have a core of its own, and the figures be of two.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    seconds = np.linspace(1, 2.5, CLIPS)[np.random.default_rng(0).permutation(CLIPS)]
    wave = speech(RATE, 60)
    files = [encoded(wave[1000 * i :][: int(length * RATE)], RATE, "wav") for i, length in enumerate(seconds)]
    with tempfile.TemporaryDirectory() as folder:
        model = build_step_audio(Path(folder), layers=layers, feed_forward=2048)
        build_s3_onnx(model / "speech_tokenizer_v1.onnx", "v1", 25, width=ONNX_WIDTH, layers=ONNX_LAYERS)
        upstream = Upstream(model)
        options = {name: default for name, (default, _) in FACTORY.options.items()} | {"model_path": str(model)}
        backend = FACTORY.load(options, "cpu")
    heard = (soundfile.read(io.BytesIO(file), dtype="float32")[0] for file in files)
    waves = [normalize_energy(backend.resample(samples, RATE)) for samples in heard]
    vq02 = backend._vq02  # noqa: SLF001 - what batches gain is hidden behind vq06 otherwise
    expected = [upstream.encode(file) for file in files]
    assert expected == ours(files, backend, CLIPS) == ours(files, backend, 1)
    candidates = {
        "upstream": lambda: [upstream.encode(file) for file in files],
        "single": lambda: ours(files, backend, 1),
        "batched": lambda: ours(files, backend, CLIPS),
        "single vq02": lambda: [vq02([wave]) for wave in waves],
        "batched vq02": lambda: vq02(waves),
    }
    times = alternate(candidates, ROUNDS)
    total = float(seconds.sum())
    speeds = ", ".join(f"{name} {total / statistics.median(taken):.2f}" for name, taken in times.items())
    print(f"seconds of audio per second, {CLIPS} clips of 1 to 2.5 s, {layers} layers, one core: {speeds}")
    gains = [single / batched for single, batched in zip(times["single vq02"], times["batched vq02"], strict=True)]
    print(f"vq02 in one batch of {CLIPS} / one clip at a time: {statistics.median(gains):.2f} times")
    ratios = [theirs / own for theirs, own in zip(times["upstream"], times["batched"], strict=True)]
    return 0 if report("step_audio on one core, batched / upstream's way", ratios, GOAL) else 1


if __name__ == "__main__":
    sys.exit(main())
